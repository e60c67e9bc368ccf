//! `burr-sim`: a fleet before there is one.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "the binary reads files and arguments, prints, and runs seeds side by side; a run itself has one thread"
)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("burr-sim: {error}");
            ExitCode::from(2)
        }
    }
}
