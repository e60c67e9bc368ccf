//! One signed document: the strict form that is checked before the TUF state machine sees it. A document has exactly
//! one spelling and carries no byte that is not signed for, so nobody on the way can make a second one of it
//! (`protocol/README.md` §4.2 to §4.4).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sigstore_tuf::{Key, Metadata, Role, RoleKeys, canonical_json};

use super::{error::TrustError, provider};
use crate::Wall;
pub(super) use crate::id::{hex, unhex};

/// Levels of arrays and objects in a document at most.
pub(super) const MAX_DEPTH: usize = 32;
/// Versions stay below this, so that every JSON reader holds them exactly and a stolen key can't use them all up.
pub(super) const MAX_VERSION: u64 = 1 << 53;

/// Keys that one role names at most: as many people as one ceremony can gather. It bounds what a stranger can make a
/// reader compute before it knows who signed.
pub(super) const MAX_KEYS: usize = 32;
/// Signatures under one document at most: a root's are by the keys of two roles.
const MAX_SIGNATURES: usize = 2 * MAX_KEYS;

/// Keys and threshold that a document's signatures are judged by.
pub(super) struct Authority<'a> {
    pub keys: &'a BTreeMap<String, Key>,
    pub role: &'a RoleKeys,
}

/// Reads a document and checks its form.
pub(super) fn read<T: Role>(name: &str, bytes: &[u8]) -> Result<Metadata<T>, TrustError> {
    read_value(name, bytes)?;
    let metadata = Metadata::<T>::from_slice(bytes).map_err(|error| TrustError::tuf(name, &error))?;
    if !(1..MAX_VERSION).contains(&metadata.signed().version()) {
        return Err(TrustError::malformed(name, "its version is not between 1 and 2^53 - 1"));
    }
    Ok(metadata)
}

/// Reads a signed document's JSON in its one spelling.
pub(super) fn read_value(name: &str, bytes: &[u8]) -> Result<Value, TrustError> {
    let refuse = |problem: &str| TrustError::malformed(name, problem);
    if depth(bytes) > MAX_DEPTH {
        return Err(refuse("it nests more than 32 levels deep"));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| refuse(&format!("no JSON: {error}")))?;
    let canonical = canonical_json::to_canonical_bytes(&value).map_err(|error| TrustError::tuf(name, &error))?;
    // Whatever JSON leaves open (white space, order, escapes, a key given twice) is closed here.
    if canonical != bytes {
        return Err(refuse("it is not canonical JSON, or has a key twice"));
    }
    check_envelope(&value).map_err(refuse)?;
    Ok(value)
}

/// `{"signatures":[{"keyid","sig"}...],"signed":{...}}` and nothing else, signatures in the order of their keys.
fn check_envelope(value: &Value) -> Result<(), &'static str> {
    let envelope = value.as_object().filter(|envelope| envelope.len() == 2).ok_or("it is no signed document")?;
    let signatures = envelope.get("signatures").and_then(Value::as_array).ok_or("it has no list of signatures")?;
    if signatures.len() > MAX_SIGNATURES {
        return Err("it has more than 64 signatures");
    }
    let mut last = "";
    for signature in signatures {
        let fields = signature.as_object().filter(|fields| fields.len() == 2).ok_or("a signature has other fields")?;
        let field = |name| fields.get(name).and_then(Value::as_str).ok_or("a signature lacks a field");
        if !is_hex(field("sig")?, 64) {
            return Err("a signature is not 64 bytes of lower-case hex");
        }
        let key = field("keyid")?;
        if key <= last {
            return Err("signatures are not in the order of their keys, or a key signed twice");
        }
        last = key;
    }
    Ok(())
}

/// The deepest nesting, without parsing: brackets outside of strings.
pub(super) fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Checks that every signature is a true one by a key that one of the authorities names. How many are needed is the
/// state machine's question; this one leaves no room for bytes that nobody signed.
pub(super) fn check_signatures<T: Role>(
    name: &str,
    metadata: &Metadata<T>,
    authorities: &[Authority<'_>],
) -> Result<(), TrustError> {
    for signature in metadata.signatures() {
        let named = |authority: &&Authority<'_>| authority.role.keyids.contains(&signature.keyid);
        let key = authorities.iter().filter(named).find_map(|authority| authority.keys.get(&signature.keyid));
        let public = key.and_then(|key| unhex(&key.keyval.public));
        let signed = public
            .zip(unhex(&signature.sig))
            .is_some_and(|(public, signature)| provider::is_signed(&public, metadata.signed_canonical(), &signature));
        if !signed {
            let keyid: String = signature.keyid.chars().take(64).collect();
            return Err(TrustError::forged(name, format!("the signature of key {keyid:?} does not hold")));
        }
    }
    Ok(())
}

/// Checks the keys and roles that a document declares: Ed25519 alone, each key in one spelling under its own id (so a
/// key counts once however often it is listed), and thresholds that can be met and are not zero.
pub(super) fn check_keys<'a>(
    name: &str,
    keys: &BTreeMap<String, Key>,
    roles: impl Iterator<Item = (&'a str, RoleKeys)>,
) -> Result<(), TrustError> {
    for (id, key) in keys {
        let plain = key.keytype == "ed25519"
            && key.scheme == "ed25519"
            && is_hex(&key.keyval.public, 32)
            && key.keyval.extra.is_empty()
            && key.extra.is_empty();
        if !plain || key.key_id().ok().as_ref() != Some(id) {
            let id: String = id.chars().take(64).collect();
            return Err(TrustError::malformed(name, format!("key {id:?} is no plain Ed25519 key under its own id")));
        }
    }
    for (role, RoleKeys { keyids, threshold, .. }) in roles {
        let role: String = role.chars().take(140).collect();
        if keyids.len() > MAX_KEYS {
            return Err(TrustError::malformed(name, format!("role {role:?} names more than {MAX_KEYS} keys")));
        }
        let distinct: BTreeSet<&String> = keyids.iter().collect();
        if distinct.len() < keyids.len() || !keyids.iter().all(|id| keys.contains_key(id)) {
            return Err(TrustError::malformed(name, format!("role {role:?} names a key twice or one that is missing")));
        }
        if threshold == 0 || threshold > keyids.len() {
            let problem = format!("role {role:?} needs {threshold} of {} keys", keyids.len());
            return Err(TrustError::malformed(name, problem));
        }
    }
    Ok(())
}

/// The time that a document says it was signed at: its `x-issued` field, in the form of TUF's `expires`.
pub(super) fn issued(name: &str, fields: &BTreeMap<String, Value>) -> Result<Wall, TrustError> {
    let text = fields.get("x-issued").and_then(Value::as_str);
    let text = text.ok_or_else(|| TrustError::malformed(name, "it does not say when it was signed (`x-issued`)"))?;
    match text.parse::<jiff::Timestamp>() {
        Ok(time) if time.to_string() == text && time.subsec_nanosecond() == 0 => Ok(Wall(time.as_second())),
        _ => Err(TrustError::malformed(name, "its `x-issued` is not of the form 2026-11-24T12:00:00Z")),
    }
}

/// Whether a text is so many bytes of lower-case hex.
pub(super) fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == bytes * 2 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The SHA-256 of a document in lower-case hex, as the document above it gives it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(br#"{"a":[[1],{"b":"]]]["}],"c\"[":1}"#), 3);
        assert_eq!(depth(b"]]]"), 0);
    }
}
