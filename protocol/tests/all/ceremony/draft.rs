//! Drafts: signed in any order, on any machine, and never more than what they show.

use burr_protocol::{
    Hash,
    release::Release,
    rules::Rules,
    trust::write::{Change, Difference, Draft, Missing, Role, When, WriteError},
};
use serde_json::{Value, json};

use super::{channel, follows, id, proposed, sign, submit, team, team_shop};
use crate::trust::repository::{NOW, key, keys, publish, release};

#[test]
fn two_of_three_release_together_by_passing_a_file() {
    let mut shop = team_shop();
    let device = shop.verified().clone();
    let [ana, bo, cy] = team();
    let file = proposed(&shop, "team", 1);
    let draft = Draft::decode(&file).unwrap();
    let missing = Missing {
        role: channel("team"),
        when: When::Now,
        have: 0,
        need: 2,
        may_sign: {
            let mut all = [&ana, &bo, &cy].map(id).to_vec();
            all.sort();
            all
        },
    };
    assert_eq!(draft.missing(), [missing]);

    let file = sign(&file, &ana);
    let error = submit(&mut shop, &file).unwrap_err().to_string();
    assert!(error.contains("channel.team has 1 of 2") && error.contains(&id(&bo)) && !error.contains(&id(&ana)));
    // The same key again is one key.
    let file = sign(&file, &ana);
    assert!(matches!(submit(&mut shop, &file), Err(WriteError::Unsigned(_))));
    submit(&mut shop, &sign(&file, &cy)).unwrap();
    let seen = follows(&shop, &device);
    assert_eq!(seen.releases().map(|release| release.version.as_str()).collect::<Vec<_>>(), ["1.0"]);
}

#[test]
fn copies_that_were_signed_apart_are_merged_in_any_order() {
    let shop = team_shop();
    let [ana, bo, _] = team();
    let file = proposed(&shop, "team", 1);
    let (by_ana, by_bo) = (sign(&file, &ana), sign(&file, &bo));
    let merged = |first: &[u8], second: &[u8]| {
        let mut draft = Draft::decode(first).unwrap();
        draft.merge(&Draft::decode(second).unwrap()).unwrap();
        draft
    };
    let (one, other) = (merged(&by_ana, &by_bo), merged(&by_bo, &by_ana));
    assert_eq!(one, other);
    assert!(one.missing().is_empty());
    assert_eq!(merged(&one.encode(), &by_ana), one);
    for file in [one.encode(), other.encode()] {
        submit(&mut shop.clone(), &file).unwrap();
    }

    let mut draft = Draft::decode(&by_ana).unwrap();
    let another = Draft::decode(&proposed(&shop, "team", 2)).unwrap();
    assert_eq!(draft.merge(&another), Err(WriteError::OtherDraft));
}

#[test]
fn a_key_that_may_not_sign_is_told_who_may() {
    let shop = team_shop();
    let mut draft = Draft::decode(&proposed(&shop, "team", 1)).unwrap();
    for stranger in [key(99), key(6), key(1)] {
        let error = draft.sign(&stranger).unwrap_err();
        assert!(matches!(&error, WriteError::NotASigner { may_sign, .. } if may_sign.len() == 3), "{error}");
        assert!(error.to_string().contains(&id(&team()[1])), "{error}");
    }
}

#[test]
fn a_signature_that_does_not_hold_makes_the_file_useless_and_says_whose() {
    let shop = team_shop();
    let [ana, bo, _] = team();
    let file: Value = serde_json::from_slice(&sign(&proposed(&shop, "team", 1), &ana)).unwrap();
    let mut moved = file.clone();
    moved["documents"][0]["document"]["signatures"][0]["keyid"] = json!(id(&bo));
    let mut strange = file.clone();
    strange["documents"][0]["document"]["signatures"][0]["keyid"] = json!(id(&key(99)));
    let mut altered = file.clone();
    altered["documents"][0]["document"]["signatures"][0]["sig"] = json!("ab".repeat(64));
    for bent in [moved, strange, altered] {
        let error = Draft::decode(&serde_json::to_vec(&bent).unwrap()).unwrap_err();
        assert!(matches!(error, WriteError::BadSignature { .. }), "{error}");
    }
}

#[test]
fn a_draft_shows_all_that_it_changes_or_is_refused() {
    let mut shop = team_shop();
    publish(&mut shop, "stable", 1);
    let draft = Draft::decode(&proposed(&shop, "stable", 2)).unwrap();
    let [Difference::Release { release: shown, after, .. }] = draft.differences() else { panic!("one release") };
    assert_eq!((&**shown, after.as_deref()), (&release("stable", 2), Some("1.0")));

    let file: Value = serde_json::from_slice(&draft.encode()).unwrap();
    let bend = |bend: &dyn Fn(&mut Value)| {
        let mut bent = file.clone();
        bend(&mut bent["documents"][0]["document"]["signed"]);
        Draft::decode(&serde_json::to_vec(&bent).unwrap())
    };
    let path = |seq: u64| format!("app/shop/stable/{seq}.burr");
    bend(&|_| ()).unwrap();
    let hidden: [&dyn Fn(&mut Value); 8] = [
        &|signed| signed["expires"] = json!("2099-01-01T00:00:00Z"),
        &|signed| signed["version"] = json!(9),
        &|signed| signed["x-more"] = json!(1),
        &|signed| signed["targets"][path(1)]["custom"]["version"] = json!("0.9"),
        &|signed| drop(signed["targets"].as_object_mut().unwrap().remove(&path(1))),
        &|signed| signed["targets"][path(2)]["custom"]["version"] = json!("0.9"),
        &|signed| {
            let mut other = signed["targets"][path(2)].clone();
            other["custom"]["seq"] = json!(3);
            other["custom"]["version"] = json!("3.0");
            signed["targets"][path(3)] = other;
        },
        &|signed| signed["version"] = json!(1.5),
    ];
    for (at, hide) in hidden.iter().enumerate() {
        assert!(bend(hide).is_err(), "case {at}");
    }
    for bytes in [&b"{}"[..], b"", b"[1]", b"{\"format\":\"burr draft 1\"}"] {
        Draft::decode(bytes).unwrap_err();
    }
}

#[test]
fn other_rules_are_a_draft_that_shows_them_and_nothing_can_hide_in_it() {
    let mut shop = team_shop();
    publish(&mut shop, "stable", 1);
    publish(&mut shop, "stable", 2);
    let quarter = Rules { rollout: 2500, ..Rules::default() };
    let draft = shop.propose_rules("stable", 1, &quarter, NOW).unwrap();
    let [Difference::Rules { release: shown, before }] = draft.differences() else { panic!("one change of rules") };
    assert_eq!((&shown.rules, &**before, shown.seq), (&quarter, &Rules::default(), 1));
    assert!(draft.differences()[0].to_string().contains("25 % of the devices"), "{}", draft.differences()[0]);

    let file: Value = serde_json::from_slice(&draft.encode()).unwrap();
    let hidden: [(&str, Value); 3] =
        [("version", json!("0.9")), ("bundle", json!(Hash::of(b"other"))), ("files", json!(4))];
    for (field, value) in hidden {
        for seq in [1, 2] {
            let mut bent = file.clone();
            let signed = &mut bent["documents"][0]["document"]["signed"];
            signed["targets"][format!("app/shop/stable/{seq}.burr")]["custom"][field] = value.clone();
            Draft::decode(&serde_json::to_vec(&bent).unwrap()).unwrap_err();
        }
    }
    let mut both = file.clone();
    let signed = &mut both["documents"][0]["document"]["signed"];
    signed["targets"]["app/shop/stable/2.burr"]["custom"]["rules"] = json!({ "paused": true });
    Draft::decode(&serde_json::to_vec(&both).unwrap()).unwrap_err();

    assert!(matches!(shop.propose_rules("stable", 3, &quarter, NOW), Err(WriteError::UnknownRelease { seq: 3, .. })));
    assert!(matches!(shop.propose_rules("stable", 1, &Rules::default(), NOW), Err(WriteError::NoChange(_))));
    let wrong = Rules { rollout: 10_001, ..Rules::default() };
    assert!(matches!(shop.propose_rules("stable", 1, &wrong, NOW), Err(WriteError::Release(_))));
    shop.sign_and_submit(draft, &keys().all(), NOW).unwrap();
    assert_eq!(shop.listed("stable", 1).unwrap().rules, quarter);
}

#[test]
fn a_version_comes_back_as_what_it_was_and_no_version_is_used_twice() {
    let mut shop = team_shop();
    publish(&mut shop, "stable", 1);
    publish(&mut shop, "stable", 2);
    let rules = Rules { brings_back: Some(1), ..Rules::default() };
    let back = Release { seq: 3, rules, ..release("stable", 1) };
    let other = Release { bundle: Hash::of(b"other"), ..back.clone() };
    assert!(matches!(shop.propose_release(&other, [0; 32], NOW), Err(WriteError::UnknownRelease { seq: 1, .. })));
    shop.release(&back, [1; 32], &keys(), NOW).unwrap();
    let again = Release { seq: 4, bundle: Hash::of(b"other"), ..release("stable", 2) };
    assert!(matches!(shop.propose_release(&again, [0; 32], NOW), Err(WriteError::VersionNotNewer { .. })));
}

#[test]
fn a_draft_that_others_overtook_must_be_proposed_again() {
    let mut shop = team_shop();
    let [ana, bo, cy] = team();
    let signed = |file: &[u8]| sign(&sign(file, &ana), &bo);
    let first = signed(&proposed(&shop, "team", 1));
    let second = signed(&proposed(&shop, "team", 1));
    let sleeper = signed(&proposed(&shop, "team", 7));
    // What does not touch the channel does not stand in the way.
    publish(&mut shop, "stable", 1);
    shop.refresh(&keys(), NOW).unwrap();
    submit(&mut shop, &first).unwrap();
    for late in [&first, &second, &sleeper] {
        let before = shop.clone();
        let error = submit(&mut shop, late).unwrap_err();
        assert!(matches!(error, WriteError::MovedOn(_)) && error.to_string().contains("propose it again"), "{error}");
        assert_eq!(shop, before);
    }

    // A key that is revoked in between takes its signature along.
    let waiting = signed(&proposed(&shop, "team", 2));
    let revoke = Change::RevokeKey { role: channel("team"), key_id: id(&bo), threshold: None };
    super::change(&mut shop, &revoke, &[&ana, &cy]);
    assert!(matches!(submit(&mut shop, &waiting), Err(WriteError::MovedOn(_))));
    let again = proposed(&shop, "team", 2);
    submit(&mut shop, &sign(&sign(&again, &cy), &ana)).unwrap();
}

#[test]
fn a_draft_of_another_repository_is_not_taken() {
    let file = proposed(&team_shop(), "stable", 1);
    let mut other = burr_protocol::trust::write::Repository::create(
        "shop",
        &["beta", "stable"],
        &keys(),
        burr_protocol::Wall(NOW.0 + 1),
    )
    .unwrap();
    assert!(submit(&mut other, &file).unwrap_err().to_string().contains("for repository"));
    assert_eq!(Role::Channel("beta".to_owned()).to_string().parse(), Ok(channel("beta")));
    assert!("boss".parse::<Role>().is_err() && "channel.../x".parse::<Role>().is_err());
}

#[test]
fn a_key_signs_a_draft_once() {
    // Each signature is checked over the whole document: one that stands a thousand times would cost as much.
    let [ana, ..] = team();
    let mut file: Value = serde_json::from_slice(&sign(&proposed(&team_shop(), "team", 1), &ana)).unwrap();
    let signatures = file["documents"][0]["document"]["signatures"].as_array_mut().unwrap();
    signatures.push(signatures[0].clone());
    let error = Draft::decode(&serde_json::to_vec(&file).unwrap()).unwrap_err();
    assert!(error.to_string().contains("a key signed twice"), "{error}");
}
