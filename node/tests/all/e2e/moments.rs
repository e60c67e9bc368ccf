//! A release in the background: staged while the device is in use, and tried when it says that it is idle, or is told to.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{
    super::support::tree,
    program::{Node, Shop, burr, say},
};

/// The version that is active on a device.
fn active(data: &Path) -> String {
    let status = say(data, &["--json", "status"]).json();
    status["apps"][0]["active"]["version"].as_str().expect("a version is active").to_owned()
}

#[test]
fn a_window_is_one_of_the_devices_own_time_zone() {
    let shop = Shop::open(|source| {
        tree(source, &[("index.html", b"1")]);
    });
    // From an hour before now to an hour after it, where it is five hours later than in Greenwich.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_secs() / 60;
    let time = |minutes: u64| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    let window = format!("{}-{}", time(now + 4 * 60), time(now + 6 * 60));
    say(&shop.publisher, &["release", "set-rules", "1.0.0", "--app", "shop", "--window", &window]).ok();
    let publisher = Node::start(&shop.publisher, &[]);
    let start = |zone: &str| {
        let data = shop.data(&format!("device {zone}"));
        let mut command = burr(&data);
        command.args(["run", "--json", "--listen", "127.0.0.1", "--no-mdns", "--install", &shop.link]);
        command.args(["--peer", &publisher.address().to_string()]).env("TZ", zone);
        Node::spawn(command, &data)
    };
    let (mut elsewhere, mut here) = (start("WEST+5"), start("EAST-5"));
    here.hear_step("1.0.0", "active");
    elsewhere.hear_step("1.0.0", "staged");
    let why = elsewhere.hear("the reason", |fact| fact["why"].as_str().map(str::to_owned));
    assert!(why.contains(&format!("{window} in local time")), "{why}");
    assert_eq!(elsewhere.ask("status")["apps"][0]["active"], Value::Null);
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
