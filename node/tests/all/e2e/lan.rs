//! A local network: nodes in network namespaces of their own, on one bridge, which find each other with no word of
//! configuration. Needs root and `ip`; skipped where that is not to be had.

use std::{path::Path, time::Duration};

use super::{
    namespace::Lan,
    program::{Node, Shop, current, publish},
};
use crate::support::{noise, tree};

fn page(at: &Path) {
    tree(at, &[("index.html", b"<h1>shop</h1>"), ("app.js", &noise(1, 100_000))]);
}

#[test]
fn nodes_on_a_lan_find_each_other_and_an_update_travels() {
    let Some(lan) = Lan::new(3) else { return };
    let shop = Shop::open(page);
    let publisher = Node::start_in(&lan.host(0), &shop.publisher, &[]);
    let mut first = Node::start_in(&lan.host(1), &shop.data("first"), &["--install", &shop.link]);
    first.hear_step("1.0.0", "active");
    tree(&shop.source(), &[("index.html", b"<h1>new shop</h1>")]);
    publish(&shop.publisher, &shop.source(), "2.0.0");
    first.hear_step("2.0.0", "active");

    // The publisher goes; one that comes late gets everything from the other device.
    publisher.stop();
    let mut late = Node::start_in(&lan.host(2), &shop.data("late"), &["--install", &shop.link]);
    let fetched = late.hear_fact("fetch_completed");
    assert_eq!(fetched["sources"][0][0], first.id(), "{fetched}");
    late.hear_step("2.0.0", "active");
    assert_eq!(current(&shop.data("late")), current(&shop.data("first")));
}

#[test]
fn a_cable_that_is_pulled_in_the_middle_of_a_fetch() {
    const SIZE: usize = 8 << 20;
    let Some(lan) = Lan::new(2) else { return };
    if !lan.slow(1, "20mbit", "20mbit") {
        eprintln!("skipped: a slow link needs `tc`");
        return;
    }
    let shop = Shop::open(page);
    let mut publisher = Node::start_in(&lan.host(0), &shop.publisher, &[]);
    let mut device = Node::start_in(&lan.host(1), &shop.data("device"), &["--install", &shop.link]);
    device.hear_step("1.0.0", "active");
    tree(&shop.source(), &[("data", &noise(2, SIZE))]);
    publish(&shop.publisher, &shop.source(), "2.0.0");
    device.hear_fact("fetch_started");
    // A good part of the more than three seconds that it takes.
    device.listen(Duration::from_millis(1500));
    assert!(
        !device.heard.iter().any(|fact| fact["fact"] == "fetch_completed" && fact["size"].as_u64() > Some(1 << 20))
    );
    lan.cable(1, "down");
    device.hear_fact("peer_disconnected");
    lan.cable(1, "up");
    let fetched = device.hear("a fetch to its end", |fact| {
        (fact["fact"] == "fetch_completed" && fact["size"].as_u64() > Some(1 << 20)).then(|| fact.clone())
    });
    device.hear_step("2.0.0", "active");
    let size = fetched["size"].as_u64().expect("a number");
    let sources = fetched["sources"].as_array().expect("a list").iter();
    let came: u64 = sources.map(|source| source[1].as_u64().expect("a number")).sum();
    eprintln!("{came} bytes came for {size}");
    assert!(came < size + size / 10, "it went on where it was: {came} bytes came for {size}");
    // Both sides know that they met anew: neither talks into a connection that the other has given up.
    publisher.hear("the receipt", |fact| (fact["fact"] == "receipt_kept" && fact["version"] == "2.0.0").then_some(()));
}

#[test]
fn a_device_whose_only_contact_is_another_device() {
    let Some(lan) = Lan::new(3) else { return };
    let shop = Shop::open(page);
    let no_multicast = ["--no-mdns", "--port", "7447"];
    let mut publisher = Node::start_in(&lan.host(0), &shop.publisher, &no_multicast);
    let middle = [&["--install", &shop.link, "--peer", "10.77.0.1:7447"], &no_multicast[..]].concat();
    let mut middle = Node::start_in(&lan.host(1), &shop.data("middle"), &middle);
    let far = [&["--install", &shop.link, "--peer", "10.77.0.2:7447"], &no_multicast[..]].concat();
    let mut far = Node::start_in(&lan.host(2), &shop.data("far"), &far);
    for (number, version) in ["1.0.0", "2.0.0"].into_iter().enumerate() {
        if number > 0 {
            tree(&shop.source(), &[("index.html", b"<h1>new shop</h1>")]);
            publish(&shop.publisher, &shop.source(), version);
        }
        far.hear_step(version, "active");
        middle.hear("its own update", |fact| (fact["fact"] == "receipt_kept").then_some(()));
        // The receipt comes all the way back.
        let far = far.id();
        publisher.hear("a receipt from afar", |fact| {
            (fact["fact"] == "receipt_kept" && fact["device"] == *far && fact["version"] == version).then_some(())
        });
    }
    let met: Vec<_> = far.heard.iter().filter(|fact| fact["fact"] == "peer_connected").collect();
    assert!(met.iter().all(|fact| fact["node"] == *middle.id()), "{met:?}");
}
