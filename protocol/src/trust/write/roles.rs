//! Who may sign what: a repository's roles, their keys and thresholds, as its root and targets say.

use std::{collections::BTreeMap, fmt, str::FromStr};

use ed25519_dalek::VerifyingKey;
use serde_json::{Map, Value, json};
use sigstore_tuf::{Key, Metadata, RoleKeys, Root, Targets};

use super::{
    super::{
        document::{self, MAX_KEYS, hex, unhex},
        fleets, releases,
    },
    TrustError, WriteError,
    documents::{key_id, key_value},
};
use crate::label;

/// Who signs a kind of document. As text: `root`, `targets`, `snapshot`, `timestamp`, `channel.<name>`, `fleet.<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Signs who may sign what else.
    Root,
    /// Signs which channels there are, and their keys.
    Targets,
    /// Signs which documents belong together.
    Snapshot,
    /// Signs what is newest.
    Timestamp,
    /// Signs the releases of a channel.
    Channel(String),
    /// Signs the members of a fleet, and who is none any more.
    Fleet(String),
}

impl Role {
    /// The role that signs this role's keys: the targets those of a channel or fleet, the root all others.
    #[must_use]
    pub fn keeper(&self) -> Role {
        if matches!(self, Self::Channel(_) | Self::Fleet(_)) { Self::Targets } else { Self::Root }
    }

    /// The paths that a delegation to it covers; none for the roles of the root.
    pub(super) fn paths(&self, app: &str) -> Option<String> {
        match self {
            Self::Channel(channel) => Some(format!("app/{app}/{channel}/*")),
            Self::Fleet(fleet) => Some(format!("fleet/{fleet}/*")),
            _ => None,
        }
    }

    /// Its name in TUF metadata.
    pub(super) fn document(&self, app: &str) -> String {
        match self {
            Self::Channel(channel) => releases::role_name(app, channel),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Targets => f.write_str("targets"),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Channel(channel) => write!(f, "channel.{channel}"),
            Self::Fleet(fleet) => f.write_str(&fleets::role_name(fleet)),
        }
    }
}

impl FromStr for Role {
    type Err = WriteError;

    fn from_str(text: &str) -> Result<Self, WriteError> {
        Ok(match text {
            "root" => Self::Root,
            "targets" => Self::Targets,
            "snapshot" => Self::Snapshot,
            "timestamp" => Self::Timestamp,
            other => {
                if let Some(channel) = other.strip_prefix("channel.") {
                    label::check_name("channel", channel)?;
                    Self::Channel(channel.to_owned())
                } else if let Some(fleet) = other.strip_prefix("fleet.") {
                    label::check_name("fleet", fleet)?;
                    Self::Fleet(fleet.to_owned())
                } else {
                    return Err(WriteError::NoRole(other.chars().take(80).collect()));
                }
            }
        })
    }
}

/// The keys of a role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signers {
    /// Public keys (32 bytes in hex) by key id.
    pub keys: BTreeMap<String, String>,
    /// Distinct keys that must sign, from 1 to their number.
    pub threshold: usize,
}

impl Signers {
    /// These keys, of which so many must sign.
    ///
    /// # Errors
    /// [`WriteError::Threshold`] if that can't be met or is zero, [`WriteError::TooManyKeys`].
    pub fn new(role: &Role, keys: &[VerifyingKey], threshold: usize) -> Result<Self, WriteError> {
        let keys = keys.iter().map(|key| (key_id(key), hex(key.as_bytes()))).collect();
        Self { keys, threshold }.checked(role)
    }

    pub(super) fn checked(self, role: &Role) -> Result<Self, WriteError> {
        if self.keys.len() > MAX_KEYS {
            return Err(WriteError::TooManyKeys { role: role.clone(), keys: self.keys.len() });
        }
        if self.threshold == 0 || self.threshold > self.keys.len() {
            return Err(WriteError::Threshold { role: role.clone(), threshold: self.threshold, keys: self.keys.len() });
        }
        Ok(self)
    }

    /// The public key's bytes, if the role names it.
    pub(in crate::trust) fn public(&self, key_id: &str) -> Option<Vec<u8>> {
        unhex(self.keys.get(key_id)?)
    }

    /// Those of a role of the root; none if it lacks it.
    pub(in crate::trust) fn of_role(root: &Root, role: &Role) -> Self {
        of_root(root).remove(role).unwrap_or_default()
    }

    pub(in crate::trust) fn of(role: &RoleKeys, keys: &BTreeMap<String, Key>) -> Self {
        let key = |id: &String| Some((id.clone(), keys.get(id)?.keyval.public.clone()));
        Self { keys: role.keyids.iter().filter_map(key).collect(), threshold: role.threshold }
    }

    pub(super) fn value(&self) -> Value {
        json!({ "keyids": self.keys.keys().collect::<Vec<_>>(), "threshold": self.threshold })
    }
}

/// The signers of every role by the root and the targets.
pub(super) fn all(root: &Root, targets: &Targets) -> Result<BTreeMap<Role, Signers>, TrustError> {
    let mut signers = of_root(root);
    signers.extend(of_targets(targets)?);
    Ok(signers)
}

pub(super) fn of_root(root: &Root) -> BTreeMap<Role, Signers> {
    let fixed = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
    let named = fixed.into_iter().filter_map(|role| Some((root.role(&role.to_string())?, role)));
    named.map(|(keys, role)| (role, Signers::of(keys, &root.keys))).collect()
}

pub(super) fn of_targets(targets: &Targets) -> Result<BTreeMap<Role, Signers>, TrustError> {
    let mut signers = BTreeMap::new();
    if let Some(delegations) = &targets.delegations {
        for role in &delegations.roles {
            let named = match fleets::name(role) {
                Some(fleet) => Role::Fleet(fleet.to_owned()),
                None => Role::Channel(releases::channel(role)?.1.to_owned()),
            };
            signers.insert(named, Signers::of(&role.role_keys(), &delegations.keys));
        }
    }
    Ok(signers)
}

/// The signers of every role by the bytes of verified documents.
pub(super) fn of_documents(root: &[u8], targets: &[u8]) -> Result<BTreeMap<Role, Signers>, TrustError> {
    let root: Metadata<Root> = document::read("the root", root)?;
    let targets: Metadata<Targets> = document::read("the targets", targets)?;
    all(root.signed(), targets.signed())
}

/// The `keys` field of a document that names these signers.
pub(super) fn keys_value<'a>(signers: impl Iterator<Item = &'a Signers>) -> Value {
    let keys = signers.flat_map(|signers| &signers.keys);
    keys.map(|(id, public)| (id.clone(), key_value(public))).collect::<Map<_, _>>().into()
}

/// Reads a public key: 64 hex digits.
///
/// # Errors
/// [`WriteError::NoKey`] if it is none, or one that anybody could sign for.
pub fn parse_key(text: &str) -> Result<VerifyingKey, WriteError> {
    let bytes = unhex(text.trim()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).filter(|key| !key.is_weak());
    key.ok_or_else(|| WriteError::NoKey(text.trim().chars().take(80).collect()))
}
