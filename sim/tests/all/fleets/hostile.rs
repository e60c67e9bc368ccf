//! A swarm of which a quarter lies, each liar in another way: honest devices lose little time, and know who lied.

use burr_protocol::{Time, fact::Fact, peers::Lie};
use burr_sim::{
    fleet::Fleet,
    scenario::{Fault, FaultKind, Role, SHIPPED, Scenario, Who, quantity::Span},
    world::NodeIndex,
};

/// Seeds with each kind of swarm.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=4;

fn shipped(name: &str) -> Scenario {
    Scenario::read(SHIPPED.iter().find(|(shipped, _)| *shipped == name).unwrap().1).unwrap()
}

/// The lab's four sites, each with three honest devices and a liar.
fn sites() -> Scenario {
    let mut scenario = shipped("lab_s2");
    let who = |group: &str| Who { group: group.to_owned(), number: 0 };
    let kinds = [
        FaultKind::AltersBytes { node: who("liar_north") },
        FaultKind::Boasts { node: who("liar_east") },
        FaultKind::Trickles { node: who("liar_south") },
        FaultKind::Stalls { node: who("liar_west") },
    ];
    for kind in kinds {
        let liar = kind.node().unwrap().group.clone();
        let device = liar.replace("liar", "device");
        let honest = scenario.nodes.iter_mut().find(|nodes| nodes.name == device).unwrap();
        (honest.count.least.0, honest.count.most.0) = (3, 3);
        let mut nodes = honest.clone();
        (nodes.name, nodes.count.least.0, nodes.count.most.0) = (liar, 1, 1);
        scenario.nodes.push(nodes);
        scenario.faults.push(Fault { at: Span(1000), lasting: scenario.duration, kind });
    }
    scenario.check = true;
    scenario
}

/// The same swarm without its liars.
fn honest(scenario: &Scenario) -> Scenario {
    let mut honest = scenario.clone();
    honest.faults.clear();
    honest.nodes.retain(|nodes| !nodes.name.starts_with("liar"));
    honest
}

fn run(scenario: &Scenario, seed: u64) -> Fleet {
    let mut fleet = Fleet::new(scenario, seed, Vec::new()).unwrap();
    fleet.run(|_| ());
    assert_eq!(fleet.world.violations(), []);
    fleet
}

fn nodes(fleet: &Fleet, group: &str) -> Vec<NodeIndex> {
    let groups = fleet.groups.iter().filter(|of| of.name.starts_with(group) && of.role == Role::Device);
    groups.flat_map(|group| group.nodes.clone()).collect()
}

/// Seconds until the last honest device had the release.
fn took(fleet: &Fleet) -> f64 {
    let rollout = &fleet.world.ledger().rollouts[0];
    let honest = nodes(fleet, "device");
    let of = |(at, node): &(Time, u32)| honest.contains(&(*node as usize)).then_some(*at);
    let adopted: Vec<Time> = rollout.adopted.iter().filter_map(of).collect();
    assert_eq!(adopted.len(), honest.len(), "an honest device did not get it");
    adopted.last().unwrap().since(rollout.at).as_secs_f64()
}

/// How a liar is named by the honest devices.
fn names(fleet: &Fleet, liar: NodeIndex) -> Vec<String> {
    let id = fleet.world.id(liar);
    let name = |fact: &Fact| match fact {
        Fact::PeerRefused { node, lie, .. } if *node == id => Some(lie.to_string()),
        Fact::ProviderFailed { node, why, .. } if *node == id => Some(why.clone()),
        _ => None,
    };
    let facts = nodes(fleet, "device").into_iter().flat_map(|device| fleet.world.facts(device));
    let mut names: Vec<String> = facts.filter_map(|(_, fact)| name(fact)).collect();
    names.sort();
    names.dedup();
    names
}

/// Runs a swarm with and without its liars: the honest lose little, and name each liar for what it did.
fn costs_little(scenario: &Scenario) {
    let without = honest(scenario);
    for seed in SEEDS {
        let alone = took(&run(&without, seed));
        let fleet = run(scenario, seed);
        let ratio = took(&fleet) / alone;
        assert!(ratio < 1.5, "seed {seed}: {ratio} x {alone} s");
        let expected = [
            Lie::AlteredBytes.to_string(),
            "it does not have what it said".to_owned(),
            "it stood still, and others are asked for what it held up".to_owned(),
            "it stood still, and others are asked for what it held up".to_owned(),
        ];
        for (liar, expected) in nodes(&fleet, "liar").into_iter().zip(expected) {
            assert_eq!(names(&fleet, liar), [expected], "seed {seed}");
        }
        for honest in nodes(&fleet, "device") {
            assert_eq!(names(&fleet, honest), [""; 0], "seed {seed}: an honest one was named");
        }
    }
}

#[test]
fn a_quarter_of_liars_on_a_lan_costs_little_and_each_is_named() {
    costs_little(&shipped("hostile_swarm"));
}

#[test]
fn a_liar_at_each_site_costs_little_and_each_is_named() {
    costs_little(&sites());
}
