//! `burr-sim sweep`: one value or two, each at several settings, over many seeds.

use std::{fmt::Write as _, path::PathBuf};

use burr_sim::report::{Report, RolloutReport, html, html::Series};

use super::{Failure, Source, print, side_by_side, writable, write};

#[derive(clap::Args)]
pub(crate) struct Sweep {
    /// A file, or a built-in name
    scenario: String,
    /// What to vary, and its values: nodes.1.count=10,20,40 (given twice, each value with each)
    #[arg(long, required = true, value_name = "NAME=VALUE,VALUE...", value_parser = super::change)]
    vary: Vec<(String, String)>,
    /// Seeds for each value, from 1
    #[arg(long, default_value_t = 8)]
    seeds: u64,
    /// The outcome: t50, t95, t99, t100 (of the last release), far or near (payload bytes)
    #[arg(long, default_value = "t95")]
    outcome: Outcome,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write one HTML page with a plot
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Outcome {
    T50,
    T95,
    T99,
    T100,
    Far,
    Near,
}

impl Sweep {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let source = Source::find(&self.scenario)?;
        let [(name, values), rest @ ..] = self.vary.as_slice() else { return Err(Failure::Vary) };
        let second = match rest {
            [] => None,
            [second] => Some(second),
            _ => return Err(Failure::Vary),
        };
        writable(self.html.as_deref())?;
        let split = |values: &str| values.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>();
        let values = split(values);
        // What is varied besides makes a line of its own for each of its values.
        let lines: Vec<Option<(String, String)>> = second.map_or_else(
            || vec![None],
            |(name, values)| split(values).into_iter().map(|value| Some((name.clone(), value))).collect(),
        );
        let mut runs = Vec::new();
        for line in 0..lines.len() {
            for value in 0..values.len() {
                runs.extend((1..=self.seeds).map(|seed| (line, value, seed)));
            }
        }
        let outcomes = side_by_side(&runs, |(line, value, seed)| {
            let changes = [(name.clone(), values[*value].clone())].into_iter().chain(lines[*line].clone());
            let report = source.report(&changes.collect::<Vec<_>>(), Some(*seed), true)?;
            Ok::<_, Failure>((*line, *value, self.outcome.of(&report)))
        })?;
        let named = |line: &Option<(String, String)>| {
            line.as_ref().map(|(name, value)| format!("{name}={value}")).unwrap_or_default()
        };
        let empty = || values.iter().map(|value| (value.clone(), Vec::new())).collect();
        let mut table: Vec<Series> = lines.iter().map(|line| Series { name: named(line), values: empty() }).collect();
        for (line, value, outcome) in outcomes {
            table[line].values[value].1.extend(outcome);
        }
        for (_, seeds) in table.iter_mut().flat_map(|series| &mut series.values) {
            seeds.sort_by(f64::total_cmp);
        }
        let text = self.text(name, &table);
        if let Some(path) = &self.html {
            let title = format!("{}: {name}", source.name);
            write(path, &html::sweep(&title, self.outcome.unit(), &table, &text))?;
        }
        if self.json {
            print(format_args!("{:#}\n", serde_json::json!({ "varied": name, "lines": table })))
        } else {
            print(text)
        }
    }

    fn text(&self, name: &str, table: &[Series]) -> String {
        let scale = if self.outcome.unit() == "time" { ("s", 1000.0) } else { ("MB", 1e6) };
        let mut text =
            format!("{name:<24} {:>5} {:>12} {:>12} {:>12}  ({})\n", "runs", "least", "median", "most", scale.0);
        for series in table {
            if !series.name.is_empty() {
                let _ = writeln!(text, "with {}", series.name);
            }
            for (value, seeds) in &series.values {
                let at =
                    |place: usize| seeds.get(place).map_or_else(|| "-".to_owned(), |v| format!("{:.1}", v / scale.1));
                let (least, middle, most) = (at(0), at(seeds.len() / 2), at(seeds.len().wrapping_sub(1)));
                let _ = writeln!(text, "{value:<24} {:>5} {least:>12} {middle:>12} {most:>12}", seeds.len());
            }
        }
        text
    }
}

impl Outcome {
    #[allow(clippy::cast_precision_loss, reason = "plotted")]
    fn of(self, report: &Report) -> Option<f64> {
        let rollout = report.rollouts.last();
        let time = |read: fn(&RolloutReport) -> Option<u64>| rollout.and_then(read).map(|ms| ms as f64);
        match self {
            Self::T50 => time(|rollout| rollout.t50_ms),
            Self::T95 => time(|rollout| rollout.t95_ms),
            Self::T99 => time(|rollout| rollout.t99_ms),
            Self::T100 => time(|rollout| rollout.t100_ms),
            Self::Far => Some(report.bytes.far as f64),
            Self::Near => Some(report.bytes.near as f64),
        }
    }

    fn unit(self) -> &'static str {
        if matches!(self, Self::Far | Self::Near) { "bytes" } else { "time" }
    }
}
