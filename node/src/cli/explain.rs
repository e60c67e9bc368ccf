//! `burr explain`: why a device takes a release, or does not, rule by rule.

use std::{fmt, process::ExitCode};

use burr_node::{
    control::{self, Request},
    error::Error,
};
use burr_protocol::policy::explain::{Explanation, Question, Verdict};
use serde::Serialize;

use super::{Context, in_words};

/// Say why a device takes a release, or does not, rule by rule.
///
/// On a device, `burr explain here 2.0.0 --app shop` asks the node itself, by the code that decides there. A publisher or a
/// collector knows other devices by their receipts, and says what it does not know.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The device: `here`, or its name or the beginning of one whose receipts are here.
    device: String,
    /// The release: its version, or its number as #7.
    release: String,
    /// The app.
    #[arg(long)]
    app: String,
    /// The channel, if it is not the device's own.
    #[arg(long)]
    channel: Option<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    let Arguments { device, release, app, channel } = arguments;
    let question = Question { app, release, channel, device: Some(device).filter(|device| device != "here") };
    context.print(&Shown(control::ask(&context.data, &Request::Explain(question))?))?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Explanation);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { device, here, heard_s, app, channel, seq, version, words, checks, .. } = &self.0;
        let whose = match (here, heard_s) {
            (true, _) => "this device".to_owned(),
            (false, Some(seconds)) => format!("last heard of {} ago", in_words(*seconds)),
            (false, None) => "never heard of".to_owned(),
        };
        write!(f, "{app}/{channel} #{seq}, {version}, on {} ({whose}): {words}", device.short())?;
        for check in checks {
            let mark = match check.verdict {
                Verdict::Holds => "yes",
                Verdict::Against => "NO",
                Verdict::Later => "later",
                Verdict::Unknown => "?",
            };
            write!(f, "\n  {mark:<5}  {:<10}  {}", check.rule, check.words)?;
        }
        Ok(())
    }
}
