//! A client of any TUF repository, as stories: each step of the specification's workflow, and who tries to bend it.
//! Rule numbers are those of the TUF specification 1.0.x, section 5.

mod forge;
mod search;

use burr_protocol::{
    Wall,
    trust::{
        TrustError,
        client::{self, ClientError, MAX_ROTATIONS},
    },
};
use forge::{AT_NOW, Forge, NOW, PAST, Visitor, declared, key};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What is wrong with a document, and how it gets so.
type Bend<'a> = (&'a str, &'a dyn Fn(&mut Value));

#[track_caller]
fn refused(result: Result<client::Client, ClientError>) -> TrustError {
    match result.unwrap_err() {
        ClientError::Refused(error) => error,
        other => panic!("{other}"),
    }
}

fn up_to_date(forge: &Forge) -> Visitor {
    let mut visitor = forge.newcomer(1);
    visitor.refresh(forge).unwrap();
    visitor
}

#[test]
fn a_newcomer_asks_for_each_document_once_and_keeps_it_as_served() {
    let mut forge = Forge::new();
    let pretty = serde_json::from_slice::<Value>(&forge.served["1.targets.json"]).unwrap();
    forge.pins = false;
    forge.publish(&["snapshot", "timestamp"]);
    forge.served.insert("1.targets.json".to_owned(), serde_json::to_vec_pretty(&pretty).unwrap());
    forge.signed.get_mut("snapshot").unwrap()["meta"] = json!({ "targets.json": { "version": 1 } });
    forge.publish(&["snapshot", "timestamp"]);

    let mut visitor = forge.newcomer(1);
    let client = visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.asked, ["2.root.json", "timestamp.json", "3.snapshot.json", "1.targets.json"]);
    assert_eq!(visitor.kept["targets"], forge.served["1.targets.json"]);
    assert_eq!(
        ["root", "timestamp", "snapshot", "targets", "x"].map(|role| client.version(role)),
        [Some(1), Some(3), Some(3), Some(1), None]
    );
}

#[test]
fn who_is_up_to_date_asks_for_nothing_but_what_could_be_new() {
    let mut forge = Forge::new();
    let mut visitor = up_to_date(&forge);
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.asked, ["2.root.json", "timestamp.json"]);
    forge.publish(&["timestamp"]);
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(visitor.versions(), [1, 2, 1, 1]);
}

#[test]
fn without_consistent_snapshots_names_have_no_version_but_roots_do() {
    let mut forge = Forge::new();
    forge["root"]["consistent_snapshot"] = json!(false);
    forge.publish(&["root"]);
    for role in ["snapshot", "targets"] {
        let bytes = forge.served[&format!("1.{role}.json")].clone();
        forge.served.insert(format!("{role}.json"), bytes);
    }
    let mut visitor = forge.newcomer(1);
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.asked, ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json"]);
}

#[test]
fn roots_are_walked_one_by_one_and_each_is_kept() {
    let mut forge = Forge::new();
    for seed in 10..15 {
        forge.signers.insert("root".to_owned(), vec![if seed == 10 { 1 } else { seed - 1 }, seed]);
        forge.name_keys("root", &[seed], 1);
        forge.publish(&["root"]);
    }
    let mut visitor = forge.newcomer(1);
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.versions(), [6, 1, 1, 1]);

    // A root that skips a version, one that the old keys did not sign, one that the new keys did not sign.
    for bend in ["skip", "old", "new"] {
        let mut forge = Forge::new();
        forge.signers.insert("root".to_owned(), if bend == "old" { vec![9] } else { vec![1] });
        if bend != "skip" {
            forge.name_keys("root", &[9], 1);
        }
        forge["root"]["version"] = json!(if bend == "skip" { 3 } else { 2 });
        forge.serve("root");
        if let Some(skipping) = forge.served.remove("3.root.json") {
            forge.served.insert("2.root.json".to_owned(), skipping);
        }
        let mut visitor = forge.newcomer(1);
        refused(visitor.refresh(&forge));
        assert_eq!(visitor.versions(), [1, 0, 0, 0], "{bend}");
        assert_eq!(visitor.asked, ["2.root.json"], "{bend}");
    }
}

#[test]
fn one_refresh_follows_so_many_roots_and_the_next_goes_on() {
    let mut forge = Forge::new();
    for _ in 0..MAX_ROTATIONS + 3 {
        forge.publish(&["root"]);
    }
    let mut visitor = forge.newcomer(1);
    let error = visitor.refresh(&forge).unwrap_err();
    assert_eq!(error, ClientError::TooManyRoots { version: MAX_ROTATIONS + 1, limit: MAX_ROTATIONS });
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.versions(), [MAX_ROTATIONS + 4, 1, 1, 1]);
}

#[test]
fn what_is_expired_is_refused_at_every_role_and_what_came_before_is_kept() {
    let cases =
        [("root", [2, 1, 1, 1]), ("timestamp", [1, 1, 1, 1]), ("snapshot", [1, 2, 1, 1]), ("targets", [1, 2, 2, 1])];
    for (role, kept) in cases {
        for end in [PAST, AT_NOW] {
            let mut forge = Forge::new();
            let mut visitor = up_to_date(&forge);
            forge[role]["expires"] = json!(end);
            let publish: &[&str] = match role {
                "root" => &["root"],
                _ => &["targets", "snapshot", "timestamp"],
            };
            forge.publish(publish);
            let error = visitor.refresh(&forge).unwrap_err();
            assert!(matches!(error, ClientError::Expired { .. }), "{role}: {error}");
            assert_eq!(visitor.versions(), kept, "{role}");
            // One second earlier the one that expires at this very second is good.
            if end == AT_NOW {
                visitor.now = Wall(NOW.0 - 1);
                visitor.refresh(&forge).unwrap();
            }
        }
    }
}

#[test]
fn kept_metadata_that_expired_is_still_a_floor_and_can_be_left_for_newer() {
    let mut forge = Forge::new();
    for role in ["timestamp", "snapshot", "targets"] {
        forge[role]["expires"] = json!(PAST);
    }
    forge.publish(&["targets", "snapshot", "timestamp"]);
    let mut visitor = forge.newcomer(1);
    visitor.now = Wall(NOW.0 - 365 * 86_400);
    visitor.refresh(&forge).unwrap();
    visitor.now = NOW;
    assert!(matches!(visitor.refresh(&forge).unwrap_err(), ClientError::Expired { .. }));

    let old = Forge::new();
    assert!(matches!(refused(visitor.refresh(&old)), TrustError::Rollback { held: 2, offered: 1, .. }));
    for role in ["timestamp", "snapshot", "targets"] {
        forge[role]["expires"] = json!(forge::LATER);
    }
    forge.publish(&["targets", "snapshot", "timestamp"]);
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.versions(), [1, 3, 3, 3]);
}

#[test]
fn nothing_is_rolled_back() {
    // The timestamp, the snapshot by a newer timestamp, and the targets by a newer snapshot.
    for role in ["timestamp", "snapshot", "targets"] {
        for pins in [true, false] {
            let mut forge = Forge::new();
            forge.pins = pins;
            forge.publish(&["targets", "snapshot", "timestamp"]);
            let mut visitor = up_to_date(&forge);
            forge[role]["version"] = json!(0);
            let chain = ["targets", "snapshot", "timestamp"];
            let from = chain.iter().position(|other| *other == role).unwrap();
            forge.publish(&chain[from..]);
            assert!(matches!(refused(visitor.refresh(&forge)), TrustError::Rollback { .. }), "{role}");
            assert_eq!(visitor.versions()[2..], [2, 2], "{role}");
        }
    }
}

#[test]
fn a_role_does_not_vanish_from_the_snapshot() {
    let mut forge = Forge::new();
    forge.delegate("targets", "a", 20, json!({}));
    forge.publish(&["a", "targets", "snapshot", "timestamp"]);
    let mut visitor = up_to_date(&forge);
    forge["snapshot"]["meta"].as_object_mut().unwrap().remove("a.json");
    forge.publish(&["snapshot", "timestamp"]);
    let error = refused(visitor.refresh(&forge));
    assert!(matches!(error, TrustError::Rollback { offered: 0, .. }), "{error}");
    assert_eq!(visitor.versions(), [1, 3, 2, 2]);
}

#[test]
fn a_snapshot_stays_the_floor_after_a_refresh_that_broke_off_behind_the_timestamp() {
    let mut forge = Forge::new();
    forge.publish(&["targets", "snapshot", "timestamp"]);
    let mut visitor = up_to_date(&forge);
    forge.publish(&["snapshot", "timestamp"]);
    let held_back = forge.served.remove("3.snapshot.json").unwrap();
    assert_eq!(visitor.refresh(&forge).unwrap_err(), ClientError::Absent { name: "3.snapshot.json".to_owned() });
    assert_eq!(visitor.versions(), [1, 3, 2, 2]);

    // The kept snapshot is not the one that the kept timestamp names, and guards the targets all the same.
    let mut bent = Forge::new();
    bent["snapshot"]["version"] = json!(3);
    bent["timestamp"]["version"] = json!(3);
    bent.publish(&["snapshot", "timestamp"]);
    assert!(matches!(refused(visitor.clone().refresh(&bent)), TrustError::Rollback { .. }));

    let mut honest = forge;
    honest.served.insert("3.snapshot.json".to_owned(), held_back);
    visitor.refresh(&honest).unwrap();
    assert_eq!(visitor.versions(), [1, 3, 3, 2]);
}

#[test]
fn a_repository_recovers_when_a_stolen_key_signed_far_ahead() {
    for role in ["timestamp", "snapshot"] {
        let mut forge = Forge::new();
        forge[role]["version"] = json!((1_u64 << 53) - 2);
        forge.publish(if role == "timestamp" { &["timestamp"] } else { &["snapshot", "timestamp"] });
        let mut visitor = up_to_date(&forge);

        forge[role]["version"] = json!(1);
        forge.publish(&["snapshot", "timestamp"]);
        refused(visitor.refresh(&forge));

        // The old key may sign along: it is its being revoked that counts.
        forge.name_keys(role, &[50], 1);
        forge.signers.get_mut(role).unwrap().push(50);
        forge.publish(&["root", "snapshot", "timestamp"]);
        visitor.refresh(&forge).unwrap();
        assert!(visitor.versions()[1] < 10 && visitor.versions()[2] < 10, "{:?}", visitor.versions());
    }
}

#[test]
fn one_more_key_is_no_reason_to_forget_versions() {
    let mut forge = Forge::new();
    forge.publish(&["timestamp"]);
    let mut visitor = up_to_date(&forge);
    forge.name_keys("timestamp", &[2, 50], 1);
    forge["timestamp"]["version"] = json!(0);
    forge.publish(&["root", "timestamp"]);
    assert!(matches!(refused(visitor.refresh(&forge)), TrustError::Rollback { .. }));
    assert_eq!(visitor.versions(), [2, 2, 1, 1]);
}

#[test]
fn another_timestamp_under_a_version_that_is_held_changes_nothing() {
    let mut forge = Forge::new();
    let mut visitor = up_to_date(&forge);
    let held = visitor.kept["timestamp"].clone();
    forge["timestamp"]["meta"]["snapshot.json"]["version"] = json!(100);
    forge.serve("timestamp");
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(visitor.kept["timestamp"], held);
}

#[test]
fn documents_of_different_states_are_not_mixed() {
    // Wrong hash, wrong length, and the right version with other content.
    for (field, value) in [("hashes", json!({ "sha256": "0".repeat(64) })), ("length", json!(7))] {
        for (role, above) in [("targets.json", "snapshot"), ("snapshot.json", "timestamp")] {
            let mut forge = Forge::new();
            let mut visitor = up_to_date(&forge);
            forge.publish(&["targets", "snapshot"]);
            forge[above]["meta"][role][field] = value.clone();
            forge.publish(if above == "snapshot" { &["snapshot", "timestamp"] } else { &["timestamp"] });
            assert!(matches!(refused(visitor.refresh(&forge)), TrustError::Mismatch { .. }), "{role} {field}");
        }
    }
    let mut forge = Forge::new();
    forge.pins = false;
    forge.publish(&["targets", "snapshot", "timestamp"]);
    forge["targets"]["version"] = json!(3);
    forge.serve("targets");
    let other = forge.served.remove("3.targets.json").unwrap();
    forge.served.insert("2.targets.json".to_owned(), other);
    assert!(matches!(refused(forge.newcomer(1).refresh(&forge)), TrustError::Mismatch { .. }));
}

#[test]
fn a_threshold_counts_distinct_keys_and_only_signatures_that_hold() {
    let mut forge = Forge::new();
    forge.name_keys("timestamp", &[2, 30, 31], 2);
    forge.publish(&["root"]);
    for (signers, enough) in
        [(vec![2], false), (vec![2, 40], false), (vec![30, 31], true), (vec![2, 30, 31, 40], true), (vec![], false)]
    {
        forge.signers.insert("timestamp".to_owned(), signers.clone());
        forge.serve("timestamp");
        let result = forge.newcomer(1).refresh(&forge);
        assert_eq!(result.is_ok(), enough, "{signers:?}");
    }
    // The same signature twice, or the same key under two names.
    forge.signers.insert("timestamp".to_owned(), vec![2]);
    forge.serve("timestamp");
    let mut value: Value = serde_json::from_slice(&forge.served["timestamp.json"]).unwrap();
    let signature = value["signatures"][0].clone();
    value["signatures"].as_array_mut().unwrap().push(signature.clone());
    forge.served.insert("timestamp.json".to_owned(), serde_json::to_vec(&value).unwrap());
    refused(forge.newcomer(1).refresh(&forge));

    let (keys, ids) = declared(&[2]);
    forge["root"]["keys"]["alias"] = keys[&ids[0]].clone();
    forge["root"]["roles"]["timestamp"] = json!({ "keyids": [ids[0], "alias"], "threshold": 2 });
    forge.publish(&["root"]);
    value["signatures"][1]["keyid"] = json!("alias");
    forge.served.insert("timestamp.json".to_owned(), serde_json::to_vec(&value).unwrap());
    let error = refused(forge.newcomer(1).refresh(&forge));
    assert!(matches!(error, TrustError::Forged { .. }), "{error}");
}

#[test]
fn keys_of_other_kinds_and_signatures_that_fail_do_no_harm() {
    let mut forge = Forge::new();
    let unknown = json!({ "keytype": "moon", "scheme": "dust", "keyval": { "public": "x" }, "x-owner": "@a" });
    forge["root"]["keys"]["m"] = unknown;
    forge["root"]["roles"]["timestamp"]["keyids"].as_array_mut().unwrap().extend([json!("m"), json!("missing")]);
    forge["root"]["x-more"] = json!({ "nested": [1, null, "é"] });
    forge.publish(&["root"]);
    let mut value: Value = serde_json::from_slice(&forge.served["timestamp.json"]).unwrap();
    for (id, signature) in [("m", "00"), ("missing", ""), ("stranger", "zz")] {
        value["signatures"].as_array_mut().unwrap().push(json!({ "keyid": id, "sig": signature }));
    }
    forge.served.insert("timestamp.json".to_owned(), serde_json::to_vec_pretty(&value).unwrap());
    let mut visitor = forge.newcomer(1);
    visitor.refresh(&forge).unwrap();
    assert_eq!(visitor.versions(), [2, 1, 1, 1]);
}

#[test]
fn documents_of_no_tuf_form_are_refused_and_leave_no_trace() {
    let bends: &[Bend<'_>] = &[
        ("another type", &|signed| signed["_type"] = json!("snapshot")),
        ("a future specification", &|signed| signed["spec_version"] = json!("2.0.0")),
        ("version 0", &|signed| signed["version"] = json!(0)),
        ("a version that others read differently", &|signed| signed["version"] = json!(1_u64 << 53)),
        ("a fraction", &|signed| signed["x"] = json!(0.5)),
        ("another spelling of time", &|signed| signed["expires"] = json!("2027-06-01T00:00:00.5Z")),
        ("no snapshot", &|signed| signed["meta"] = json!({})),
        ("hashes without any", &|signed| signed["meta"]["snapshot.json"]["hashes"] = json!({})),
        ("too deep", &|signed| signed["x"] = (0..40).fold(json!(1), |value, _| json!([value]))),
        ("too long", &|signed| signed["x"] = json!("x".repeat(20_000))),
    ];
    for (name, bend) in bends {
        let mut forge = Forge::new();
        let mut visitor = up_to_date(&forge);
        let mut signed = forge["timestamp"].clone();
        signed["version"] = json!(2);
        bend(&mut signed);
        let bytes = if *name == "a fraction" {
            let sound = burr_protocol::trust::write::sign(&forge["timestamp"], &[&key(2)]);
            String::from_utf8(sound).unwrap().replacen("\"version\":1", "\"version\":2.5", 1).into_bytes()
        } else {
            burr_protocol::trust::write::sign(&signed, &[&key(2)])
        };
        forge.served.insert("timestamp.json".to_owned(), bytes);
        refused(visitor.refresh(&forge));
        assert_eq!(visitor.versions(), [1, 1, 1, 1], "{name}");
        // The next honest refresh works.
        visitor.refresh(&Forge::new()).unwrap();
    }
    let mut forge = Forge::new();
    let twice = String::from_utf8(forge.served["timestamp.json"].clone()).unwrap();
    let twice = twice.replacen("\"version\":1", "\"version\":9,\"version\":1", 1);
    forge.served.insert("timestamp.json".to_owned(), twice.into_bytes());
    refused(forge.newcomer(1).refresh(&forge));
}

#[test]
fn a_threshold_of_nothing_and_a_root_without_roles_are_refused() {
    for bend in [json!({ "keyids": [], "threshold": 0 }), Value::Null] {
        let mut forge = Forge::new();
        forge["root"]["roles"]["timestamp"] = bend;
        forge.publish(&["root"]);
        refused(forge.newcomer(1).refresh(&forge));
        assert!(client::check_root(&forge.served["2.root.json"]).is_err());
        assert_eq!(client::check_root(&forge.served["1.root.json"]), Ok(1));
    }
    assert_eq!(client::Client::new(NOW).give(None), Err(ClientError::NoRoot));
}

#[test]
fn a_metadata_directory_that_others_wrote_to_is_not_believed() {
    let forge = Forge::new();
    let mut visitor = up_to_date(&forge);
    let stranger = burr_protocol::trust::write::sign(&forge["targets"], &[&key(99)]);
    for role in ["timestamp", "snapshot", "targets"] {
        for garbage in [b"".to_vec(), b"{}".to_vec(), vec![b'['; 100_000], stranger.clone()] {
            visitor.kept.insert(role.to_owned(), garbage);
            visitor.refresh(&forge).unwrap();
            assert_eq!(visitor.versions(), [1, 1, 1, 1]);
        }
    }
    visitor.kept.insert("root".to_owned(), stranger);
    refused(visitor.refresh(&forge));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_order_are_refused_without_a_panic(
        given in prop::collection::vec(prop::option::of(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (0..4_usize).prop_map(|at| {
                let forge = Forge::new();
                forge.served.values().nth(at).unwrap().clone()
            }),
        ]), 1..12),
    ) {
        let mut client = client::Client::new(NOW);
        for bytes in given {
            while let Ok(client::Step::Keep { .. } | client::Step::Forget { .. }) = client.step() {}
            let asks = matches!(client.step(), Ok(client::Step::Kept { .. } | client::Step::Fetch { .. }));
            if !asks || client.give(bytes).is_err() {
                break;
            }
        }
    }
}
