//! A release that halts by itself, among real nodes: two devices of a fleet fall over it, the publisher's node pauses it,
//! and a device that meets one of the two when the publisher is gone leaves it alone.

use std::{
    fs::File,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    http::ask,
    program::{DEADLINE, Node, Shop, say},
};
use crate::support::tree;

/// The health command of every device: a page with `bad` in it is not well.
const HEALTH: [&str; 2] = ["--health", "! grep -q bad index.html"];

/// Makes the node on a data directory a member of the fleet.
#[track_caller]
fn enrol(shop: &Shop, data: &Path) {
    let invited = say(&shop.publisher, &["enrol", "stores", "--json"]).json();
    say(data, &["join", invited["invitation"].as_str().expect("an invitation")]).ok();
}

#[track_caller]
fn release(shop: &Shop, version: &str) -> serde_json::Value {
    say(&shop.publisher, &["release", "show", version, "--app", "shop", "--json"]).json()[0].clone()
}

/// Waits until a node takes 2.0.0 for halted, or takes it for that no more.
#[track_caller]
fn until_halted(node: &mut Node, halted: bool) {
    while node.ask("status")["halted"].as_array().is_some_and(Vec::is_empty) == halted {
        node.hear_fact("metadata_verified");
    }
}

#[test]
fn what_fails_on_a_fleet_is_paused_by_its_publisher_and_left_alone_on_an_island() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    say(&shop.publisher, &["fleet", "create", "stores"]).ok();
    let mut publisher = Node::start(&shop.publisher, &[]);
    let peer = publisher.address().to_string();
    let arguments = ["--install", &shop.link, HEALTH[0], HEALTH[1], "--peer"];
    let gateway = ["--set", "gateway.listen=127.0.0.1:0", "--set", "gateway.transport=plain"];
    let names = ["first", "second", "third"];
    let devices = names.map(|name| {
        enrol(&shop, &shop.data(name));
        let mut device = Node::start(&shop.data(name), &[&arguments[..], &[&peer], &gateway[..]].concat());
        device.hear_step("1.0.0", "active");
        device
    });
    let third = devices[2].id();
    let [mut first, second, away] = devices;
    away.stop();

    tree(&shop.source(), &[("index.html", b"bad")]);
    let source = shop.source().display().to_string();
    let wrong = ["publish", &source, "--app", "shop", "--version", "2.0.0", "--halt-at", "2 of 3"];
    let refused = say(&shop.publisher, &wrong);
    assert!(refused.code == Some(2) && refused.err.contains("3/20%/10"), "{refused:?}");
    say(&shop.publisher, &["publish", &source, "--app", "shop", "--version", "2.0.0", "--halt-at", "2/50%/2"]).ok();
    // Somebody is at the repository for longer than the node waits for that; it tries again.
    let lock = File::create(shop.publisher.join("publish/shop/lock")).expect("the lock's file");
    lock.lock().expect("nobody publishes");
    first.hear_step("2.0.0", "rolled_back");
    let halted = publisher.hear_fact("halted");
    assert_eq!(halted["tally"], serde_json::json!({ "failed": 2, "outcomes": 2 }));
    publisher.hear_log("shop 2.0.0 should be paused");
    assert!(release(&shop, "2.0.0")["rules"]["paused"].is_null());
    lock.unlock().expect("ours");
    // The pause is metadata like any other, and comes back verified.
    let mut paused = release(&shop, "2.0.0")["rules"]["paused"].clone();
    while paused != true {
        publisher.hear_fact("metadata_verified");
        paused = release(&shop, "2.0.0")["rules"]["paused"].clone();
    }

    // Whoever resumes it takes the threshold away, or it would halt again at once.
    say(&shop.publisher, &["release", "resume", "2.0.0", "--app", "shop"]).ok();
    assert!(release(&shop, "2.0.0")["rules"].is_null());
    until_halted(&mut first, false);
    // An app that the first serves gets it then, and not while it halts.
    let offered = |is: fn(&serde_json::Value) -> bool| {
        let app = r#"{"app_id":"shop","device_id":"a-phone","version_name":"1.0.0","platform":"ios"}"#;
        let begun = Instant::now();
        let mut answer = ask(first.gateway(), "POST", "/updates", &[], app.as_bytes()).json();
        while !is(&answer) {
            assert!(begun.elapsed() < DEADLINE, "{answer}");
            thread::sleep(Duration::from_millis(50));
            answer = ask(first.gateway(), "POST", "/updates", &[], app.as_bytes()).json();
        }
        answer
    };
    offered(|answer| answer["version"] == "2.0.0" && answer["url"].is_string());
    say(&shop.publisher, &["release", "set-halt", "2/50%/2", "2.0.0", "--app", "shop"]).ok();
    let why = offered(|answer| answer["kind"] == "blocked");
    assert!(why["message"].as_str().is_some_and(|why| why.contains("halts by its own rules")), "{why}");
    assert_eq!((&why["error"], &why["url"]), (&"not_for_this_device".into(), &serde_json::Value::Null));
    until_halted(&mut first, true);
    publisher.kill();
    drop(second);

    // The third knows nothing of all that, and meets the first alone.
    let peer = first.address().to_string();
    let mut device = Node::start(&shop.data("third"), &[&arguments[..], &[&peer]].concat());
    assert_eq!(device.id(), third);
    device.hear_fact("halted");
    let why = device.hear("the reason", |fact| fact["why"].as_str().map(str::to_owned));
    assert!(why.contains("halts by its own rules: 2 of the 2 devices that tried it failed"), "{why}");
    let status = device.ask("status");
    assert_eq!(status["apps"][0]["active"]["version"], "1.0.0");
    assert_eq!(status["halted"][0]["version"], "2.0.0");
    let shown = say(&shop.data("third"), &["status"]).ok();
    assert!(shown.contains("HALTED    shop 2.0.0: 2 of the 2"), "{shown}");
    first.stop();
}
