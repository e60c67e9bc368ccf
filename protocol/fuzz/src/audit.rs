//! The log of acts: any lines, and lines of any content that the timestamp key signed and that name the one before.

use burr_protocol::{
    Hash,
    trust::{
        audit::{self, Act, Entry},
        write::{Repository, Role, key_id},
    },
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use super::{
    program::Program,
    shop::{self, NOW, hex, history},
};

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    let (repair, repository) = (program.flag(), &history()[program.below(history().len())]);
    let text = String::from_utf8_lossy(program.rest());
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    if repair {
        repair_chain(repository, &mut lines);
    }
    let Ok(entries) = audit::verify(repository, lines.iter().map(String::as_str)) else { return };
    assert_eq!(entries.len(), lines.len());
    check(repository, &entries);
    let signed = signers(repository);
    for at in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(at);
        let rest = audit::verify(repository, without.iter().map(String::as_str));
        assert!(rest.is_err(), "a line that is taken out shows");
    }
    let act = Act { kind: "renew", what: vec!["one\nmore".to_owned()], by: Vec::new() };
    let keys: Vec<&SigningKey> = signed.iter().collect();
    let next = audit::next(repository, lines.last().map(String::as_str), act, &keys, NOW);
    lines.push(next.expect("the key is at hand"));
    assert!(audit::verify(repository, lines.iter().map(String::as_str)).is_ok());
}

fn check(repository: &Repository, entries: &[Entry]) {
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq));
    assert!(entries.is_sorted_by_key(|entry| entry.time) && entries.is_sorted_by_key(|entry| entry.root));
    let last = entries.last().expect("a log begins with the repository");
    assert_eq!((last.root, last.state), (repository.verified().root_version(), repository.offline_state()));
}

fn signers(repository: &Repository) -> Vec<SigningKey> {
    shop::signers(repository, &Role::Timestamp)
}

/// Gives lines the number, the predecessor and the signature that they should have.
fn repair_chain(repository: &Repository, lines: &mut [String]) {
    let mut prev = Hash(repository.id().0);
    for (line, seq) in lines.iter_mut().zip(1_u64..) {
        if let Ok(Value::Object(mut entry)) = serde_json::from_str(line) {
            // The key that the entry names, or the newest.
            let id = |key: &SigningKey| key_id(&key.verifying_key());
            let named = |key: &SigningKey| entry.get("key").is_some_and(|named| *named == id(key).as_str());
            let key = shop::all_keys().into_iter().find(named);
            let key = key.unwrap_or_else(|| signers(repository).remove(0));
            entry.insert("key".to_owned(), json!(id(&key)));
            entry.insert("prev".to_owned(), json!(prev));
            entry.insert("seq".to_owned(), json!(seq));
            entry.remove("sig");
            let message = serde_json::to_vec(&entry).expect("a value");
            entry.insert("sig".to_owned(), json!(hex(&key.sign(&message).to_bytes())));
            *line = serde_json::to_string(&entry).expect("a value");
        }
        prev = Hash::of(line.as_bytes());
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut lines: Vec<String> = Vec::new();
    let mut seeds = Vec::new();
    let kinds = ["init", "release", "keys", "renew", "export"];
    for (at, repository) in history().iter().enumerate() {
        let act = Act { kind: kinds[at % 5], what: vec![format!("act {at}")], by: vec!["someone".to_owned()] };
        let key = signers(repository).remove(0);
        let next = audit::next(repository, lines.last().map(String::as_str), act, &[&key], NOW);
        lines.push(next.expect("the key is at hand"));
        if matches!(at, 0 | 1 | 4) {
            let state = u8::try_from(at).expect("few states");
            seeds.push([vec![0, state], lines.join("\n").into_bytes()].concat());
            seeds.push([vec![1, state], lines.join("\n").into_bytes()].concat());
        }
    }
    seeds
}
