//! Rates are kept on a real link, by whoever has them, and change while the node runs.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    link::Link,
    program::{DEADLINE, Node, Shop, say},
};
use crate::support::noise;

/// How long a rate is measured.
const SPAN: Duration = Duration::from_secs(10);

/// Bytes a second that an interface would have counted for what crosses a link: TCP carries 1448 bytes in a packet of 1514.
fn measured(link: &Link) -> f64 {
    // What was under way under the rate before has come by then.
    thread::sleep(Duration::from_secs(1));
    let (begun, before) = (Instant::now(), link.carried());
    thread::sleep(SPAN);
    #[allow(clippy::cast_precision_loss, reason = "a few megabytes")]
    let carried = (link.carried() - before) as f64;
    carried * 1514.0 / 1448.0 / begun.elapsed().as_secs_f64()
}

#[track_caller]
fn assert_within(rate: f64, wanted: f64) {
    println!("{rate:.0} bytes a second of {wanted:.0}: {:+.2} %", (rate / wanted - 1.0) * 100.0);
    assert!((rate / wanted - 1.0).abs() < 0.03, "{rate} is not {wanted}");
}

fn settings(data: &Path, text: &str) {
    fs::create_dir_all(data).unwrap();
    fs::write(data.join("burr.toml"), text).unwrap();
}

fn set(data: &Path, name: &str, value: &str) -> Value {
    say(data, &["config", "set", name, value, "--json"]).json()
}

#[track_caller]
fn waits(node: &Node, link: &str, direction: &str) -> String {
    let begun = Instant::now();
    loop {
        let status = node.ask("status");
        let limits = status["budget"]["limits"].as_array().expect("a list").clone();
        let limit = limits.iter().find(|limit| limit["link"] == link && limit["direction"] == direction).expect("one");
        // Between two requests nothing waits for a moment.
        match limit["waits"].as_str() {
            Some(words) => return words.to_owned(),
            None => assert!(begun.elapsed() < DEADLINE, "{status}"),
        }
    }
}

#[test]
fn a_rate_is_kept_within_three_percent_and_changes_while_the_node_runs() {
    let shop = Shop::open(|build| {
        fs::create_dir_all(build).unwrap();
        fs::write(build.join("large"), noise(4, 40 << 20)).unwrap();
    });
    settings(&shop.publisher, "site = \"here\"\n");
    let publisher = Node::start(&shop.publisher, &[]);
    let link = Link::to(publisher.address(), 1 << 40);
    let data = shop.data("device");
    settings(&data, "site = \"there\"\n[tuning]\nrequest_bytes = \"64 KiB\"\n[budget]\nwan_down = \"1 MB/s\"\n");
    let mut device = Node::start(&data, &["--install", &shop.link, "--peer", &link.address()]);
    device.hear_fact("fetch_progress");

    assert_within(measured(&link), 1e6);
    assert_eq!(waits(&device, "wan", "down"), "what is fetched waits: budget.wan_down permits 1 MB/s now");

    // The publisher gives less than the device would take.
    let slower = set(&shop.publisher, "budget.wan_up", "500 kB/s");
    assert_eq!(slower["live"], true, "{slower}");
    assert_within(measured(&link), 5e5);
    assert_eq!(waits(&publisher, "wan", "up"), "what others ask for waits: budget.wan_up permits 500 kB/s now");

    // Nobody limits anything any more: the rest comes at once.
    let unset = say(&shop.publisher, &["config", "unset", "budget.wan_up", "--json"]).json();
    assert_eq!((unset["value"].as_str(), unset["live"].as_bool()), (Some("unlimited"), Some(true)));
    let begun = Instant::now();
    assert_eq!(set(&data, "budget.wan_down", "unlimited")["live"], true);
    device.hear_step("1.0.0", "active");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let traffic = device.ask("status")["budget"]["traffic"].clone();
    assert!(traffic["wan_down"].as_u64() >= Some(40 << 20) && traffic["lan_down"] == 0, "{traffic}");
}

#[test]
fn what_is_set_outlives_the_node_and_nonsense_is_refused() {
    let shop = Shop::open(|build| {
        fs::create_dir_all(build).unwrap();
        fs::write(build.join("index.html"), "hello").unwrap();
    });
    let data = shop.data("device");
    settings(&data, "quota = \"1 GiB\" # as it was written\n");
    let kept = set(&data, "budget.wan_up", "none; sat,sun 08:00-20:00 1 MB/s");
    assert_eq!(kept["live"], false, "no node runs: {kept}");
    let mut device = Node::start(&data, &["--install", &shop.link]);
    let publisher = Node::start(&shop.publisher, &["--peer", &device.address().to_string()]);
    device.hear_step("1.0.0", "active");
    let rate = |node: &Node| node.ask("status")["budget"]["limits"][3]["rate"].as_str().map(str::to_owned);
    assert!(rate(&device).is_some_and(|rate| rate == "none" || rate == "1 MB/s"));
    for (name, value) in [("budget.wan_up", "fast"), ("quota", "much"), ("budget.month", "1 KiB"), ("nothing", "1")] {
        let refused = say(&data, &["config", "set", name, value]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    // What needs a start is kept for it, and said to be.
    assert_eq!(set(&data, "port", "0")["live"], false);
    assert_eq!(set(&data, "quota", "2 GiB")["live"], true);
    assert_eq!(device.ask("status")["quota"], 2_u64 << 30);
    assert_eq!(fs::read_to_string(data.join("burr.toml")).unwrap(), "quota = \"1 GiB\" # as it was written\n");
    device.stop();
    publisher.stop();
    let device = Node::start(&data, &["--install", &shop.link]);
    assert_eq!(device.ask("status")["quota"], 2_u64 << 30);
    device.stop();
}
