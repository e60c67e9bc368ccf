//! An agent that is written down in the middle of its work and read back goes on as if nothing had been: so a flight
//! recording may begin anywhere in a run. Here whole fleets do so at every few inputs, and nothing is different.

use burr_protocol::Hash;
use burr_sim::{
    fleet::Fleet,
    scenario::{SHIPPED, Scenario},
    swarm,
};

/// The digest of all actions of a fleet, and how many inputs it took.
fn run(scenario: &Scenario, seed: u64, snapshots: Option<u64>) -> (Hash, u64) {
    let mut fleet = Fleet::new(scenario, seed, Vec::new()).unwrap();
    if let Some(every) = snapshots {
        fleet.world.go_on_from_snapshots(every);
    }
    fleet.run(|_| ());
    (fleet.digest(), fleet.world.handled())
}

fn shipped(name: &str, changes: &[(&str, &str)]) -> Scenario {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == name).unwrap().1;
    let changes: Vec<_> = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Scenario::read_with(text, &changes).unwrap()
}

/// A release over sites with far and near providers, hedges and maps: at every single input.
#[test]
fn a_rollout_goes_on_from_snapshots_as_without() {
    let lab = shipped("lab_s2", &[("releases.0.size", "3 MB"), ("duration", "90s")]);
    let (plain, handled) = run(&lab, 1, None);
    assert!(handled > 2000, "{handled}");
    assert_eq!(run(&lab, 1, Some(1)).0, plain);
}

/// Updates that fail, receipts, liars, crashes and cuts, by two seeds of the swarm; a number of inputs that no habit has.
#[test]
fn whatever_goes_wrong_goes_on_from_snapshots_as_without() {
    let few = [("sites.1.count", "2"), ("nodes.2.count", "3"), ("duration", "10h"), ("heal", "7h")];
    for seed in 1..=2 {
        let scenario = swarm::draw(&shipped("swarm", &few), seed);
        let (plain, handled) = run(&scenario, seed, None);
        assert_eq!(run(&scenario, seed, Some(23)).0, plain, "seed {seed}, {handled} inputs");
    }
}
