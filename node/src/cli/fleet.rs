//! `burr fleet`: who belongs to a closed mesh.

use std::{fmt, path::PathBuf, process::ExitCode};

use burr_node::{
    error::{Error, Kind},
    publisher::Publisher,
};
use burr_protocol::{
    member::Certificate,
    trust::write::{Change, Role},
};
use clap::Subcommand;
use serde::Serialize;

use super::{Context, draft, key, passphrase};

/// Fleets: the members of a closed mesh. A fleet has keys of its own, which say who belongs to it.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    Create(Create),
    Members(Members),
    Revoke(Revoke),
    Rotate(Rotate),
}

/// Make a fleet, with a key of its own here, and make this machine's own node its first member.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The fleet: letters a-z, digits, and . _ -
    fleet: String,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// List the members that were enrolled here and are not revoked.
#[derive(Debug, clap::Args)]
pub(super) struct Members {
    /// The fleet.
    fleet: String,
    #[command(flatten)]
    of: Of,
}

/// Revoke a member, as when a device is lost. It is cut off wherever the news has come.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The fleet.
    fleet: String,
    /// The member: its node, or the first letters of it.
    device: String,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Begin another epoch: give the fleet a new key, which its members of now get and nobody else. What is published with
/// `--encrypt-to` after that is sealed by it; a device that was revoked reads nothing newer than what it could read.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// The fleet.
    fleet: String,
    #[command(flatten)]
    of: Of,
    /// Write the draft to this file if the keys here are not enough to sign it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Whose fleet.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The app whose repository has the fleet; not needed if only one is published from here.
    #[arg(long)]
    app: Option<String>,
}

impl Of {
    pub(super) fn publisher(&self, context: &Context) -> Result<Publisher, Error> {
        if let Some(app) = &self.app {
            return Publisher::open(&context.data, app);
        }
        match &Publisher::apps(&context.data)[..] {
            [app] => Publisher::open(&context.data, app),
            [] => {
                let words = format!("no app is published from {}", context.data.display());
                Err(Error::new(Kind::BadInput, words).with_hint("set one up first: burr init --app APP"))
            }
            apps => {
                let hint = format!("say with --app which one: {}", apps.join(", "));
                Err(Error::new(Kind::BadInput, "several apps are published from here").with_hint(hint))
            }
        }
    }
}

#[derive(Serialize)]
struct Made {
    fleet: String,
    app: String,
    /// The first member: this machine's node.
    member: Certificate,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fleet, app, member } = self;
        writeln!(f, "fleet {fleet} of {app} is made; this node, {}, is its first member", member.node.short())?;
        writeln!(f, "invite a device with:  burr enrol {fleet}")?;
        write!(f, "to let members alone speak, set in burr.toml of each of them:\n  [mesh]\n  closed = true")
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(Vec<Certificate>);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, member) in self.0.iter().enumerate() {
            let line = if at == 0 { "" } else { "\n" };
            write!(f, "{line}{}  {:>6}  {}", member.node, member.serial, words(&member.capabilities))?;
            if !member.groups.is_empty() {
                write!(f, "; in {}", words(&member.groups))?;
            }
            write!(f, "; until {}", time(member.not_after))?;
        }
        if self.0.is_empty() { f.write_str("no members") } else { Ok(()) }
    }
}

#[derive(Serialize)]
struct Gone {
    revoked: Certificate,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { node, fleet, .. } = &self.revoked;
        writeln!(f, "{node} is no member of {fleet} any more; each node cuts it off once it hears of this")?;
        write!(f, "if releases are sealed for {fleet}, change its key:  burr fleet rotate {fleet}")
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments {
        Arguments::Create(Create { fleet, of, passphrase }) => {
            let mut publisher = of.publisher(context)?;
            let role = format!("fleet.{fleet}").parse::<Role>().map_err(|error| key::refused(&error))?;
            if publisher.signers().contains_key(&role) {
                return Err(Error::new(Kind::BadInput, format!("fleet {fleet} is there already"))
                    .with_hint("change its keys with `burr key`"));
            }
            let member = passphrase::retry(&passphrase, |given| {
                let keys = vec![publisher.new_key(&role, given)?];
                let change = Change::AddFleet { fleet: fleet.clone(), keys, threshold: 1 };
                let (draft, done) = publisher.change(&change, given)?;
                if !done {
                    let missing: Vec<_> = draft.missing().iter().map(ToString::to_string).collect();
                    let words = format!("a fleet needs signatures that can't be made here: {}", missing.join("; "));
                    return Err(Error::new(Kind::Key, words).with_hint("make it where the key of targets is"));
                }
                publisher.enrol_own_node(&context.data, &fleet, given)
            })?;
            let app = publisher.app().to_owned();
            context.tell_node(&app)?;
            context.print(&Made { fleet, app, member })?;
        }
        Arguments::Members(Members { fleet, of }) => {
            context.print(&Listed(of.publisher(context)?.members(&fleet)?))?;
        }
        Arguments::Revoke(Revoke { fleet, device, of, passphrase }) => {
            let mut publisher = of.publisher(context)?;
            let revoked = passphrase::retry(&passphrase, |given| publisher.revoke(&fleet, &device, given))?;
            context.tell_node(publisher.app())?;
            context.print(&Gone { revoked })?;
        }
        Arguments::Rotate(Rotate { fleet, of, out, passphrase }) => {
            let mut publisher = of.publisher(context)?;
            let begun = passphrase::retry(&passphrase, |given| publisher.rotate_for_members(&fleet, given));
            let (begun, done) = begun?;
            draft::settle(context, publisher.app(), &begun, done, out.as_deref())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn words<'a, T: fmt::Display + 'a>(list: impl IntoIterator<Item = &'a T>) -> String {
    list.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn time(time: burr_protocol::Wall) -> impl fmt::Display {
    let seconds = std::time::Duration::from_secs(u64::try_from(time.0).unwrap_or(0));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + seconds)
}
