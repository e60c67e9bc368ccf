//! What was chosen at the device by `burr device`: its attributes, and an app's channel and pin. It stands in
//! `device.json` in the data directory and goes before every other source, so that what somebody said at the device
//! outlives a restart, with whatever flags.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use burr_protocol::config::Choice;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Kind},
    store::home::write_atomically,
};

/// Bytes of the file at most.
const MAX_FILE: u64 = 1 << 20;

/// All that was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Chosen {
    /// All attributes.
    pub(super) attributes: Option<BTreeMap<String, String>>,
    pub(super) apps: BTreeMap<String, App>,
}

/// What was chosen of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct App {
    pub(super) channel: Option<String>,
    /// Empty if any version was chosen.
    pub(super) pin: Option<String>,
}

pub(super) fn path(data: &Path) -> PathBuf {
    data.join("device.json")
}

impl Chosen {
    /// What is in a data directory.
    pub(super) fn read(data: &Path) -> Result<Self, Error> {
        let path = path(data);
        let bad = |why: String| {
            Error::new(Kind::Config, format!("can't read {}", path.display()))
                .with_source(why)
                .with_hint("remove it; then choose channel, pin and attributes anew with `burr device`")
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(found) if found.len() > MAX_FILE => return Err(bad("it is too long".to_owned())),
            _ => {}
        }
        let text = fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
    }
}

/// Notes a choice, on disk when it returns.
///
/// # Errors
/// [`Kind::Config`] if what was chosen before can't be read, [`Kind::Storage`] if the disk can't be written.
pub(crate) fn note(data: &Path, choice: Choice) -> Result<(), Error> {
    let mut chosen = Chosen::read(data)?;
    match choice {
        Choice::Attributes(attributes) => chosen.attributes = Some(attributes),
        Choice::Channel { app, channel } => chosen.apps.entry(app).or_default().channel = Some(channel),
        Choice::Pin { app, version } => {
            chosen.apps.entry(app).or_default().pin = Some(version.unwrap_or_default());
        }
    }
    let text = serde_json::to_vec_pretty(&chosen).expect("our own types are JSON");
    let path = path(data);
    write_atomically(&path, &text).map_err(|error| Error::file("write", &path, error))
}
