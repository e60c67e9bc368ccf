//! Trust, as stories: what a repository's readers accept, and what nobody can make them accept.
//! Rule numbers are those of `protocol/README.md`.

mod bounds;
mod publish;
pub(crate) mod repository;

use burr_protocol::{
    Hash, Wall,
    trust::{
        Announced, TrustError, check_announcement,
        pack::{MAX_PACK, MAX_ROOTS, Pack, PackError},
        verify,
        write::{Repository, key_id, sign},
    },
};
use proptest::prelude::*;
use repository::{Bent, DAY, NOW, bent, hex, key, keys, publish, release, shop, verified};
use serde_json::{Value, json};

#[test]
fn a_fresh_repository_is_accepted_by_its_name_alone() {
    let shop = shop();
    let verified = verified(&shop, None).unwrap();
    assert_eq!((verified.root_version(), verified.timestamp_version()), (1, 1));
    assert_eq!(verified.releases().count(), 0);
    assert_eq!(verified.issued(), NOW);
    assert_eq!(verified.expires(), Wall(NOW.0 + 30 * DAY));
    assert_eq!(verified.pack_hash(), Hash::of(shop.pack()));
    assert_eq!(&verified, shop.verified());
}

#[test]
fn releases_come_out_as_they_were_published_in_order_of_channel_and_number() {
    let mut shop = shop();
    let first = verified(&shop, None).unwrap();
    for (channel, seq) in [("stable", 1), ("beta", 7), ("stable", 2), ("stable", 10)] {
        publish(&mut shop, channel, seq);
    }
    let second = verified(&shop, Some(&first)).unwrap();
    let expected = [release("beta", 7), release("stable", 1), release("stable", 2), release("stable", 10)];
    assert_eq!(second.releases().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(second.timestamp_version(), 5);
    assert_eq!(shop.next_seq("stable"), 11);
}

#[test]
fn another_repositorys_metadata_is_refused() {
    let other = Repository::create("shop", &["stable"], &keys(), Wall(NOW.0 + 1)).unwrap();
    let error = verify(shop().id(), None, other.pack()).unwrap_err();
    assert!(matches!(error, TrustError::WrongRepository { .. }), "{error}");
    assert!(error.is_lie());
}

#[test]
fn the_same_metadata_again_is_old_and_older_metadata_too_and_neither_is_a_lie() {
    let mut shop = shop();
    let old = shop.pack().to_vec();
    publish(&mut shop, "stable", 1);
    let held = verified(&shop, None).unwrap();
    for pack in [&old, &shop.pack().to_vec()] {
        let error = verify(shop.id(), Some(&held), pack).unwrap_err();
        assert!(matches!(error, TrustError::Old { held: 2, .. }), "{error}");
        assert!(!error.is_lie());
    }
}

#[test]
fn a_document_signed_by_another_key_is_forged_whichever_it_is() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let mallory = key(66);
    let forge = |document: &mut Vec<u8>| *document = bent(document, |_| (), &[&mallory]);

    let mut timestamp = Bent::of(&shop);
    forge(&mut timestamp.timestamp);
    let mut snapshot = Bent::of(&shop);
    forge(&mut snapshot.snapshot);
    snapshot.pin_snapshot();
    let mut targets = Bent::of(&shop);
    forge(&mut targets.targets);
    targets.pin();
    let mut stable = Bent::of(&shop);
    forge(stable.delegated.get_mut("app.shop.stable").unwrap());
    stable.pin();
    let mut root = Bent::of(&shop);
    root.rotate(&[("root", &mallory)], &[&mallory]);
    // The key of one channel signs nothing in another.
    let mut beta = Bent::of(&shop);
    let document = beta.delegated.get_mut("app.shop.stable").unwrap();
    *document = bent(document, |_| (), &[&key(5)]);
    beta.pin();

    for bent in [timestamp, snapshot, targets, stable, root, beta] {
        let error = bent.verify(None).unwrap_err();
        assert!(matches!(error, TrustError::Forged { .. }), "{error}");
        assert!(error.is_lie());
    }
}

#[test]
fn a_true_signature_beside_a_false_one_is_refused_so_no_byte_goes_unsigned() {
    let mut bent = Bent::of(&shop());
    let mut value: Value = serde_json::from_slice(&bent.timestamp).unwrap();
    let strange: Value = serde_json::from_slice(&sign(&value["signed"], &[&key(66)])).unwrap();
    let both = [value["signatures"][0].clone(), strange["signatures"][0].clone()];
    let mut both = both.to_vec();
    both.sort_by_key(|signature| signature["keyid"].to_string());
    value["signatures"] = json!(both);
    bent.timestamp = sigstore_tuf::canonical_json::to_canonical_bytes(&value).unwrap();
    assert!(matches!(bent.verify(None), Err(TrustError::Forged { .. })));
}

#[test]
fn a_threshold_of_two_needs_two_keys_and_a_second_signature_of_one_does_not_count() {
    let second = key(7);
    let mut bent = Bent::of(&shop());
    bent.bend_targets(|signed| {
        let id = key_id(&second.verifying_key());
        let public = hex(second.verifying_key().as_bytes());
        signed["delegations"]["keys"][&id] =
            json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
        let stable = &mut signed["delegations"]["roles"][1];
        stable["keyids"].as_array_mut().unwrap().push(json!(id));
        stable["threshold"] = json!(2);
    });
    let error = bent.verify(None).unwrap_err();
    assert!(matches!(error, TrustError::Forged { .. }), "{error}");

    let document = bent.delegated["app.shop.stable"].clone();
    let mut twice: Value = serde_json::from_slice(&document).unwrap();
    twice["signatures"] = json!([twice["signatures"][0], twice["signatures"][0]]);
    let twice = sigstore_tuf::canonical_json::to_canonical_bytes(&twice).unwrap();
    bent.delegated.insert("app.shop.stable".to_owned(), twice);
    bent.pin();
    assert!(bent.verify(None).unwrap_err().is_lie());

    let signed_by_both = self::bent(&document, |_| (), &[&key(6), &second]);
    bent.delegated.insert("app.shop.stable".to_owned(), signed_by_both);
    bent.pin();
    bent.verify(None).unwrap();
}

#[test]
fn a_threshold_of_zero_a_key_named_twice_and_a_key_under_two_ids_are_refused() {
    let bends: [fn(&mut Value); 4] = [
        |signed| signed["delegations"]["roles"][1]["threshold"] = json!(0),
        |signed| signed["delegations"]["roles"][1]["threshold"] = json!(2),
        |signed| {
            let id = signed["delegations"]["roles"][1]["keyids"][0].clone();
            signed["delegations"]["roles"][1]["keyids"] = json!([id, id]);
        },
        |signed| {
            let id = signed["delegations"]["roles"][1]["keyids"][0].as_str().unwrap().to_owned();
            let key = signed["delegations"]["keys"][&id].clone();
            signed["delegations"]["keys"]["another"] = key;
            signed["delegations"]["roles"][1]["keyids"] = json!([id, "another"]);
            signed["delegations"]["roles"][1]["threshold"] = json!(2);
        },
    ];
    for bend in bends {
        let mut bent = Bent::of(&shop());
        bent.bend_targets(bend);
        let error = bent.verify(None).unwrap_err();
        assert!(matches!(error, TrustError::Malformed { .. }), "{error}");
    }
}

#[test]
fn documents_of_two_days_do_not_mix() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let old = Bent::of(&shop);
    publish(&mut shop, "stable", 2);
    let mix = |take: fn(&mut Bent, &Bent)| {
        let mut mixed = Bent::of(&shop);
        take(&mut mixed, &old);
        mixed.verify(None).unwrap_err()
    };
    let errors = [
        mix(|new, old| new.snapshot = old.snapshot.clone()),
        mix(|new, old| new.timestamp = old.timestamp.clone()),
        mix(|new, old| new.delegated = old.delegated.clone()),
    ];
    for error in errors {
        assert!(matches!(error, TrustError::Mismatch { .. }), "{error}");
        assert!(error.is_lie());
    }
}

#[test]
fn newer_metadata_may_not_take_a_channel_back() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let old = Bent::of(&shop);
    publish(&mut shop, "stable", 2);
    let held = verified(&shop, None).unwrap();
    let mut back = Bent::of(&shop);
    back.delegated = old.delegated;
    back.snapshot = bent(&back.snapshot, |signed| signed["version"] = json!(9), &[&key(3)]);
    back.timestamp = bent(&back.timestamp, |signed| signed["version"] = json!(9), &[&key(4)]);
    back.pin();
    let error = back.verify(Some(&held)).unwrap_err();
    assert!(matches!(error, TrustError::Rollback { held: 3, offered: 2, .. }), "{error}");
    assert!(!error.is_lie(), "the publisher's keys signed it");
    back.verify(None).expect("who never saw better takes it");
}

#[test]
fn two_histories_under_one_version_are_found_out() {
    let mut one = shop();
    let mut other = shop();
    publish(&mut one, "stable", 1);
    publish(&mut other, "beta", 1);
    let held = verified(&one, None).unwrap();
    let error = verified(&other, Some(&held)).unwrap_err();
    assert!(matches!(error, TrustError::Equivocation { version: 2, .. }), "{error}");
    assert!(error.is_fork() && !error.is_lie(), "its carrier was shown nothing else");
    let timestamp = other.verified().timestamp();
    assert!(matches!(check_announcement(&held, 1, timestamp), Err(TrustError::Equivocation { .. })));
}

#[test]
fn a_release_stands_under_its_own_path_in_its_own_channel_with_its_own_facts() {
    type Bend = fn(&mut Value);
    let path = "app/shop/stable/1.burr";
    let bends: [(&str, Bend); 9] = [
        ("another app's path", |targets| {
            let target = targets["app/shop/stable/1.burr"].clone();
            targets["app/bank/stable/1.burr"] = target;
        }),
        ("another number's path", |targets| {
            let target = targets["app/shop/stable/1.burr"].clone();
            targets["app/shop/stable/2.burr"] = target;
        }),
        ("another channel", |targets| targets["app/shop/stable/1.burr"]["custom"]["channel"] = json!("beta")),
        ("another app", |targets| targets["app/shop/stable/1.burr"]["custom"]["app"] = json!("bank")),
        ("another length", |targets| targets["app/shop/stable/1.burr"]["length"] = json!(1)),
        ("no SHA-256", |targets| targets["app/shop/stable/1.burr"]["hashes"] = json!({ "sha512": "00" })),
        ("an unknown field", |targets| targets["app/shop/stable/1.burr"]["custom"]["only"] = json!("me")),
        ("out of bounds", |targets| targets["app/shop/stable/1.burr"]["custom"]["files"] = json!(100_001)),
        ("no facts", |targets| targets["app/shop/stable/1.burr"]["custom"] = json!(null)),
    ];
    for (what, bend) in bends {
        let mut shop = shop();
        publish(&mut shop, "stable", 1);
        assert!(shop.verified().releases().any(|release| release.target_path() == path));
        let mut bent = Bent::of(&shop);
        bent.bend_stable(|signed| bend(&mut signed["targets"]));
        let error = bent.verify(None).unwrap_err();
        assert!(matches!(error, TrustError::Release { .. }), "{what}: {error}");
    }
}

#[test]
fn a_release_of_a_later_format_is_refused_but_its_carrier_is_not_blamed() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let mut bent = Bent::of(&shop);
    bent.bend_stable(|signed| signed["targets"]["app/shop/stable/1.burr"]["custom"]["v"] = json!(2));
    let error = bent.verify(None).unwrap_err();
    assert!(matches!(error, TrustError::Unsupported { .. }) && !error.is_lie(), "{error}");
}

#[test]
fn only_channels_are_delegated_and_only_channels_hold_releases() {
    let bends: [fn(&mut Value); 6] = [
        |signed| signed["delegations"]["roles"][1]["paths"] = json!(["app/shop/*"]),
        |signed| signed["delegations"]["roles"][1]["paths"] = json!(["app/shop/beta/*"]),
        |signed| signed["delegations"]["roles"][1]["paths"] = json!(["app/shop/stable/*", "app/bank/stable/*"]),
        |signed| signed["delegations"]["roles"][1]["terminating"] = json!(false),
        |signed| signed["delegations"]["roles"][1]["name"] = json!("app.shop.gone"),
        |signed| {
            signed["targets"]["app/shop/stable/1.burr"] = json!({ "length": 1, "hashes": { "sha256": "00" } });
        },
    ];
    for bend in bends {
        let mut bent = Bent::of(&shop());
        bent.bend_targets(bend);
        let error = bent.verify(None).unwrap_err();
        assert!(matches!(error, TrustError::Malformed { .. }), "{error}");
    }
    let mut deeper = Bent::of(&shop());
    deeper.bend_stable(|signed| signed["delegations"] = json!({ "keys": {}, "roles": [] }));
    assert!(matches!(deeper.verify(None), Err(TrustError::Malformed { .. })));
    let mut stowaway = Bent::of(&shop());
    stowaway.delegated.insert("app.shop.zebra".to_owned(), b"{}".to_vec());
    assert!(matches!(stowaway.verify(None), Err(TrustError::Malformed { .. })));
}

#[test]
fn a_document_has_one_spelling() {
    let shop = shop();
    let text = String::from_utf8(Bent::of(&shop).timestamp).unwrap();
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let bends = [
        text.replace(r#""version":1,"x-"#, r#""version":1,"version":1,"x-"#),
        text.replace(r#""version":1,"x-"#, r#""version":9,"version":1,"x-"#),
        text.replace(r#""version":1,"x-"#, r#""version":1.0,"x-"#),
        text.replace(r#""version":1,"x-"#, r#""version":1e0,"x-"#),
        text.replace(r#""version":1,"x-"#, r#""version": 1,"x-"#),
        text.replace("timestamp", "timest\\u0061mp"),
        text.replace(r#"{"signatures""#, r#"{"note":1,"signatures""#),
        text.replace(r#""sig":""#, r#""note":1,"sig":""#),
        text.replace(r#""signed":{"#, &format!(r#""signed":{{"a":{deep},"#)),
        format!("{text} "),
    ];
    for bend in bends {
        assert_ne!(bend, text);
        let mut bent = Bent::of(&shop);
        bent.timestamp = bend.clone().into_bytes();
        let error = bent.verify(None).unwrap_err();
        assert!(matches!(error, TrustError::Malformed { .. }), "{bend}: {error}");
    }
}

#[test]
fn signed_time_and_versions_stay_in_their_bounds() {
    let bends: [fn(&mut Value); 5] = [
        |signed| drop(signed.as_object_mut().unwrap().remove("x-issued")),
        |signed| signed["x-issued"] = json!("yesterday"),
        |signed| signed["x-issued"] = signed["expires"].clone(),
        |signed| signed["version"] = json!(0),
        |signed| signed["version"] = json!(1_u64 << 53),
    ];
    for bend in bends {
        let mut bent = Bent::of(&shop());
        bent.timestamp = self::bent(&bent.timestamp, bend, &[&key(4)]);
        let error = bent.verify(None).unwrap_err();
        assert!(matches!(error, TrustError::Malformed { .. }), "{error}");
    }
}

#[test]
fn the_root_chain_is_walked_whole_and_no_step_is_skipped() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let held = verified(&shop, None).unwrap();
    let (second, third) = (key(21), key(22));
    let mut bent = Bent::of(&shop);
    bent.rotate(&[("root", &second)], &[&key(1), &second]);
    bent.rotate(&[("root", &third)], &[&second, &third]);
    let newer = bent.verify(Some(&held)).expect("the same timestamp under a newer root is news");
    assert_eq!((newer.root_version(), newer.timestamp_version()), (3, 2));
    assert!(matches!(verified(&shop, Some(&newer)), Err(TrustError::Old { held: 3, offered: 1, .. })));

    let mut skipped = Bent::of(&shop);
    skipped.roots.push(bent.roots[2].clone());
    assert!(matches!(skipped.verify(Some(&held)), Err(TrustError::Malformed { .. })));

    // The new root signed by the old key alone, and by the new key alone.
    for signers in [vec![key(1)], vec![second.clone()]] {
        let mut half = Bent::of(&shop);
        half.rotate(&[("root", &second)], &signers.iter().collect::<Vec<_>>());
        assert!(matches!(half.verify(None), Err(TrustError::Forged { .. })));
    }

    // A stolen first root key can't start a second history for who knows the first.
    let mut second_history = Bent::of(&shop);
    second_history.rotate(&[("root", &key(66))], &[&key(1), &key(66)]);
    let error = second_history.verify(Some(&newer)).unwrap_err();
    assert!(matches!(error, TrustError::Equivocation { version: 2, .. }), "{error}");
}

#[test]
fn a_stolen_timestamp_key_that_ran_ahead_is_rotated_away() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let honest = verified(&shop, None).unwrap();
    let mut ahead = Bent::of(&shop);
    ahead.timestamp = bent(&ahead.timestamp, |signed| signed["version"] = json!((1_u64 << 53) - 1), &[&key(4)]);
    let held = ahead.verify(Some(&honest)).unwrap();

    let fresh = key(23);
    let mut healed = Bent::of(&shop);
    healed.rotate(&[("timestamp", &fresh)], &[&key(1)]);
    assert!(matches!(healed.verify(Some(&held)), Err(TrustError::Forged { .. })), "the old key's word is void");
    healed.timestamp = bent(&healed.timestamp, |signed| signed["version"] = json!(3), &[&fresh]);
    assert_eq!(healed.verify(Some(&held)).unwrap().timestamp_version(), 3);
}

#[test]
fn a_relay_judges_an_announcement_before_it_forwards_it() {
    let mut shop = shop();
    let first = shop.verified().timestamp().to_vec();
    publish(&mut shop, "stable", 1);
    let held = verified(&shop, None).unwrap();
    publish(&mut shop, "stable", 2);
    let newer = shop.verified().timestamp();
    assert_eq!(check_announcement(&held, 1, newer), Ok(Announced::Newer { version: 3 }));
    assert_eq!(check_announcement(&held, 1, held.timestamp()), Ok(Announced::NotNewer));
    assert_eq!(check_announcement(&held, 1, &first), Ok(Announced::NotNewer));
    assert_eq!(check_announcement(&held, 0, newer), Ok(Announced::NotNewer));
    assert_eq!(check_announcement(&held, 2, newer), Ok(Announced::OtherRoot));
    let forged = bent(newer, |_| (), &[&key(66)]);
    assert!(check_announcement(&held, 1, &forged).unwrap_err().is_lie());
    assert!(check_announcement(&held, 1, b"{}").unwrap_err().is_lie());
    assert!(check_announcement(&held, 1, &vec![b'['; 1 << 20]).unwrap_err().is_lie());
}

#[test]
fn a_pack_over_its_bounds_is_refused() {
    assert!(matches!(Pack::decode(&vec![0; MAX_PACK + 1]), Err(PackError::TooMuch { .. })));
    let root = [0_u8].as_slice();
    let none = [].as_slice();
    let many =
        |count| Pack { roots: vec![root; count], timestamp: none, snapshot: none, targets: none, delegated: vec![] };
    assert!(many(MAX_ROOTS).encode().is_ok());
    assert!(matches!(many(MAX_ROOTS + 1).encode(), Err(PackError::TooMuch { .. })));
    assert!(many(0).encode().is_err());
    let large = vec![0; 17 << 10];
    assert!(Pack { timestamp: &large, ..many(1) }.encode().is_err());
    let unsorted = vec![("b", none), ("a", none)];
    assert!(Pack { delegated: unsorted, ..many(1) }.encode().is_err());
}

/// The bytes that this version writes for known keys and time: a change of them is a change of the format.
#[test]
fn the_golden_pack_is_what_is_written_and_read() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let golden = include_bytes!("../golden/pack.bin");
    assert_eq!(shop.pack(), golden);
    let name = "12b8ef0bae22054cfd3052f0f9909a21a112551a6cebc309b2cf1c785b4a4cbc";
    assert_eq!(verify(shop.id(), None, golden).unwrap().pack_hash().to_string(), name);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_altered_byte_anywhere_never_verifies(at in any::<proptest::sample::Index>(), flip in 1_u8..) {
        let mut shop = shop();
        publish(&mut shop, "stable", 1);
        let mut pack = shop.pack().to_vec();
        let at = at.index(pack.len());
        pack[at] ^= flip;
        let error = verify(shop.id(), None, &pack).unwrap_err();
        prop_assert!(error.is_lie(), "{}", error);
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let shop = shop();
        prop_assert!(verify(shop.id(), None, &bytes).is_err());
        let mut behind_magic = b"burr pack 1\n".to_vec();
        behind_magic.extend(&bytes);
        prop_assert!(verify(shop.id(), None, &behind_magic).is_err());
        prop_assert!(check_announcement(shop.verified(), 1, &bytes).is_err());
    }

    #[test]
    fn packs_round_trip(
        roots in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..5),
        delegated in proptest::collection::btree_map("[a-z.]{1,20}", proptest::collection::vec(any::<u8>(), 0..50), 0..5),
    ) {
        let pack = Pack {
            roots: roots.iter().map(Vec::as_slice).collect(),
            timestamp: b"t",
            snapshot: b"s",
            targets: b"",
            delegated: delegated.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect(),
        };
        let bytes = pack.encode().unwrap();
        prop_assert_eq!(Pack::decode(&bytes).unwrap(), pack);
    }
}
