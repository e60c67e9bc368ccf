//! A fleet as people make it: invite, join, list, revoke, and what is said when something is wrong.

use std::fs;

use burr_protocol::member::Invitation;

use super::program::{Node, Shop, say};
use crate::support::tree;

const CLOSED: [&str; 2] = ["--set", "mesh.closed=true"];

#[test]
fn a_fleet_is_made_joined_and_left() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let early = say(&shop.publisher, &["enrol", "stores"]);
    assert!(early.code == Some(2) && early.err.contains("burr fleet create stores"), "{early:?}");
    let outside = say(&shop.data("device"), &["run", "--set", "mesh.closed=true"]);
    assert!(outside.code == Some(2) && outside.err.contains("burr join"), "{outside:?}");

    say(&shop.publisher, &["fleet", "create", "stores"]).ok();
    let publisher = Node::start(&shop.publisher, &CLOSED);
    let invite = ["enrol", "stores", "--groups", "berlin,hall-2", "--capability", "kiosk", "--json"];
    let invited = say(&shop.publisher, &invite).json();
    let invitation = invited["invitation"].as_str().unwrap();
    let joined = say(&shop.data("device"), &["join", invitation, "--json"]).json();
    assert_eq!(joined["member"]["groups"], serde_json::json!(["berlin", "hall-2"]));
    let thief = say(&shop.data("thief"), &["join", invitation]);
    assert!(thief.code == Some(2) && thief.err.contains("used already"), "{thief:?}");
    let typo = say(&shop.data("thief"), &["join", &invitation[..60]]);
    assert!(typo.code == Some(2) && typo.err.contains("copy the whole of it"), "{typo:?}");

    let peer = publisher.address().to_string();
    let arguments = ["--peer", &peer, "--install", &shop.link, CLOSED[0], CLOSED[1]];
    let mut device = Node::start(&shop.data("device"), &arguments);
    device.hear_step("1.0.0", "active");
    let stranger = Node::start(&shop.data("stranger"), &["--peer", &peer, "--install", &shop.link]);

    let members = say(&shop.publisher, &["fleet", "members", "stores", "--json"]).json();
    assert_eq!(members.as_array().unwrap().len(), 2, "{members}");
    say(&shop.publisher, &["fleet", "revoke", "stores", &device.id()[..8]]).ok();
    device.hear_fact("peer_disconnected");
    let turned_away = device.hear_fact("turned_away");
    assert_eq!(turned_away["why"], "the member was revoked");
    let members = say(&shop.publisher, &["fleet", "members", "stores", "--json"]).json();
    assert_eq!(members.as_array().unwrap().len(), 1, "{members}");
    let again = say(&shop.publisher, &["fleet", "revoke", "stores", &device.id()]);
    assert!(again.code == Some(2) && again.err.contains("has no member"), "{again:?}");
    let log = say(&shop.publisher, &["audit"]).ok();
    assert_eq!((log.matches("Z  enrol").count(), log.matches("Z  revoke").count()), (2, 1), "{log}");

    // Whoever never belonged got nothing all that time.
    assert!(stranger.ask("status")["repositories"][0]["version"].is_null());
    assert!(fs::read_dir(shop.data("stranger").join("metadata")).unwrap().next().is_none());
    publisher.stop();
}

#[test]
fn who_asks_with_a_made_up_invitation_is_refused_at_once_and_keeps_nobody_from_publishing() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    say(&shop.publisher, &["fleet", "create", "stores"]).ok();
    let publisher = Node::start(&shop.publisher, &[]);
    let invited = say(&shop.publisher, &["enrol", "stores", "--json"]).json();
    let invitation: Invitation = invited["invitation"].as_str().unwrap().parse().unwrap();
    let made_up = Invitation { nonce: [1; 16], ..invitation.clone() };
    // Somebody publishes all that time.
    let publishing = fs::File::open(shop.publisher.join("publish/shop/lock")).unwrap();
    publishing.lock().unwrap();
    let stranger = say(&shop.data("stranger"), &["join", &made_up.to_string()]);
    assert!(stranger.code == Some(2) && stranger.err.contains("no such invitation"), "{stranger:?}");
    drop(publishing);
    say(&shop.data("device"), &["join", &invitation.to_string()]).ok();
    publisher.stop();
}
