//! A report as text, for people.

use std::fmt::{self, Write as _};

use super::Report;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = span(self.simulated_ms);
        writeln!(f, "{} (seed {}): {} nodes, {} devices, {days}", self.scenario, self.seed, self.nodes, self.devices)?;
        writeln!(f)?;
        writeln!(f, "  release       size     has it          t50       t95       t99       all   hands")?;
        for rollout in &self.rollouts {
            let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), span);
            let reached = format!("{}/{}", rollout.reached, self.devices);
            let mut line = format!(
                "  {:<10} {:>8}  {reached:>13}  {:>8}  {:>8}  {:>8}  {:>8}  {:>5.1}",
                rollout.version,
                size(rollout.size),
                time(rollout.t50_ms),
                time(rollout.t95_ms),
                time(rollout.t99_ms),
                time(rollout.t100_ms),
                rollout.hops.0,
            );
            if rollout.failed > 0 {
                write!(line, "  ({} went back)", rollout.failed)?;
            }
            writeln!(f, "{line}")?;
        }
        let bytes = &self.bytes;
        writeln!(f)?;
        writeln!(
            f,
            "  payloads      {} between sites, {} within; {:.2} bytes came per byte that was needed",
            size(bytes.far),
            size(bytes.near),
            bytes.redundancy
        )?;
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let share = bytes.far as f64 / bytes.needed.max(1) as f64 * 100.0;
        writeln!(f, "                that is {share:.1} % of devices x bundle ({})", size(bytes.needed))?;
        let said = bytes.far_said + bytes.near_said;
        writeln!(
            f,
            "  messages      {} in {} messages, {} of it between sites",
            size(said),
            bytes.messages,
            size(bytes.far_said)
        )?;
        for line in &self.lines {
            let (up, down) = (size(line.up), size(line.down));
            writeln!(f, "  {:<12}  {down} in, {up} out of sites; costs {:.2}", line.class, line.cost)?;
        }
        for fed in self.fed.iter().take(8) {
            writeln!(f, "  {} gave {} to {}", fed.from, size(fed.bytes), fed.to)?;
        }
        if let Some(fairness) = self.fairness {
            writeln!(f, "  fairness      {fairness:.2} (Jain's index of what devices served)")?;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time, at least 0")]
        let behind = span(self.staleness.mean_ms as u64);
        writeln!(
            f,
            "  newest        on {:.1} % of device time; {behind} behind each release",
            self.staleness.current * 100.0
        )?;
        writeln!(f, "  radio         {:.0} s a device", self.radio_seconds)?;
        for (lie, count) in &self.refused {
            writeln!(f, "  refused       {count} times for {lie}")?;
        }
        writeln!(f, "  {} events; digest {}", self.events, self.digest)?;
        for broken in &self.broken {
            writeln!(f, "  BROKEN        {broken}")?;
        }
        Ok(())
    }
}

/// Bytes with a unit of thousands.
#[must_use]
pub(super) fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut amount = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if amount < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= 1000.0;
    }
    format!("{amount:.1} PB")
}

/// A time in the two units that tell most.
#[must_use]
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{}.{}s", seconds, ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
