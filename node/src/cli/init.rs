//! `burr init`: keys and an empty repository for an app.

use std::{fmt, process::ExitCode};

use burr_node::{
    error::{Error, Kind},
    publisher::Publisher,
};
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
        writeln!(f, "publish with:  burr publish DIR --app {} --channel CHANNEL --version 1.0.0", self.app)?;
        write!(f, "devices follow it with:")?;
        self.links.iter().try_for_each(|link| write!(f, "\n  burr run --install {link}"))
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    burr_node::store::home::check_format(&context.data)?;
    let mut passphrase = arguments.source.given()?;
    if arguments.passphrase && passphrase.is_none() {
        let wanted = "give the passphrase with --passphrase-file or BURR_PASSPHRASE";
        let absent = || Error::new(Kind::BadInput, "there is no terminal to ask for a passphrase").with_hint(wanted);
        let first = passphrase::ask("New passphrase: ")?.ok_or_else(absent)?;
        if passphrase::ask("Again: ")?.as_ref() != Some(&first) {
            return Err(Error::new(Kind::BadInput, "the passphrases differ; nothing was made"));
        }
        passphrase = Some(first);
    }
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
