//! `burr apply`: what is staged is switched to now.

use std::process::ExitCode;

use burr_node::{control, error::Error};

use super::Context;

/// Switch an app to the release that is staged, whatever it waits for: its window, an idle moment, or this command.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The app.
    app: String,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    control::ask::<()>(&context.data, &control::Request::Apply { app: arguments.app })?;
    Ok(ExitCode::SUCCESS)
}
