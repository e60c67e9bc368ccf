//! How old a device's metadata is, as people, programs and Prometheus are told.

use std::{fs, thread, time::Duration};

use super::program::{Node, Shop, say};
use crate::support::tree;

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_secs()).expect("soon enough")
}

#[test]
fn the_age_of_metadata_is_in_status_metrics_and_receipts() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"<h1>shop</h1>")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("device");
    let peer = publisher.address().to_string();
    let mut device = Node::start(&data, &["--install", &shop.link, "--peer", &peer]);
    device.hear_step("1.0.0", "active");

    let status = device.ask("status");
    let age = status["repositories"][0]["age_s"].as_i64().unwrap();
    assert!((0..600).contains(&age), "{status}");
    let text = say(&data, &["status"]).ok();
    let good = ["29days", "30days"].map(|days| format!(" ago, good for {days}"));
    assert!(text.contains("signed ") && good.iter().any(|words| text.contains(words)), "{text}");

    // Nothing happens for a moment, and it is older then.
    thread::sleep(Duration::from_secs(2));
    let before = now();
    let metrics = say(&data, &["status", "--metrics"]).ok();
    let after = now();
    let repository = status["repositories"][0]["repository"].as_str().unwrap();
    let value = |name: &str| -> i64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let label = format!("{{repository=\"{repository}\"}}");
    assert!(value(&format!("burr_metadata_expires_in_seconds{label}")) > 29 * 24 * 3600);
    assert_eq!(value(&format!("burr_metadata_forked{label}")), 0);
    assert_eq!(value("burr_app_release{app=\"shop\",channel=\"stable\",version=\"1.0.0\"}"), 1);
    assert_eq!(value("burr_peers_connected "), 1);
    assert!(value("burr_store_held_bytes ") > 0);

    // So old as its signed time makes it, to the second, however long nothing has happened.
    let signed = shop.publisher.join("publish/shop/repository/metadata/timestamp.json");
    let signed: serde_json::Value = serde_json::from_slice(&fs::read(signed).unwrap()).unwrap();
    assert_eq!(signed["signed"]["version"], status["repositories"][0]["version"]);
    let issued: jiff::Timestamp = signed["signed"]["x-issued"].as_str().unwrap().parse().unwrap();
    let issued = issued.as_second();
    let age = value(&format!("burr_metadata_age_seconds{label}"));
    assert!((before - issued..=after - issued).contains(&age), "{age} s, of {issued} at {before} to {after}");
    for line in ["# TYPE burr_metadata_age_seconds gauge", "# HELP burr_metadata_age_seconds "] {
        assert_eq!(metrics.matches(line).count(), 1, "{metrics}");
    }

    let receipt = &device.ask("receipts")[0];
    assert!(receipt["at"].as_i64().unwrap() >= receipt["issued"].as_i64().unwrap(), "{receipt}");
    let text = say(&data, &["receipts"]).ok();
    assert!(text.contains(", by metadata signed ") && text.contains(" before)"), "{text}");
    device.stop();
    publisher.stop();
}
