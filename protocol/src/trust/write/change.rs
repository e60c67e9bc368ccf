//! Changes of channels and keys: from what is wanted to the documents that must be signed for it.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use serde_json::{Map, Value, json};

use super::{
    Draft, Repository, Role, Signers, WriteError,
    documents::{self, key_id},
    roles,
};
use crate::{Wall, label, trust::document::hex};

/// A change of who may sign what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new channel.
    AddChannel {
        /// Its name.
        channel: String,
        /// The keys that sign its releases.
        keys: Vec<VerifyingKey>,
        /// How many of them must.
        threshold: usize,
    },
    /// A new fleet.
    AddFleet {
        /// Its name.
        fleet: String,
        /// The keys that sign its members.
        keys: Vec<VerifyingKey>,
        /// How many of them must.
        threshold: usize,
    },
    /// More keys for a role, or another threshold, or both.
    AddKeys {
        /// The role.
        role: Role,
        /// The keys that join.
        keys: Vec<VerifyingKey>,
        /// The threshold from then on; `None` leaves it.
        threshold: Option<usize>,
    },
    /// A key that counts no longer.
    RevokeKey {
        /// Of which role.
        role: Role,
        /// Its id.
        key_id: String,
        /// The threshold from then on; `None` leaves it.
        threshold: Option<usize>,
    },
    /// A key in another one's place.
    RotateKey {
        /// Of which role.
        role: Role,
        /// The id of the one that goes.
        key_id: String,
        /// The one that comes.
        key: VerifyingKey,
    },
}

/// Drafts a change: the keeper's next document, and the next version of each document whose signatures it voids.
pub(super) fn propose(repository: &Repository, change: &Change, now: Wall) -> Result<Draft, WriteError> {
    let before = repository.signers();
    let (role, signers) = changed(&before, change)?;
    let mut after = before.clone();
    after.insert(role.clone(), signers.clone());
    check_distinct(&after)?;

    let held = repository.documents();
    let app = repository.app();
    let mut documents: Vec<(Role, Map<String, Value>)> = Vec::new();
    if role.keeper() == Role::Root {
        let root = held.roots.last().expect("a pack has at least one root");
        documents.push((Role::Root, root_naming(root, &after, now)?));
        if role == Role::Targets && !still_holds(held.targets, &signers) {
            let life = documents::life(&role);
            documents.push((role, documents::again(held.targets, life, now)?));
        }
    } else {
        documents.push((Role::Targets, targets_naming(held.targets, app, &after, now)?));
        match held.delegated(&role.document(app)) {
            None => documents.push((role.clone(), documents::delegated(&role, now)?)),
            Some(document) if !still_holds(document, &signers) => {
                let life = documents::life(&role);
                documents.push((role, documents::again(document, life, now)?));
            }
            Some(_) => {}
        }
    }
    Draft::new(repository.verified().clone(), documents)
}

/// The root after this one, in which these signers stand.
pub(super) fn root_naming(
    root: &[u8],
    signers: &BTreeMap<Role, Signers>,
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut signed = documents::next(root, documents::ROOT_LIFE, now)?;
    let named: Vec<_> = signers.iter().filter(|(role, _)| role.keeper() == Role::Root).collect();
    signed.insert("keys".to_owned(), roles::keys_value(named.iter().map(|(_, signers)| *signers)));
    let roles = named.iter().map(|(role, signers)| (role.to_string(), signers.value()));
    signed.insert("roles".to_owned(), roles.collect::<Map<_, _>>().into());
    Ok(signed)
}

/// The targets after these, which delegate to the channels and fleets among these signers; new ones come last.
pub(super) fn targets_naming(
    targets: &[u8],
    app: &str,
    signers: &BTreeMap<Role, Signers>,
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut signed = documents::next(targets, documents::life(&Role::Targets), now)?;
    let named = || signers.iter().filter(|(role, _)| role.keeper() == Role::Targets);
    signed["delegations"]["keys"] = roles::keys_value(named().map(|(_, signers)| signers));
    let delegations = signed["delegations"]["roles"].as_array_mut().expect("verified targets have delegations");
    for (role, signers) in named() {
        let name = role.document(app);
        let path = role.paths(app).expect("the targets keep the keys of delegated roles alone");
        let keyids: Vec<&String> = signers.keys.keys().collect();
        match delegations.iter_mut().find(|delegation| delegation["name"] == name.as_str()) {
            // As it stands, in whatever order, if it says the same.
            Some(delegation) if says(delegation, signers) => {}
            Some(delegation) => {
                delegation["keyids"] = json!(keyids);
                delegation["threshold"] = json!(signers.threshold);
            }
            None => delegations.push(json!({
                "name": name,
                "keyids": keyids,
                "paths": [path],
                "terminating": true,
                "threshold": signers.threshold,
            })),
        }
    }
    Ok(signed)
}

fn says(delegation: &Value, signers: &Signers) -> bool {
    let keyids = delegation["keyids"].as_array().map(Vec::as_slice).unwrap_or_default();
    delegation["threshold"] == signers.threshold
        && keyids.len() == signers.keys.len()
        && keyids.iter().all(|id| id.as_str().is_some_and(|id| signers.keys.contains_key(id)))
}

/// The role whose signers change, and what they become.
fn changed(before: &BTreeMap<Role, Signers>, change: &Change) -> Result<(Role, Signers), WriteError> {
    let now = |role: &Role| before.get(role).cloned().ok_or_else(|| WriteError::UnknownRole(role.clone()));
    let (role, signers) = match change {
        Change::AddChannel { channel, keys, threshold } => {
            label::check_name("channel", channel)?;
            let role = Role::Channel(channel.clone());
            if before.contains_key(&role) {
                return Err(WriteError::ChannelExists(channel.clone()));
            }
            let signers = Signers::new(&role, keys, *threshold)?;
            (role, signers)
        }
        Change::AddFleet { fleet, keys, threshold } => {
            label::check_name("fleet", fleet)?;
            let role = Role::Fleet(fleet.clone());
            if before.contains_key(&role) {
                return Err(WriteError::FleetExists(fleet.clone()));
            }
            let signers = Signers::new(&role, keys, *threshold)?;
            (role, signers)
        }
        Change::AddKeys { role, keys, threshold } => {
            let mut signers = now(role)?;
            signers.keys.extend(keys.iter().map(|key| (key_id(key), hex(key.as_bytes()))));
            signers.threshold = threshold.unwrap_or(signers.threshold);
            (role.clone(), signers)
        }
        Change::RevokeKey { role, key_id, threshold } => {
            let mut signers = now(role)?;
            remove(&mut signers, role, key_id)?;
            signers.threshold = threshold.unwrap_or(signers.threshold);
            (role.clone(), signers)
        }
        Change::RotateKey { role, key_id: old, key } => {
            let mut signers = now(role)?;
            remove(&mut signers, role, old)?;
            signers.keys.insert(key_id(key), hex(key.as_bytes()));
            (role.clone(), signers)
        }
    };
    let signers = signers.checked(&role)?;
    if before.get(&role) == Some(&signers) {
        return Err(WriteError::NoChange(format!("{role} has these keys and this threshold already")));
    }
    Ok((role, signers))
}

fn remove(signers: &mut Signers, role: &Role, key_id: &str) -> Result<(), WriteError> {
    let unknown = || WriteError::UnknownKey { role: role.clone(), key_id: key_id.to_owned() };
    signers.keys.remove(key_id).map(drop).ok_or_else(unknown)
}

/// One key in two roles would be lost for both at once.
fn check_distinct(signers: &BTreeMap<Role, Signers>) -> Result<(), WriteError> {
    let mut seen: BTreeMap<&str, &Role> = BTreeMap::new();
    for (role, signers) in signers {
        for id in signers.keys.keys() {
            if let Some(first) = seen.insert(id, role) {
                return Err(WriteError::SharedKey { first: first.to_string(), second: role.to_string() });
            }
        }
    }
    Ok(())
}

/// Whether a document's signatures still are all by keys that the role names, and enough.
fn still_holds(document: &[u8], signers: &Signers) -> bool {
    let document: Value = serde_json::from_slice(document).expect("a verified document is JSON");
    let signatures = document["signatures"].as_array().expect("a verified document has signatures");
    let named = |signature: &&Value| signature["keyid"].as_str().is_some_and(|id| signers.keys.contains_key(id));
    signatures.iter().filter(named).count() == signatures.len() && signatures.len() >= signers.threshold
}
