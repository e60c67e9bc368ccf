//! `burr defer`, `burr rollback` and `burr retry`: what someone at the device wants of an app's update.

use std::{process::ExitCode, time::Duration};

use burr_node::{
    control::{self, Request},
    error::Error,
};

use super::Context;

/// Put the release of an app that is under way off.
///
/// It is fetched and staged, and not switched to before its time. The setting `defer` and the release itself say for how
/// long that may be in all; a critical release can't be put off.
#[derive(Debug, clap::Args)]
pub(super) struct Defer {
    /// The app.
    app: String,
    /// For how long from now, such as 2h.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Duration,
}

/// Take an app back to its last good version, and keep it there until `burr retry`.
///
/// That is the version that was active before, or, where none is kept, the first one that was ever installed. The
/// version that it leaves counts as failed.
#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// The app.
    app: String,
}

/// Try again what failed of an app, and end its stay at a version after `burr rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct Retry {
    /// The app.
    app: String,
}

pub(super) fn defer(context: &Context, Defer { app, time }: Defer) -> Result<ExitCode, Error> {
    // A second is the least that is waited.
    ask(context, &Request::Defer { app, seconds: time.as_secs().max(1) })
}

pub(super) fn roll_back(context: &Context, Rollback { app }: Rollback) -> Result<ExitCode, Error> {
    ask(context, &Request::Rollback { app })
}

pub(super) fn retry(context: &Context, Retry { app }: Retry) -> Result<ExitCode, Error> {
    ask(context, &Request::Retry { app })
}

fn ask(context: &Context, wish: &Request) -> Result<ExitCode, Error> {
    control::ask::<()>(&context.data, wish)?;
    Ok(ExitCode::SUCCESS)
}
