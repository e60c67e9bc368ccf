//! `burr receipts`: what devices reported.

use std::{process::ExitCode, time::Duration};

use burr_node::{
    control::{self, Request},
    error::Error,
};
use burr_protocol::receipt::Receipt;
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
            age(&receipt).map(|age| format!(", by metadata signed {age} before")).unwrap_or_default()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How old the metadata was that the device decided by, if it knew the time.
fn age(receipt: &Receipt) -> Option<humantime::FormattedDuration> {
    let seconds = u64::try_from(receipt.at?.0.checked_sub(receipt.issued.0)?).ok()?;
    let minutes = Duration::from_secs(seconds / 60 * 60);
    Some(humantime::format_duration(minutes))
}
