//! A TUF repository that a test writes as it likes, and a driver that lets a client walk it.

use std::collections::BTreeMap;

use burr_protocol::{
    Wall,
    trust::{
        client::{Client, ClientError, Step, Target},
        write::{key_id, sign},
    },
};
use ed25519_dalek::SigningKey;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The fixed start of every refresh here, and what documents of the forge expire at unless a test says otherwise.
pub(super) const NOW: Wall = Wall(1_800_000_000);
pub(super) const LATER: &str = "2027-06-01T00:00:00Z";
pub(super) const PAST: &str = "2026-06-01T00:00:00Z";
/// [`NOW`], as TUF writes it.
pub(super) const AT_NOW: &str = "2027-01-15T08:00:00Z";

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// A repository: the documents that are served, the newest `signed` parts, and who signs what.
pub(super) struct Forge {
    pub(super) served: BTreeMap<String, Vec<u8>>,
    pub(super) signed: BTreeMap<String, Value>,
    pub(super) signers: BTreeMap<String, Vec<u8>>,
    /// Whether pins carry length and hash.
    pub(super) pins: bool,
}

impl Forge {
    /// Version 1 of everything, with one key a role: root 1, timestamp 2, snapshot 3, targets 4.
    pub(super) fn new() -> Self {
        let roles = [("root", 1), ("timestamp", 2), ("snapshot", 3), ("targets", 4)];
        let signers = roles.iter().map(|(role, seed)| ((*role).to_owned(), vec![*seed])).collect();
        let mut forge = Self { served: BTreeMap::new(), signed: BTreeMap::new(), signers, pins: true };
        let head = |kind: &str| json!({ "_type": kind, "spec_version": "1.0.31", "version": 0, "expires": LATER });
        for (role, _) in roles {
            forge.signed.insert(role.to_owned(), head(role));
        }
        forge["root"]["consistent_snapshot"] = json!(true);
        forge["targets"]["targets"] = json!({});
        forge["snapshot"]["meta"] = json!({});
        for (role, seed) in roles {
            forge.name_keys(role, &[seed], 1);
        }
        forge.publish(&["root", "targets", "snapshot", "timestamp"]);
        forge
    }

    /// Names a top-level role's keys in the root to come.
    pub(super) fn name_keys(&mut self, role: &str, seeds: &[u8], threshold: u64) {
        let (keys, ids) = declared(seeds);
        for (id, key) in keys {
            self["root"]["keys"][id] = key;
        }
        self["root"]["roles"][role] = json!({ "keyids": ids, "threshold": threshold });
    }

    /// Adds a delegation, last in its delegator's list, and an empty role unless there is one.
    pub(super) fn delegate(&mut self, from: &str, to: &str, seed: u8, more: Value) {
        let (keys, ids) = declared(&[seed]);
        let mut role = json!({ "name": to, "keyids": ids, "threshold": 1, "terminating": false, "paths": ["*"] });
        merge(&mut role, more);
        let delegations = &mut self[from]["delegations"];
        if delegations.is_null() {
            *delegations = json!({ "keys": {}, "roles": [] });
        }
        for (id, key) in keys {
            delegations["keys"][id] = key;
        }
        delegations["roles"].as_array_mut().unwrap().push(role);
        self.signers.entry(to.to_owned()).or_default().push(seed);
        let empty =
            json!({ "_type": "targets", "spec_version": "1.0.31", "version": 0, "expires": LATER, "targets": {} });
        self.signed.entry(to.to_owned()).or_insert(empty);
    }

    pub(super) fn add_target(&mut self, role: &str, path: &str, bytes: &[u8]) {
        self[role]["targets"][path] = json!({ "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } });
    }

    /// Signs the next version of these roles and serves it; each is pinned in the one above it to come.
    pub(super) fn publish(&mut self, roles: &[&str]) {
        for role in roles {
            let version = self[role]["version"].as_u64().unwrap() + 1;
            self[role]["version"] = json!(version);
            self.serve(role);
        }
    }

    /// Signs a role as it stands and serves it under its version.
    pub(super) fn serve(&mut self, role: &str) {
        let signed = &self.signed[role];
        let keys: Vec<SigningKey> = self.signers[role].iter().map(|seed| key(*seed)).collect();
        let bytes = sign(signed, &keys.iter().collect::<Vec<_>>());
        let version = signed["version"].as_u64().unwrap();
        let mut pin = json!({ "version": version });
        if self.pins {
            merge(&mut pin, json!({ "length": bytes.len(), "hashes": { "sha256": sha256(&bytes) } }));
        }
        match role {
            "root" | "timestamp" => {}
            "snapshot" => self["timestamp"]["meta"] = json!({ "snapshot.json": pin }),
            role => self["snapshot"]["meta"][format!("{role}.json")] = pin,
        }
        let name = if role == "timestamp" { "timestamp.json".to_owned() } else { format!("{version}.{role}.json") };
        self.served.insert(name, bytes);
    }

    /// What someone who never refreshed holds: the root of a version.
    pub(super) fn newcomer(&self, root: u64) -> Visitor {
        let root = self.served[&format!("{root}.root.json")].clone();
        Visitor { kept: BTreeMap::from([("root".to_owned(), root)]), asked: Vec::new(), now: NOW }
    }
}

impl std::ops::Index<&str> for Forge {
    type Output = Value;

    fn index(&self, role: &str) -> &Value {
        &self.signed[role]
    }
}

impl std::ops::IndexMut<&str> for Forge {
    fn index_mut(&mut self, role: &str) -> &mut Value {
        self.signed.get_mut(role).unwrap()
    }
}

/// A client's metadata directory, and what it asked the repository for last.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) kept: BTreeMap<String, Vec<u8>>,
    pub(super) asked: Vec<String>,
    pub(super) now: Wall,
}

impl Visitor {
    pub(super) fn refresh(&mut self, forge: &Forge) -> Result<Client, ClientError> {
        self.asked.clear();
        let mut client = Client::new(self.now);
        self.run(forge, &mut client).map(|()| client)
    }

    /// Refreshes and searches. `Ok(None)` if no role names the target.
    pub(super) fn find(&mut self, forge: &Forge, path: &str) -> Result<Option<String>, ClientError> {
        let mut client = self.refresh(forge)?;
        self.asked.clear();
        client.find(path)?;
        self.run(forge, &mut client)?;
        Ok(client.found().map(Target::name))
    }

    pub(super) fn run(&mut self, forge: &Forge, client: &mut Client) -> Result<(), ClientError> {
        loop {
            match client.step()? {
                Step::Kept { role, .. } => client.give(self.kept.get(&role).cloned())?,
                Step::Fetch { name, .. } => {
                    let served = forge.served.get(&name).cloned();
                    self.asked.push(name);
                    client.give(served)?;
                }
                Step::Keep { role, bytes } => drop(self.kept.insert(role, bytes.to_vec())),
                Step::Forget { role } => drop(self.kept.remove(&role)),
                Step::Done => return Ok(()),
            }
        }
    }

    /// The versions that are kept: root, timestamp, snapshot, targets; 0 for none.
    pub(super) fn versions(&self) -> [u64; 4] {
        ["root", "timestamp", "snapshot", "targets"].map(|role| {
            self.kept.get(role).map_or(0, |bytes| {
                serde_json::from_slice::<Value>(bytes).unwrap()["signed"]["version"].as_u64().unwrap()
            })
        })
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub(super) fn declared(seeds: &[u8]) -> (Map<String, Value>, Vec<String>) {
    let mut keys = Map::new();
    let mut ids = Vec::new();
    for seed in seeds {
        let public = key(*seed).verifying_key();
        let value = json!({ "public": hex(public.as_bytes()) });
        ids.push(key_id(&public));
        keys.insert(key_id(&public), json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": value }));
    }
    (keys, ids)
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (name, value) in more {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(&name);
        } else {
            into[name] = value;
        }
    }
}
