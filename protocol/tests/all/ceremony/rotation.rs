//! Keys that come, go and are stolen, and the devices that follow.

use burr_protocol::{
    Wall,
    trust::{
        TrustError, verify,
        write::{Change, Draft, Keys, Repository, Role, When, WriteError},
    },
};
use ed25519_dalek::SigningKey;

use super::{change, channel, follows, id, proposed, sign, submit, team, team_shop};
use crate::trust::repository::{Bent, NOW, key, keys, publish, release, shop, verified};

fn rotate(role: Role, old: &SigningKey, new: &SigningKey) -> Change {
    Change::RotateKey { role, key_id: id(old), key: new.verifying_key() }
}

/// The keys after some of them were replaced.
fn with(replace: impl FnOnce(&mut Keys)) -> Keys {
    let mut keys = keys();
    replace(&mut keys);
    keys
}

#[test]
fn every_role_takes_another_key_and_the_old_one_counts_no_longer() {
    let replaced: [(Role, SigningKey, Keys); 5] = [
        (Role::Root, key(1), with(|keys| keys.root = Some(key(41)))),
        (Role::Targets, key(2), with(|keys| keys.targets = Some(key(41)))),
        (Role::Snapshot, key(3), with(|keys| keys.snapshot = key(41))),
        (Role::Timestamp, key(4), with(|keys| keys.timestamp = key(41))),
        (channel("stable"), key(6), with(|keys| drop(keys.channels.insert("stable".to_owned(), key(41))))),
    ];
    for (role, old, new_keys) in replaced {
        let mut shop = shop();
        publish(&mut shop, "stable", 1);
        let device = shop.verified().clone();
        change(&mut shop, &rotate(role.clone(), &old, &key(41)), &[&key(41)]);
        let device = follows(&shop, &device);
        assert!(shop.signers()[&role].keys.keys().eq([&id(&key(41))]), "{role}");
        shop.release(&release("stable", 2), [1; 32], &new_keys, NOW).unwrap();
        assert_eq!(follows(&shop, &device).releases().count(), 2, "{role}");

        // The old keys do nothing any more where the one that was replaced has to sign: the root, or the online roles.
        let more = Change::AddKeys { role: role.clone(), keys: vec![key(50).verifying_key()], threshold: None };
        let draft = shop.propose(&more, NOW).unwrap();
        let by_old = shop.clone().sign_and_submit(draft, &keys().all(), NOW);
        let still_enough = matches!(role, Role::Targets | Role::Channel(_));
        assert_eq!(by_old.is_ok(), still_enough, "{role}: {by_old:?}");
        if role == channel("stable") {
            let error = shop.clone().release(&release("stable", 3), [1; 32], &keys(), NOW).unwrap_err();
            assert!(matches!(error, WriteError::WrongKey { .. }), "{error}");
        }
    }
}

#[test]
fn a_new_root_needs_the_old_keys_and_the_new_ones() {
    let mut shop = shop();
    let paper = key(31);
    let two = Change::AddKeys { role: Role::Root, keys: vec![paper.verifying_key()], threshold: Some(2) };
    let file = shop.propose(&two, NOW).unwrap().encode();
    let draft = Draft::decode(&file).unwrap();
    let missing: Vec<_> =
        draft.missing().into_iter().map(|missing| (missing.when, missing.have, missing.need)).collect();
    assert_eq!(missing, [(When::Before, 0, 1), (When::After, 0, 2)]);
    let by_old = sign(&file, &key(1));
    let missing = Draft::decode(&by_old).unwrap().missing();
    assert_eq!((missing.len(), missing[0].when, missing[0].have), (1, When::After, 1));
    assert_eq!(missing[0].may_sign, [id(&paper)]);
    assert!(matches!(submit(&mut shop, &sign(&file, &paper)), Err(WriteError::Unsigned(_))));
    submit(&mut shop, &sign(&by_old, &paper)).unwrap();
    assert_eq!(shop.verified().root_version(), 2);

    // From now on neither can do anything alone.
    let next = shop.propose(&rotate(Role::Timestamp, &key(4), &key(44)), NOW).unwrap().encode();
    for alone in [key(1), paper.clone()] {
        let error = submit(&mut shop, &sign(&next, &alone)).unwrap_err().to_string();
        assert!(error.contains("root (by the keys before) has 1 of 2"), "{error}");
    }
}

#[test]
fn a_device_that_was_off_during_five_root_rotations_follows_and_refuses_the_old_key() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let device = shop.verified().clone();
    let mut stolen = shop.clone();
    for step in 0..5_u8 {
        let old = if step == 0 { key(1) } else { key(100 + step - 1) };
        change(&mut shop, &rotate(Role::Root, &old, &key(100 + step)), &[&old, &key(100 + step)]);
    }
    change(&mut shop, &rotate(Role::Timestamp, &key(4), &key(44)), &[&key(104), &key(44)]);
    change(&mut shop, &rotate(Role::Snapshot, &key(3), &key(43)), &[&key(104), &key(43), &key(44)]);
    assert_eq!(shop.verified().root_version(), 8);
    let device = follows(&shop, &device);
    assert_eq!(device.root_version(), 8);

    // A thief with all the old keys goes on from where the keys were good.
    for seq in 2..60 {
        publish(&mut stolen, "stable", seq);
    }
    let refused = verified(&stolen, Some(&device)).unwrap_err();
    assert!(matches!(refused, TrustError::Old { .. }), "{refused}");
    // The old keys' release under the new roots.
    let mut forged = Bent::of(&stolen);
    forged.roots = Bent::of(&shop).roots;
    assert!(matches!(forged.verify(Some(&device)), Err(TrustError::Forged { .. })));
    // A root of the thief's own beside the publisher's second one.
    let mut branch = stolen;
    change(&mut branch, &rotate(Role::Root, &key(1), &key(66)), &[&key(66)]);
    assert!(matches!(verified(&branch, Some(&device)), Err(TrustError::Equivocation { .. })));
}

#[test]
fn a_channel_key_that_was_stolen_and_revoked_releases_nothing() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let device = shop.verified().clone();
    let waiting = sign(&proposed(&shop, "stable", 2), &key(6));
    change(&mut shop, &rotate(channel("stable"), &key(6), &key(46)), &[&key(46)]);
    assert_eq!(follows(&shop, &device).releases().count(), 1, "what was released stays, under the new key");
    assert!(matches!(submit(&mut shop, &waiting), Err(WriteError::MovedOn(_))));
    let mut draft = shop.propose_release(&release("stable", 2), [0; 32], NOW).unwrap();
    assert!(matches!(draft.sign(&key(6)), Err(WriteError::NotASigner { .. })));
    // Even with the online keys stolen too, devices refuse it.
    let mut forged = Bent::of(&shop);
    forged.bend_stable(|signed| signed["version"] = serde_json::json!(9));
    assert!(matches!(forged.verify(None), Err(TrustError::Forged { .. })));
}

#[test]
fn one_key_of_two_of_three_releases_nothing_be_it_with_all_online_keys() {
    let mut shop = team_shop();
    let [ana, bo, _] = team();
    for thief in team() {
        let file = sign(&proposed(&shop, "team", 1), &thief);
        assert!(matches!(submit(&mut shop, &file), Err(WriteError::Unsigned(_))));
        let mut forged = Bent::of(&shop);
        let document = forged.delegated.get_mut("app.shop.team").unwrap();
        *document = crate::trust::repository::bent(document, |signed| signed["version"] = 2.into(), &[&thief]);
        forged.pin();
        assert!(matches!(forged.verify(None), Err(TrustError::Forged { .. })));
    }
    let file = sign(&sign(&proposed(&shop, "team", 1), &ana), &bo);
    submit(&mut shop, &file).unwrap();
}

#[test]
fn the_online_keys_renew_and_can_do_nothing_else() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let device = shop.verified().clone();
    let online = [&key(3), &key(4)];
    let state = shop.offline_state();
    let later = Wall(NOW.0 + 20 * 24 * 60 * 60);
    assert!(!shop.is_renewal_due(NOW).unwrap());
    assert!(shop.is_renewal_due(later).unwrap());
    shop.renew(&online, later).unwrap();
    assert!(!shop.is_renewal_due(later).unwrap());
    assert_eq!(shop.offline_state(), state);
    assert!(follows(&shop, &device).expires() > device.expires());
    shop.renew(&[&key(3)], later).unwrap_err();

    let before = shop.clone();
    let release = shop.propose_release(&release("stable", 2), [0; 32], NOW).unwrap();
    let grant = Change::AddKeys { role: channel("stable"), keys: vec![key(4).verifying_key()], threshold: None };
    assert!(matches!(shop.propose(&grant, NOW), Err(WriteError::SharedKey { .. })));
    let grant = Change::AddKeys { role: channel("stable"), keys: vec![key(66).verifying_key()], threshold: None };
    let extend = shop.propose(&grant, NOW).unwrap();
    let grab = shop.propose(&rotate(Role::Root, &key(1), &key(66)), NOW).unwrap();
    for draft in [release, extend, grab] {
        let refused = shop.sign_and_submit(draft, &[&key(3), &key(4), &key(66)], later);
        assert!(matches!(refused, Err(WriteError::Unsigned(_))));
    }
    assert_eq!(shop, before);
}

#[test]
fn what_would_leave_a_role_unusable_is_refused() {
    let mut shop = team_shop();
    let cases: [(Change, &str); 8] = [
        (Change::RevokeKey { role: channel("stable"), key_id: id(&key(6)), threshold: None }, "would need 1 of 0 keys"),
        (Change::RevokeKey { role: channel("stable"), key_id: id(&key(9)), threshold: None }, "has no key"),
        (Change::AddKeys { role: Role::Root, keys: vec![], threshold: Some(2) }, "would need 2 of 1 keys"),
        (Change::AddKeys { role: Role::Root, keys: vec![], threshold: Some(0) }, "would need 0 of 1 keys"),
        (Change::AddKeys { role: Role::Root, keys: vec![], threshold: None }, "change nothing"),
        (Change::AddKeys { role: channel("none"), keys: vec![], threshold: None }, "no role channel.none"),
        (Change::AddChannel { channel: "team".to_owned(), keys: vec![], threshold: 1 }, "already"),
        (rotate(Role::Root, &key(1), &key(2)), "same key"),
    ];
    let before = shop.clone();
    for (change, words) in cases {
        let error = shop.propose(&change, NOW).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let keys: Vec<_> = (100..133).map(|seed| key(seed).verifying_key()).collect();
    let crowd = Change::AddKeys { role: Role::Root, keys, threshold: None };
    assert!(matches!(shop.propose(&crowd, NOW), Err(WriteError::TooManyKeys { .. })));
    assert_eq!(shop, before);
    // Two of two left of three, then a threshold that fits one.
    let [ana, bo, cy] = team();
    change(&mut shop, &Change::RevokeKey { role: channel("team"), key_id: id(&cy), threshold: None }, &[&ana, &bo]);
    let alone = Change::RevokeKey { role: channel("team"), key_id: id(&bo), threshold: None };
    assert!(matches!(shop.propose(&alone, NOW), Err(WriteError::Threshold { .. })));
    change(&mut shop, &Change::RevokeKey { role: channel("team"), key_id: id(&bo), threshold: Some(1) }, &[&ana]);
    assert_eq!(shop.signers()[&channel("team")].threshold, 1);
}

#[test]
fn thresholds_of_the_online_roles_hold_too() {
    let mut shop = shop();
    let second = Change::AddKeys { role: Role::Timestamp, keys: vec![key(44).verifying_key()], threshold: Some(2) };
    let draft = shop.propose(&second, NOW).unwrap();
    let error = shop.clone().sign_and_submit(draft, &keys().all(), NOW).unwrap_err().to_string();
    assert!(error.contains("timestamp has 1 of 2"), "{error}");
    change(&mut shop, &second, &[&key(44)]);
    assert!(matches!(shop.clone().refresh(&keys(), NOW), Err(WriteError::Unsigned(_))));
    let solo = keys();
    let second = key(44);
    let both: Vec<&SigningKey> = solo.all().into_iter().chain([&second]).collect();
    shop.renew(&both, NOW).unwrap();
    let back = Repository::open(|name| shop.files().get(name).cloned()).unwrap();
    assert_eq!(back, shop);
    verify(shop.id(), None, shop.pack()).unwrap();
}
