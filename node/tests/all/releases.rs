//! What a publisher does with a release after it was made, with the real binary and files alone.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use burr_node::publisher::Publisher;
use burr_protocol::{release::Release, rules::Rules, trust};
use serde_json::Value;

use crate::support::{scratch, small_app};

fn burr(data: &Path, command: &[&str]) -> (Option<i32>, String, String) {
    let mut burr = Command::new(env!("CARGO_BIN_EXE_burr"));
    let output = burr.env_clear().env("BURR_DATA", data).arg("--json").args(command).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn done(data: &Path, command: &[&str]) -> Value {
    let (code, output, words) = burr(data, command);
    assert_eq!(code, Some(0), "{command:?}: {words}");
    serde_json::from_str(&output).unwrap_or(Value::Null)
}

fn releases(data: &Path) -> Vec<Release> {
    Publisher::open(data, "shop").unwrap().releases().cloned().collect()
}

fn newest(data: &Path, channel: &str) -> Release {
    releases(data).into_iter().rfind(|release| release.channel == channel).unwrap()
}

#[test]
fn a_release_is_steered_without_its_bundle_being_copied() {
    let dir = scratch();
    let (data, source) = (dir.path().join("data"), dir.path().join("dist"));
    let source_text = source.to_str().unwrap();
    small_app(&source, "1");
    Publisher::init(&data, "shop", &["stable", "beta"], None).unwrap();
    let publish = ["publish", source_text, "--app", "shop", "--channel", "beta", "--version", "1.0.0"];
    done(&data, &[&publish[..], &["--rollout", "10%", "--audience", r#"site = "depot-7""#]].concat());
    assert_eq!(newest(&data, "beta").rules.rollout, 1000);

    let on_beta = ["--app", "shop", "--channel", "beta"];
    let change = |what: &[&str]| done(&data, &[&["release"], what, &on_beta[..]].concat());
    assert_eq!(change(&["set-rollout", "25%", "1.0.0"])["done"], true);
    change(&["set-rules", "#1", "--audience", "", "--via", "0.9"]);
    change(&["pause", "1.0.0"]);
    let rules = newest(&data, "beta").rules;
    assert_eq!(rules, Rules { rollout: 2500, via: Some("0.9".to_owned()), paused: true, ..Rules::default() });
    change(&["resume", "1.0.0"]);

    let promoted = change(&["promote", "1.0.0", "--to", "stable", "--rollout", "50%"]);
    assert!(promoted["changes"][0].as_str().unwrap().contains("50 % of the devices"), "{promoted}");
    let (beta, stable) = (newest(&data, "beta"), newest(&data, "stable"));
    assert_eq!((stable.seq, stable.version.as_str(), &stable.payload), (1, "1.0.0", &beta.payload));
    let publisher = Publisher::open(&data, "shop").unwrap();
    let inode = |release: &Release| fs::metadata(publisher.payload_path(release).unwrap()).unwrap().ino();
    assert_eq!(inode(&beta), inode(&stable), "one file under two names");

    fs::remove_dir_all(&source).unwrap();
    small_app(&source, "2");
    done(&data, &["publish", source_text, "--app", "shop", "--version", "2.0.0"]);
    done(&data, &["release", "yank", "2.0.0", "--app", "shop", "--reason", "it eats the battery"]);
    done(&data, &["release", "rollback", "1.0.0", "--app", "shop"]);
    let back = newest(&data, "stable");
    assert_eq!((back.seq, back.bundle, back.rules.brings_back), (3, stable.bundle, Some(1)));

    let listed = done(&data, &["release", "list", "--app", "shop", "--channel", "stable"]);
    let versions: Vec<&str> = listed.as_array().unwrap().iter().map(|it| it["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["1.0.0", "2.0.0", "1.0.0"]);
    assert_eq!(listed[1]["rules"]["yanked"], "it eats the battery");
    assert_eq!(done(&data, &["release", "show", "#3", "--app", "shop"])[0]["seq"], 3);

    // A reader of the static files finds each payload, and the log has each act.
    let publisher = Publisher::open(&data, "shop").unwrap();
    assert!(publisher.releases().all(|release| publisher.payload_path(release).is_some()));
    let acts: Vec<String> = publisher.audit().unwrap().into_iter().map(|entry| entry.act).collect();
    let expected = ["init", "release", "rules", "rules", "rules", "rules", "release", "release", "rules", "release"];
    assert_eq!(acts, expected);
}

#[test]
fn what_can_not_be_changed_is_refused_with_words_and_changes_nothing() {
    let dir = scratch();
    let (data, source) = (dir.path().join("data"), dir.path().join("dist"));
    let source_text = source.to_str().unwrap();
    Publisher::init(&data, "shop", &["stable", "beta"], None).unwrap();
    for version in ["1.0.0", "2.0.0"] {
        small_app(&source, version);
        done(&data, &["publish", source_text, "--app", "shop", "--version", version]);
        fs::remove_dir_all(&source).unwrap();
    }
    small_app(&source, "3.0.0");
    let before = Publisher::open(&data, "shop").unwrap().pack().to_vec();
    let wrong: [(&[&str], &str); 8] = [
        (&["release", "pause", "3.0.0"], "no release 3.0.0"),
        (&["release", "show", "#9"], "no release #9"),
        (&["release", "set-rollout", "125%", "2.0.0"], "0% to 100%"),
        (&["release", "resume", "2.0.0"], "has these rules already"),
        (&["release", "set-rules", "2.0.0", "--audience", "site"], "expected"),
        (&["release", "set-rules", "2.0.0", "--from", "newest"], "no constraint on versions"),
        (&["release", "promote", "2.0.0", "--to", "nightly"], "no channel"),
        (&["release", "promote", "1.0.0", "--to", "stable"], "not newer"),
    ];
    for (command, expected) in wrong {
        let (code, _, words) = burr(&data, &[command, &["--app", "shop"]].concat());
        assert!(code == Some(2) && words.contains(expected), "{command:?}: {code:?} {words}");
    }
    let (code, _, words) =
        burr(&data, &["publish", source_text, "--app", "shop", "--version", "3.0.0", "--min-native", "a b"]);
    assert!(code == Some(2) && words.contains("no usable version"), "{words}");
    let publisher = Publisher::open(&data, "shop").unwrap();
    assert_eq!(publisher.pack(), before);
    trust::verify(publisher.id(), None, publisher.pack()).unwrap();
}
