//! What the device's owner sets and says, with the real program: conditions, hooks, putting off, going back, trying again.

use std::fs;

use serde_json::{Value, json};

use super::program::{Node, Shop, burr, publish, say};
use crate::support::tree;

#[test]
fn the_owner_says_when_what_around_it_and_what_not() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("device");
    let settings = [
        "budget.metered=true",
        "apps.shop.download_if=unmetered",
        "apps.shop.activate_if=battery>=40",
        "apps.shop.before=! grep -q unfit index.html || { echo unfit; exit 1; }",
        "apps.shop.after=echo restarted $BURR_APP",
        "apps.shop.attempts=2",
        "tuning.retry_backoff=100ms",
        "tuning.retry_backoff_max=100ms",
    ];
    let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let peer = publisher.address().to_string();
    let mut device = Node::start(&data, &[&["--install", &shop.link, "--peer", &peer], &set[..]].concat());
    let app = |device: &Node| device.ask("status")["apps"][0].clone();
    let why = |device: &Node| app(device)["why"].as_str().unwrap_or_default().to_owned();
    let active = |device: &Node| app(device)["active"]["version"].as_str().unwrap_or_default().to_owned();

    // Conditions: first the link, then the battery.
    device.hear("the reason", |fact| fact["why"].as_str().filter(|why| why.contains("not metered")).map(drop));
    let nonsense = say(&data, &["device", "condition", "battery=101"]);
    assert!(nonsense.code == Some(2) && nonsense.err.contains("battery=0 to battery=100"), "{nonsense:?}");
    say(&data, &["device", "condition", "metered=no", "power=battery", "battery=30"]).ok();
    device.hear_step("1.0.0", "staged");
    device.hear("the reason", |fact| {
        fact["why"].as_str().filter(|why| why.contains("at 40 % (it is at 30 %)")).map(drop)
    });
    say(&data, &["device", "condition", "battery=90"]).ok();
    device.hear_step("1.0.0", "active");
    let receipts = device.ask("receipts");
    assert_eq!(receipts[0]["said"], "restarted shop");

    // A hook that says no changes nothing; after two tries it is over.
    tree(&shop.source(), &[("index.html", b"unfit")]);
    publish(&shop.publisher, &shop.source(), "2.0.0");
    device.hear("an end", |fact| (fact["version"] == "2.0.0" && fact["step"]["again"] == false).then_some(()));
    assert_eq!(active(&device), "1.0.0");
    let failed = device.ask("receipts").as_array().expect("a list").last().cloned().unwrap_or_default();
    let reason = failed["outcome"]["Failed"]["reason"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reason, "the hook `before` failed (exit status 1): unfit");

    // Put off, and taken back by hand.
    tree(&shop.source(), &[("index.html", b"3")]);
    say(&data, &["device", "condition", "battery=10"]).ok();
    publish(&shop.publisher, &shop.source(), "3.0.0");
    device.hear_step("3.0.0", "staged");
    let long = say(&data, &["defer", "shop", "--for", "3days"]);
    assert!(long.code == Some(2) && long.err.contains("may be put off for 1 d in all"), "{long:?}");
    say(&data, &["defer", "shop", "--for", "2h"]).ok();
    say(&data, &["device", "condition", "battery=90"]).ok();
    assert!(why(&device).contains("put it off until"), "{}", why(&device));
    device.stop();
    let mut device = Node::start(&data, &[&["--install", &shop.link, "--peer", &peer], &set[..]].concat());
    say(&data, &["device", "condition", "battery=90", "metered=no"]).ok();
    device.hear("the reason", |fact| fact["why"].as_str().filter(|why| why.contains("put it off until")).map(drop));
    say(&data, &["retry", "shop"]).ok();
    device.hear_step("3.0.0", "active");
    say(&data, &["rollback", "shop"]).ok();
    device.hear_step("3.0.0", "rolled_back");
    assert_eq!(active(&device), "1.0.0");
    let held = why(&device);
    assert!(held.contains("someone at this device went back"), "{held}");
    let nothing = say(&data, &["rollback", "shop", "--json"]);
    let said: Value = serde_json::from_str(&nothing.err).expect("JSON");
    assert_eq!((nothing.code, &said["error"]), (Some(2), &json!("there is no version before it to go back to")));
    say(&data, &["retry", "shop"]).ok();
    device.hear_step("3.0.0", "active");
    let other = say(&data, &["rollback", "bank"]);
    assert!(other.code == Some(2) && other.err.contains("no app \"bank\""), "{other:?}");
    device.stop();
}

#[test]
fn a_command_measures_how_the_device_stands_until_it_fails() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("device");
    fs::create_dir_all(&data).expect("writable");
    // Moved into its place, so that no run reads half of it.
    let measures = |script: &str| {
        let new = shop.data("measure.new");
        fs::write(&new, script).and_then(|()| fs::rename(&new, data.join("measure.sh"))).expect("writable");
    };
    measures("echo metered=yes; echo busy >&2");
    let settings = [
        "conditions.command=. ./measure.sh",
        "conditions.interval=1s",
        "conditions.timeout=1s",
        "apps.shop.download_if=unmetered",
        "apps.shop.activate_if=battery>=40",
    ];
    let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let peer = publisher.address().to_string();
    let mut device = Node::start(&data, &[&["--install", &shop.link, "--peer", &peer], &set[..]].concat());
    let reason = |device: &mut Node, words: &str| {
        device.hear(words, |fact| fact["why"].as_str().filter(|why| why.contains(words)).map(drop));
    };
    reason(&mut device, "not metered");
    assert_eq!(device.ask("status")["conditions"]["idle"], false);
    measures("echo power=battery battery=30 metered=no");
    device.hear_step("1.0.0", "staged");
    reason(&mut device, "at 40 % (it is at 30 %)");

    // Output without end is cut off in time; what was measured before is not believed any more.
    measures("yes battery=90");
    let told = device.hear_fact("conditions_unknown");
    assert!(told["why"].as_str().is_some_and(|why| why.contains("did not end within 1 s")), "{told}");
    reason(&mut device, "at 40 %");
    let conditions = device.ask("status")["conditions"].clone();
    assert_eq!((&conditions["battery"], &conditions["power"]), (&Value::Null, &Value::Null), "{conditions}");

    // What somebody says counts without it, and before it.
    say(&data, &["device", "condition", "battery=90"]).ok();
    device.hear_step("1.0.0", "active");
    measures("echo battery=10 sunny");
    device.listen(std::time::Duration::from_secs(4));
    measures("echo battery=10 power=mains");
    device.listen(std::time::Duration::from_secs(3));
    let told = device.heard.iter().filter(|fact| fact["fact"] == "conditions_unknown").count();
    assert_eq!(told, 1, "what goes on failing is told once");
    let conditions = device.ask("status")["conditions"].clone();
    assert_eq!((&conditions["battery"], &conditions["power"]), (&json!(90), &json!("mains")), "{conditions}");

    // It can be taken back, and what is measured counts again.
    say(&data, &["device", "condition", "--forget"]).ok();
    let conditions = device.ask("status")["conditions"].clone();
    assert_eq!((&conditions["battery"], &conditions["power"]), (&json!(10), &json!("mains")), "{conditions}");
}

#[test]
fn what_opens_keys_is_not_handed_to_commands() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("device");
    let mut command = burr(&data);
    let peer = publisher.address().to_string();
    command.args(["run", "--json", "--listen", "127.0.0.1", "--no-mdns", "--install", &shop.link, "--peer", &peer]);
    command.args(["--health", "test -z \"$BURR_PASSPHRASE\""]).env("BURR_PASSPHRASE", "secret");
    Node::spawn(command, &data).hear_step("1.0.0", "active");
}
