//! Metrics: what Prometheus reads is what the table says, and counts what happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
};

use burr_node::metrics::METRICS;

use super::{
    http::{ask, get},
    program::{Node, Shop, publish, say},
};
use crate::support::tree;

/// The samples of a text by name and labels; every line that is none must be a known metric's help or type.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, i64> {
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE")), "{line}");
            assert!(words.next().is_some_and(|name| METRICS.iter().any(|metric| metric.name == name)), "{line}");
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let metric = METRICS.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{line}"));
        let labels = labels.strip_suffix('}').expect("labels end").split(',').filter(|label| !label.is_empty());
        let names: Vec<_> = labels.map(|label| label.split_once("=\"").expect("a value in quotes").0).collect();
        assert_eq!(names, metric.labels, "{line}");
        // Seconds are counted in their last place, thousandths or less.
        samples.insert(sample.to_owned(), value.replace('.', "").parse().expect("a number"));
    }
    samples
}

#[track_caller]
fn scrape(at: SocketAddr) -> String {
    let answer = get(at, "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(answer.body).expect("text")
}

#[test]
fn the_table_names_every_metric_as_the_node_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
    let page = fs::read_to_string(path).expect("the table");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<_> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.join(", ");
            format!("| `{}` | {} | {labels} | {} |", metric.name, metric.kind.name(), metric.help)
        })
        .collect();
    assert_eq!(rows, expected, "METRICS.md and METRICS in src/metrics.rs say the same, in the same order");
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
}

#[test]
fn a_scrape_counts_each_step_of_an_update_and_the_bytes_that_it_took() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"works")])));
    let site = ["--set", "site=depot-7"];
    let publisher = Node::start(&shop.publisher, &site);
    let peer = publisher.address().to_string();
    let listen = ["--set", "metrics.listen=127.0.0.1:0", "--health", "grep -q works index.html"];
    let install = ["--peer", &peer, "--install", &shop.link];
    let mut device = Node::start(&shop.data("device"), &[install.as_slice(), &site, &listen].concat());
    let at = device.metrics();
    device.hear_step("1.0.0", "active");
    let first = samples(&scrape(at));
    let count = |samples: &BTreeMap<String, i64>, name: &str| samples.get(name).copied();
    let step = |step: &str| format!("burr_update_steps_total{{app=\"shop\",step=\"{step}\"}}");
    for (name, times) in [("chosen", 1), ("staged", 1), ("on_trial", 1), ("active", 1), ("rolled_back", 0)] {
        assert_eq!(count(&first, &step(name)), Some(times), "{name}");
    }
    // Staging and the trial are parts of the update.
    let [staging, trial, update] = ["stage", "trial", "update"]
        .map(|what| count(&first, &format!("burr_{what}_seconds_total{{app=\"shop\"}}")).expect("a counter"));
    assert!(trial > 0 && staging + trial <= update && update < 180_000, "{first:?}");
    let [fetching, delay] =
        ["fetch", "metadata_delay"].map(|what| count(&first, &format!("burr_{what}_seconds_total")));
    assert!(fetching.is_some_and(|fetching| fetching <= update), "{first:?}");
    assert!(delay.is_some_and(|delay| delay < 180_000), "{first:?}");
    // Signatures take some time, and under a minute on any machine.
    let verifying = count(&first, "burr_metadata_verify_seconds_total");
    assert!(verifying.is_some_and(|micros| (1..60_000_000).contains(&micros)), "{first:?}");
    let payload = count(&first, "burr_store_held_bytes").expect("a gauge");
    assert!(payload > 0);
    // Both say that they are on one site. On the wire there is more than the payload, and not much more.
    let traffic = |link: &str, direction: &str| {
        let name = format!("burr_traffic_bytes_total{{link=\"{link}\",direction=\"{direction}\"}}");
        count(&first, &name).expect("a counter")
    };
    assert!((payload..2 * payload + 1000).contains(&traffic("lan", "down")), "{first:?}");
    assert_eq!([traffic("lan", "up"), traffic("wan", "down"), traffic("wan", "up")], [0; 3], "{first:?}");

    fs::write(shop.source().join("index.html"), "broken").expect("writable");
    publish(&shop.publisher, &shop.source(), "2.0.0");
    device.hear_step("2.0.0", "rolled_back");
    let text = scrape(at);
    let second = samples(&text);
    for (name, times) in [("chosen", 2), ("on_trial", 2), ("active", 1), ("rolled_back", 1), ("failed", 0)] {
        assert_eq!(count(&second, &step(name)), Some(times), "{name}");
    }
    for (name, times) in [
        ("burr_app_release{app=\"shop\",channel=\"stable\",version=\"1.0.0\"}", 1),
        ("burr_receipts_kept_total{outcome=\"active\"}", 1),
        ("burr_receipts_kept_total{outcome=\"rolled_back\"}", 1),
        ("burr_fetches_completed_total", 2),
        ("burr_fetches_left_total", 0),
        ("burr_metadata_verified_total", 2),
        ("burr_peers_connected", 1),
        ("burr_lies_total{lie=\"altered_bytes\"}", 0),
    ] {
        assert_eq!(count(&second, name), Some(times), "{name}: {text}");
    }
    for metric in METRICS {
        assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.name())), "{}", metric.name);
        let sampled = second.keys().any(|name| name.split('{').next() == Some(metric.name));
        assert!(sampled, "{} has a value on a device that installed something", metric.name);
    }

    // The command says the same: all but what time changes.
    let told = samples(&say(&shop.data("device"), &["status", "--metrics"]).ok());
    let lasting = |samples: &BTreeMap<String, i64>| -> BTreeMap<String, i64> {
        samples.iter().filter(|(name, _)| !name.contains("_seconds")).map(|(name, n)| (name.clone(), *n)).collect()
    };
    assert_eq!(lasting(&told), lasting(&second));
    assert_eq!(get(at, "/").status, 404);
    let post = ask(at, "POST", "/metrics", &[], b"");
    assert_eq!((post.status, post.header("allow")), (405, Some("GET")));
    drop(publisher);
}
