//! `burr`: publisher, cache, kiosk, courier and device in one binary.
//!
//! The library does the work. Here arguments become settings, and errors become words, a hint and an exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::misread(&error),
    };
    let json = arguments.json;
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => cli::report(&error, json),
    }
}
