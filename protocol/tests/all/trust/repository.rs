//! A shop's repository with known keys, and a way to bend its documents and sign them again.

use std::collections::BTreeMap;

use burr_protocol::{
    Hash, RepositoryId, Wall,
    release::{Payload, Release},
    rules::Rules,
    trust::{
        TrustError, Verified,
        pack::Pack,
        verify,
        write::{Keys, Repository, key_id, sign},
    },
};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

pub(crate) const NOW: Wall = Wall(1_800_000_000);
pub(crate) const DAY: i64 = 24 * 60 * 60;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn keys() -> Keys {
    Keys {
        root: Some(key(1)),
        targets: Some(key(2)),
        snapshot: key(3),
        timestamp: key(4),
        channels: BTreeMap::from([("beta".to_owned(), key(5)), ("stable".to_owned(), key(6))]),
    }
}

pub(crate) fn shop() -> Repository {
    Repository::create("shop", &["beta", "stable"], &keys(), NOW).unwrap()
}

pub(crate) fn release(channel: &str, seq: u64) -> Release {
    Release {
        app: "shop".to_owned(),
        channel: channel.to_owned(),
        seq,
        version: format!("{seq}.0"),
        bundle: Hash::of(&seq.to_be_bytes()),
        payload: Payload { blob: Hash::of(b"payload"), size: 1000 + seq },
        files: 3,
        unpacked: 5000,
        rules: Rules::default(),
        enc: None,
        capacitor: None,
    }
}

pub(crate) fn publish(shop: &mut Repository, channel: &str, seq: u64) {
    shop.release(&release(channel, seq), [seq.to_be_bytes()[7]; 32], &keys(), NOW).unwrap();
}

pub(crate) fn verified(shop: &Repository, held: Option<&Verified>) -> Result<Verified, TrustError> {
    verify(shop.id(), held, shop.pack())
}

/// A pack's documents as values that a test can bend, and sign again with whatever keys it likes.
pub(crate) struct Bent {
    pub(crate) id: RepositoryId,
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) timestamp: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) targets: Vec<u8>,
    pub(crate) delegated: BTreeMap<String, Vec<u8>>,
}

impl Bent {
    pub(crate) fn of(shop: &Repository) -> Self {
        let pack = Pack::decode(shop.pack()).unwrap();
        Self {
            id: shop.id(),
            roots: pack.roots.iter().map(|root| root.to_vec()).collect(),
            timestamp: pack.timestamp.to_vec(),
            snapshot: pack.snapshot.to_vec(),
            targets: pack.targets.to_vec(),
            delegated: pack.delegated.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect(),
        }
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let delegated = self.delegated.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let roots = self.roots.iter().map(Vec::as_slice).collect();
        let (timestamp, snapshot, targets) = (&self.timestamp, &self.snapshot, &self.targets);
        Pack { roots, timestamp, snapshot, targets, delegated }.encode().unwrap()
    }

    pub(crate) fn verify(&self, held: Option<&Verified>) -> Result<Verified, TrustError> {
        verify(self.id, held, &self.pack())
    }

    pub(crate) fn bend_stable(&mut self, bend: impl FnOnce(&mut Value)) {
        let document = self.delegated.get_mut("app.shop.stable").unwrap();
        *document = bent(document, bend, &[&key(6)]);
        self.pin();
    }

    pub(crate) fn bend_targets(&mut self, bend: impl FnOnce(&mut Value)) {
        self.targets = bent(&self.targets, bend, &[&key(2)]);
        self.pin();
    }

    /// Snapshot and timestamp signed anew over what the pack holds now, by their right keys.
    pub(crate) fn pin(&mut self) {
        let mut meta = serde_json::Map::new();
        meta.insert("targets.json".to_owned(), pin(&self.targets));
        for (role, document) in &self.delegated {
            meta.insert(format!("{role}.json"), pin(document));
        }
        self.snapshot = bent(&self.snapshot, |signed| signed["meta"] = meta.into(), &[&key(3)]);
        self.pin_snapshot();
    }

    pub(crate) fn pin_snapshot(&mut self) {
        let snapshot = pin(&self.snapshot);
        self.timestamp = bent(&self.timestamp, |signed| signed["meta"]["snapshot.json"] = snapshot, &[&key(4)]);
    }

    /// The next root, signed by `signers`, which names other keys for some roles.
    pub(crate) fn rotate(&mut self, roles: &[(&str, &SigningKey)], signers: &[&SigningKey]) {
        let bend = |signed: &mut Value| {
            signed["version"] = json!(signed["version"].as_u64().unwrap() + 1);
            for (role, key) in roles {
                let public = hex(key.verifying_key().as_bytes());
                let id = key_id(&key.verifying_key());
                signed["keys"][&id] =
                    json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
                signed["roles"][role]["keyids"] = json!([id]);
            }
        };
        self.roots.push(bent(self.roots.last().unwrap(), bend, signers));
    }
}

pub(crate) fn bent(document: &[u8], bend: impl FnOnce(&mut Value), keys: &[&SigningKey]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(document).unwrap();
    bend(&mut value["signed"]);
    sign(&value["signed"], keys)
}

pub(crate) fn pin(document: &[u8]) -> Value {
    use sha2::Digest as _;
    let value: Value = serde_json::from_slice(document).unwrap();
    let sha256 = hex(&sha2::Sha256::digest(document));
    json!({ "hashes": { "sha256": sha256 }, "length": document.len(), "version": value["signed"]["version"] })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
