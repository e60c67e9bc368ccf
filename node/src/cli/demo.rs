//! `burr demo`.

use std::process::ExitCode;

use burr_node::error::Error;

use super::Context;

/// Show.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_context: &Context, _arguments: Arguments) -> Result<ExitCode, Error> {
    Ok(ExitCode::SUCCESS)
}
