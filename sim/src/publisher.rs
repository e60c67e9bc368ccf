//! A publisher of one app with keys that a seed decides. Its bundles are names and sizes; its metadata is real.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burr_protocol::{
    Hash, NodeId, RepositoryId, SealKey, Wall,
    config::{Follow, Install},
    member::{Capability, Certificate},
    release::{Payload, Release},
    rules::Rules,
    seal::{Epoch, EpochKey, Owner, ReleaseKey, SUITE, Sealed},
    trust::write::{Change, Draft, Keys, Repository, Role, key_id},
};
use ed25519_dalek::SigningKey;

/// Its fleet, for which it seals.
const FLEET: &str = "stores";

/// A publisher with its repository. It has one channel, `stable`.
#[derive(Debug, Clone)]
pub struct Publisher {
    app: String,
    keys: Keys,
    repository: Repository,
    fleet: SigningKey,
    has_fleet: bool,
    /// The serial of its newest member's certificate.
    serial: u64,
    /// The newest epoch of its fleet; 0 before there is one.
    epoch: u64,
}

impl Publisher {
    /// A publisher of `app` whose keys follow from `seed`.
    ///
    /// # Panics
    /// When `app` is no label.
    #[must_use]
    pub fn new(app: &str, seed: &str, now: Wall) -> Self {
        let key = |role: &str| SigningKey::from_bytes(&Hash::of(format!("{seed} {role}").as_bytes()).0);
        let keys = Keys {
            root: Some(key("root")),
            targets: Some(key("targets")),
            snapshot: key("snapshot"),
            timestamp: key("timestamp"),
            channels: BTreeMap::from([("stable".to_owned(), key("stable"))]),
        };
        let repository =
            Repository::create(app, &["stable"], &keys, now).expect("a label and five keys make a repository");
        Self { app: app.to_owned(), keys, repository, fleet: key("fleet"), has_fleet: false, serial: 0, epoch: 0 }
    }

    /// The repository's name.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.repository.id()
    }

    /// The trust pack as it is now.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        self.repository.pack().to_vec()
    }

    /// Releases a version with a payload of `size` bytes to every device.
    ///
    /// # Panics
    /// When the version is not newer than the one before.
    pub fn release(&mut self, version: &str, size: u64, now: Wall) -> Release {
        self.release_by(Rules::default(), version, size, now)
    }

    /// Releases a version with a payload of `size` bytes by these rules.
    ///
    /// # Panics
    /// When the version is not newer than those before, or the rules break a bound.
    pub fn release_by(&mut self, rules: Rules, version: &str, size: u64, now: Wall) -> Release {
        self.release_as(rules, None, version, size, now)
    }

    /// Releases a version for the devices of its fleet alone, in its newest epoch.
    ///
    /// # Panics
    /// When there is no epoch yet, or the version is not newer than those before.
    pub fn release_sealed(&mut self, version: &str, size: u64, now: Wall) -> Release {
        let (channel, seq) = ("stable".to_owned(), self.repository.next_seq("stable"));
        let epoch = Epoch { repository: self.id(), fleet: FLEET.to_owned(), number: self.epoch };
        let owner = Owner { epoch, app: self.app.clone(), channel: channel.clone(), seq };
        // Nothing here is ever opened: the keys may be known.
        let key = EpochKey::from_bytes([1; 32]).wrap(&ReleaseKey::new(owner, [2; 32]), [3; 24]);
        let (fleet, suite) = (FLEET.to_owned(), SUITE.to_owned());
        let sealed = Sealed { fleet, epoch: self.epoch, channel, seq, suite, key };
        self.release_as(Rules::default(), Some(sealed), version, size, now)
    }

    /// Begins another epoch of its fleet, and names its list of keys.
    ///
    /// # Panics
    /// Never, with keys that are its own.
    pub fn begin_epoch(&mut self, now: Wall) -> Payload {
        self.make_fleet(now);
        self.epoch += 1;
        let blob = Hash::of(format!("{} keys {}", self.app, self.epoch).as_bytes());
        let list = Payload { blob, size: 10_000 };
        let draft = self.repository.propose_keys(FLEET, self.epoch, &list, blob.0, now).expect("the next epoch");
        self.sign(draft, now);
        list
    }

    /// Makes a node a member of its fleet for ten years: its certificate.
    ///
    /// # Panics
    /// Never, with keys that are its own.
    pub fn enrol(&mut self, node: NodeId, now: Wall) -> Vec<u8> {
        self.make_fleet(now);
        self.serial += 1;
        let certificate = Certificate {
            repository: self.id(),
            fleet: FLEET.to_owned(),
            node,
            // Nothing is ever sealed to it.
            seal_key: SealKey([9; 32]),
            groups: BTreeSet::new(),
            capabilities: [Capability::Device].into(),
            serial: self.serial,
            not_after: Wall(now.0 + 10 * 365 * 24 * 3600),
        };
        certificate.sign(&[&self.fleet]).expect("within its bounds")
    }

    /// Takes a member back, with every certificate that it has so far.
    ///
    /// # Panics
    /// When it was taken back already.
    pub fn revoke(&mut self, node: NodeId, now: Wall) {
        let draft = self.repository.propose_revocation(FLEET, node, self.serial, now).expect("a member");
        self.sign(draft, now);
    }

    fn make_fleet(&mut self, now: Wall) {
        if self.has_fleet {
            return;
        }
        let keys = vec![self.fleet.verifying_key()];
        let change = Change::AddFleet { fleet: FLEET.to_owned(), keys, threshold: 1 };
        let draft = self.repository.propose(&change, now).expect("the fleet is new");
        self.sign(draft, now);
        self.has_fleet = true;
    }

    /// Signs a change with all keys there are.
    fn sign(&mut self, draft: Draft, now: Wall) {
        let all: Vec<&SigningKey> = self.keys.all().into_iter().chain([&self.fleet]).collect();
        self.repository.sign_and_submit(draft, &all, now).expect("all keys are at hand");
    }

    fn release_as(&mut self, rules: Rules, enc: Option<Sealed>, version: &str, size: u64, now: Wall) -> Release {
        let name = |what: &str| Hash::of(format!("{} {version} {what}", self.app).as_bytes());
        let release = Release {
            app: self.app.clone(),
            channel: "stable".to_owned(),
            seq: self.repository.next_seq("stable"),
            version: version.to_owned(),
            bundle: name("bundle"),
            payload: Payload { blob: name("payload"), size },
            files: 1,
            unpacked: size,
            rules,
            enc,
            capacitor: None,
        };
        self.repository.release(&release, name("sha256").0, &self.keys, now).expect("a newer version");
        release
    }

    /// Gives a release other rules.
    ///
    /// # Panics
    /// When it is not listed, has these rules, or they break a bound.
    pub fn set_rules(&mut self, seq: u64, rules: &Rules, now: Wall) {
        let draft = self.repository.propose_rules("stable", seq, rules, now).expect("other rules of a listed release");
        self.repository.sign_and_submit(draft, &self.keys.all(), now).expect("all keys are at hand");
    }

    /// Releases an earlier version again, under a new number.
    ///
    /// # Panics
    /// When it is not listed.
    pub fn bring_back(&mut self, seq: u64, now: Wall) -> Release {
        let rules = Rules { brings_back: Some(seq), ..Rules::default() };
        let earlier = self.repository.listed("stable", seq).expect("a listed release").clone();
        let release = Release { seq: self.repository.next_seq("stable"), rules, ..earlier };
        let sha256 = Hash::of(format!("{} {} sha256", self.app, release.version).as_bytes()).0;
        self.repository.release(&release, sha256, &self.keys, now).expect("a listed release comes back");
        release
    }

    /// Signs snapshot and timestamp anew.
    ///
    /// # Panics
    /// When a key is not the one that the repository names: the simulator's own mistake.
    pub fn renew(&mut self, now: Wall) {
        self.repository.refresh(&self.keys, now).expect("the keys are those of the repository");
    }

    /// The timestamp key is stolen, and replaced at once. Returns what the thief makes with the old one, and with the
    /// channel's: metadata that lists a release of its own, and looks much newer.
    ///
    /// # Panics
    /// When the repository takes no other key: the simulator's own mistake.
    pub fn be_robbed(&mut self, now: Wall) -> Arc<[u8]> {
        let mut thief = self.clone();
        (0..100).for_each(|_| thief.renew(now));
        thief.release("66.6.6", 1 << 20, now);
        let old = key_id(&self.keys.timestamp.verifying_key());
        let new = SigningKey::from_bytes(&Hash::of(&[self.keys.timestamp.to_bytes(), [1; 32]].concat()).0);
        let change = Change::RotateKey { role: Role::Timestamp, key_id: old, key: new.verifying_key() };
        let draft = self.repository.propose(&change, now).expect("a timestamp key can be replaced");
        self.keys.timestamp = new;
        let signed = self.repository.sign_and_submit(draft, &self.keys.all(), now);
        signed.expect("all keys are at hand");
        thief.repository.pack().into()
    }

    /// How a device follows this: it installs `stable`.
    #[must_use]
    pub fn installed(&self, install: Install) -> Follow {
        Follow { repository: self.id(), app: self.app.clone(), cache: Some(None), install: Some(install.into()) }
    }

    /// How a kiosk follows this: it keeps every channel for others.
    #[must_use]
    pub fn cached(&self) -> Follow {
        Follow { repository: self.id(), app: self.app.clone(), cache: Some(None), install: None }
    }
}
