//! Tables that strangers fill keep their bounds. Rule numbers are those of `protocol/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use burr_protocol::{
    Hash, NodeId, RepositoryId, Time, Wall,
    config::{Config, ConfigError, MAX_ADDRESSES, MAX_PEERS},
    peers::{Address, Lie, Peers, Place, Standing},
    receipt::{MAX_ATTRIBUTES, MAX_WORDS, Outcome, Receipt, ReceiptError, Receipts, SignedReceipt, last_words},
    wire::{MAX_MARKS, Mark, Room},
};
use ed25519_dalek::SigningKey;

const REPOSITORY: RepositoryId = RepositoryId([1; 32]);

fn key(number: u64) -> SigningKey {
    SigningKey::from_bytes(&Hash::of(&number.to_le_bytes()).0)
}

fn node(number: u64) -> NodeId {
    NodeId(key(number).verifying_key().to_bytes())
}

/// A device's receipt of this number.
fn receipt(device: u64, counter: u64) -> (Receipt, SignedReceipt) {
    let receipt = Receipt {
        repository: REPOSITORY,
        device: node(device),
        counter,
        app: "shop".to_owned(),
        channel: "stable".to_owned(),
        version: "1.0.0".to_owned(),
        seq: 1,
        bundle: Hash([1; 32]),
        active: None,
        outcome: Outcome::Active,
        sources: Vec::new(),
        took_ms: 0,
        said: String::new(),
        at: None,
        issued: Wall(0),
        via: None,
        attributes: None,
        member: None,
    };
    let signed = SignedReceipt::sign(&receipt, &key(device));
    (receipt, signed)
}

#[test]
fn peers_and_addresses_are_bounded_and_configured_addresses_stay() {
    // §11
    let mut peers = Peers::default();
    peers.found(Address("mine".to_owned()), None, true, Time(0));
    for number in 0..1000u64 {
        peers.found(Address(format!("{number}")), None, false, Time(0));
        let place =
            peers.connected(NodeId(Hash::of(&number.to_le_bytes()).0), Standing::Chosen, false, MAX_PEERS, Time(0));
        assert_eq!(place == Place::Taken, number < MAX_PEERS as u64);
    }
    // Who is connected already may connect once more.
    assert_eq!(
        peers.connected(NodeId(Hash::of(&0u64.to_le_bytes()).0), Standing::Stranger, false, MAX_PEERS, Time(0)),
        Place::Taken
    );
    let dialled = peers.due(Time(0));
    assert_eq!(dialled.len(), MAX_ADDRESSES);
    assert!(dialled.contains(&Address("mine".to_owned())));
    assert_eq!(peers.wake_at(), None);
}

#[test]
fn who_is_turned_away_comes_back_ever_more_seldom() {
    // §13.8: the other one ends each connection as soon as it is there.
    let (config, other, place) = (Config::default(), NodeId([7; 32]), Address("kiosk".to_owned()));
    let mut peers = Peers::default();
    peers.found(place.clone(), None, true, Time(0));
    let mut dials = Vec::new();
    for second in 0..3600 {
        let now = Time(second * 1000);
        for dialled in peers.due(now) {
            dials.push(second);
            peers.reached(&dialled, other);
            peers.connected(other, Standing::Chosen, false, MAX_PEERS, now);
            peers.disconnected(other, now + Duration::from_millis(200), &config);
        }
    }
    assert!((10..25).contains(&dials.len()), "{dials:?}");
    // One that lasted is begun anew at once.
    let now = Time(3_600_000);
    peers.connected(other, Standing::Chosen, false, MAX_PEERS, now);
    peers.disconnected(other, now + Duration::from_secs(60), &config);
    assert_eq!(peers.wake_at(), Some(now + Duration::from_secs(60) + config.dial_backoff.0));
}

#[test]
fn liars_are_remembered_up_to_a_bound() {
    // §11
    let mut peers = Peers::default();
    for number in 0..2000u64 {
        assert!(peers.refuse(NodeId(Hash::of(&number.to_le_bytes()).0), Lie::Garbage));
    }
    assert_eq!(peers.refused().count(), 1024);
    assert_eq!(
        peers.connected(NodeId(Hash::of(&1999u64.to_le_bytes()).0), Standing::Chosen, false, MAX_PEERS, Time(0)),
        Place::Liar
    );
}

#[test]
fn a_receipt_that_would_act_on_a_terminal_is_not_believed() {
    // §9.2
    let (good, signed) = receipt(1, 1);
    assert_eq!(signed.verify().as_ref(), Ok(&good));
    let told = |name: &str, value: &str| Some(BTreeMap::from([(name.to_owned(), value.to_owned())]));
    let bad = [
        Receipt { app: "shop\u{1b}[2J".to_owned(), ..good.clone() },
        Receipt { channel: String::new(), ..good.clone() },
        Receipt { version: "1.0.0\n".to_owned(), ..good.clone() },
        Receipt { active: Some("../1".to_owned()), ..good.clone() },
        Receipt { outcome: Outcome::Failed { reason: "\u{1b}]0;\u{7}".to_owned() }, ..good.clone() },
        Receipt { attributes: told("site", "\u{1b}[2J"), ..good.clone() },
        Receipt { attributes: told("\u{1b}", "a"), ..good.clone() },
        Receipt { attributes: told("group", "berlin"), ..good.clone() },
        Receipt { attributes: told("site", &"x".repeat(MAX_ATTRIBUTES)), ..good.clone() },
        Receipt { outcome: Outcome::RolledBack { reason: "x".repeat(MAX_WORDS + 1) }, ..good.clone() },
    ];
    for receipt in bad {
        let signed = SignedReceipt::sign(&receipt, &key(1));
        assert_eq!(signed.verify(), Err(ReceiptError::Malformed), "{receipt:?}");
    }
    // What a device says of itself never is.
    let reason = last_words(&format!("\u{1b}[31mno\ttest\r\n{}", "\u{7}".repeat(3)));
    assert_eq!(reason, " [31mno test \n   ");
    let receipt = Receipt { outcome: Outcome::Failed { reason }, ..good };
    assert!(SignedReceipt::sign(&receipt, &key(1)).verify().is_ok());
}

#[test]
fn a_chatty_device_pushes_out_its_own_receipts_alone() {
    // §9.6
    let mut receipts = Receipts::default();
    for (receipt, signed) in [receipt(0, 1), receipt(1, 1)] {
        assert_eq!(receipts.insert(node(0), &receipt, signed, false, 10), []);
    }
    for counter in 1..=100 {
        let (receipt, signed) = receipt(2, counter);
        receipts.insert(node(0), &receipt, signed, false, 10);
    }
    assert_eq!(receipts.iter().count(), 10);
    assert!(receipts.knows(REPOSITORY, node(0), 1) && receipts.knows(REPOSITORY, node(1), 1));
    assert_eq!(receipts.highest(REPOSITORY, node(2)), 100);
}

#[test]
fn invented_devices_push_out_nobody() {
    // §9.6
    let mut receipts = Receipts::default();
    for device in 0..3 {
        let (receipt, signed) = receipt(device, 1);
        receipts.insert(node(0), &receipt, signed, false, 3);
    }
    let (second, signed) = receipt(0, 2);
    // The device's own come first: a stranger's goes for it.
    assert_eq!(receipts.insert(node(0), &second, signed, false, 3).len(), 1);
    let known: BTreeSet<_> = receipts.iter().map(|signed| signed.verify().unwrap().device).collect();
    for device in 10..200 {
        let (receipt, signed) = receipt(device, 1);
        let gone = receipts.insert(node(0), &receipt, signed, false, 3);
        assert_eq!(gone.iter().map(|mark| mark.device).collect::<Vec<_>>(), [node(device)]);
    }
    let after: BTreeSet<_> = receipts.iter().map(|signed| signed.verify().unwrap().device).collect();
    assert_eq!(known, after);
    assert_eq!(receipts.highest(REPOSITORY, node(0)), 2);
}

#[test]
fn invented_devices_take_no_room_from_members() {
    // §9.6
    let mut receipts = Receipts::default();
    for device in 10..13 {
        let (receipt, signed) = receipt(device, 1);
        receipts.insert(node(0), &receipt, signed, false, 3);
    }
    for device in 1..=3 {
        let (receipt, signed) = receipt(device, 1);
        let gone = receipts.insert(node(0), &receipt, signed, true, 3);
        assert!(gone[..].iter().all(|mark| (10..13).any(|stranger| mark.device == node(stranger))), "{gone:?}");
    }
    let kept = |receipts: &Receipts, device| receipts.knows(REPOSITORY, node(device), 1);
    assert!((1..=3).all(|device| kept(&receipts, device)));
    let (stranger, signed) = receipt(13, 1);
    receipts.insert(node(0), &stranger, signed, false, 3);
    assert!(!kept(&receipts, 13), "whoever sent it has to keep it");
    // One who is no member any more is a stranger like others.
    receipts.judge_members(REPOSITORY, |receipt| receipt.device != node(2));
    let (fourth, signed) = receipt(4, 1);
    receipts.insert(node(0), &fourth, signed, true, 3);
    assert!(!kept(&receipts, 2) && [1, 3, 4].iter().all(|device| kept(&receipts, *device)));
}

#[test]
fn a_node_tells_whose_receipts_find_room() {
    // §9.6
    let mut receipts = Receipts::default();
    assert_eq!(receipts.room(node(0), 3), Room::All);
    let mut room_after = |device, counter, is_member| {
        let (receipt, signed) = receipt(device, counter);
        receipts.insert(node(0), &receipt, signed, is_member, 3);
        receipts.room(node(0), 3)
    };
    assert_eq!([room_after(10, 1, false), room_after(10, 2, false)], [Room::All; 2]);
    assert_eq!(room_after(11, 1, false), Room::All, "one gives its first up");
    assert_eq!(room_after(12, 1, false), Room::Members);
    assert_eq!(room_after(13, 1, false), Room::Members, "it found none");
    assert_eq!([room_after(1, 1, true), room_after(2, 1, true)], [Room::Members; 2]);
    assert_eq!(room_after(3, 1, true), Room::None);
    assert_eq!(room_after(0, 1, false), Room::None, "what this device says goes before");
    receipts.judge_members(REPOSITORY, |_| false);
    assert_eq!(receipts.room(node(0), 3), Room::Members);
    // Of more devices than it can name it does not say that it has no room for others.
    for device in 100..=100 + u64::try_from(MAX_MARKS).unwrap() {
        let (receipt, signed) = receipt(device, 1);
        receipts.insert(node(0), &receipt, signed, true, 10_000);
    }
    assert_eq!(receipts.room(node(0), MAX_MARKS), Room::All);
}

#[test]
fn marks_are_told_again_only_where_others_can_not_know_them() {
    // §6.3, §9.3
    let mut receipts = Receipts::default();
    let mark = |device, counter| Mark { repository: REPOSITORY, device: node(device), counter };
    let devices = u64::try_from(MAX_MARKS).unwrap() + 100;
    for device in 0..devices {
        let (receipt, signed) = receipt(device, 1);
        receipts.insert(node(0), &receipt, signed, false, 10_000);
    }
    assert_eq!(receipts.changed_marks(), [], "whoever brought them was answered");
    assert_eq!(receipts.marks().len(), MAX_MARKS);
    receipts.missed(&mark(7, 2));
    let (third, signed) = receipt(7, 3);
    receipts.insert(node(0), &third, signed, false, 10_000);
    assert_eq!(receipts.changed_marks(), [mark(7, 1)], "it holds the third, and claims no more than the first");
    assert_eq!(receipts.changed_marks(), []);
    let (second, signed) = receipt(7, 2);
    receipts.insert(node(0), &second, signed, false, 10_000);
    assert_eq!(receipts.changed_marks(), [mark(7, 3)], "what was missed is here");
    let first = u64::try_from(MAX_MARKS).unwrap();
    (0..first).for_each(|device| receipts.missed(&mark(device, 4)));
    for device in 0..100 {
        let (fourth, signed) = receipt(device, 4);
        receipts.insert(node(0), &fourth, signed, false, 10_000);
    }
    (first..devices).for_each(|device| receipts.missed(&mark(device, 2)));
    let told = [(); 3].map(|()| receipts.changed_marks().len());
    assert_eq!(told, [MAX_MARKS, 100, 0], "all of them, whatever their number");
}

#[test]
fn a_configuration_that_would_wake_in_a_loop_is_refused() {
    // §11
    let zero = Duration::ZERO;
    let bad = [
        Config { sync_interval: zero, ..Config::default() },
        Config { search_interval: zero, ..Config::default() },
        Config { metadata_patience: zero, ..Config::default() },
        Config { patience: zero, ..Config::default() },
        Config { dial_backoff: (zero, Duration::from_secs(1)), ..Config::default() },
        Config { retry_backoff: (Duration::from_secs(2), Duration::from_secs(1)), ..Config::default() },
    ];
    for config in bad {
        assert!(matches!(config.check(), Err(ConfigError::OutOfBounds { .. })), "{config:?}");
    }
    assert_eq!(Config::default().check(), Ok(()));
}
