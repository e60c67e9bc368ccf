//! The JSON of each signed document. Canonical JSON is what is signed and what is served: one spelling, no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde_json::{Map, Value, json};
use sigstore_tuf::{Metadata, Snapshot, Targets, Timestamp, canonical_json};

use super::{
    super::{
        checkpoint::Checkpoint,
        document::{self, hex, sha256},
        fleets, releases, wall,
    },
    KEPT_RELEASES, Keys, Missing, Role, Signers, TrustError, When, WriteError, channel_key,
};
use crate::{
    Wall,
    member::Revoked,
    release::{Payload, Release},
    rules::Rules,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const ROOT_LIFE: Duration = DAY.saturating_mul(3 * 365);
const TARGETS_LIFE: Duration = DAY.saturating_mul(365);
const CHANNEL_LIFE: Duration = DAY.saturating_mul(180);
const ONLINE_LIFE: Duration = DAY.saturating_mul(30);

/// Signs the `signed` part of a document with each key and returns the document in canonical JSON.
///
/// # Panics
/// If `signed` holds a number that is no integer: metadata never does.
#[must_use]
pub fn sign(signed: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = canonical(signed);
    let signatures: BTreeMap<String, String> =
        keys.iter().map(|key| (key_id(&key.verifying_key()), hex(&key.sign(&message).to_bytes()))).collect();
    let signatures: Vec<Value> = signatures.iter().map(|(keyid, sig)| json!({ "keyid": keyid, "sig": sig })).collect();
    canonical(&json!({ "signatures": signatures, "signed": signed }))
}

/// A key's id in TUF metadata: the SHA-256 of its canonical JSON, in hex.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    sha256(&canonical(&key_value(&hex(key.as_bytes()))))
}

pub(super) fn root(keys: &Keys, now: Wall) -> Result<Vec<u8>, WriteError> {
    let missing = |role: &str| WriteError::MissingKey { role: role.to_owned() };
    let root = keys.root.as_ref().ok_or_else(|| missing("root"))?;
    let targets = keys.targets.as_ref().ok_or_else(|| missing("targets"))?;
    let roles = [("root", root), ("targets", targets), ("snapshot", &keys.snapshot), ("timestamp", &keys.timestamp)];
    let key = |(_, key): &(&str, &SigningKey)| {
        (key_id(&key.verifying_key()), key_value(&hex(key.verifying_key().as_bytes())))
    };
    let role = |(role, key): &(&str, &SigningKey)| {
        ((*role).to_owned(), json!({ "keyids": [key_id(&key.verifying_key())], "threshold": 1 }))
    };
    let mut signed = head("root", 1, ROOT_LIFE, now)?;
    signed.insert("consistent_snapshot".to_owned(), json!(true));
    signed.insert("keys".to_owned(), roles.iter().map(key).collect::<Map<_, _>>().into());
    signed.insert("roles".to_owned(), roles.iter().map(role).collect::<Map<_, _>>().into());
    Ok(sign(&signed.into(), &[root]))
}

pub(super) fn targets(app: &str, channels: &[&str], keys: &Keys, now: Wall) -> Result<Vec<u8>, WriteError> {
    let key = keys.targets.as_ref().ok_or_else(|| WriteError::MissingKey { role: "targets".to_owned() })?;
    let mut named = Map::new();
    let mut roles = Vec::new();
    for channel in channels {
        let public = channel_key(keys, channel)?.verifying_key();
        named.insert(key_id(&public), key_value(&hex(public.as_bytes())));
        roles.push(json!({
            "name": releases::role_name(app, channel),
            "keyids": [key_id(&public)],
            "paths": [format!("app/{app}/{channel}/*")],
            "terminating": true,
            "threshold": 1,
        }));
    }
    let mut signed = head("targets", 1, TARGETS_LIFE, now)?;
    signed.insert("delegations".to_owned(), json!({ "keys": named, "roles": roles }));
    signed.insert("targets".to_owned(), json!({}));
    Ok(sign(&signed.into(), &[key]))
}

/// A channel's document without releases.
pub(super) fn channel(now: Wall) -> Result<Map<String, Value>, WriteError> {
    empty(CHANNEL_LIFE, now)
}

/// The first document of a channel or fleet.
pub(super) fn delegated(role: &Role, now: Wall) -> Result<Map<String, Value>, WriteError> {
    empty(life(role), now)
}

fn empty(life: Duration, now: Wall) -> Result<Map<String, Value>, WriteError> {
    let mut signed = head("targets", 1, life, now)?;
    signed.insert("targets".to_owned(), json!({}));
    Ok(signed)
}

/// How long the document of a role that signs targets lives.
pub(super) fn life(role: &Role) -> Duration {
    if let Role::Channel(_) = role { CHANNEL_LIFE } else { TARGETS_LIFE }
}

/// A fleet's document with another list of revocations, in its next version.
pub(super) fn with_revoked(
    document: &[u8],
    fleet: &str,
    revoked: &Revoked,
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut signed = next(document, TARGETS_LIFE, now)?;
    let custom = revoked.value(fleet);
    let file = canonical(&custom);
    signed["targets"][fleets::revoked_path(fleet)] =
        json!({ "custom": custom, "hashes": { "sha256": sha256(&file) }, "length": file.len() });
    Ok(signed)
}

/// A fleet's document in its next version, with the list of keys of one more epoch.
pub(super) fn with_keys(
    document: &[u8],
    fleet: &str,
    epoch: u64,
    list: &Payload,
    list_sha256: [u8; 32],
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut signed = next(document, TARGETS_LIFE, now)?;
    let targets = signed.get_mut("targets").and_then(Value::as_object_mut);
    let targets = targets.expect("a verified document of a fleet has targets");
    let target = json!({
        "custom": fleets::keys_custom(epoch, list),
        "hashes": { "sha256": hex(&list_sha256) },
        "length": list.size,
    });
    targets.insert(fleets::keys_path(fleet, epoch), target);
    let epochs = targets.values().filter_map(|target| target["custom"]["epoch"].as_u64());
    let mut epochs: Vec<u64> = epochs.collect();
    epochs.sort_unstable_by_key(|epoch| std::cmp::Reverse(*epoch));
    for old in epochs.into_iter().skip(fleets::KEPT_EPOCHS) {
        targets.remove(&fleets::keys_path(fleet, old));
    }
    Ok(signed)
}

/// A channel's document with one release more, in its next version.
pub(super) fn with_release(
    document: &[u8],
    release: &Release,
    payload_sha256: [u8; 32],
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut signed = next(document, CHANNEL_LIFE, now)?;
    let targets = signed.get_mut("targets").and_then(Value::as_object_mut);
    let targets = targets.expect("a verified document of a channel has targets");
    let target = json!({
        "custom": custom(release),
        "hashes": { "sha256": hex(&payload_sha256) },
        "length": release.payload.size,
    });
    targets.insert(release.target_path(), target);
    while targets.len() > KEPT_RELEASES {
        let seq = |target: &Value| target["custom"]["seq"].as_u64();
        let oldest = targets.iter().min_by_key(|(_, target)| seq(target)).map(|(path, _)| path.clone());
        targets.remove(&oldest.expect("there are more than KEPT_RELEASES"));
    }
    Ok(signed)
}

/// A channel's document in its next version, in which a release that it lists has other rules.
pub(super) fn with_rules(
    document: &[u8],
    release: &Release,
    rules: &Rules,
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut signed = next(document, CHANNEL_LIFE, now)?;
    let release = Release { rules: rules.clone(), ..release.clone() };
    signed["targets"][release.target_path()]["custom"] = custom(&release);
    Ok(signed)
}

/// What a target says of itself.
fn custom(release: &Release) -> Value {
    let mut custom = serde_json::to_value(release).expect("a release has plain fields");
    custom["v"] = json!(1);
    custom
}

/// The same document in its next version, with a new life.
pub(super) fn again(document: &[u8], life: Duration, now: Wall) -> Result<Map<String, Value>, WriteError> {
    next(document, life, now)
}

/// Signs with those of the keys that the role names, to its threshold.
pub(super) fn signed_by(
    signed: &Map<String, Value>,
    role: &Role,
    signers: &Signers,
    keys: &[&SigningKey],
) -> Result<Vec<u8>, WriteError> {
    let named = |key: &&&SigningKey| signers.keys.contains_key(&key_id(&key.verifying_key()));
    let keys: Vec<&SigningKey> = keys.iter().filter(named).copied().collect();
    let have: BTreeSet<String> = keys.iter().map(|key| key_id(&key.verifying_key())).collect();
    match Missing::of(role, When::Now, signers, &have) {
        None => Ok(sign(&Value::Object(signed.clone()), &keys)),
        Some(missing) => Err(WriteError::Unsigned(vec![missing])),
    }
}

pub(super) fn snapshot(
    version: u64,
    targets: &[u8],
    delegated: &BTreeMap<String, Vec<u8>>,
    log: Option<&Checkpoint>,
    now: Wall,
) -> Result<Map<String, Value>, WriteError> {
    let mut meta = Map::new();
    meta.insert("targets.json".to_owned(), pin(targets));
    meta.extend(delegated.iter().map(|(role, document)| (format!("{role}.json"), pin(document))));
    let mut signed = head("snapshot", version, ONLINE_LIFE, now)?;
    signed.insert("meta".to_owned(), meta.into());
    signed.extend(log.map(Checkpoint::field));
    Ok(signed)
}

pub(super) fn timestamp(version: u64, snapshot: &[u8], now: Wall) -> Result<Map<String, Value>, WriteError> {
    let mut signed = head("timestamp", version, ONLINE_LIFE, now)?;
    signed.insert("meta".to_owned(), json!({ "snapshot.json": pin(snapshot) }));
    Ok(signed)
}

/// The versions that an unverified timestamp or snapshot names, by file name.
pub(super) fn pinned(name: &str, bytes: &[u8]) -> Result<BTreeMap<String, u64>, TrustError> {
    let meta = match document::read::<Timestamp>(name, bytes) {
        Ok(timestamp) => timestamp.into_signed().meta,
        Err(_) => document::read::<Snapshot>(name, bytes)?.into_signed().meta,
    };
    Ok(meta.into_iter().map(|(name, meta)| (name, meta.version)).collect())
}

/// App and channel by role.
pub(super) fn channels(targets: &[u8]) -> Result<BTreeMap<String, (String, String)>, TrustError> {
    let targets: Metadata<Targets> = document::read("the targets", targets)?;
    let roles = targets.signed().delegations.iter().flat_map(|delegations| &delegations.roles);
    let channel = |role| {
        let (app, channel) = releases::channel(role)?;
        Ok((role.name.clone(), (app.to_owned(), channel.to_owned())))
    };
    roles.filter(|role| fleets::name(role).is_none()).map(channel).collect()
}

/// Whether a targets document is past half of the time from its signing to its expiry.
pub(super) fn is_past_half(document: &[u8], now: Wall) -> Result<bool, TrustError> {
    let targets: Metadata<Targets> = document::read("the targets", document)?;
    past_half("the targets", &targets.signed().extra, targets.signed().expires, now)
}

/// As [`is_past_half`], for either of snapshot and timestamp.
pub(super) fn is_online_past_half(snapshot: &[u8], timestamp: &[u8], now: Wall) -> Result<bool, TrustError> {
    let snapshot: Metadata<Snapshot> = document::read("the snapshot", snapshot)?;
    let timestamp: Metadata<Timestamp> = document::read("the timestamp", timestamp)?;
    let (snapshot, timestamp) = (snapshot.signed(), timestamp.signed());
    Ok(past_half("the snapshot", &snapshot.extra, snapshot.expires, now)?
        || past_half("the timestamp", &timestamp.extra, timestamp.expires, now)?)
}

fn past_half(
    name: &str,
    fields: &BTreeMap<String, Value>,
    expires: jiff::Timestamp,
    now: Wall,
) -> Result<bool, TrustError> {
    let issued = document::issued(name, fields)?;
    Ok(now.0.saturating_sub(issued.0) > wall(expires).0.saturating_sub(now.0))
}

/// The `signed` part of a verified document, in its next version and with a new life.
pub(super) fn next(document: &[u8], life: Duration, now: Wall) -> Result<Map<String, Value>, WriteError> {
    let document: Value = serde_json::from_slice(document).expect("a verified document is JSON");
    let mut signed = document["signed"].as_object().expect("a verified document has a signed part").clone();
    let version = signed["version"].as_u64().expect("a verified document has a version");
    let kind = signed["_type"].as_str().expect("a verified document has a type").to_owned();
    signed.extend(head(&kind, version + 1, life, now)?);
    Ok(signed)
}

/// The fields that every document has.
fn head(kind: &str, version: u64, life: Duration, now: Wall) -> Result<Map<String, Value>, WriteError> {
    let time = |seconds| jiff::Timestamp::from_second(seconds).map_err(|_| WriteError::Time(now.0));
    let life = i64::try_from(life.as_secs()).expect("a document lives for years at most");
    let mut head = Map::new();
    head.insert("_type".to_owned(), json!(kind));
    head.insert("spec_version".to_owned(), json!("1.0.31"));
    head.insert("version".to_owned(), json!(version));
    head.insert("x-issued".to_owned(), json!(time(now.0)?.to_string()));
    head.insert("expires".to_owned(), json!(time(now.0.saturating_add(life))?.to_string()));
    Ok(head)
}

/// What one document says of another: version, length and SHA-256.
fn pin(document: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(document).expect("a written document is JSON");
    json!({
        "hashes": { "sha256": sha256(document) },
        "length": document.len(),
        "version": value["signed"]["version"],
    })
}

/// A public key, given in hex, as metadata writes it.
pub(super) fn key_value(public: &str) -> Value {
    json!({ "keytype": "ed25519", "keyval": { "public": public }, "scheme": "ed25519" })
}

pub(in crate::trust) fn canonical(value: &Value) -> Vec<u8> {
    canonical_json::to_canonical_bytes(value).expect("metadata holds whole numbers alone")
}
