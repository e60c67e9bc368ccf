//! `burr key`: who may sign what.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use burr_node::{
    error::{Error, Kind},
    publisher::{self, Publisher},
};
use burr_protocol::{
    Hash,
    trust::write::{Change, Role, WriteError, key_id, parse_key},
};
use clap::Subcommand;
use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::{Context, draft, passphrase};

/// Keys of an app's roles: root, targets, snapshot, timestamp, and channel.NAME for each channel.
///
/// The root's keys decide over all others; the targets' keys over those of channels. A change that the keys on this
/// machine can sign holds at once. Otherwise it is written to a file: `burr root sign` it elsewhere, then
/// `burr root submit` it here.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    New(New),
    List(Of),
    Add(Add),
    Rotate(Rotate),
    Revoke(Revoke),
    ExportOnline(ExportOnline),
}

/// Make a key pair on a machine that needs nothing else: FILE is private, FILE.pub is for who adds it.
#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// The file of the private key; it stays with its owner.
    file: PathBuf,
    /// Seal it with a passphrase: from --passphrase-file, from `BURR_PASSPHRASE`, or asked for at the terminal.
    #[arg(long)]
    passphrase: bool,
    #[command(flatten)]
    source: passphrase::Source,
}

/// List the roles with their keys and thresholds.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The app.
    #[arg(long)]
    app: String,
}

/// What every change takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The role: root, targets, snapshot, timestamp or channel.NAME.
    role: Role,
    /// The app.
    #[arg(long)]
    app: String,
    /// Where to write the draft if signatures are missing.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Add keys to a role, or change how many of its keys must sign, or both.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    common: Common,
    /// A public key (64 hex digits or a .pub file); give it again for more.
    #[arg(long = "key", value_name = "PUB")]
    keys: Vec<String>,
    /// How many of the keys must sign from then on.
    #[arg(long)]
    threshold: Option<usize>,
}

/// Put a new key in the place of one: of the only one that the role has, or the one named by --old.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    common: Common,
    /// The id of the key that goes.
    #[arg(long, value_name = "KEYID")]
    old: Option<String>,
    /// The public key that comes (64 hex digits or a .pub file); without it, one is made here.
    #[arg(long = "key", value_name = "PUB")]
    key: Option<String>,
}

/// Take a key out of a role, as when it is stolen. Devices refuse what it signs once they hear of it.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    common: Common,
    /// The id of the key, as `burr key list` shows it.
    key_id: String,
    /// How many of the remaining keys must sign from then on.
    #[arg(long)]
    threshold: Option<usize>,
}

/// Move the keys of snapshot and timestamp to a directory for a machine that is always on.
///
/// Copy the directory there and start `burr run --data DIR` on it: it signs both anew before they expire, and can do
/// nothing else. Releases are submitted there from then on.
#[derive(Debug, clap::Args)]
pub(super) struct ExportOnline {
    /// The new data directory.
    directory: PathBuf,
    /// The app.
    #[arg(long)]
    app: String,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

#[derive(Serialize)]
struct Made {
    private: PathBuf,
    public: PathBuf,
    key: String,
    key_id: String,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is the private key: keep it, and a copy in a safe place", self.private.display())?;
        writeln!(f, "{} is the public key: give it to who adds it", self.public.display())?;
        write!(f, "key id {}", self.key_id)
    }
}

#[derive(Serialize)]
struct Roles(Vec<Listed>);

#[derive(Serialize)]
struct Listed {
    role: String,
    threshold: usize,
    keys: Vec<String>,
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Listed { role, threshold, keys }) in self.0.iter().enumerate() {
            let line = if at == 0 { "" } else { "\n" };
            write!(f, "{line}{role}: {threshold} of {} must sign", keys.len())?;
            keys.iter().try_for_each(|id| write!(f, "\n  {id}"))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments {
        Arguments::New(arguments) => new(context, &arguments)?,
        Arguments::List(Of { app }) => {
            let signers = Publisher::open(&context.data, &app)?.signers().into_iter();
            let listed = signers.map(|(role, signers)| Listed {
                role: role.to_string(),
                threshold: signers.threshold,
                keys: signers.keys.into_keys().collect(),
            });
            context.print(&Roles(listed.collect()))?;
        }
        Arguments::Add(Add { common, keys, threshold }) => {
            let keys = keys.iter().map(|text| public(text)).collect::<Result<_, _>>()?;
            change(context, &common, &Change::AddKeys { role: common.role.clone(), keys, threshold })?;
        }
        Arguments::Rotate(Rotate { common, old, key }) => rotate(context, &common, old, key.as_deref())?,
        Arguments::Revoke(Revoke { common, key_id, threshold }) => {
            change(context, &common, &Change::RevokeKey { role: common.role.clone(), key_id, threshold })?;
        }
        Arguments::ExportOnline(ExportOnline { directory, app, passphrase }) => {
            let mut publisher = Publisher::open(&context.data, &app)?;
            passphrase::retry(&passphrase, |given| publisher.export_online(&directory, given))?;
            let moved = format!(
                "the keys of snapshot and timestamp are in {0}, not sealed, and no longer here\nmove it to the machine \
                 that is always on, and there:  burr run --data {0}",
                directory.display()
            );
            if context.json {
                super::print_json(&serde_json::json!({ "app": app, "directory": directory }))?;
            } else {
                super::print(&moved)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new(context: &Context, arguments: &New) -> Result<(), Error> {
    let passphrase = if arguments.passphrase { Some(passphrase::new(&arguments.source)?) } else { None };
    let key = publisher::create_key_file(&arguments.file, passphrase.as_deref())?;
    let mut name = arguments.file.clone().into_os_string();
    name.push(".pub");
    let at = PathBuf::from(name);
    let text = Hash(key.to_bytes()).to_string();
    fs::write(&at, format!("{text}\n"))
        .map_err(|error| Error::new(Kind::Storage, format!("can't write {}", at.display())).with_source(error))?;
    context.print(&Made { private: arguments.file.clone(), public: at, key: text, key_id: key_id(&key) })
}

fn rotate(context: &Context, common: &Common, old: Option<String>, key: Option<&str>) -> Result<(), Error> {
    let publisher = Publisher::open(&context.data, &common.app)?;
    let signers = publisher.signers().remove(&common.role);
    let signers = signers.ok_or_else(|| refused(&WriteError::UnknownRole(common.role.clone())))?;
    let old = match (old, signers.keys.len()) {
        (Some(old), _) => old,
        (None, 1) => signers.keys.into_keys().next().expect("there is one"),
        (None, several) => {
            let words = format!("{} has {several} keys", common.role);
            return Err(Error::new(Kind::BadInput, words).with_hint("say with --old KEYID which one goes"));
        }
    };
    let key = match key {
        Some(text) => public(text)?,
        None => passphrase::retry(&common.passphrase, |given| publisher.new_key(&common.role, given))?,
    };
    change(context, common, &Change::RotateKey { role: common.role.clone(), key_id: old, key })
}

fn change(context: &Context, common: &Common, change: &Change) -> Result<(), Error> {
    draft::change(context, &common.app, change, common.out.as_deref(), &common.passphrase)
}

/// A public key, as hex or as the name of a file that holds it.
pub(super) fn public(text: &str) -> Result<VerifyingKey, Error> {
    let path = Path::new(text);
    let small = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() < 4096);
    let read = if small { fs::read_to_string(path).ok() } else { None };
    parse_key(&read.unwrap_or_else(|| text.to_owned())).map_err(|error| refused(&error))
}

pub(super) fn refused(error: &WriteError) -> Error {
    Error::new(Kind::BadInput, error.to_string())
}
