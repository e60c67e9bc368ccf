//! `burr export`: a repository as static files for any web server.

use std::{fmt, path::PathBuf, process::ExitCode};

use burr_node::{error::Error, publisher::Publisher};
use serde::Serialize;

use super::Context;

/// Write an app's repository and payloads as static files, for any web server: an upstream of last resort for nodes
/// (`upstream.urls`), and a repository for every TUF client.
///
/// Run it again after each release; what is there already stays as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory, such as the root of a web server.
    directory: PathBuf,
    /// The app.
    #[arg(long)]
    app: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let exported = Publisher::open(&context.data, &arguments.app)?.export(&arguments.directory)?;
    let (added, blobs, missing) = (exported.added, exported.blobs, exported.missing);
    context.print(&Shown { directory: arguments.directory.clone(), added, blobs, missing })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Shown {
    directory: PathBuf,
    added: usize,
    blobs: usize,
    missing: Vec<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, added, blobs, missing } = self;
        write!(f, "{} has {blobs} payloads, {added} of them new", directory.display())?;
        if !missing.is_empty() {
            write!(f, "; those of {} are not on this machine any more", missing.join(", "))?;
        }
        Ok(())
    }
}
