//! `burr releases`: how each release stands with the devices, as far as their receipts tell.

use std::{fmt, process::ExitCode};

use burr_node::{
    control::{self, Request},
    error::Error,
};
use burr_protocol::standing::Standing;
use serde::Serialize;

use super::{Context, in_words};

/// Show how each release stands with the devices: for how many it is, and on how many it was downloaded, is active,
/// failed or was rolled back; and of how many nothing was heard yet.
///
/// It is counted from the receipts that the node on this data directory holds (a publisher, a collector), so each line
/// says how old that knowledge is. `burr explain` says the same of one device.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// This app alone.
    #[arg(long)]
    app: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut releases: Vec<Standing> = control::ask(&context.data, &Request::Releases)?;
    releases.retain(|standing| arguments.app.as_ref().is_none_or(|app| *app == standing.app));
    context.print(&Shown(releases))?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Vec<Standing>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<32} {:>9} {:>10} {:>7} {:>7} {:>11} {:>7}  known as of",
            "release", "eligible", "downloaded", "active", "failed", "rolled back", "unknown"
        )?;
        for standing in &self.0 {
            let Standing { app, channel, seq, version, perhaps, newest_s, oldest_s, .. } = standing;
            let name = format!("{app}/{channel} #{seq} {version}");
            let eligible = match perhaps {
                0 => standing.eligible.to_string(),
                perhaps => format!("{}+{perhaps}?", standing.eligible),
            };
            let age = match (newest_s, oldest_s) {
                (Some(newest), Some(oldest)) if oldest > newest => {
                    format!("{} ago, one device {} ago", in_words(*newest), in_words(*oldest))
                }
                (Some(age), _) => format!("{} ago", in_words(*age)),
                (None, Some(oldest)) => format!("not heard of; devices up to {} ago", in_words(*oldest)),
                (None, None) => "no receipt".to_owned(),
            };
            write!(
                f,
                "\n{name:<32} {eligible:>9} {:>10} {:>7} {:>7} {:>11} {:>7}  {age}",
                standing.downloaded, standing.active, standing.failed, standing.rolled_back, standing.unknown,
            )?;
        }
        Ok(())
    }
}
