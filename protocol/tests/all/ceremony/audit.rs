//! T60: the log of acts can't be edited, cut or put in another order without it showing.

use burr_protocol::{
    Wall,
    trust::{
        audit::{self, Act},
        write::{Change, Repository, Role, WriteError},
    },
};
use ed25519_dalek::SigningKey;

use super::{change, id};
use crate::trust::repository::{NOW, key, keys, publish, shop};

fn act(kind: &'static str) -> Act {
    Act { kind, what: vec![format!("{kind} happened\n  on two\tlines")], by: vec![id(&key(6))] }
}

fn note(log: &mut Vec<String>, shop: &Repository, kind: &'static str, key: &SigningKey) {
    let seconds = i64::try_from(log.len()).unwrap();
    let line = audit::next(shop, log.last().map(String::as_str), act(kind), &[key], Wall(NOW.0 + seconds));
    log.push(line.unwrap());
}

/// A shop with a history of four acts; the timestamp key changed on the way.
fn history() -> (Repository, Vec<String>) {
    let (mut shop, mut log) = (shop(), Vec::new());
    note(&mut log, &shop, "init", &key(4));
    publish(&mut shop, "stable", 1);
    note(&mut log, &shop, "release", &key(4));
    let new = Change::RotateKey { role: Role::Timestamp, key_id: id(&key(4)), key: key(44).verifying_key() };
    change(&mut shop, &new, &[&key(44)]);
    note(&mut log, &shop, "keys", &key(44));
    let mut held = keys();
    held.timestamp = key(44);
    shop.release(&crate::trust::repository::release("stable", 2), [2; 32], &held, NOW).unwrap();
    note(&mut log, &shop, "release", &key(44));
    shop.refresh(&held, NOW).unwrap();
    (shop, log)
}

fn check(shop: &Repository, log: &[String]) -> Result<usize, audit::AuditError> {
    audit::verify(shop, log.iter().map(String::as_str)).map(|entries| entries.len())
}

#[test]
fn an_entry_that_is_edited_deleted_moved_or_added_shows() {
    let (shop, log) = history();
    assert_eq!(check(&shop, &log), Ok(4));
    assert!(log.iter().all(|line| !line.contains(char::is_control)));
    for at in 0..log.len() {
        let mut edited = log.clone();
        edited[at] = edited[at].replace("happened", "did not happen");
        assert_eq!(check(&shop, &edited).unwrap_err().line, at + 1);
        let mut deleted = log.clone();
        deleted.remove(at);
        assert_eq!(check(&shop, &deleted).unwrap_err().line, at + 1, "without {at}");
        let mut doubled = log.clone();
        doubled.insert(at, log[at].clone());
        assert!(check(&shop, &doubled).is_err());
        if at > 0 {
            let mut moved = log.clone();
            moved.swap(at - 1, at);
            assert_eq!(check(&shop, &moved).unwrap_err().line, at);
        }
        for byte in (0..log[at].len()).step_by(7) {
            let mut bytes = log[at].clone().into_bytes();
            bytes[byte] ^= 1;
            let mut flipped = log.clone();
            flipped[at] = String::from_utf8(bytes).unwrap();
            assert!(check(&shop, &flipped).is_err(), "entry {at}, byte {byte}");
        }
    }
    assert_eq!(check(&shop, &[]).unwrap_err().line, 1);
}

#[test]
fn a_key_that_was_rotated_away_writes_no_history() {
    let (shop, log) = history();
    let old = audit::next(&shop, log.last().map(String::as_str), act("release"), &[&key(4)], NOW);
    assert!(matches!(old, Err(WriteError::MissingKey { .. })));
    // The thief of the old key writes the last entry anew, under the root that named it.
    let (mut before, mut forged) = (super::shop(), log[..1].to_vec());
    publish(&mut before, "stable", 1);
    note(&mut forged, &before, "nothing", &key(4));
    assert_eq!(check(&before, &forged), Ok(2));
    assert!(check(&shop, &forged).is_err());
    forged.extend_from_slice(&log[2..]);
    assert_eq!(check(&shop, &forged).unwrap_err().line, 3);
    // Another shop's log is not this one's.
    let mut keys = keys();
    keys.root = Some(key(77));
    let other = Repository::create("shop", &["beta", "stable"], &keys, NOW).unwrap();
    assert_eq!(check(&other, &log[..1]).unwrap_err().line, 1);
}
