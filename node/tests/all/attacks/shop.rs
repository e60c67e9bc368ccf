//! A publisher with all its keys in one hand: what it signs, and what a thief of some of them could.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use burr_node::bundle::Packed;
use burr_protocol::{
    Hash, NodeId, RepositoryId, Wall,
    release::{Payload, Release},
    rules::Rules,
    trust::{
        pack::Pack,
        write::{Change, Keys, Repository, Role, key_id, sign},
    },
};
use ed25519_dalek::SigningKey;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::PayloadFile;
use crate::support::{pack, scratch, tree};

/// A key that a seed names.
pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The keys that a shop starts with; each channel has its own.
pub(super) fn keys() -> Keys {
    Keys {
        root: Some(key(1)),
        targets: Some(key(2)),
        snapshot: key(3),
        timestamp: key(4),
        channels: BTreeMap::from([("beta".to_owned(), key(5)), ("stable".to_owned(), key(6))]),
    }
}

/// A publisher's repository of the app `shop` with channels `stable` and `beta`, and its payloads.
pub(super) struct Shop {
    pub(super) keys: Keys,
    pub(super) now: Wall,
    repository: Repository,
    payloads: Vec<PayloadFile>,
    /// Its log of acts, as lines.
    log: Vec<String>,
    dir: Arc<TempDir>,
}

impl Shop {
    pub(super) fn open(now: Wall) -> Self {
        Self::open_with(keys(), now)
    }

    pub(super) fn open_with(keys: Keys, now: Wall) -> Self {
        let repository = Repository::create("shop", &["beta", "stable"], &keys, now).unwrap();
        Self { keys, now, repository, payloads: Vec::new(), log: Vec::new(), dir: Arc::new(scratch()) }
    }

    /// The same shop once more, to go another way from here.
    pub(super) fn fork(&self) -> Self {
        let (repository, dir) = (self.repository.clone(), Arc::clone(&self.dir));
        Self {
            keys: self.keys.clone(),
            now: self.now,
            repository,
            payloads: self.payloads(),
            log: self.log.clone(),
            dir,
        }
    }

    /// Writes a line into the log of acts, which the next snapshot tells of.
    pub(super) fn note(&mut self, line: &str) {
        self.log.push(line.to_owned());
        self.repository.set_log(self.log.iter().map(String::as_str));
    }

    pub(super) fn id(&self) -> RepositoryId {
        self.repository.id()
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        self.repository.pack().to_vec()
    }

    pub(super) fn version(&self) -> u64 {
        self.repository.verified().timestamp_version()
    }

    /// Every payload so far.
    pub(super) fn payloads(&self) -> Vec<PayloadFile> {
        self.payloads.clone()
    }

    /// Packs a page that tells its version and releases it on `stable`.
    pub(super) fn release(&mut self, version: &str) -> Release {
        let page = format!("<h1>{version}</h1>");
        self.release_tree("stable", version, &[("index.html", page.as_bytes())])
    }

    pub(super) fn release_tree(&mut self, channel: &str, version: &str, files: &[(&str, &[u8])]) -> Release {
        let source = tree(&self.dir.path().join(format!("{channel}-{version}")), files);
        let packed = pack(&source, &self.dir.path().join(format!("{channel}-{version}.payload")));
        self.release_packed(channel, version, &packed)
    }

    pub(super) fn release_packed(&mut self, channel: &str, version: &str, packed: &Packed) -> Release {
        let release = Release {
            app: "shop".to_owned(),
            channel: channel.to_owned(),
            seq: self.repository.next_seq(channel),
            version: version.to_owned(),
            bundle: packed.bundle,
            payload: Payload { blob: packed.blob, size: packed.size },
            files: packed.manifest.files(),
            unpacked: packed.manifest.bytes(),
            rules: Rules::default(),
            enc: None,
            capacitor: None,
        };
        self.sign(&release, packed.sha256);
        self.payloads.push((release.payload.clone(), packed.path.clone()));
        release
    }

    /// Signs a release of a payload that the publisher's tools would never make: `bytes` is it, whatever it is.
    pub(super) fn release_bytes(&mut self, version: &str, bundle: Hash, files: u64, unpacked: u64, bytes: &[u8]) {
        let path = self.dir.path().join(format!("{version}.payload"));
        std::fs::write(&path, bytes).unwrap();
        let release = Release {
            app: "shop".to_owned(),
            channel: "stable".to_owned(),
            seq: self.repository.next_seq("stable"),
            version: version.to_owned(),
            bundle,
            payload: Payload { blob: Hash::of(bytes), size: bytes.len() as u64 },
            files,
            unpacked,
            rules: Rules::default(),
            enc: None,
            capacitor: None,
        };
        self.sign(&release, Sha256::digest(bytes).into());
        self.payloads.push((release.payload, path));
    }

    fn sign(&mut self, release: &Release, sha256: [u8; 32]) {
        self.repository.release(release, sha256, &self.keys, self.now).unwrap();
    }

    /// Snapshot and timestamp, signed anew.
    pub(super) fn renew(&mut self, now: Wall) {
        self.now = now;
        self.repository.refresh(&self.keys, now).unwrap();
    }

    /// Gives a role another key, by the next root or targets.
    pub(super) fn rotate(&mut self, role: Role, seed: u8) {
        let new = key(seed);
        let old = key_id(&self.key_of(&role).verifying_key());
        self.change(&Change::RotateKey { role: role.clone(), key_id: old, key: new.verifying_key() }, &new);
        match role {
            Role::Root => self.keys.root = Some(new),
            Role::Targets => self.keys.targets = Some(new),
            Role::Snapshot => self.keys.snapshot = new,
            Role::Timestamp => self.keys.timestamp = new,
            Role::Channel(channel) => drop(self.keys.channels.insert(channel, new)),
            Role::Fleet(_) => panic!("the shop has no fleet"),
        }
    }

    /// Takes a member of a fleet back, signed by the fleet's key.
    pub(super) fn revoke(&mut self, fleet: &str, node: NodeId, key: &SigningKey) {
        let draft = self.repository.propose_revocation(fleet, node, 1, self.now).unwrap();
        let mut all = self.keys.all();
        all.push(key);
        self.repository.sign_and_submit(draft, &all, self.now).unwrap();
    }

    /// Takes a release of `stable` back.
    pub(super) fn yank(&mut self, seq: u64, why: &str) {
        self.set_rules(seq, &Rules { yanked: Some(why.to_owned()), ..Rules::default() });
    }

    /// Gives a release of `stable` other rules.
    pub(super) fn set_rules(&mut self, seq: u64, rules: &Rules) {
        let draft = self.repository.propose_rules("stable", seq, rules, self.now).unwrap();
        self.repository.sign_and_submit(draft, &self.keys.all(), self.now).unwrap();
    }

    /// Makes a change that all keys of the shop and one more sign.
    pub(super) fn change(&mut self, change: &Change, one_more: &SigningKey) {
        let draft = self.repository.propose(change, self.now).unwrap();
        let mut all = self.keys.all();
        all.push(one_more);
        self.repository.sign_and_submit(draft, &all, self.now).unwrap();
    }

    fn key_of(&self, role: &Role) -> SigningKey {
        match role {
            Role::Root => self.keys.root.clone().unwrap(),
            Role::Targets => self.keys.targets.clone().unwrap(),
            Role::Snapshot => self.keys.snapshot.clone(),
            Role::Timestamp => self.keys.timestamp.clone(),
            Role::Channel(channel) => self.keys.channels[channel].clone(),
            Role::Fleet(_) => panic!("the shop has no fleet"),
        }
    }
}

/// A pack's documents, to be bent and signed again with whatever keys a thief has.
#[derive(Clone)]
pub(super) struct Bent {
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) timestamp: Vec<u8>,
    pub(super) snapshot: Vec<u8>,
    pub(super) targets: Vec<u8>,
    pub(super) channels: BTreeMap<String, Vec<u8>>,
}

impl Bent {
    pub(super) fn of(pack: &[u8]) -> Self {
        let pack = Pack::decode(pack).unwrap();
        Self {
            roots: pack.roots.iter().map(|root| root.to_vec()).collect(),
            timestamp: pack.timestamp.to_vec(),
            snapshot: pack.snapshot.to_vec(),
            targets: pack.targets.to_vec(),
            channels: pack.delegated.iter().map(|(role, bytes)| ((*role).to_owned(), bytes.to_vec())).collect(),
        }
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        let roots = self.roots.iter().map(Vec::as_slice).collect();
        let delegated = self.channels.iter().map(|(role, bytes)| (role.as_str(), bytes.as_slice())).collect();
        let (timestamp, snapshot, targets) = (&self.timestamp, &self.snapshot, &self.targets);
        Pack { roots, timestamp, snapshot, targets, delegated }.encode().unwrap()
    }

    /// Changes the channel `stable`, signed by `keys`.
    pub(super) fn bend_stable(&mut self, keys: &[&SigningKey], bend: impl FnOnce(&mut Value)) {
        let document = self.channels.get_mut("app.shop.stable").unwrap();
        *document = bent(document, keys, bend);
    }

    /// Snapshot and timestamp signed anew over what there is now, in their next versions.
    pub(super) fn pin(&mut self, snapshot: &SigningKey, timestamp: &SigningKey) {
        let mut meta: Map<String, Value> =
            self.channels.iter().map(|(role, document)| (format!("{role}.json"), pin(document))).collect();
        meta.insert("targets.json".to_owned(), pin(&self.targets));
        self.snapshot = bent(&self.snapshot, &[snapshot], |signed| {
            signed["meta"] = meta.into();
            next(signed);
        });
        self.pin_snapshot(timestamp);
    }

    pub(super) fn pin_snapshot(&mut self, timestamp: &SigningKey) {
        let snapshot = pin(&self.snapshot);
        self.timestamp = bent(&self.timestamp, &[timestamp], |signed| {
            signed["meta"]["snapshot.json"] = snapshot;
            next(signed);
        });
    }
}

/// Changes what is signed of a document, and signs it anew.
pub(super) fn bent(document: &[u8], keys: &[&SigningKey], bend: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(document).unwrap();
    bend(&mut value["signed"]);
    sign(&value["signed"], keys)
}

pub(super) fn next(signed: &mut Value) {
    signed["version"] = json!(signed["version"].as_u64().unwrap() + 1);
}

fn pin(document: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(document).unwrap();
    let sha256 = Hash(Sha256::digest(document).into()).to_string();
    json!({ "hashes": { "sha256": sha256 }, "length": document.len(), "version": value["signed"]["version"] })
}

/// Every byte of a directory's files.
pub(super) fn bytes_below(at: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = crate::support::listing(at).into_iter().filter(|path| path.is_file());
    files.map(|path| (path.clone(), std::fs::read(&path).unwrap_or_default())).collect()
}

/// A time as metadata writes it.
pub(super) fn in_words(time: Wall) -> String {
    let since = Duration::from_secs(time.0.try_into().unwrap());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
