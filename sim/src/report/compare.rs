//! Two runs beside each other: what a change of settings or of code did.

use std::fmt;

use serde::Serialize;

use super::{
    Report,
    text::{size, span},
};

/// One figure of both runs.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Of the first run, and of the second; none where it has no such figure.
    pub values: (Option<f64>, Option<f64>),
    /// As people read it.
    #[serde(skip)]
    shown: (String, String),
}

/// Two runs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What they are called.
    pub names: (String, String),
    /// Their figures.
    pub figures: Vec<Figure>,
}

impl Comparison {
    /// Compares two reports, release by release in the order of time.
    #[must_use]
    pub fn of(a: &Report, b: &Report) -> Self {
        let mut figures = Vec::new();
        let shared = a.rollouts.len().max(b.rollouts.len());
        for at in 0..shared {
            let (of_a, of_b) = (a.rollouts.get(at), b.rollouts.get(at));
            let version = of_a.or(of_b).map_or("", |rollout| &rollout.version);
            for (what, read) in TIMES {
                let value = |rollout: Option<&super::RolloutReport>| rollout.and_then(read);
                figures.push(figure(format!("{version} {what}"), value(of_a), value(of_b), span));
            }
            let reached = |rollout: Option<&super::RolloutReport>| rollout.map(|rollout| rollout.reached as u64);
            figures.push(figure(format!("{version} has it"), reached(of_a), reached(of_b), |count| count.to_string()));
        }
        for (what, read) in BYTES {
            figures.push(figure(what.to_owned(), Some(read(a)), Some(read(b)), size));
        }
        figures.push(figure("messages".to_owned(), Some(a.bytes.messages), Some(b.bytes.messages), |n| n.to_string()));
        figures.push(figure(
            "rules broken".to_owned(),
            Some(a.broken.len() as u64),
            Some(b.broken.len() as u64),
            |n| n.to_string(),
        ));
        Self { names: (a.scenario.clone(), b.scenario.clone()), figures }
    }
}

/// Reads a figure off a rollout.
type OfRollout = fn(&super::RolloutReport) -> Option<u64>;
/// Reads a figure off a report.
type OfReport = fn(&Report) -> u64;

const TIMES: [(&str, OfRollout); 4] = [
    ("t50", |rollout| rollout.t50_ms),
    ("t95", |rollout| rollout.t95_ms),
    ("t99", |rollout| rollout.t99_ms),
    ("all", |rollout| rollout.t100_ms),
];

const BYTES: [(&str, OfReport); 4] = [
    ("payloads between sites", |report| report.bytes.far),
    ("payloads within sites", |report| report.bytes.near),
    ("messages between sites", |report| report.bytes.far_said),
    ("messages within sites", |report| report.bytes.near_said),
];

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn figure(name: String, a: Option<u64>, b: Option<u64>, show: impl Fn(u64) -> String) -> Figure {
    let shown = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), &show);
    Figure { name, values: (a.map(|a| a as f64), b.map(|b| b as f64)), shown: (shown(a), shown(b)) }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26} {:>14} {:>14}   change", "", self.names.0, self.names.1)?;
        for figure in &self.figures {
            let change = match figure.values {
                (Some(a), Some(b)) if a > 0.0 => format!("{:+.1} %", (b - a) / a * 100.0),
                _ => String::new(),
            };
            writeln!(f, "{:<26} {:>14} {:>14}   {change}", figure.name, figure.shown.0, figure.shown.1)?;
        }
        Ok(())
    }
}
