//! From a fleet's signed targets to what it says: who enrols its members, who is none any more, and which lists give them
//! the keys of its epochs (`protocol/README.md` §4.6, §12.8 and §13.4).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sigstore_tuf::{DelegatedRole, TargetFile, Targets};

use super::{
    document::{is_hex, sha256},
    error::TrustError,
    write::{self, Signers},
};
use crate::{
    Hash, label,
    member::Revoked,
    release::Payload,
    seal::{MAX_EPOCH, MAX_KEYS},
};

/// Epochs whose lists of keys a fleet's document keeps; the oldest make room.
pub(super) const KEPT_EPOCHS: usize = 8;

/// A fleet, as verified metadata has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Whose signatures make members.
    pub signers: Signers,
    /// Who is no member any more.
    pub revoked: Revoked,
    /// The lists of keys, as blobs, by epoch.
    pub keys: BTreeMap<u64, Payload>,
}

/// The fleet whose members a delegated role signs, if it has exactly that form.
pub(super) fn name(role: &DelegatedRole) -> Option<&str> {
    let [path] = role.paths.as_deref()? else { return None };
    let fleet = path.strip_prefix("fleet/")?.strip_suffix("/*")?;
    let named = label::check_name("fleet", fleet).is_ok() && role.name == role_name(fleet);
    (named && role.terminating && role.path_hash_prefixes.is_none()).then_some(fleet)
}

/// The role that signs a fleet's members.
pub(super) fn role_name(fleet: &str) -> String {
    format!("fleet.{fleet}")
}

/// The target that holds a fleet's revocations.
pub(super) fn revoked_path(fleet: &str) -> String {
    format!("fleet/{fleet}/revoked.json")
}

/// The target that is an epoch's list of keys.
pub(super) fn keys_path(fleet: &str, epoch: u64) -> String {
    format!("fleet/{fleet}/epoch-{epoch}.keys")
}

/// What a fleet's document says.
pub(super) fn read(targets: &Targets, fleet: &str, signers: Signers) -> Result<Fleet, TrustError> {
    let role = role_name(fleet);
    if targets.delegations.is_some() {
        return Err(TrustError::malformed(&role, "a fleet's role may not delegate"));
    }
    let (mut revoked, mut keys) = (Revoked::default(), BTreeMap::new());
    for (path, target) in &targets.targets {
        let refuse = |problem| {
            let path: String = path.chars().take(200).collect();
            TrustError::malformed(&role, format!("its target {path:?}: {problem}"))
        };
        if *path == revoked_path(fleet) {
            revoked = read_revoked(target, fleet).map_err(refuse)?;
        } else {
            let (epoch, list) = read_keys(target).map_err(refuse)?;
            if *path != keys_path(fleet, epoch) {
                return Err(refuse("format 1 does not know it, or it is of another epoch than it says"));
            }
            keys.insert(epoch, list);
        }
    }
    if keys.len() > KEPT_EPOCHS {
        return Err(TrustError::malformed(&role, format!("it lists the keys of over {KEPT_EPOCHS} epochs")));
    }
    Ok(Fleet { signers, revoked, keys })
}

/// What a target says of the list of keys that it is.
pub(super) fn keys_custom(epoch: u64, list: &Payload) -> Value {
    json!({ "v": 1, "epoch": epoch, "blob": list.blob })
}

fn read_keys(target: &TargetFile) -> Result<(u64, Payload), &'static str> {
    let custom = target.custom.as_ref().ok_or("it says nothing in `custom`")?;
    let epoch = custom["epoch"].as_u64().filter(|epoch| (1..MAX_EPOCH).contains(epoch)).ok_or("it has no epoch")?;
    let blob: Hash = custom["blob"].as_str().and_then(|blob| blob.parse().ok()).ok_or("it names no blob")?;
    let list = Payload { blob, size: target.length };
    if *custom != keys_custom(epoch, &list) {
        return Err("`custom` has fields that format 1 does not have");
    }
    if list.size > MAX_KEYS {
        return Err("it is too long for a list of keys");
    }
    let hash = target.hashes.get("sha256").filter(|hash| target.hashes.len() == 1 && is_hex(hash, 32));
    if hash.is_some() { Ok((epoch, list)) } else { Err("its hashes are not one SHA-256") }
}

/// The list stands in the target's `custom`, and its file is the canonical JSON of that.
fn read_revoked(target: &TargetFile, fleet: &str) -> Result<Revoked, &'static str> {
    let custom = target.custom.as_ref().ok_or("it says nothing in `custom`")?;
    let revoked = Revoked::read(custom, fleet)?;
    let file = write::canonical(custom);
    let hash = target.hashes.get("sha256").filter(|hash| target.hashes.len() == 1 && is_hex(hash, 32));
    let named = target.length == file.len() as u64 && hash.is_some_and(|hash| *hash == sha256(&file));
    if named { Ok(revoked) } else { Err("its length or SHA-256 is not that of the list") }
}
