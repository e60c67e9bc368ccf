//! `burr release`: releases that several people sign.

use std::{path::PathBuf, process::ExitCode};

use burr_node::{error::Error, publisher::Publisher};
use burr_protocol::trust::write::Difference;
use clap::Subcommand;

use super::{
    Context,
    draft::{self, Standing},
};

/// Release together: one proposes, enough others sign the file, one submits it.
///
/// The file can be signed in any order, or in copies that are merged. Who holds all keys uses `burr publish`.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    Propose(Propose),
    Sign(draft::Sign),
    Submit(draft::Submit),
}

/// Pack a bundle and write the draft of its release to a file, for the channel's keys to sign.
#[derive(Debug, clap::Args)]
pub(super) struct Propose {
    /// The finished build: a directory or a .zip file.
    source: PathBuf,
    /// The app, as in `burr init`.
    #[arg(long)]
    app: String,
    /// The channel.
    #[arg(long, default_value = "stable")]
    channel: String,
    /// The version; newer than every one before it on this channel.
    #[arg(long)]
    version: String,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    match arguments {
        Arguments::Propose(arguments) => propose(context, arguments)?,
        Arguments::Sign(arguments) => draft::sign(context, arguments)?,
        Arguments::Submit(arguments) => draft::submit(context, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn propose(context: &Context, arguments: &Propose) -> Result<(), Error> {
    let Propose { source, app, channel, version, out } = arguments;
    let mut publisher = Publisher::open(&context.data, app)?;
    let proposed = publisher.propose_release(source, channel, version, &|_, _| ())?;
    draft::write(out, &proposed)?;
    let mut standing = Standing::of(&proposed, Some(out.clone()), false);
    if let [Difference::Release { release, .. }, ..] = proposed.differences() {
        standing = standing.with_payload(publisher.drafted(release));
    }
    context.print(&standing)
}
