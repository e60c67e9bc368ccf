//! The ceremony with the real binary: each person has a data directory of their own, and only files pass between them.
//! The commands are those of the README's section "The ceremony".

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use burr_node::publisher::Publisher;
use burr_protocol::{Wall, trust};
use serde_json::Value;

use crate::support::{scratch, small_app};

/// Somebody's `burr` in the directory that all pass files through.
fn burr(desk: &Path, who: &str, command: &str) -> Output {
    let mut burr = Command::new(env!("CARGO_BIN_EXE_burr"));
    burr.current_dir(desk).env_clear().env("BURR_DATA", desk.join(who)).args(command.split_whitespace());
    burr.output().unwrap()
}

fn done(desk: &Path, who: &str, command: &str) -> Value {
    let output = burr(desk, who, &format!("--json {command}"));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {words}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// The words and hint of a refusal, and its exit code.
fn refused(desk: &Path, who: &str, command: &str) -> (String, i32) {
    let output = burr(desk, who, command);
    assert!(!output.status.success(), "{command}");
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

/// Ana's shop, whose channel `team` takes two of three.
fn team(desk: &Path) {
    small_app(&desk.join("dist"), "1");
    done(desk, "ana", "init --app shop");
    for who in ["ana", "bo", "cy"] {
        done(desk, who, &format!("key new {who}.key"));
    }
    let add = "channel add team --app shop --key ana.key.pub --key bo.key.pub --key cy.key.pub --threshold 2";
    let standing = done(desk, "ana", &format!("{add} --out team.draft"));
    assert_eq!(standing["missing"][0]["need"], 2);
    done(desk, "bo", "root sign team.draft --key bo.key --yes");
    done(desk, "cy", "root sign team.draft --key cy.key --yes");
    assert_eq!(done(desk, "ana", "root submit team.draft")["done"], true);
}

#[test]
fn a_team_of_three_releases_with_two_and_nobody_alone_does() {
    let dir = scratch();
    let desk = dir.path();
    team(desk);
    let (words, code) = refused(desk, "ana", "publish dist --app shop --channel team --version 1.0.0");
    assert!(code == 1 && words.contains("2 of 3") && words.contains("burr release propose"), "{words}");

    done(desk, "ana", "release propose dist --app shop --channel team --version 1.0.0 --out 1.draft");
    fs::copy(desk.join("1.draft"), desk.join("1-cy.draft")).unwrap();
    done(desk, "bo", "release sign 1.draft --key bo.key --yes");
    let (words, _) = refused(desk, "ana", "release submit 1.draft");
    assert!(words.contains("channel.team has 1 of 2") && words.contains("may still sign"), "{words}");
    let (words, _) = refused(desk, "cy", "release sign 1-cy.draft --key ana/publish/shop/keys/root.key --yes");
    assert!(words.contains("may sign nothing here"), "{words}");
    let (words, _) = refused(desk, "cy", "release sign 1-cy.draft --key cy.key");
    assert!(words.contains("--yes"), "{words}");
    done(desk, "cy", "release sign 1-cy.draft --key cy.key --yes");
    done(desk, "ana", "release submit 1.draft --merge 1-cy.draft");
    let publisher = Publisher::open(&desk.join("ana"), "shop").unwrap();
    let release = publisher.releases().next().unwrap();
    assert!(release.version == "1.0.0" && publisher.payload_path(release).is_some());

    let (words, _) = refused(desk, "ana", "release submit 1.draft --merge 1-cy.draft");
    assert!(words.contains("moved on") && words.contains("propose it again"), "{words}");
}

#[test]
fn stolen_keys_are_rotated_and_revoked_and_devices_follow() {
    let dir = scratch();
    let desk = dir.path();
    team(desk);
    let device = {
        let publisher = Publisher::open(&desk.join("ana"), "shop").unwrap();
        trust::verify(publisher.id(), None, publisher.pack()).unwrap()
    };
    done(desk, "ana", "release propose dist --app shop --channel team --version 1.0.0 --out 1.draft");
    done(desk, "bo", "release sign 1.draft --key bo.key --yes");
    done(desk, "cy", "release sign 1.draft --key cy.key --yes");
    // Cy's key is stolen: it goes, and what it signed goes with it.
    let list = done(desk, "ana", "key list --app shop");
    assert_eq!(list.as_array().unwrap().len(), 6);
    let cy = done(desk, "cy", "key new other.key")["key_id"].as_str().unwrap().to_owned();
    let (words, _) = refused(desk, "ana", &format!("key revoke channel.team {cy} --app shop"));
    assert!(words.contains("has no key"), "{words}");
    let signed = fs::read_to_string(desk.join("1.draft")).unwrap();
    let signed: Value = serde_json::from_str(&signed).unwrap();
    let signer = signed["documents"][0]["document"]["signatures"][0]["keyid"].as_str().unwrap();
    done(desk, "ana", &format!("key revoke channel.team {signer} --app shop --out revoke.draft"));
    for who in ["ana", "bo", "cy"] {
        let _ = burr(desk, who, &format!("root sign revoke.draft --key {who}.key --yes"));
    }
    done(desk, "ana", "root submit revoke.draft");
    let (words, _) = refused(desk, "ana", "release submit 1.draft");
    assert!(words.contains("propose it again"), "{words}");
    for role in ["root", "root", "root", "targets", "timestamp", "snapshot", "channel.stable"] {
        let old = done(desk, "ana", "key list --app shop");
        let old = old.as_array().unwrap().iter().find(|listed| listed["role"] == role).unwrap()["keys"][0].clone();
        assert_eq!(done(desk, "ana", &format!("key rotate {role} --app shop"))["done"], true, "{role}");
        let new = done(desk, "ana", "key list --app shop").to_string();
        assert!(!new.contains(old.as_str().unwrap()), "{role}");
    }
    done(desk, "ana", "publish dist --app shop --version 1.0.0");
    let publisher = Publisher::open(&desk.join("ana"), "shop").unwrap();
    let device = trust::verify(publisher.id(), Some(&device), publisher.pack()).unwrap();
    assert_eq!((device.root_version(), device.releases().count()), (7, 1));
}

#[test]
fn t60_the_log_tells_every_act_and_whether_it_was_touched() {
    let dir = scratch();
    let desk = dir.path();
    team(desk);
    done(desk, "ana", "publish dist --app shop --version 1.0.0");
    let acts = done(desk, "ana", "audit --app shop");
    let acts: Vec<&str> = acts["entries"].as_array().unwrap().iter().map(|it| it["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["init", "keys", "release"]);
    let log = desk.join("ana/publish/shop/audit.log");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let edited = text.replace("on stable", "on beta");
    let tampered = [edited, lines[..2].join("\n") + "\n", [lines[0], lines[2], lines[1], ""].join("\n"), String::new()];
    for text in tampered {
        fs::write(&log, text).unwrap();
        assert_eq!(refused(desk, "ana", "audit --app shop").1, 3);
        assert_eq!(refused(desk, "ana", "publish dist --app shop --version 2.0.0").1, 5);
    }
    fs::write(&log, text).unwrap();
    done(desk, "ana", "publish dist --app shop --version 2.0.0");
}

#[test]
fn a_machine_that_is_always_on_renews_and_can_do_nothing_else() {
    let dir = scratch();
    let desk = dir.path();
    team(desk);
    done(desk, "ana", "key export-online online --app shop");
    for (who, count) in [("ana", 3), ("online", 2)] {
        assert_eq!(fs::read_dir(desk.join(who).join("publish/shop/keys")).unwrap().count(), count, "{who}");
    }
    let (words, _) = refused(desk, "online", "publish dist --app shop --version 1.0.0");
    assert!(words.contains("channel.stable.key"), "{words}");
    done(desk, "online", "key new grab.key");
    let grab = done(desk, "online", "key add root --app shop --key grab.key.pub --out grab.draft");
    assert!(grab["done"] == false && grab["signed"].as_array().unwrap().is_empty(), "{grab}");
    done(desk, "online", "root sign grab.draft --key grab.key --yes");
    assert!(refused(desk, "online", "root submit grab.draft").0.contains("by the keys before"));
    let (words, _) = refused(desk, "ana", "publish dist --app shop --version 1.0.0");
    assert!(words.contains("handed over"), "{words}");

    let mut online = Publisher::open(&desk.join("online"), "shop").unwrap();
    let before = trust::verify(online.id(), None, online.pack()).unwrap();
    assert!(!online.renew_online(before.issued(), None).unwrap());
    let later = Wall(before.issued().0 + 20 * 24 * 60 * 60);
    assert!(online.renew_online(later, None).unwrap());
    assert!(trust::verify(online.id(), Some(&before), online.pack()).unwrap().expires() > before.expires());

    // A release is signed on the laptop and submitted where the online keys are.
    let proposed = done(desk, "ana", "release propose dist --app shop --version 1.0.0 --out 1.draft");
    done(desk, "ana", "release sign 1.draft --yes");
    let payload = proposed["payload"].as_str().unwrap();
    let (words, _) = refused(desk, "online", "release submit 1.draft");
    assert!(words.contains("--payload"), "{words}");
    let (words, _) = refused(desk, "online", "release submit 1.draft --payload ana.key.pub");
    assert!(words.contains("is not the payload"), "{words}");
    done(desk, "online", &format!("release submit 1.draft --payload {payload}"));
    assert_eq!(Publisher::open(&desk.join("online"), "shop").unwrap().releases().count(), 1);
    done(desk, "online", "audit --app shop");
}
