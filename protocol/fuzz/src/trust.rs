//! Trust packs: any bytes, a real pack with altered bytes, and documents of any content that the right keys signed, so
//! that what is behind the signatures is reached too. What verifies is sound and newer than what was held.

use std::collections::BTreeMap;

use burr_protocol::{
    RepositoryId,
    trust::{
        Announced, TrustError, Verified, check_announcement,
        client::check_root,
        pack::Pack,
        verify,
        write::{Repository, Role, key_id, sign},
    },
};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use super::{
    program::Program,
    shop::{self, NOW, history, pin, sign_text, signed},
};

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    let kind = program.below(9);
    let base = &history()[program.below(history().len())];
    let held = program.below(history().len() + 1).checked_sub(1).map(|at| history()[at].verified());
    match kind {
        0 => any_bytes(program.rest()),
        1 => {
            let mut pack = base.pack().to_vec();
            program.alter(&mut pack);
            if let Ok(verified) = verify(shop::id(), held, &pack) {
                // Every byte of a pack counts: what verifies is the publisher's own.
                assert!(shop::documents(&pack).iter().all(|document| shop::is_signed(document)));
                check(&verified, held);
            }
        }
        2 => {
            let mut timestamp = base.verified().timestamp().to_vec();
            program.alter(&mut timestamp);
            let held = held.unwrap_or(base.verified());
            let announced = check_announcement(held, program.below(4) as u64, &timestamp);
            if let Ok(Announced::Newer { version }) = announced {
                assert!(shop::is_signed(&timestamp) && version > held.timestamp_version());
            }
        }
        kind => forged(kind, base, held, program.rest()),
    }
}

fn any_bytes(bytes: &[u8]) {
    let _ = check_root(bytes);
    if let Ok(pack) = Pack::decode(bytes) {
        assert_eq!(pack.encode().as_deref(), Ok(bytes), "a pack has one spelling");
        if let Ok(verified) = verify(RepositoryId::of_root(pack.roots[0]), None, bytes) {
            check(&verified, None);
        }
    }
}

/// A pack in which one document has `text` as its signed part, and everything above it is signed anew over it.
fn forged(kind: usize, base: &Repository, held: Option<&Verified>, text: &[u8]) {
    let mut parts = Parts::of(base);
    let mut id = shop::id();
    match kind {
        3 => {
            let mut keys = shop::signers(base, &Role::Root);
            keys.extend(named_by_root(text).into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
            parts.roots.push(sign_text(text, &keys));
        }
        4 => {
            parts.roots = vec![sign_text(text, &named_by_root(text))];
            id = RepositoryId::of_root(&parts.roots[0]);
        }
        5 => {
            parts.targets = sign_text(text, &shop::signers(base, &Role::Targets));
            parts.carry_what_targets_name(text);
            parts.pin_documents(base);
        }
        6 => {
            let stable = Role::Channel("stable".to_owned());
            parts.delegated.insert("app.shop.stable".to_owned(), sign_text(text, &shop::signers(base, &stable)));
            parts.pin_documents(base);
        }
        7 => {
            let stores = Role::Fleet("stores".to_owned());
            parts.delegated.insert("fleet.stores".to_owned(), sign_text(text, &shop::signers(base, &stores)));
            parts.pin_documents(base);
        }
        _ => {
            parts.snapshot = sign_text(text, &shop::signers(base, &Role::Snapshot));
            parts.pin_snapshot(base);
        }
    }
    let Ok(pack) = parts.pack().encode() else { return };
    let held = held.filter(|held| held.repository() == id);
    if let Ok(verified) = verify(id, held, &pack) {
        check(&verified, held);
        go_on(base, &pack);
    }
}

/// What must hold of any metadata that verified.
fn check(verified: &Verified, held: Option<&Verified>) {
    assert!((1..1 << 53).contains(&verified.timestamp_version()) && verified.root_version() >= 1);
    for release in verified.releases() {
        assert_eq!(release.check(), Ok(()));
    }
    let (id, pack) = (verified.repository(), verified.pack());
    assert_eq!(verify(id, None, pack).as_ref(), Ok(verified), "the same again without what was held");
    let again = verify(id, Some(verified), pack);
    assert!(matches!(again, Err(TrustError::Old { .. })), "the same again is old, and no lie");
    let own = check_announcement(verified, verified.root_version(), verified.timestamp());
    assert_eq!(own, Ok(Announced::NotNewer));
    if let Some(held) = held {
        assert!(verified.root_version() >= held.root_version());
        let renewed = verified.root_version() > held.root_version();
        assert!(renewed || verified.timestamp_version() > held.timestamp_version());
        assert!(verify(id, Some(verified), held.pack()).is_err(), "nothing goes back");
    }
}

/// The publisher who finds this in a repository of theirs can go on from it.
fn go_on(base: &Repository, pack: &[u8]) {
    let mut repository = base.clone();
    if repository.adopt(pack).is_err() {
        return;
    }
    let keys = shop::all_keys();
    let keys: Vec<&SigningKey> = keys.iter().collect();
    let _ = (repository.app().len(), repository.files().len(), repository.offline_state());
    let before = repository.verified().clone();
    if repository.renew(&keys, NOW).is_ok() {
        assert!(repository.verified().timestamp_version() > before.timestamp_version());
    }
    let _ = repository.is_renewal_due(NOW);
    let next = shop::release("stable", repository.next_seq("stable"));
    if let Ok(draft) = repository.propose_release(&next, [7; 32], NOW) {
        let _ = repository.sign_and_submit(draft, &keys, NOW);
    }
}

/// The known keys that a root's text gives to the root role.
fn named_by_root(text: &[u8]) -> Vec<SigningKey> {
    let text: Value = serde_json::from_slice(text).unwrap_or_default();
    let ids = text["roles"]["root"]["keyids"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |key: &SigningKey| ids.iter().any(|id| *id == key_id(&key.verifying_key()).as_str());
    shop::all_keys().into_iter().filter(named).collect()
}

/// A pack's documents, to put others in their place.
struct Parts {
    roots: Vec<Vec<u8>>,
    timestamp: Vec<u8>,
    snapshot: Vec<u8>,
    targets: Vec<u8>,
    delegated: BTreeMap<String, Vec<u8>>,
}

impl Parts {
    fn of(repository: &Repository) -> Self {
        let pack = Pack::decode(repository.pack()).expect("the pack of a verified state");
        Self {
            roots: pack.roots.iter().map(|root| root.to_vec()).collect(),
            timestamp: pack.timestamp.to_vec(),
            snapshot: pack.snapshot.to_vec(),
            targets: pack.targets.to_vec(),
            delegated: pack.delegated.iter().map(|(name, document)| ((*name).to_owned(), document.to_vec())).collect(),
        }
    }

    fn pack(&self) -> Pack<'_> {
        let delegated = self.delegated.iter().map(|(name, document)| (name.as_str(), document.as_slice())).collect();
        let roots = self.roots.iter().map(Vec::as_slice).collect();
        let (timestamp, snapshot, targets) = (&self.timestamp, &self.snapshot, &self.targets);
        Pack { roots, timestamp, snapshot, targets, delegated }
    }

    /// A document for each role that a targets text delegates to: the real one, or another channel's.
    fn carry_what_targets_name(&mut self, text: &[u8]) {
        let text: Value = serde_json::from_slice(text).unwrap_or_default();
        let roles = text["delegations"]["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
        let beta = self.delegated["app.shop.beta"].clone();
        let named = roles.iter().filter_map(|role| role["name"].as_str());
        let carried = named.map(|name| (name.to_owned(), self.delegated.get(name).unwrap_or(&beta).clone()));
        self.delegated = carried.collect();
    }

    fn pin_documents(&mut self, base: &Repository) {
        let mut meta = serde_json::Map::from_iter([("targets.json".to_owned(), pin(&self.targets))]);
        meta.extend(self.delegated.iter().map(|(role, document)| (format!("{role}.json"), pin(document))));
        let mut snapshot = signed(&self.snapshot);
        snapshot["meta"] = meta.into();
        let keys = shop::signers(base, &Role::Snapshot);
        self.snapshot = sign(&snapshot, &keys.iter().collect::<Vec<_>>());
        self.pin_snapshot(base);
    }

    fn pin_snapshot(&mut self, base: &Repository) {
        let mut timestamp = signed(&self.timestamp);
        timestamp["meta"]["snapshot.json"] = pin(&self.snapshot);
        let keys = shop::signers(base, &Role::Timestamp);
        self.timestamp = sign(&timestamp, &keys.iter().collect::<Vec<_>>());
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let last = u8::try_from(history().len() - 1).expect("few states");
    let seed = |kind: u8, base: u8, held: u8, rest: &[u8]| [&[kind, base, held], rest].concat();
    let text = |document: &[u8]| serde_json::to_vec(&signed(document)).expect("a value");
    let newest = Parts::of(shop::newest());
    let mut seeds = vec![
        seed(0, 0, 0, history()[0].pack()),
        seed(0, 0, 0, &newest.roots[1]),
        seed(1, 2, 1, &[]),
        seed(1, last, 3, &[1, 60, 3, 3, 7]),
        seed(2, last, 1, &[0, 9, 0, 3, 7, 2]),
        seed(3, 2, 2, &text(&newest.roots[1])),
        seed(4, 0, 0, &text(&newest.roots[0])),
        seed(5, 0, 0, &text(&Parts::of(&history()[0]).targets)),
        seed(5, last, last, &text(&newest.targets)),
        seed(6, last, last, &text(&newest.delegated["app.shop.stable"])),
        seed(6, 3, 3, &text(&Parts::of(&history()[3]).delegated["app.shop.beta"])),
        seed(7, last, last, &text(&newest.delegated["fleet.stores"])),
        seed(8, last, last, &text(&newest.snapshot)),
    ];
    // The state that a device has when it meets the one that follows.
    seeds.extend((1..=last).map(|state| seed(1, state, state, &[])));
    seeds
}
