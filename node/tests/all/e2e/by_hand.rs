//! What the device's owner sets and says, with the real program: conditions, hooks, putting off, going back, trying again.

use serde_json::{Value, json};

use super::program::{Node, Shop, publish, say};
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
