//! `burr device`: what the device says of itself to the node that runs on it.

use std::process::ExitCode;

use burr_node::{control, error::Error};
use clap::Subcommand;

use super::Context;

/// Say how the device stands, for releases that wait for the right moment.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// It is in use: releases for the background wait. It holds until `idle`, or until the node ends.
    Busy,
    /// It is not in use.
    Idle,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let busy = matches!(arguments, Arguments::Busy);
    control::ask::<()>(&context.data, &control::Request::Busy { busy })?;
    Ok(ExitCode::SUCCESS)
}
