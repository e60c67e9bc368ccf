//! What survives a restart, as key and value bytes for whatever store the driver has.
//!
//! Keys are stable and self-describing; a value that can't be read is reported and left out, never guessed.

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, RepositoryId, Shared, Wall,
    budget::Month,
    receipt::SignedReceipt,
    release::Release,
    wire::{self, Mark},
};

/// One thing to remember or to forget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The trust pack of a repository: kept as a file of its own, replaced whole.
    Metadata {
        /// Which repository.
        repository: RepositoryId,
        /// The verified pack's bytes.
        #[serde(with = "crate::id::bytes")]
        pack: Vec<u8>,
    },
    /// How an app stands on this device.
    App {
        /// The app.
        app: String,
        /// Its state.
        state: AppRecord,
    },
    /// A receipt, own or carried.
    Receipt {
        /// Where it belongs.
        mark: Mark,
        /// The receipt; `None` forgets it.
        receipt: Option<SignedReceipt>,
    },
    /// The channel that a device behind this node's gateway chose.
    Assigned {
        /// The app.
        app: String,
        /// The device's own id.
        device: String,
        /// The channel; `None` forgets it.
        channel: Option<String>,
    },
    /// What may be used of a month's budget without another word.
    Used(Month),
}

/// The lasting part of an app's update state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// What is active and confirmed.
    pub active: Option<Shared<Installed>>,
    /// Confirmed versions before it, newest first: where a roll back goes.
    pub previous: Vec<Shared<Installed>>,
    /// A version on trial, not yet confirmed.
    pub trial: Option<Box<Trial>>,
    /// Releases that failed here, oldest first; at most [`MAX_BAD`](crate::config::MAX_BAD).
    pub bad: Vec<ReleaseId>,
    /// The highest counter that this device signed a receipt with.
    pub counter: u64,
    /// The first version that was confirmed here: the last one to go back to, whose slot is never removed.
    pub factory: Option<Shared<Installed>>,
    /// Whether someone at the device went back, and nothing is taken until they say so.
    pub held: bool,
    /// What someone at the device put off.
    pub deferred: Option<Box<Deferred>>,
}

/// A release that someone put off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Which.
    pub id: ReleaseId,
    /// Since when, for the first time.
    pub since: Wall,
    /// Until when.
    pub until: Wall,
}

impl AppRecord {
    /// The bundle on trial.
    pub(crate) fn trial_bundle(&self) -> Option<Hash> {
        self.trial.as_ref().map(|trial| trial.release.bundle)
    }
}

/// Names a release: its number in a channel of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReleaseId {
    /// The repository that signed it.
    pub repository: RepositoryId,
    /// The channel.
    pub channel: String,
    /// The number.
    pub seq: u64,
}

impl ReleaseId {
    /// Names a release of a repository.
    #[must_use]
    pub fn of(repository: RepositoryId, release: &Release) -> Self {
        Self { repository, channel: release.channel.clone(), seq: release.seq }
    }
}

/// A version that was confirmed on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Which release.
    pub id: ReleaseId,
    /// Version in words.
    pub version: String,
    /// Its bundle, which names its slot.
    pub bundle: Hash,
    /// Bytes of its files, as its release declared them.
    pub bytes: u64,
}

/// A switch that is under way: written before the switch, gone when its outcome is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Whose release.
    pub repository: RepositoryId,
    /// What is tried.
    #[serde(with = "crate::release::as_text")]
    pub release: Release,
    /// How often it was started, restarts included.
    pub starts: u8,
    /// Set once it is known to be bad: from then on the only way is back.
    pub back: Option<String>,
    /// What was fetched for it, by provider.
    pub sources: Vec<(NodeId, u64)>,
    /// Milliseconds that passed before the switch.
    pub took_ms: u64,
    /// The issue time of the metadata that it was decided by.
    pub issued: Wall,
    /// The end of what its hooks wrote, at most [`MAX_SAID`](crate::receipt::MAX_SAID).
    pub said: String,
}

/// A value that is not what its key says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record {0:?} can't be read")]
pub struct BadRecord(pub String);

impl Record {
    /// The key under which the record is kept, and its value; no value forgets the key. `None` for metadata, which
    /// has files of its own.
    #[must_use]
    pub fn entry(&self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        Some(match self {
            Self::Metadata { .. } => return None,
            Self::App { app, state } => (format!("app/{app}").into_bytes(), Some(wire::encode(state))),
            Self::Receipt { mark, receipt } => {
                let key = format!("receipt/{}/{}/{:020}", mark.repository, mark.device, mark.counter);
                (key.into_bytes(), receipt.as_ref().map(wire::encode))
            }
            Self::Assigned { app, device, channel } => {
                (format!("assigned/{app}/{device}").into_bytes(), channel.as_ref().map(wire::encode))
            }
            Self::Used(month) => (b"used".to_vec(), Some(wire::encode(month))),
        })
    }

    /// Reads a record back from its key and value.
    ///
    /// # Errors
    /// [`BadRecord`] for an unknown key or a value that does not fit it.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, BadRecord> {
        let text = String::from_utf8_lossy(key).into_owned();
        let bad = || BadRecord(text.chars().take(160).collect());
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("app"), Some(app), None, ..) => {
                Ok(Self::App { app: app.to_owned(), state: exact(value).ok_or_else(bad)? })
            }
            (Some("used"), None, ..) => Ok(Self::Used(exact(value).ok_or_else(bad)?)),
            (Some("assigned"), Some(app), Some(device), None, _) => Ok(Self::Assigned {
                app: app.to_owned(),
                device: device.to_owned(),
                channel: Some(exact(value).ok_or_else(bad)?),
            }),
            (Some("receipt"), Some(repository), Some(device), Some(counter), None) => {
                let mark = Mark {
                    repository: repository.parse().map_err(|_| bad())?,
                    device: device.parse().map_err(|_| bad())?,
                    counter: counter.parse().map_err(|_| bad())?,
                };
                Ok(Self::Receipt { mark, receipt: Some(exact(value).ok_or_else(bad)?) })
            }
            _ => Err(bad()),
        }
    }
}

fn exact<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(value) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
