//! `burr check`: news is looked for now.

use std::process::ExitCode;

use burr_node::{control, error::Error};

use super::Context;

/// Look for news now: ask every peer what it holds, and dial those that are not connected.
///
/// A node does so by itself, in its own time; `burr status` shows what it found.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(context: &Context, _: &Arguments) -> Result<ExitCode, Error> {
    control::ask::<()>(&context.data, &control::Request::Check)?;
    Ok(ExitCode::SUCCESS)
}
