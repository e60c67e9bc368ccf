//! What `burr release` and `burr root` share: signing and submitting a draft's file.

use std::{
    fmt, fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use burr_node::{
    error::{Error, Kind},
    publisher::{self, Publisher},
};
use burr_protocol::{
    RepositoryId,
    trust::write::{Change, Draft, MAX_DRAFT},
};
use serde::Serialize;

use super::{Context, passphrase};

/// Sign a draft's file, after showing all that it changes. The file needs nothing else, so any machine can do it.
#[derive(Debug, clap::Args)]
pub(super) struct Sign {
    /// The file; it is written anew with the signature.
    file: PathBuf,
    /// The private key, as `burr key new` made it; without it, the keys of the app's publisher on this machine.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Take in the signatures of this copy too, which somebody else signed; give it again for more.
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Submit a draft that has its signatures, on the machine that has the keys of snapshot and timestamp.
#[derive(Debug, clap::Args)]
pub(super) struct Submit {
    /// The file.
    file: PathBuf,
    /// Take in the signatures of this copy too; give it again for more.
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// The release's payload, if it was proposed on another machine.
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Where a draft stands.
#[derive(Serialize)]
pub(super) struct Standing {
    app: String,
    repository: RepositoryId,
    changes: Vec<String>,
    /// Role and key id of each signature.
    signed: Vec<(String, String)>,
    missing: Vec<Missing>,
    /// The file that goes on to the next one, if anything is missing.
    file: Option<PathBuf>,
    /// The payload that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<PathBuf>,
    /// Whether it holds already.
    done: bool,
    noun: &'static str,
}

#[derive(Serialize)]
struct Missing {
    role: String,
    have: usize,
    need: usize,
    may_sign: Vec<String>,
    words: String,
}

impl Standing {
    pub(super) fn of(draft: &Draft, file: Option<PathBuf>, done: bool) -> Self {
        let missing = |missing: burr_protocol::trust::write::Missing| Missing {
            words: missing.to_string(),
            role: missing.role.to_string(),
            have: missing.have,
            need: missing.need,
            may_sign: missing.may_sign,
        };
        Self {
            app: draft.app(),
            repository: draft.repository(),
            changes: draft.differences().iter().map(ToString::to_string).collect(),
            signed: draft.signed_by().map(|(role, id)| (role.to_string(), id.to_owned())).collect(),
            missing: draft.missing().into_iter().map(missing).collect(),
            noun: if draft.is_release() { "release" } else { "root" },
            file,
            payload: None,
            done,
        }
    }

    pub(super) fn with_payload(mut self, payload: PathBuf) -> Self {
        self.payload = Some(payload);
        self
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, repository {}", self.app, self.repository)?;
        self.changes.iter().try_for_each(|change| write!(f, "\n{change}"))?;
        if self.done {
            return write!(f, "\ndone: it holds");
        }
        self.signed.iter().try_for_each(|(role, id)| write!(f, "\nsigned for {role} by {id}"))?;
        self.missing.iter().try_for_each(|missing| write!(f, "\nmissing: {}", missing.words))?;
        if let Some(payload) = &self.payload {
            write!(f, "\nits payload is {}", payload.display())?;
        }
        let Some(file) = &self.file else { return Ok(()) };
        let (noun, file) = (self.noun, file.display());
        if self.missing.is_empty() {
            write!(f, "\nall signatures are there; submit it:  burr {noun} submit {file}")
        } else {
            write!(f, "\npass {file} on; the next one signs it:  burr {noun} sign {file} --key KEYFILE")
        }
    }
}

pub(super) fn sign(context: &Context, arguments: &Sign) -> Result<(), Error> {
    let mut draft = read(&arguments.file, &arguments.merge)?;
    if !arguments.yes {
        ask(&draft)?;
    }
    passphrase::retry(&arguments.passphrase, |passphrase| match &arguments.key {
        Some(key) => {
            let key = publisher::read_key_file(key, passphrase)?;
            draft.sign(&key).map(drop).map_err(|error| Error::new(Kind::Key, error.to_string()))
        }
        None => Publisher::open(&context.data, &draft.app())?.sign(&mut draft, passphrase).map(drop),
    })?;
    write(&arguments.file, &draft)?;
    context.print(&Standing::of(&draft, Some(arguments.file.clone()), false))
}

pub(super) fn submit(context: &Context, arguments: &Submit) -> Result<(), Error> {
    let draft = read(&arguments.file, &arguments.merge)?;
    let app = draft.app();
    let mut publisher = Publisher::open(&context.data, &app)?;
    passphrase::retry(&arguments.passphrase, |passphrase| {
        publisher.submit(draft.clone(), arguments.payload.as_deref(), passphrase)
    })?;
    context.tell_node(&app)?;
    context.print(&Standing::of(&draft, None, true))
}

/// Makes a change at once if the keys here are enough; else writes the draft to a file and says what is missing.
pub(super) fn change(
    context: &Context,
    app: &str,
    change: &Change,
    out: Option<&Path>,
    source: &passphrase::Source,
) -> Result<(), Error> {
    let mut publisher = Publisher::open(&context.data, app)?;
    let (draft, done) = passphrase::retry(source, |passphrase| publisher.change(change, passphrase))?;
    settle(context, app, &draft, done, out)
}

/// Says what holds now, or writes a draft that others have to sign to a file.
pub(super) fn settle(context: &Context, app: &str, draft: &Draft, done: bool, out: Option<&Path>) -> Result<(), Error> {
    if done {
        context.tell_node(app)?;
        return context.print(&Standing::of(draft, None, true));
    }
    let file = out.map_or_else(|| PathBuf::from(format!("{app}-change.draft")), Path::to_owned);
    write(&file, draft)?;
    context.print(&Standing::of(draft, Some(file), false))
}

pub(super) fn write(file: &Path, draft: &Draft) -> Result<(), Error> {
    let part = file.with_extension("part");
    fs::write(&part, draft.encode())
        .and_then(|()| fs::rename(&part, file))
        .map_err(|error| Error::new(Kind::Storage, format!("can't write {}", file.display())).with_source(error))
}

fn read(file: &Path, copies: &[PathBuf]) -> Result<Draft, Error> {
    let one = |file: &Path| {
        let words = || format!("can't use the draft {}", file.display());
        let size = fs::metadata(file).map(|found| found.len());
        if size.is_ok_and(|size| size > MAX_DRAFT as u64) {
            return Err(Error::new(Kind::BadInput, words()).with_hint("it is larger than any draft"));
        }
        let bytes = fs::read(file).map_err(|error| Error::new(Kind::BadInput, words()).with_source(error))?;
        Draft::decode(&bytes).map_err(|error| Error::new(Kind::BadInput, words()).with_source(error))
    };
    let mut draft = one(file)?;
    for copy in copies {
        let words = || format!("can't merge {}", copy.display());
        draft.merge(&one(copy)?).map_err(|error| Error::new(Kind::BadInput, words()).with_source(error))?;
    }
    Ok(draft)
}

/// Shows all that a signature would stand for, and asks.
fn ask(draft: &Draft) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        let error = Error::new(Kind::BadInput, "there is no terminal to ask whether to sign");
        return Err(error.with_hint("look at the file first, then give --yes"));
    }
    eprintln!("{}\nSign this? [y/N]", Standing::of(draft, None, false));
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Error::new(Kind::BadInput, "nothing was signed")),
    }
}
