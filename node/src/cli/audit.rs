//! `burr audit`: what a publisher did, and whether the log of it is whole.

use std::{fmt, process::ExitCode};

use burr_node::{error::Error, publisher::Publisher};
use burr_protocol::{Hash, trust::audit::Entry};
use serde::Serialize;

use super::Context;

/// Show every act of an app's publisher on this machine, after checking that none was edited, moved or taken out.
///
/// Exit code 3 if the log is not what the publisher wrote.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The app; all that are published from here without it.
    #[arg(long)]
    app: Option<String>,
}

#[derive(Serialize)]
struct Acts {
    app: String,
    /// The name of the last entry, as devices show it in `burr status`.
    head: Hash,
    entries: Vec<Entry>,
}

impl fmt::Display for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} acts, all signed and in order; the last is {}",
            self.app,
            self.entries.len(),
            self.head.short()
        )?;
        for Entry { seq, time, act, what, by, .. } in &self.entries {
            let seconds = std::time::Duration::from_secs(u64::try_from(*time).unwrap_or(0));
            let time = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + seconds);
            write!(f, "\n{seq:>4}  {time}  {act}")?;
            what.iter().try_for_each(|what| write!(f, "\n      {}", what.replace('\n', "\n      ")))?;
            by.iter().try_for_each(|id| write!(f, "\n      by {id}"))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    let apps = arguments.app.map_or_else(|| Publisher::apps(&context.data), |app| vec![app]);
    for app in apps {
        let entries = Publisher::open(&context.data, &app)?.audit()?;
        let head = entries.last().map(Entry::name).expect("a log that holds has an entry");
        context.print(&Acts { app, head, entries })?;
    }
    Ok(ExitCode::SUCCESS)
}
