//! One signed document of any repository: the form that TUF asks, no more. Unlike a pack's (`trust::document`) it may be
//! spaced as its writer likes, carry keys that are unknown here and signatures that do not hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, de};
use sha2::{Digest as _, Sha256, Sha512};
use sigstore_tuf::{Key, MetaFile, Metadata, Role, RoleKeys, Root, Snapshot, Targets, Timestamp};
use sigstore_types::SignatureBytes;

use super::{MAX_KEYS, MAX_SIGNATURES, delegation};
use crate::trust::{
    TrustError,
    document::{MAX_DEPTH, MAX_VERSION, depth, hex},
};

/// A document whose own form can be checked beyond its types.
pub(super) trait Form: Role {
    fn check(&self, name: &str) -> Result<(), TrustError>;
}

/// Reads a document and checks its form; who signed it is another question.
pub(super) fn read<T: Form>(name: &str, bytes: &[u8]) -> Result<Metadata<T>, TrustError> {
    let refuse = |problem: String| TrustError::malformed(name, problem);
    if depth(bytes) > MAX_DEPTH {
        return Err(refuse(format!("it nests more than {MAX_DEPTH} levels deep")));
    }
    serde_json::from_slice::<Unambiguous>(bytes).map_err(|error| refuse(error.to_string()))?;
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
    let metadata = Metadata::<T>::from_slice(bytes).map_err(|error| TrustError::tuf(name, &error))?;
    let signed = metadata.signed();
    if !(1..MAX_VERSION).contains(&signed.version()) {
        return Err(refuse("its version is not between 1 and 2^53 - 1".to_owned()));
    }
    if !is_expiry(&envelope.signed.expires) {
        return Err(refuse("`expires` is not of the form 2026-11-24T12:00:00Z".to_owned()));
    }
    let signatures = metadata.signatures();
    let signers: BTreeSet<_> = signatures.iter().map(|signature| &signature.keyid).collect();
    if signers.len() != signatures.len() || signatures.len() > MAX_SIGNATURES {
        return Err(refuse(format!("a key signed twice, or over {MAX_SIGNATURES} signatures")));
    }
    signed.check(name)?;
    Ok(metadata)
}

/// The part of a document whose spelling counts.
#[derive(Deserialize)]
struct Envelope {
    signed: Head,
}

#[derive(Deserialize)]
struct Head {
    expires: String,
}

/// Whether a text is a UTC instant in full seconds, in the one form that TUF has for it.
fn is_expiry(text: &str) -> bool {
    let shape = text.len() == 20 && text.ends_with('Z');
    shape && text.parse::<jiff::Timestamp>().is_ok_and(|time| time.to_string() == text)
}

/// JSON in which no object has a key twice: readers differ in which one they take.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(de::Error::custom(format_args!("the key {key:.40?} stands twice in an object")));
            }
            keys.insert(key);
            map.next_value::<Unambiguous>()?;
        }
        Ok(Unambiguous)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Unambiguous, A::Error> {
        while list.next_element::<Unambiguous>()?.is_some() {}
        Ok(Unambiguous)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_unit<E>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }
}

impl Form for Root {
    fn check(&self, name: &str) -> Result<(), TrustError> {
        if self.keys.len() > MAX_KEYS {
            return Err(TrustError::malformed(name, format!("it names over {MAX_KEYS} keys")));
        }
        if ["root", "timestamp", "snapshot", "targets"].iter().any(|role| !self.roles.contains_key(*role)) {
            return Err(TrustError::malformed(name, "it lacks one of the four roles"));
        }
        self.roles.iter().try_for_each(|(role, keys)| check_role(name, role, keys))
    }
}

impl Form for Timestamp {
    fn check(&self, name: &str) -> Result<(), TrustError> {
        if self.snapshot_meta().is_none() {
            return Err(TrustError::malformed(name, "it does not name the snapshot"));
        }
        check_pins(name, &self.meta)
    }
}

impl Form for Snapshot {
    fn check(&self, name: &str) -> Result<(), TrustError> {
        check_pins(name, &self.meta)
    }
}

impl Form for Targets {
    fn check(&self, name: &str) -> Result<(), TrustError> {
        self.delegations.iter().try_for_each(|delegations| delegation::check(name, delegations))
    }
}

/// Checks that a role's keys are each named once and that its threshold is not zero.
pub(super) fn check_role(name: &str, role: &str, keys: &RoleKeys) -> Result<(), TrustError> {
    let distinct: BTreeSet<_> = keys.keyids.iter().collect();
    if distinct.len() != keys.keyids.len() || keys.threshold == 0 {
        let role: String = role.chars().take(100).collect();
        return Err(TrustError::malformed(name, format!("role {role:?} names a key twice or needs no signature")));
    }
    Ok(())
}

fn check_pins(name: &str, pins: &BTreeMap<String, MetaFile>) -> Result<(), TrustError> {
    let sound = |pin: &MetaFile| {
        (1..MAX_VERSION).contains(&pin.version) && pin.hashes.as_ref().is_none_or(|hashes| !hashes.is_empty())
    };
    match pins.iter().find(|(_, pin)| !sound(pin)) {
        None => Ok(()),
        Some((file, _)) => {
            let file: String = file.chars().take(100).collect();
            Err(TrustError::malformed(name, format!("what it says of {file:?} has no version, or hashes without any")))
        }
    }
}

/// Checks that enough keys of a role signed a document: distinct keys, not distinct names of keys. What does not hold,
/// is by others or in a scheme that is unknown here counts for nothing, and is no reason to refuse.
pub(super) fn check_threshold<T: Role>(
    name: &str,
    metadata: &Metadata<T>,
    keys: &BTreeMap<String, Key>,
    role: &RoleKeys,
) -> Result<(), TrustError> {
    let named: BTreeSet<&String> = role.keyids.iter().collect();
    let mut signers = BTreeSet::new();
    for signature in metadata.signatures().iter().filter(|signature| named.contains(&signature.keyid)) {
        let Some(key) = keys.get(&signature.keyid).filter(|key| is_known(key)) else { continue };
        let public = key.keyval.public.trim();
        if signers.contains(public) {
            continue;
        }
        let Some(bytes) = unhex(&signature.sig) else { continue };
        if key.verify(metadata.signed_canonical(), &SignatureBytes::new(bytes)).is_ok() {
            signers.insert(public);
        }
    }
    if signers.len() >= role.threshold {
        return Ok(());
    }
    let problem = format!("{} of the {} signatures that it needs hold", signers.len(), role.threshold);
    Err(TrustError::forged(name, problem))
}

/// Whether a key's type and scheme go together. A scheme that nothing here can verify fails later.
fn is_known(key: &Key) -> bool {
    matches!(
        (key.keytype.as_str(), key.scheme.as_str()),
        ("ed25519", "ed25519")
            | ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256")
            | ("rsa", "rsassa-pss-sha256")
    )
}

/// Checks a document's bytes against the length and hashes that the document above gives, where it gives any.
pub(super) fn check_pin(name: &str, pin: &MetaFile, bytes: &[u8]) -> Result<(), TrustError> {
    let refuse = |problem: String| Err(TrustError::Mismatch { document: name.to_owned(), problem });
    if let Some(length) = pin.length.filter(|length| *length != bytes.len() as u64) {
        return refuse(format!("it has {} bytes, not {length}", bytes.len()));
    }
    let Some(hashes) = &pin.hashes else { return Ok(()) };
    let mut known = false;
    for (algorithm, signed) in hashes {
        let hash = match algorithm.as_str() {
            "sha256" => hex(&Sha256::digest(bytes)),
            "sha512" => hex(&Sha512::digest(bytes)),
            _ => continue,
        };
        if !hash.eq_ignore_ascii_case(signed) {
            return refuse(format!("its {algorithm} is another"));
        }
        known = true;
    }
    if known { Ok(()) } else { refuse("no hash of it is known here".to_owned()) }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    if text.len().is_multiple_of(2) { text.as_bytes().chunks_exact(2).map(pair).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_found_at_any_depth() {
        let sound = |text: &str| serde_json::from_str::<Unambiguous>(text).is_ok();
        assert!(sound(r#"{"a":[1,-1,1.5,"x",null,true],"b":{"a":1}}"#));
        assert!(!sound(r#"{"a":1,"a":1}"#));
        assert!(!sound(r#"[{"b":{"a":1,"c":2,"\u0061":1}}]"#));
    }

    #[test]
    fn an_expiry_has_one_spelling() {
        assert!(is_expiry("2026-11-24T12:00:00Z"));
        for other in ["2026-11-24T12:00:00.5Z", "2026-11-24T12:00:00+00:00", "2026-11-24", "2026-11-24 12:00:00Z"] {
            assert!(!is_expiry(other), "{other}");
        }
    }
}
