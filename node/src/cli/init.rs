//! `burr init`: keys and an empty repository for an app.

use std::{fmt, process::ExitCode};

use burr_node::{error::Error, publisher::Publisher};
use burr_protocol::RepositoryId;
use serde::Serialize;

use super::{Context, passphrase};

/// Make the keys and the repository of an app on this machine.
///
/// Every role gets a key of its own, in files that only you can read; whoever has them can release. Keep a copy of the
/// directory in a safe place: devices trust these keys and no others.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The app: letters a-z, digits, and . _ -
    #[arg(long)]
    app: String,
    /// A channel; give it again for more.
    #[arg(long = "channel", value_name = "CHANNEL", default_value = "stable")]
    channels: Vec<String>,
    /// Seal the keys with a passphrase, asked for at the terminal.
    #[arg(long)]
    passphrase: bool,
    #[command(flatten)]
    source: passphrase::Source,
}

#[derive(Serialize)]
struct Made {
    app: String,
    repository: RepositoryId,
    /// What devices put behind `--install`, one a channel.
    links: Vec<String>,
    sealed: bool,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is set up; its repository is {}", self.app, self.repository)?;
        if !self.sealed {
            writeln!(f, "its keys are not sealed; `burr init --passphrase` seals them")?;
        }
        writeln!(
            f,
            "root is 1 of 1: who loses its key can never change keys again; a second one, on paper in a safe:"
        )?;
        writeln!(f, "  burr key new paper.key && burr key add root --app {} --key paper.key.pub", self.app)?;
        writeln!(f, "publish with:  burr publish DIR --app {} --channel CHANNEL --version 1.0.0", self.app)?;
        write!(f, "devices follow it with:")?;
        self.links.iter().try_for_each(|link| write!(f, "\n  burr run --install {link}"))
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let passphrase =
        if arguments.passphrase { Some(passphrase::new(&arguments.source)?) } else { arguments.source.given()? };
    let channels: Vec<&str> = arguments.channels.iter().map(String::as_str).collect();
    let repository = Publisher::init(&context.data, &arguments.app, &channels, passphrase.as_deref())?;
    let link = |channel: &&str| format!("{}/{channel}@{repository}", arguments.app);
    context.print(&Made {
        links: channels.iter().map(link).collect(),
        app: arguments.app.clone(),
        repository,
        sealed: passphrase.is_some(),
    })?;
    Ok(ExitCode::SUCCESS)
}
