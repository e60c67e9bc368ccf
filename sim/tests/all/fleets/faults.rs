//! What goes wrong, and what holds all the same.

use std::time::Duration;

use burr_protocol::{action::Input, config::Config};
use burr_sim::{
    fleet::Fleet,
    scenario::{SHIPPED, Scenario, quantity::Span},
    swarm,
    world::{Rule, Violation},
};

fn shipped(name: &str, changes: &[(&str, &str)]) -> Scenario {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == name).unwrap().1;
    let changes: Vec<_> = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Scenario::read_with(text, &changes).unwrap()
}

/// The swarm's fleet, small enough for a test.
fn few() -> Scenario {
    let small = [("sites.1.count", "3"), ("nodes.2.count", "4"), ("duration", "12h"), ("heal", "7h")];
    shipped("swarm", &small)
}

#[test]
fn whatever_goes_wrong_no_rule_is_broken_and_all_converge() {
    for seed in 1..=8 {
        let scenario = swarm::draw(&few(), seed);
        let broken = swarm::run(&scenario).unwrap();
        assert_eq!(broken, [], "seed {seed}");
    }
}

/// What the swarm once found, made small: the rules that a seed's fleet breaks with these faults, of two stores with one
/// device each.
fn broken(seed: u64, faults: &str) -> Vec<Violation> {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == "swarm").unwrap().1;
    let few = [("sites.1.count", "2"), ("nodes.2.count", "1"), ("duration", "12h"), ("heal", "7h")];
    let few: Vec<_> = few.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut scenario = Scenario::read_with(&format!("{text}{faults}"), &few).unwrap();
    scenario.seed = seed;
    swarm::run(&scenario).unwrap()
}

#[test]
fn a_gateway_that_starts_while_it_is_cut_off_goes_on_looking_for_whom_it_knows() {
    let faults = r#"
        [[faults]]
        at = "4h 40m"
        for = "50m"
        kind = "lost_records"
        node = "gateway/1"

        [[faults]]
        at = "5h"
        for = "90m"
        kind = "partition"
        site = "cloud/0"
    "#;
    assert_eq!(broken(14, faults), []);
}

#[test]
fn what_an_import_mends_is_served_though_the_store_was_looked_at_before() {
    // The only whole copy loses a piece, and its publisher imports it again at its start.
    let faults = r#"
        [[faults]]
        at = "5h 30m"
        for = "40m"
        kind = "disk_full"
        node = "gateway/0"

        [[faults]]
        at = "6h 5m"
        for = "13m"
        kind = "corrupt_range"
        node = "publisher/0"
        piece = 43057
    "#;
    assert_eq!(broken(23, faults), []);
}

#[test]
fn faults_follow_from_the_seed_and_some_seeds_have_none_of_a_kind() {
    let kinds = |seed| {
        let scenario = swarm::draw(&few(), seed);
        scenario.faults.iter().map(|fault| fault.kind.name()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(swarm::draw(&few(), 3), swarm::draw(&few(), 3));
    let all: std::collections::BTreeSet<_> = (1..100).flat_map(kinds).collect();
    assert_eq!(all.len(), 18);
    assert!((1..100).any(|seed| kinds(seed).len() < 4));
}

#[test]
fn a_driver_that_speaks_too_soon_is_found_out_and_the_failure_is_made_small() {
    let mut base = few();
    base.speaks_too_soon = true;
    base.duration = Span(2 * 3_600_000);
    base.heal = Some(Span(3_600_000));
    let scenario = swarm::draw(&base, 1);
    let broken = swarm::run(&scenario).unwrap();
    assert!(broken.iter().any(|violation| violation.rule == Rule::SpokeTooSoon), "{broken:?}");
    let small = swarm::shrink(&scenario, Rule::SpokeTooSoon).unwrap();
    assert!(small.faults.is_empty(), "it needs no fault: {:?}", small.faults);
    assert_eq!(small.nodes.iter().map(|nodes| nodes.count.most.0).sum::<u64>(), 3);
    // What is written to a file shows it again.
    let again = Scenario::read(&small.write().unwrap()).unwrap();
    assert!(swarm::run(&again).unwrap().iter().any(|violation| violation.rule == Rule::SpokeTooSoon));
}

#[test]
fn a_node_that_says_what_it_holds_again_and_again_is_found_out() {
    let scenario = Scenario { duration: Span(2 * 3_600_000), heal: Some(Span(3_600_000)), ..few() };
    let broken = |every: Option<Duration>| {
        let mut fleet = Fleet::new(&scenario, 1, Vec::new()).unwrap();
        let device = fleet.devices().nth(3).unwrap();
        if let Some(sync_interval) = every {
            // Other settings than those that it is judged by: half a minute, and not half an hour.
            let config = Config { sync_interval, ..fleet.world.agent(device).unwrap().config().clone() };
            fleet.world.give(device, Input::Settings(Box::new(config)));
        }
        fleet.run(|_| ());
        (device, fleet.world.violations().to_vec())
    };
    assert_eq!(broken(None).1, []);
    let (device, found) = broken(Some(Duration::from_secs(30)));
    assert!(matches!(&found[..], [of] if of.rule == Rule::NotQuiet && of.node == device), "{found:?}");
}

#[test]
fn liars_and_a_thief_delay_and_nothing_more() {
    let scenario = shipped("hostile_peers", &[("nodes.2.count", "45"), ("duration", "90min"), ("heal", "80min")]);
    let mut fleet = Fleet::new(&scenario, 1, Vec::new()).unwrap();
    fleet.run(|_| ());
    assert_eq!(fleet.world.violations(), []);
    let refused = &fleet.world.ledger().refused;
    assert!(refused["altered bytes"] > 0 && refused["forged metadata"] > 0, "{refused:?}");
    // Nobody ever had what the thief released.
    assert!(fleet.released.iter().all(|release| release.version != "66.6.6"));
}
