//! A release: the publisher's signed statement that a version of an app on a channel is this bundle.
//!
//! It is the `custom` field of a TUF target whose path is [`Release::target_path`] (`protocol/README.md` section 4),
//! so the signature of the channel's delegated role covers it.

use serde::{Deserialize, Serialize};

use crate::{
    Hash, RepositoryId,
    label::{self, LabelError},
    manifest::{MAX_BYTES, MAX_FILES},
    rules::{Rules, RulesError},
    seal::{Epoch, Lock, MAX_EPOCH, Owner, Sealed},
};

/// Bytes of one payload at most: 16 GiB.
pub const MAX_PAYLOAD: u64 = 16 << 30;
/// Release numbers stay below this, so that every JSON reader holds them exactly.
pub const MAX_SEQ: u64 = 1 << 53;

/// One downloadable form of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The blob's BLAKE3.
    pub blob: Hash,
    /// Its size in bytes, at most [`MAX_PAYLOAD`].
    pub size: u64,
}

/// Bytes of each field of a [`Capacitor`] at most: room for what keys of 4096 bits seal.
pub const MAX_CAPACITOR: usize = 2048;

/// What Capgo's plugin checks a bundle with that was published as its command line made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacitor {
    /// What the plugin compares the zip with: its SHA-256 in hex, or that sealed by the publisher's own key.
    pub checksum: String,
    /// The key that the zip is encrypted with, sealed by the publisher's own key: `IV:KEY`, each in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
}

/// A release of one app on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The app: a label.
    pub app: String,
    /// The channel: a label.
    pub channel: String,
    /// Its number in the channel, from 1; only goes up.
    pub seq: u64,
    /// Its version, for people and rules: a version label.
    pub version: String,
    /// The bundle: BLAKE3 of its canonical manifest, sealed if the release is.
    pub bundle: Hash,
    /// The whole tree, packed and compressed, and sealed if the release is.
    pub payload: Payload,
    /// Files and links in the bundle, at most [`MAX_FILES`].
    pub files: u64,
    /// Bytes of all files unpacked, at most [`MAX_BYTES`].
    pub unpacked: u64,
    /// Which devices take it, and when. The only part of a release that may change.
    #[serde(default, skip_serializing_if = "crate::rules::is_default")]
    pub rules: Rules,
    /// For which fleet it is sealed; `None` if anybody may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enc: Option<Sealed>,
    /// For apps with Capgo's plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacitor: Option<Capacitor>,
}

/// A release that breaks a rule of `protocol/README.md` section 4.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// A name is not usable.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// Its rules break a bound.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A field for Capgo's plugin.
    #[error("{0} is empty, over {MAX_CAPACITOR} bytes, or has other characters than printable ASCII")]
    Capacitor(&'static str),
    /// A number is out of its bounds.
    #[error("{what} is {value}, the limit is {limit}")]
    OutOfBounds {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// Its limit.
        limit: u64,
    },
}

impl Release {
    /// Checks every bound and label.
    ///
    /// # Errors
    /// [`ReleaseError`] for the first that does not hold.
    pub fn check(&self) -> Result<(), ReleaseError> {
        label::check_name("app", &self.app)?;
        label::check_name("channel", &self.channel)?;
        label::check_version(&self.version)?;
        self.rules.check()?;
        if let Some(Capacitor { checksum, session_key }) = &self.capacitor {
            let fields = [("the checksum", Some(checksum)), ("the session key", session_key.as_ref())];
            for (what, text) in fields.into_iter().filter_map(|(what, text)| Some((what, text?))) {
                let usable =
                    (1..=MAX_CAPACITOR).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
                if !usable {
                    return Err(ReleaseError::Capacitor(what));
                }
            }
        }
        let bounds = [
            ("the release number", self.seq, MAX_SEQ - 1),
            ("the payload's size", self.payload.size, MAX_PAYLOAD),
            ("the number of files", self.files, MAX_FILES),
            ("the unpacked size", self.unpacked, MAX_BYTES),
        ];
        if let Some(sealed) = &self.enc {
            label::check_name("fleet", &sealed.fleet)?;
            let within = |what, value, limit| match value {
                value if (1..=limit).contains(&value) => Ok(()),
                value => Err(ReleaseError::OutOfBounds { what, value, limit }),
            };
            within("the epoch", sealed.epoch, MAX_EPOCH - 1)?;
            label::check_name("channel", &sealed.channel)?;
            within("the number that it was sealed under", sealed.seq, MAX_SEQ - 1)?;
        }
        if self.seq == 0 {
            return Err(ReleaseError::OutOfBounds { what: "the release number", value: 0, limit: MAX_SEQ - 1 });
        }
        match bounds.into_iter().find(|(_, value, limit)| value > limit) {
            Some((what, value, limit)) => Err(ReleaseError::OutOfBounds { what, value, limit }),
            None => Ok(()),
        }
    }

    /// What a device of `repository` must open to read it, if it is sealed.
    #[must_use]
    pub fn lock(&self, repository: RepositoryId) -> Option<Lock> {
        let sealed = self.enc.as_ref()?;
        let epoch = Epoch { repository, fleet: sealed.fleet.clone(), number: sealed.epoch };
        let owner = Owner { epoch, app: self.app.clone(), channel: sealed.channel.clone(), seq: sealed.seq };
        Some(Lock { owner, key: sealed.key.clone() })
    }

    /// The TUF target path that the release is signed under: `app/<app>/<channel>/<seq>.burr`. The delegation of a
    /// channel covers `app/<app>/<channel>/*` alone.
    #[must_use]
    pub fn target_path(&self) -> String {
        format!("app/{}/{}/{}.burr", self.app, self.channel, self.seq)
    }
}

/// A release within a record: as JSON text, since records can't leave fields out.
pub(crate) mod as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::Release;

    pub(crate) fn serialize<S: Serializer>(release: &Release, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(release).map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Release, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
