//! `burr root`: changes of keys and channels that several people sign.

use std::process::ExitCode;

use burr_node::error::Error;
use clap::Subcommand;

use super::{Context, draft};

/// Sign and submit changes of keys and channels that need more than the keys of one machine.
///
/// `burr key` and `burr channel` write such a change to a file when signatures are missing.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    Sign(draft::Sign),
    Submit(draft::Submit),
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    match arguments {
        Arguments::Sign(arguments) => draft::sign(context, arguments)?,
        Arguments::Submit(arguments) => draft::submit(context, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
