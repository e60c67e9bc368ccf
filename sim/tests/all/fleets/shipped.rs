//! Each built-in scenario runs, and shows what it says that it teaches; the large ones in a small form. The swarm, liars and
//! the lab's have files of their own beside this one.

use std::collections::BTreeSet;

use burr_protocol::{NodeId, receipt::SignedReceipt};
use burr_sim::{
    fleet::Fleet,
    report::Report,
    scenario::{SHIPPED, Scenario},
};

const HOUR: u64 = 3_600_000;

fn run(name: &str, changes: &[(&str, &str)]) -> (Fleet, Report) {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == name).unwrap().1;
    let changes: Vec<_> = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let scenario = Scenario::read_with(text, &changes).unwrap();
    let mut fleet = Fleet::new(&scenario, scenario.seed, Vec::new()).unwrap();
    fleet.run(|_| ());
    let report = Report::of(&fleet, name);
    assert_eq!(report.broken, [""; 0], "{name}");
    (fleet, report)
}

/// Devices of which the publisher has a receipt.
fn reported(fleet: &Fleet) -> BTreeSet<NodeId> {
    let source = fleet.world.agent(fleet.groups[0].nodes.start).unwrap();
    source.receipts().iter().filter_map(SignedReceipt::peek).map(|receipt| receipt.device).collect()
}

#[test]
fn a_van_carries_releases_to_where_no_network_is_and_receipts_home() {
    let (fleet, report) = run("kiosk_courier", &[]);
    assert_eq!(report.devices, 3 * 8 + 3 * 4);
    for rollout in &report.rollouts {
        // The van is everywhere within a round, which takes half a day at most.
        assert_eq!(rollout.reached, report.devices, "{}", rollout.version);
        assert!(rollout.t100_ms.unwrap() < 24 * HOUR, "{:?}", rollout.t100_ms);
        assert!(rollout.hops.1 >= 2.0);
    }
    assert_eq!(report.bytes.far, 0, "no line leads to a village");
    assert_eq!(reported(&fleet).len(), report.devices);
}

#[test]
fn a_cache_on_the_lan_spares_the_line() {
    let few = [("nodes.2.count", "4"), ("releases.0.size", "10 MB"), ("releases.1.size", "10 MB")];
    let (_, cached) = run("lan_cache", &few);
    // Nobody finds anybody there, and all ask the publisher.
    let each = [("nodes.2.knows", "[\"publisher\"]"), ("nodes.1.count", "0"), ("sites.1.neighbours", "0")];
    let (_, alone) = run("lan_cache", &[few.as_slice(), &each].concat());
    let far = |report: &Report| report.bytes.far as f64 / 10e6;
    // Two releases to four shops once; or to each of their four devices.
    assert!((8.0..8.4).contains(&far(&cached)), "{}", far(&cached));
    assert!((32.0..33.6).contains(&far(&alone)), "{}", far(&alone));
    for (cached, alone) in cached.rollouts.iter().zip(&alone.rollouts) {
        assert_eq!((cached.reached, alone.reached), (16, 16));
        assert!(cached.t50_ms.unwrap() * 2 < alone.t50_ms.unwrap(), "{:?} {:?}", cached.t50_ms, alone.t50_ms);
    }
}

#[test]
fn who_is_cut_off_for_two_days_catches_up() {
    let (fleet, report) = run("partition", &[]);
    let [first, second] = report.rollouts.as_slice() else { panic!("two releases") };
    assert_eq!((first.reached, second.reached), (40, 40));
    // Half of the branches are there at once, the others when the line is back, 42 h later.
    assert!(second.t50_ms.unwrap() < HOUR);
    assert!((42 * HOUR..45 * HOUR).contains(&second.t100_ms.unwrap()), "{:?}", second.t100_ms);
    assert_eq!(reported(&fleet).len(), 40);
}

#[test]
fn a_crowd_takes_a_few_copies_from_the_publisher() {
    let (fleet, report) = run("flash_crowd", &[]);
    let rollout = &report.rollouts[0];
    assert_eq!(rollout.reached, 60);
    // A copy takes 2.4 s; sixty one after the other would take 144 s.
    assert!((2_400..10_000).contains(&rollout.t100_ms.unwrap()), "{:?}", rollout.t100_ms);
    assert!(fleet.world.served(fleet.groups[0].nodes.start) < 6 * rollout.size);
    // All carry it: with one who does all the serving it would be 1/60.
    assert!((0.4..1.0).contains(&report.fairness.unwrap()), "{:?}", report.fairness);
}

#[test]
fn a_field_fleet_goes_back_from_the_bad_release_and_has_the_next() {
    let (_, report) = run("field_fleet", &[("sites.1.count", "5"), ("nodes.3.count", "6"), ("duration", "20days")]);
    let reached: Vec<_> = report.rollouts.iter().map(|rollout| (rollout.version.as_str(), rollout.reached)).collect();
    assert_eq!(reached, [("1.0.0", 30), ("1.1.0", 30), ("1.2.0", 0), ("1.2.1", 30)]);
    assert!(report.rollouts[2].failed > 0);
    // They sleep most of the day, and so do not hear of it before the next one.
    assert!(report.radio_seconds < 20.0 * 86_400.0 / 4.0);
    let lte = report.lines.iter().find(|line| line.class == "lte").unwrap();
    assert!(lte.down < 5 * 4 * 26_000_000 + report.bytes.far_said, "{} bytes over metered lines", lte.down);
}

#[test]
fn what_a_million_devices_do_a_hundred_do() {
    let (_, report) = run("scale_1m", &[("sites.1.count", "2"), ("sites.2.count", "4"), ("nodes.3.count", "25")]);
    assert_eq!((report.devices, report.rollouts[0].reached), (100, 100));
    // To each region and each depot once.
    assert!((6.0..6.3).contains(&(report.bytes.far as f64 / 50e6)), "{}", report.bytes.far);
}
