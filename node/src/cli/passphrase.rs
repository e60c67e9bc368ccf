//! Where a passphrase comes from: a file, `BURR_PASSPHRASE`, or the person at the terminal.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use burr_node::error::{Error, Kind};

/// How to come by the passphrase of the private keys.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Source {
    /// Read the passphrase of the private keys from the first line of this file (or set `BURR_PASSPHRASE`).
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Source {
    /// The passphrase that was given without asking.
    pub(super) fn given(&self) -> Result<Option<String>, Error> {
        if let Some(path) = &self.passphrase_file {
            let text = fs::read_to_string(path).map_err(|error| {
                Error::new(Kind::BadInput, format!("can't read the passphrase file {}", path.display()))
                    .with_source(error)
            })?;
            return Ok(Some(text.lines().next().unwrap_or_default().to_owned()));
        }
        match env::var("BURR_PASSPHRASE") {
            Ok(passphrase) => Ok(Some(passphrase)),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(Error::new(Kind::BadInput, "BURR_PASSPHRASE can't be read").with_source(error)),
        }
    }
}

/// Asks the person at the terminal; `None` if there is none.
pub(super) fn ask(question: &str) -> Result<Option<String>, Error> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let asked = rpassword::prompt_password(question);
    asked.map(Some).map_err(|error| Error::new(Kind::BadInput, "can't ask for the passphrase").with_source(error))
}

/// Does what needs keys with the passphrase that was given; if it takes one and none was, asks for it and tries again.
pub(super) fn retry<T>(source: &Source, mut act: impl FnMut(Option<&str>) -> Result<T, Error>) -> Result<T, Error> {
    let given = source.given()?;
    match act(given.as_deref()) {
        Err(error) if error.kind() == Kind::Key && given.is_none() && error.to_string().contains("passphrase") => {
            match ask("Passphrase: ")? {
                Some(asked) => act(Some(&asked)),
                None => Err(error),
            }
        }
        done => done,
    }
}

/// A new passphrase: given, or asked for twice.
pub(super) fn new(source: &Source) -> Result<String, Error> {
    if let Some(given) = source.given()? {
        return Ok(given);
    }
    let absent = || {
        Error::new(Kind::BadInput, "there is no terminal to ask for a passphrase")
            .with_hint("give the passphrase with --passphrase-file or BURR_PASSPHRASE")
    };
    let first = ask("New passphrase: ")?.ok_or_else(absent)?;
    if ask("Again: ")?.as_ref() != Some(&first) {
        return Err(Error::new(Kind::BadInput, "the passphrases differ; nothing was made"));
    }
    Ok(first)
}
