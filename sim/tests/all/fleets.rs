//! Fleets from scenarios: read, run, reported, drawn faults for, made small.

#![allow(clippy::cast_precision_loss, reason = "times and bytes of small fleets fit a double exactly")]

mod each_fault;
mod faults;
mod hostile;
mod known;
mod lab;
mod rumours;
mod shipped;

use burr_sim::{
    fleet::Fleet,
    report::{Report, compare::Comparison, html},
    scenario::{SHIPPED, Scenario},
};

/// A site with a gateway and four devices that sleep half of the time.
const SMALL: &str = r#"
teaches = "that it runs"
duration = "4h"

[config.tuning]
sync_interval = "10m"

[[sites]]
name = "cloud"
[sites.uplink]
up = "100 Mbit/s"
down = "100 Mbit/s"

[[sites]]
name = "shop"
count = 2
[sites.uplink]
up = ["1 Mbit/s", "4 Mbit/s"]
down = "8 Mbit/s"
loss = 0.001
class = "dsl"
cost = 2.0

[[nodes]]
name = "publisher"
role = "publisher"
site = "cloud"

[[nodes]]
name = "gateway"
role = "collector"
site = "shop"
each_site = true
knows = ["publisher"]

[[nodes]]
name = "device"
role = "device"
count = 4
site = "shop"
each_site = true
knows = ["gateway"]
presence = { duty = { on = "10min", every = "20min" } }

[[releases]]
at = "10min"
version = "1.0.0"
size = ["4 MB", "6 MB"]
"#;

fn run(text: &str, seed: u64) -> Fleet {
    let scenario = Scenario::read(text).unwrap();
    let mut fleet = Fleet::new(&scenario, seed, Vec::new()).unwrap();
    fleet.run(|_| ());
    fleet
}

#[test]
fn every_shipped_scenario_is_read_and_written_back() {
    for (name, text) in SHIPPED {
        let scenario = Scenario::read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!scenario.teaches.is_empty());
        assert_eq!(Scenario::read(&scenario.write().unwrap()), Ok(scenario), "{name}");
    }
}

#[test]
fn a_fleet_converges_and_a_line_carries_each_byte_once_a_site() {
    let fleet = run(SMALL, 1);
    let report = Report::of(&fleet, "small");
    let rollout = &report.rollouts[0];
    assert_eq!((report.devices, rollout.reached), (8, 8));
    assert!(rollout.t50_ms <= rollout.t95_ms && rollout.t95_ms <= rollout.t100_ms);
    // To each of two sites, with what a lost connection asks for twice.
    let twice = 2 * rollout.size;
    assert!((twice..twice * 105 / 100).contains(&report.bytes.far), "{} of {twice}", report.bytes.far);
    let line = report.lines.iter().find(|line| line.class == "dsl").unwrap();
    assert!(line.down > report.bytes.far);
    let cost = (line.up + line.down) as f64 / 1e9 * 2.0;
    assert!((line.cost - cost).abs() < 1e-9);
    // Half of the time.
    assert!((report.radio_seconds - 7200.0).abs() < 700.0, "{}", report.radio_seconds);
}

/// What devices would bring to their site, they can't: they know nobody but those there, and say so (§7.10). Their gateway
/// does not wait for them.
#[test]
fn a_gateway_that_alone_knows_the_way_out_uses_its_whole_line() {
    for megabytes in [1, 2, 16] {
        let text = SMALL
            .replace("up = [\"1 Mbit/s\", \"4 Mbit/s\"]", "up = \"2 Mbit/s\"")
            .replace("size = [\"4 MB\", \"6 MB\"]", &format!("size = \"{megabytes} MB\""));
        let report = Report::of(&run(&text.replace("loss = 0.001\n", "").replace("presence =", "#"), 1), "gateway");
        let took = report.rollouts[0].t100_ms.unwrap();
        // So long it takes at 8 Mbit/s, and an eighth more at most; besides there is the way of the news, and of the last
        // piece to the devices.
        let line = megabytes * 1000;
        assert!((line..line * 9 / 8 + 1000).contains(&took), "{megabytes} MB: {took} ms");
        assert!(report.bytes.far < 2 * megabytes * 1_020_000, "{megabytes} MB: {}", report.bytes.far);
    }
}

#[test]
fn a_run_follows_from_scenario_and_seed_alone() {
    let digest = |seed| run(SMALL, seed).digest();
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn one_devices_luck_does_not_hang_on_another_device() {
    // Without the last device of each site, the first one comes and goes as before.
    let radio = |count: u64| {
        let text = SMALL.replace("count = 4", &format!("count = {count}"));
        let fleet = run(&text.replace("each_site = true\nknows = [\"gateway\"]", "knows = [\"gateway\"]"), 1);
        let first = fleet.devices().next().unwrap();
        (fleet.world.radio(first), fleet.devices().count())
    };
    let (few, many) = (radio(2), radio(4));
    assert_eq!((few.0, few.1, many.1), (many.0, 2, 4));
}

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let report = Report::of(&run(SMALL, 1), "small");
    let page = html::page(&report);
    // Who has it, bytes by hour, who fed whom by group and by node.
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.contains("publisher/0") && !report.fed_by_node.is_empty());
    let of_nodes: u64 = report.fed_by_node.iter().map(|(_, _, bytes)| bytes).sum();
    assert_eq!(of_nodes, report.bytes.far + report.bytes.near);
    assert!(!page.contains("not drawn"));
    for outside in ["href=", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let other = Report::of(&run(SMALL, 2), "other");
    let comparison = Comparison::of(&report, &other);
    assert!(html::comparison(&comparison, &report, &other).contains("</html>"));
    assert!(comparison.to_string().contains("1.0.0 t95"));
}

#[test]
fn what_is_wrong_with_a_scenario_is_said() {
    let wrong = [
        (SMALL.replace("sync_interval", "synch_interval"), "tuning.synch_interval"),
        (SMALL.replace("\"10m\"", "\"10\""), "a time with a unit"),
        (SMALL.replace("knows = [\"gateway\"]", "knows = [\"gate\"]"), "\"gate\""),
        (SMALL.replace("site = \"cloud\"", "site = \"clouds\""), "\"clouds\""),
        (SMALL.replace("role = \"publisher\"", "role = \"cache\""), "publisher"),
        (SMALL.replace("loss = 0.001", "loss = 0.9"), "loss"),
        (SMALL.replace("each_site", "every_site"), "every_site"),
        (SMALL.replace("\"8 Mbit/s\"", "[\"8 Mbit/s\", \"1 Mbit/s\"]"), "least"),
    ];
    for (text, said) in wrong {
        let error = Scenario::read(&text).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_value_is_changed_by_its_name() {
    let change = |name: &str, value: &str| Scenario::read_with(SMALL, &[(name.to_owned(), value.to_owned())]);
    assert_eq!(change("nodes.2.count", "7").unwrap().nodes[2].count.most.0, 7);
    assert_eq!(change("releases.0.size", "9 MB").unwrap().releases[0].size.least.0, 9_000_000);
    let scenario = change("config.tuning.patience", "1m").unwrap();
    let config = scenario.agent_config(&scenario.nodes[0]).unwrap();
    assert_eq!((config.patience.as_secs(), config.sync_interval.as_secs()), (60, 600));
    assert!(change("nodes.9.count", "7").is_err());
    assert!(change("nodes.2.cuont", "7").is_err());
}
