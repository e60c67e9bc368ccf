//! `burr receipts`: what devices reported.

use std::{process::ExitCode, time::Duration};

use burr_node::{
    control::{self, Request},
    error::Error,
};
use burr_protocol::{Wall, receipt::Receipt};
use bytesize::ByteSize;

use super::{Context, print, print_json};

/// Show the receipts that are kept here: own, carried and collected, each signed by its device.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only those of this app.
    #[arg(long)]
    app: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut receipts: Vec<Receipt> = control::ask(&context.data, &Request::Receipts)?;
    receipts.retain(|receipt| arguments.app.as_ref().is_none_or(|app| *app == receipt.app));
    if context.json {
        print_json(&receipts)?;
        return Ok(ExitCode::SUCCESS);
    }
    for receipt in receipts {
        let bytes: u64 = receipt.sources.iter().map(|(_, bytes)| bytes).sum();
        print(&format!(
            "{} #{} {}/{} {}: {} ({}, {} ms{})",
            receipt.device.short(),
            receipt.counter,
            receipt.app,
            receipt.channel,
            receipt.version,
            receipt.outcome,
            ByteSize::b(bytes),
            receipt.took_ms,
            age(receipt.at, receipt.issued).map(|age| format!(", by metadata signed {age} before")).unwrap_or_default()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How old the metadata was that a device decided by at a time, if it knew the time. Both are the device's own words.
fn age(at: Option<Wall>, issued: Wall) -> Option<humantime::FormattedDuration> {
    let seconds = u64::try_from(at?.0.checked_sub(issued.0)?).ok()?;
    let minutes = Duration::from_secs(seconds / 60 * 60);
    Some(humantime::format_duration(minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_lies_about_the_time_is_shown_without_an_age() {
        let shown = |at, issued| age(at, Wall(issued)).map(|age| age.to_string());
        assert_eq!(shown(Some(Wall(7_230)), 0).as_deref(), Some("2h"));
        assert_eq!(shown(None, 0), None);
        assert_eq!(shown(Some(Wall(0)), 1), None);
        assert_eq!(shown(Some(Wall(i64::MAX)), i64::MIN), None);
        assert_eq!(shown(Some(Wall(i64::MIN)), i64::MAX), None);
    }
}
