//! The table at the demo's end: who got which version, from whom, how many bytes, in how many seconds.

use std::{collections::BTreeMap, fmt, time::Duration};

use burr_protocol::{
    Hash,
    fact::{Fact, UpdateStep},
};
use serde::Serialize;

use super::watch::Watch;

/// One version's arrival at one node.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    who: &'static str,
    version: String,
    outcome: String,
    /// Bytes by the role of who sent them.
    from: BTreeMap<String, u64>,
    bytes: u64,
    /// From the decision to the outcome; for a node that installs nothing, of the fetch alone.
    seconds: f64,
}

/// All arrivals.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// The rows of what was seen, in the order of role and version.
    pub(super) fn of(watch: &Watch) -> Self {
        let mut rows = Vec::new();
        for release in &watch.releases {
            let (version, blob) = (&release.version, release.payload.blob);
            let mut roles: Vec<&str> = watch.seen.iter().map(|seen| seen.role).collect();
            roles.sort_unstable();
            roles.dedup();
            rows.extend(roles.into_iter().filter_map(|role| row(watch, role, version, blob)));
        }
        rows.sort_by_key(|row| row.who);
        Self(rows)
    }
}

fn row(watch: &Watch, who: &'static str, version: &str, payload: Hash) -> Option<Row> {
    let (mut begun, mut fetched, mut ended) = (None, None, None);
    for seen in watch.seen.iter().filter(|seen| seen.role == who) {
        match &seen.fact {
            Fact::FetchCompleted { blob, sources, took_ms, .. } if *blob == payload => {
                fetched = Some((sources, Duration::from_millis(*took_ms)));
            }
            Fact::Update { version: of, step, .. } if of == version => match step {
                UpdateStep::Chosen => begun = Some(seen.at),
                UpdateStep::Active | UpdateStep::RolledBack { .. } => ended = Some((seen.at, step.clone())),
                _ => {}
            },
            _ => {}
        }
    }
    let (sources, fetch_took) = fetched?;
    let mut from = BTreeMap::new();
    for (node, bytes) in sources {
        *from.entry(watch.name(*node)).or_default() += bytes;
    }
    let (outcome, took) = match (begun, ended) {
        (Some(begun), Some((at, UpdateStep::RolledBack { to, .. }))) => {
            (format!("rolled back to {}", to.as_deref().unwrap_or("nothing")), at.saturating_sub(begun))
        }
        (Some(begun), Some((at, _))) => ("active".to_owned(), at.saturating_sub(begun)),
        _ => ("kept for others".to_owned(), fetch_took),
    };
    let bytes = from.values().sum();
    Some(Row { who, version: version.to_owned(), outcome, from, bytes, seconds: took.as_secs_f64() })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["who", "version", "from whom", "bytes", "seconds", "outcome"].map(str::to_owned);
        let cells = self.0.iter().map(|row| {
            let from: Vec<&str> = row.from.keys().map(String::as_str).collect();
            let (bytes, seconds) = (row.bytes.to_string(), format!("{:.3}", row.seconds));
            [row.who.to_owned(), row.version.clone(), from.join(", "), bytes, seconds, row.outcome.clone()]
        });
        let lines: Vec<[String; 6]> = std::iter::once(heads).chain(cells).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
        let widths: [usize; 6] = std::array::from_fn(width);
        for (number, line) in lines.iter().enumerate() {
            let [who, version, from, bytes, seconds, outcome] = line;
            let [a, b, c, d, e, _] = widths;
            let end = if number + 1 == lines.len() { "" } else { "\n" };
            write!(f, "{who:<a$}  {version:<b$}  {from:<c$}  {bytes:>d$}  {seconds:>e$}  {outcome}{end}")?;
        }
        Ok(())
    }
}
