//! `burr channel`: where releases of an app go, and who may release there.

use std::{fmt, path::PathBuf, process::ExitCode};

use burr_node::{error::Error, publisher::Publisher};
use burr_protocol::trust::write::{Change, Role};
use clap::Subcommand;
use serde::Serialize;

use super::{Context, draft, key, passphrase};

/// Channels of an app. Each has keys of its own, and how many of them must sign a release.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    Add(Add),
    List(List),
}

/// Add a channel. Its first document is signed by its own keys, so with keys of other machines it needs their signatures.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The channel: letters a-z, digits, and . _ -
    channel: String,
    /// The app.
    #[arg(long)]
    app: String,
    /// A public key that may release there (64 hex digits or a .pub file); give it again for more. Without one, a key is
    /// made here.
    #[arg(long = "key", value_name = "PUB")]
    keys: Vec<String>,
    /// How many of the keys must sign a release.
    #[arg(long, default_value_t = 1)]
    threshold: usize,
    /// Where to write the draft if signatures are missing.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// List the channels with their keys and newest releases.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The app.
    #[arg(long)]
    app: String,
}

#[derive(Serialize)]
struct Channels(Vec<Channel>);

#[derive(Serialize)]
struct Channel {
    #[serde(rename = "channel")]
    name: String,
    threshold: usize,
    keys: Vec<String>,
    newest: Option<String>,
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Channel { name: channel, threshold, keys, newest }) in self.0.iter().enumerate() {
            let line = if at == 0 { "" } else { "\n" };
            let newest = newest.as_deref().unwrap_or("no release yet");
            write!(f, "{line}{channel}: {newest}; {threshold} of {} keys must sign", keys.len())?;
            keys.iter().try_for_each(|id| write!(f, "\n  {id}"))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments {
        Arguments::Add(Add { channel, app, keys, threshold, out, passphrase }) => {
            let mut public = keys.iter().map(|text| key::public(text)).collect::<Result<Vec<_>, _>>()?;
            if public.is_empty() {
                let publisher = Publisher::open(&context.data, &app)?;
                let role = format!("channel.{channel}").parse::<Role>().map_err(|error| key::refused(&error))?;
                public.push(passphrase::retry(&passphrase, |given| publisher.new_key(&role, given))?);
            }
            let change = Change::AddChannel { channel, keys: public, threshold };
            draft::change(context, &app, &change, out.as_deref(), &passphrase)?;
        }
        Arguments::List(List { app }) => {
            let publisher = Publisher::open(&context.data, &app)?;
            let newest = |channel: &str| {
                publisher.releases().filter(|release| release.channel == channel).last().map(|it| it.version.clone())
            };
            let channels = publisher.signers().into_iter().filter_map(|(role, signers)| {
                let Role::Channel(channel) = role else { return None };
                let (threshold, keys) = (signers.threshold, signers.keys.into_keys().collect());
                Some(Channel { newest: newest(&channel), name: channel, threshold, keys })
            });
            context.print(&Channels(channels.collect()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
