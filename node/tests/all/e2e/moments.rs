//! A release in the background: staged while the device is in use, and tried when it says that it is idle, or is told to.

use std::path::Path;

use super::{
    super::support::tree,
    program::{Node, Shop, say},
};

/// The version that is active on a device.
fn active(data: &Path) -> String {
    let status = say(data, &["--json", "status"]).json();
    status["apps"][0]["active"]["version"].as_str().expect("a version is active").to_owned()
}

#[test]
fn a_device_in_use_switches_when_it_is_idle_or_told_to() {
    let shop = Shop::open(|source| {
        tree(source, &[("index.html", b"1")]);
    });
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("device");
    let mut device = Node::start(&data, &["--install", &shop.link, "--peer", &publisher.address().to_string()]);
    device.hear_step("1.0.0", "active");
    say(&data, &["device", "busy"]).ok();

    let publish = |version: &str, urgency: &str| {
        tree(&shop.source(), &[("index.html", version.as_bytes())]);
        let source = shop.source();
        let source = source.to_str().expect("a path of text");
        let rest = ["--app", "shop", "--version", version, "--urgency", urgency];
        say(&shop.publisher, &[&["publish", source], &rest[..]].concat()).ok();
    };
    publish("2.0.0", "background");
    device.hear_step("2.0.0", "staged");
    let why = device.hear("the reason", |fact| fact["why"].as_str().map(str::to_owned));
    assert!(why.contains("until this device is idle"), "{why}");
    assert_eq!(active(&data), "1.0.0");
    let status = say(&data, &["--json", "status"]).json();
    assert!(status["apps"][0]["why"].as_str().is_some_and(|why| why.contains("2.0.0 is staged")), "{status}");
    say(&data, &["device", "idle"]).ok();
    device.hear_step("2.0.0", "active");

    publish("3.0.0", "manual");
    device.hear_step("3.0.0", "staged");
    assert_eq!(active(&data), "2.0.0");
    say(&data, &["apply", "shop"]).ok();
    device.hear_step("3.0.0", "active");
    assert_eq!(active(&data), "3.0.0");
}
