//! A real repository's whole history, with known keys, and documents that are signed by them.

use std::{collections::BTreeSet, sync::LazyLock};

use burr_protocol::{
    Hash, NodeId, RepositoryId, SealKey, Wall,
    member::{Capability, Certificate},
    release::{Payload, Release},
    rules::{Rules, Within},
    trust::{
        pack::Pack,
        write::{Change, Keys, Repository, Role, key_id},
    },
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::Digest as _;

pub(crate) const NOW: Wall = Wall(1_800_000_000);
/// Keys of the roles: root, targets, snapshot, timestamp, beta, stable, lab and the fleet of stores; 14 and 16 take the
/// places of 4 and 6.
const SEEDS: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 9, 14, 16];

static HISTORY: LazyLock<Vec<Repository>> = LazyLock::new(write);
static DOCUMENTS: LazyLock<BTreeSet<Vec<u8>>> =
    LazyLock::new(|| history().iter().flat_map(|repository| documents(repository.pack())).collect());

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The node whose key this is. Worked out once: a run asks for hundreds.
pub(crate) fn node(seed: u8) -> NodeId {
    static NODES: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
        let of = |seed: u8| NodeId(key(seed).verifying_key().to_bytes());
        (0..=u8::MAX).map(of).collect()
    });
    NODES[usize::from(seed)]
}

pub(crate) fn all_keys() -> Vec<SigningKey> {
    SEEDS.map(key).to_vec()
}

/// A node whose certificates up to serial 3 are taken back from the state [`REVOCATION`] on.
pub(crate) fn revoked() -> NodeId {
    node(114)
}

/// The first state that has a fleet, and the one that takes a member of it back.
pub(crate) const FLEET: usize = 7;
pub(crate) const REVOCATION: usize = 8;

/// A member's certificate.
pub(crate) fn certificate(node: NodeId, serial: u64) -> Certificate {
    Certificate {
        repository: id(),
        fleet: "stores".to_owned(),
        node,
        seal_key: SealKey([8; 32]),
        groups: ["depot-7".to_owned(), "north".to_owned()].into(),
        capabilities: [Capability::Device, Capability::Relay].into(),
        serial,
        not_after: Wall(NOW.0 + 1000),
    }
}

/// The states of the repository, oldest first: three releases, other keys of the timestamp and a channel, one more
/// channel and a fleet, a revoked member, and three releases after that.
pub(crate) fn history() -> &'static [Repository] {
    &HISTORY
}

pub(crate) fn newest() -> &'static Repository {
    history().last().expect("a repository begins with a first state")
}

pub(crate) fn id() -> RepositoryId {
    history()[0].id()
}

/// Every document that the repository's keys ever signed.
pub(crate) fn is_signed(document: &[u8]) -> bool {
    DOCUMENTS.contains(document)
}

pub(crate) fn documents(pack: &[u8]) -> Vec<Vec<u8>> {
    let pack = Pack::decode(pack).expect("the pack of a verified state");
    let delegated = pack.delegated.iter().map(|(_, document)| *document);
    let fixed = [pack.timestamp, pack.snapshot, pack.targets];
    pack.roots.iter().copied().chain(fixed).chain(delegated).map(<[u8]>::to_vec).collect()
}

pub(crate) fn release(channel: &str, seq: u64) -> Release {
    Release {
        app: "shop".to_owned(),
        channel: channel.to_owned(),
        seq,
        version: format!("{seq}.0"),
        bundle: Hash::of(format!("{channel} {seq}").as_bytes()),
        // The second has three pieces, the others one.
        payload: Payload { blob: Hash::of(&seq.to_be_bytes()), size: if seq == 2 { 600_000 } else { 1000 + seq } },
        files: 3,
        unpacked: 5000,
        rules: if channel == "beta" { rules() } else { Rules::default() },
        enc: None,
        capacitor: None,
    }
}

/// Rules that ask something of everything that rules can.
pub(crate) fn rules() -> Rules {
    let audience = r#"site = "depot-7" and (model in ["a", "b"] or not ring != "slow")"#;
    Rules {
        rollout: 2500,
        audience: Some(audience.parse().expect("an expression")),
        platforms: vec!["web".to_owned()],
        min_native: Some("2.8.0".to_owned()),
        from: Some(">=0.1, <2".to_owned()),
        not_from: Some("0.3.*".to_owned()),
        via: Some("0.9.0".to_owned()),
        within: Some(Within::Minor),
        not_before: Some(NOW),
        not_after: Some(Wall(NOW.0 + 1000)),
        halt: Some("3/20%/10".parse().expect("a threshold")),
        ..Rules::default()
    }
}

fn write() -> Vec<Repository> {
    let keys = Keys {
        root: Some(key(1)),
        targets: Some(key(2)),
        snapshot: key(3),
        timestamp: key(4),
        channels: [("beta".to_owned(), key(5)), ("stable".to_owned(), key(6))].into(),
    };
    let mut shop = Repository::create("shop", &["beta", "stable"], &keys, NOW).expect("sound keys");
    let mut history = vec![shop.clone()];
    let rotate = |role, old, new| Change::RotateKey {
        role,
        key_id: key_id(&key(old).verifying_key()),
        key: key(new).verifying_key(),
    };
    let stable = Role::Channel("stable".to_owned());
    let lab = Change::AddChannel { channel: "lab".to_owned(), keys: vec![key(7).verifying_key()], threshold: 1 };
    let stores = Change::AddFleet { fleet: "stores".to_owned(), keys: vec![key(9).verifying_key()], threshold: 1 };
    let changes = [rotate(Role::Timestamp, 4, 14), rotate(stable, 6, 16), lab, stores];
    for (channel, seq) in [("stable", 1), ("stable", 2), ("beta", 1)] {
        propose_release(&mut shop, channel, seq);
        history.push(shop.clone());
    }
    for change in &changes {
        let draft = shop.propose(change, NOW).expect("a possible change");
        sign_and_submit(&mut shop, draft);
        history.push(shop.clone());
    }
    let draft = shop.propose_revocation("stores", revoked(), 3, NOW).expect("the fleet is there");
    sign_and_submit(&mut shop, draft);
    history.push(shop.clone());
    for (channel, seq) in [("stable", 3), ("lab", 1), ("stable", 4)] {
        propose_release(&mut shop, channel, seq);
        history.push(shop.clone());
    }
    history
}

fn propose_release(shop: &mut Repository, channel: &str, seq: u64) {
    let draft = shop.propose_release(&release(channel, seq), [7; 32], NOW).expect("a newer release");
    sign_and_submit(shop, draft);
}

fn sign_and_submit(shop: &mut Repository, draft: burr_protocol::trust::write::Draft) {
    let keys = all_keys();
    shop.sign_and_submit(draft, &keys.iter().collect::<Vec<_>>(), NOW).expect("all keys are at hand");
}

/// The keys that a state names for a role; those of the stable channel for one that it does not know.
pub(crate) fn signers(repository: &Repository, role: &Role) -> Vec<SigningKey> {
    let mut signers = repository.signers();
    let signers = signers.remove(role).or_else(|| signers.remove(&Role::Channel("stable".to_owned())));
    let named = signers.unwrap_or_default();
    all_keys().into_iter().filter(|key| named.keys.contains_key(&key_id(&key.verifying_key()))).collect()
}

/// A document with this text as its `signed` part, signed as it stands by each key.
pub(crate) fn sign_text(signed: &[u8], keys: &[SigningKey]) -> Vec<u8> {
    let signature = |key: &SigningKey| {
        let (keyid, sig) = (key_id(&key.verifying_key()), hex(&key.sign(signed).to_bytes()));
        format!(r#"{{"keyid":"{keyid}","sig":"{sig}"}}"#)
    };
    let mut signatures: Vec<String> = keys.iter().map(signature).collect();
    signatures.sort();
    let head = format!(r#"{{"signatures":[{}],"signed":"#, signatures.join(","));
    [head.as_bytes(), signed, b"}"].concat()
}

/// The `signed` part of a document.
pub(crate) fn signed(document: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(document).expect("a written document is JSON");
    document["signed"].clone()
}

/// What a document above says of this one; its version is 1 if it says none.
pub(crate) fn pin(document: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(document).unwrap_or_default();
    let version = value["signed"]["version"].as_u64().unwrap_or(1);
    let sha256 = hex(&sha2::Sha256::digest(document));
    json!({ "hashes": { "sha256": sha256 }, "length": document.len(), "version": version })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |hex, byte| hex + &format!("{byte:02x}"))
}
