//! A report as one HTML page that needs nothing else: plots are SVG within it.

use plotters::prelude::*;
use serde::Serialize;

use super::{
    Report,
    compare::Comparison,
    text::{size, span},
};

/// Of each plot, in pixels.
const PLOT: (u32, u32) = (860, 320);
/// Of one in which rows and columns are the same.
const SQUARE: (u32, u32) = (860, 860);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
];

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// The page of a run.
#[must_use]
pub fn page(report: &Report) -> String {
    let adoption = plot(|area| adoption(report, &area));
    let bytes = plot(|area| bytes(report, &area));
    let fed = plot(|area| fed(report, &area));
    let by_node = if report.fed_by_node.is_empty() {
        String::new()
    } else {
        format!("<h2>Who fed whom, node by node</h2>{}", plot_of(SQUARE, |area| fed_by_node(report, &area)))
    };
    let text = escape(&report.to_string());
    document(
        &format!("{} (seed {})", report.scenario, report.seed),
        &format!(
            "<h2>Who has it</h2>{adoption}<h2>Payload bytes by hour</h2>{bytes}<h2>Who fed whom</h2>{fed}{by_node}<h2>In figures</h2><pre>{text}</pre>"
        ),
    )
}

/// The page of two runs beside each other.
#[must_use]
pub fn comparison(comparison: &Comparison, a: &Report, b: &Report) -> String {
    let curves = |report: &Report| plot(|area| adoption(report, &area));
    let (a_name, b_name) = (escape(&comparison.names.0), escape(&comparison.names.1));
    let text = escape(&comparison.to_string());
    let body = format!("<pre>{text}</pre><h2>{a_name}</h2>{}<h2>{b_name}</h2>{}", curves(a), curves(b));
    document(&format!("{a_name} and {b_name}"), &body)
}

/// A line of a sweep: a setting of what is varied besides, or none; and for each value of what is varied the seeds'
/// outcomes, least first.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// What is varied besides, and its value.
    pub name: String,
    /// The values, and the outcomes of each.
    pub values: Vec<(String, Vec<f64>)>,
}

/// The page of a sweep: for each value, how a figure is distributed over the seeds.
#[must_use]
pub fn sweep(title: &str, unit: &str, lines: &[Series], text: &str) -> String {
    let drawn = plot(|area| distribution(unit, lines, &area));
    document(title, &format!("{drawn}<pre>{}</pre>", escape(text)))
}

fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    let style = "body{font:15px/1.5 sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}\
        svg{max-width:100%;height:auto}pre{overflow-x:auto;background:#f6f6f6;padding:1em}";
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{style}</style><h1>{title}</h1>{body}</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws a plot into a text of its own.
fn plot(draw: impl FnOnce(DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn<'static>) -> String {
    plot_of(PLOT, draw)
}

fn plot_of(
    pixels: (u32, u32),
    draw: impl FnOnce(DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn<'static>,
) -> String {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, pixels).into_drawing_area();
        draw(area).map_err(|why| why.to_string())
    };
    match drawn {
        Ok(()) => svg,
        Err(why) => format!("<p>not drawn: {}</p>", escape(&why)),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn adoption(report: &Report, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn<'static> {
    let last = report.rollouts.iter().filter_map(|rollout| rollout.curve.last()).map(|(ms, _)| *ms).max();
    let until = last.unwrap_or(0).max(1000) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(54)
        .build_cartesian_2d(0.0..until, 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("since its release")
        .y_desc("% of devices")
        .x_label_formatter(&|ms| time(*ms))
        .draw()?;
    for (at, rollout) in report.rollouts.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let percent = |count: usize| count as f64 / report.devices.max(1) as f64 * 100.0;
        let points = rollout.curve.iter().map(|(ms, count)| (*ms as f64, percent(*count)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(rollout.version.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    if !report.rollouts.is_empty() {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
    }
    area.present()
}

#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn bytes(report: &Report, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn<'static> {
    let hours = &report.bytes.hours;
    let most = hours.iter().map(|(far, near)| far.max(near)).max().copied().unwrap_or(1).max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..hours.len().max(1) as f64, 0.0..most)?;
    chart.configure_mesh().x_desc("hours").y_label_formatter(&|bytes| size(whole(*bytes))).draw()?;
    let step = hours.len().div_ceil(super::POINTS).max(1);
    for (name, colour, pick) in [("between sites", COLOURS[3], 0), ("within", COLOURS[2], 1)] {
        let value = |(far, near): &(u64, u64)| if pick == 0 { *far } else { *near };
        let points = hours.chunks(step).enumerate().map(|(at, chunk)| {
            let mean = chunk.iter().map(value).sum::<u64>() as f64 / chunk.len() as f64;
            ((at * step) as f64, mean)
        });
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()
}

/// A bar for each pair of groups.
#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn fed(report: &Report, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn<'static> {
    let shown: Vec<_> = report.fed.iter().take(8).collect();
    let most = shown.iter().map(|fed| fed.bytes).max().unwrap_or(1).max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .build_cartesian_2d(0.0..most * 1.02, 0.0..shown.len().max(1) as f64)?;
    chart.configure_mesh().disable_y_axis().disable_y_mesh().x_label_formatter(&|bytes| size(whole(*bytes))).draw()?;
    for (at, fed) in shown.iter().enumerate() {
        let top = (shown.len() - at) as f64;
        let bar = Rectangle::new([(0.0, top - 0.15), (fed.bytes as f64, top - 0.85)], COLOURS[0].mix(0.5).filled());
        let words = format!("{} to {}: {}", fed.from, fed.to, size(fed.bytes));
        let label = Text::new(words, (most * 0.01, top - 0.3), ("sans-serif", 15).into_font());
        chart.draw_series(std::iter::once(bar))?;
        chart.draw_series(std::iter::once(label))?;
    }
    area.present()
}

/// A square for each two nodes of which one gave to the other, darker the more; nodes in the order of their groups, with
/// a line where a group ends.
#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn fed_by_node(report: &Report, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn<'static> {
    let nodes = report.nodes as f64;
    let most = report.fed_by_node.iter().map(|(_, _, bytes)| *bytes).max().unwrap_or(1).max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(120)
        .build_cartesian_2d(0.0..nodes, 0.0..nodes)?;
    let group = |node: f64| {
        let of = report.groups.iter().find(|(_, nodes)| nodes.contains(&usize::try_from(whole(node)).unwrap_or(0)));
        of.map_or_else(String::new, |(name, nodes)| format!("{name}/{}", whole(node) - nodes.start as u64))
    };
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("who gave")
        .y_desc("who got")
        .x_label_formatter(&|node| group(*node))
        .y_label_formatter(&|node| group(*node))
        .draw()?;
    chart.draw_series(report.fed_by_node.iter().map(|(from, to, bytes)| {
        let (x, y) = (f64::from(*from), f64::from(*to));
        let shade = (*bytes as f64 / most).sqrt().max(0.08);
        Rectangle::new([(x, y), (x + 1.0, y + 1.0)], COLOURS[0].mix(shade).filled())
    }))?;
    for (_, of) in &report.groups {
        let end = of.end as f64;
        for line in [[(end, 0.0), (end, nodes)], [(0.0, end), (nodes, end)]] {
            chart.draw_series(LineSeries::new(line, BLACK.mix(0.2)))?;
        }
    }
    area.present()
}

/// For each value of a sweep its seeds as dots, with a line through the medians; a colour for each line.
#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn distribution(
    unit: &str,
    lines: &[Series],
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> Drawn<'static> {
    let values: Vec<&String> = lines.iter().take(1).flat_map(|line| &line.values).map(|(value, _)| value).collect();
    let all = lines.iter().flat_map(|line| &line.values).flat_map(|(_, seeds)| seeds);
    let most = all.copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(70)
        .build_cartesian_2d(-0.5..values.len() as f64 - 0.5, 0.0..most * 1.05)?;
    let named = |x: &f64| {
        let near = (x - x.round()).abs() < 0.05 && *x > -0.5;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let name = near.then(|| values.get(x.round().max(0.0) as usize)).flatten();
        name.map_or_else(String::new, |name| (*name).clone())
    };
    chart
        .configure_mesh()
        .y_desc(unit)
        .x_labels(values.len() * 2 + 1)
        .x_label_formatter(&named)
        .y_label_formatter(&|value| if unit == "bytes" { size(whole(*value)) } else { time(*value) })
        .draw()?;
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        // Beside each other, so that dots of two lines are told apart.
        let aside = (number as f64 + 1.0) / (lines.len() as f64 + 1.0) * 0.4 - 0.2;
        let place = |at: usize| at as f64 + aside;
        let seeds = line.values.iter().enumerate();
        let dots = seeds.clone().flat_map(|(at, (_, seeds))| seeds.iter().map(move |value| (place(at), *value)));
        chart.draw_series(dots.map(|dot| Circle::new(dot, 4, colour.mix(0.5).filled())))?;
        let medians = seeds.filter_map(|(at, (_, seeds))| Some((place(at), *seeds.get(seeds.len() / 2)?)));
        let median = chart.draw_series(LineSeries::new(medians, colour.stroke_width(2)))?;
        if !line.name.is_empty() {
            median
                .label(line.name.clone())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
    }
    if lines.len() > 1 {
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    }
    area.present()
}

fn time(ms: f64) -> String {
    span(whole(ms))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0, and shown to people")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}
