//! `burr confirm`: the app that is on trial works.

use std::process::ExitCode;

use burr_node::{control, error::Error};

use super::Context;

/// Say that an app's new version works, when it is set to `confirm = "call"`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The app.
    app: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    control::ask::<()>(&context.data, &control::Request::Confirm { app: arguments.app })?;
    Ok(ExitCode::SUCCESS)
}
