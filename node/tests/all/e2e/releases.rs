//! What people ask about releases, and what they choose at a device: how releases stand, why a device takes one or does
//! not, and which channel, version and attributes it has from now on.

use std::{fs, path::Path, time::Instant};

use burr_protocol::{NodeId, RepositoryId, rules::drawn_at};
use serde_json::{Value, json};

use super::program::{DEADLINE, Node, Shop, publish, say};
use crate::support::{scratch, tree};

fn node_id(node: &Node) -> NodeId {
    node.id().parse().expect("a name")
}

/// Waits until a node keeps a receipt of each of these devices about a version.
#[track_caller]
fn hear_receipts(node: &mut Node, devices: &[&str], version: &str) {
    let mut missing = devices.to_vec();
    while !missing.is_empty() {
        let from = node.hear(&format!("a receipt of {version}"), |fact| {
            let is = fact["fact"] == "receipt_kept" && fact["version"] == version;
            is.then(|| fact["device"].as_str().map(str::to_owned))?
        });
        missing.retain(|device| *device != from);
    }
}

/// How a version stands; its node knows it once it is written down.
#[track_caller]
fn standing(data: &Path, version: &str) -> Value {
    let begun = Instant::now();
    loop {
        let all = say(data, &["releases", "--app", "shop", "--json"]).json();
        let found = all.as_array().expect("a list").iter().find(|standing| standing["version"] == version);
        match found {
            Some(standing) => return standing.clone(),
            None => assert!(begun.elapsed() < DEADLINE, "{version}: {all}"),
        }
    }
}

#[track_caller]
fn verdict(explanation: &Value, rule: &str) -> String {
    let checks = explanation["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["rule"] == rule).unwrap_or_else(|| panic!("{rule}: {explanation}"));
    check["verdict"].as_str().expect("a word").to_owned()
}

#[test]
fn a_publisher_sees_how_a_rollout_stands_and_why_one_device_waits() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"works")])));
    let mut publisher = Node::start(&shop.publisher, &[]);
    let peer = publisher.address().to_string();
    let check = ["--health", "grep -q works index.html"];
    let start = |name: &str| {
        let arguments = [["--peer", &peer].as_slice(), &["--install", &shop.link], &check].concat();
        Node::start(&shop.data(name), &arguments)
    };
    // One of the two tells what it is.
    fs::create_dir_all(shop.data("one")).expect("writable");
    let settings = "attributes = [\"site=depot-7\"]\ntell_attributes = \"always\"\n";
    fs::write(shop.data("one").join("burr.toml"), settings).expect("writable");
    let (one, two) = (start("one"), start("two"));
    let ids = [one.id(), two.id()];
    let both = [ids[0].as_str(), ids[1].as_str()];
    hear_receipts(&mut publisher, &both, "1.0.0");
    let first = standing(&shop.publisher, "1.0.0");
    assert_eq!((&first["eligible"], &first["active"], &first["unknown"]), (&json!(2), &json!(2), &json!(0)), "{first}");

    // As many as it takes for one of the two.
    let repository: RepositoryId = shop.link.rsplit('@').next().expect("a link").parse().expect("a name");
    let mut places = [&one, &two].map(|node| (drawn_at(repository, "stable", 2, node_id(node)), node.id()));
    places.sort();
    let [(place, taker), (_, waiter)] = places;
    let share = format!("{}.{:02}%", place / 100, place % 100);
    fs::write(shop.source().join("index.html"), "works better").expect("writable");
    let source = shop.source().display().to_string();
    let rollout = ["publish", &source, "--app", "shop", "--version", "2.0.0", "--rollout", &share];
    say(&shop.publisher, &rollout).ok();
    hear_receipts(&mut publisher, &[&taker], "2.0.0");
    let second = standing(&shop.publisher, "2.0.0");
    for (name, count) in
        [("eligible", 1), ("downloaded", 1), ("active", 1), ("failed", 0), ("rolled_back", 0), ("unknown", 0)]
    {
        assert_eq!(second[name], json!(count), "{name}: {second}");
    }
    assert!(second["newest_s"].as_i64().is_some_and(|age| (0..600).contains(&age)), "{second}");
    assert_eq!(standing(&shop.publisher, "1.0.0")["active"], 1);
    let table = say(&shop.publisher, &["releases"]).ok();
    assert!(table.contains("shop/stable #2 2.0.0") && table.contains("rolled back"), "{table}");

    // Why the other one waits: said by the publisher, and by the device itself.
    let explain =
        |data: &Path, device: &str| say(data, &["explain", device, "2.0.0", "--app", "shop", "--json"]).json();
    let afar = explain(&shop.publisher, &waiter[..12]);
    assert_eq!((&afar["verdict"], &afar["here"]), (&json!("against"), &json!(false)), "{afar}");
    assert_eq!(verdict(&afar, "rollout"), "against");
    assert_eq!(verdict(&afar, "pin"), "unknown");
    let own = shop.data(if waiter == ids[0] { "one" } else { "two" });
    let here = explain(&own, "here");
    assert_eq!((&here["verdict"], &here["here"], &here["device"]), (&json!("against"), &json!(true), &json!(waiter)));
    assert_eq!((verdict(&here, "rollout").as_str(), verdict(&here, "number").as_str()), ("against", "holds"));
    assert_eq!(explain(&shop.publisher, &taker)["words"], "it is active");
    let words = say(&own, &["explain", "here", "#2", "--app", "shop"]).ok();
    assert!(words.contains("it is not taken\n") && words.contains("NO     rollout"), "{words}");
    for (device, release) in [("ffff", "2.0.0"), ("here", "9.0.0")] {
        let wrong = say(&own, &["explain", device, release, "--app", "shop"]);
        assert!(wrong.code == Some(2) && wrong.err.contains("hint:"), "{wrong:?}");
    }

    // A bad version for all comes back, and is counted so.
    fs::write(shop.source().join("index.html"), "broken").expect("writable");
    publish(&shop.publisher, &shop.source(), "3.0.0");
    hear_receipts(&mut publisher, &both, "3.0.0");
    let third = standing(&shop.publisher, "3.0.0");
    assert_eq!((&third["rolled_back"], &third["active"], &third["downloaded"]), (&json!(2), &json!(0), &json!(2)));
    assert_eq!(standing(&shop.publisher, "2.0.0")["active"], 1, "the device that has 2.0.0 went back to it");

    // For whom a release is: known from afar of the one that tells what it is.
    let rules = ["--audience", "site = \"depot-8\""];
    let publish = ["publish", &source, "--app", "shop", "--version", "4.0.0"];
    say(&shop.publisher, &[&publish[..], &rules].concat()).ok();
    let fourth = standing(&shop.publisher, "4.0.0");
    assert_eq!((&fourth["eligible"], &fourth["perhaps"]), (&json!(0), &json!(1)), "{fourth}");
    let afar = [&ids[0], &ids[1]].map(|id| {
        let afar = say(&shop.publisher, &["explain", id, "4.0.0", "--app", "shop", "--json"]).json();
        (verdict(&afar, "audience"), afar["verdict"].as_str().expect("a word").to_owned())
    });
    let [against, unknown] = ["against", "unknown"].map(str::to_owned);
    assert_eq!(afar, [(against.clone(), against), (unknown.clone(), unknown)]);
    drop((one, two));
}

#[test]
fn channel_pin_and_attributes_are_chosen_at_a_device_while_it_runs_and_stay() {
    let dir = scratch();
    let (publisher_data, data) = (dir.path().join("publisher"), dir.path().join("device"));
    let made = say(&publisher_data, &["init", "--app", "shop", "--channel", "stable", "--channel", "beta", "--json"]);
    let link = made.json()["links"][0].as_str().expect("a link").to_owned();
    assert!(link.starts_with("shop/stable@"), "{link}");
    let source = tree(&dir.path().join("build"), &[("index.html", b"1")]);
    let put = |channel: &str, version: &str, more: &[&str]| {
        fs::write(source.join("index.html"), version).expect("writable");
        let source = source.display().to_string();
        let publish = ["publish", &source, "--app", "shop", "--channel", channel, "--version", version];
        say(&publisher_data, &[&publish, more].concat()).ok();
    };
    put("stable", "1.0.0", &[]);
    put("beta", "2.0.0", &[]);
    let publisher = Node::start(&publisher_data, &[]);
    let peer = publisher.address().to_string();
    let arguments = ["--peer", &peer, "--install", &link];
    let mut device = Node::start(&data, &arguments);
    device.hear_step("1.0.0", "active");
    let app = |device: &Node| device.ask("status")["apps"][0].clone();

    let wrong = say(&data, &["device", "set-channel", "gamma", "--app", "shop"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("it has stable, beta"), "{wrong:?}");
    say(&data, &["device", "set-channel", "beta", "--app", "shop"]).ok();
    device.hear_step("2.0.0", "active");
    assert_eq!(app(&device)["channel"], "beta");

    // Pinned: what comes is not taken, until any version may come again.
    say(&data, &["device", "pin", "2.0.0", "--app", "shop"]).ok();
    put("beta", "3.0.0", &[]);
    device.hear("a wait for the pin", |fact| {
        (fact["fact"] == "waiting" && fact["why"].as_str()?.contains("pinned to 2.0.0")).then_some(())
    });
    // What was chosen outlives a kill, and the flags of the next start.
    drop(device.kill());
    let mut device = Node::start(&data, &arguments);
    let chosen = app(&device);
    assert_eq!((&chosen["channel"], &chosen["pin"]), (&json!("beta"), &json!("2.0.0")), "{chosen}");
    let settings = say(&data, &["run", "--set", "port=x", "--install", &link]);
    assert_eq!(settings.code, Some(2), "{settings:?}");
    say(&data, &["device", "unpin", "--app", "shop"]).ok();
    device.hear_step("3.0.0", "active");

    // For whom it is depends on what the device is.
    put("beta", "4.0.0", &["--audience", "site = \"depot-7\""]);
    device.hear("a wait for the audience", |fact| {
        (fact["fact"] == "waiting" && fact["why"].as_str()?.contains("depot-7")).then_some(())
    });
    let said = say(&data, &["device", "attributes", "site=depot-7", "model=a", "--json"]).json();
    assert_eq!(said, json!({ "site": "depot-7", "model": "a" }));
    device.hear_step("4.0.0", "active");
    let said = say(&data, &["device", "attributes", "--remove", "model", "--json"]).json();
    assert_eq!(said, json!({ "site": "depot-7" }));
    drop(device.kill());
    let device = Node::start(&data, &arguments);
    assert_eq!(device.ask("status")["attributes"], json!({ "site": "depot-7" }));
    let blank = say(&data, &["device", "attributes", "site=a b"]);
    assert!(blank.code == Some(2) && blank.err.contains("blanks"), "{blank:?}");

    // A note that can't be read stops the start with words, rather than being forgotten.
    device.stop();
    fs::write(data.join("device.json"), "{\"apps\":").expect("writable");
    let stopped = say(&data, &["run"]);
    assert!(stopped.code == Some(2) && stopped.err.contains("device.json"), "{stopped:?}");
    drop(publisher);
}
