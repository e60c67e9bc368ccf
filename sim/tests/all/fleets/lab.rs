//! The lab's scenarios as fleets: what runs on real nodes in network namespaces with shaped links (`tests/lab/burr.json`).
//! How far the two agree is in `README.md`; here it is held that the model stays possible, and near the fluid bound.

use burr_sim::{
    fleet::Fleet,
    scenario::{SHIPPED, Scenario},
};

/// The time until the last device had it, as a multiple of the fluid bound in seconds.
fn over_the_bound(name: &str, bound: f64) -> f64 {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == name).unwrap().1;
    let mut fleet = Fleet::new(&Scenario::read(text).unwrap(), 1, Vec::new()).unwrap();
    let devices = fleet.devices().count();
    fleet.run(|_| ());
    let rollout = &fleet.world.ledger().rollouts[0];
    assert_eq!(rollout.adopted.len(), devices);
    let last = rollout.adopted.last().unwrap().0;
    last.since(rollout.at).as_secs_f64() / bound
}

/// Twelve nodes and their origin at 20 Mbit/s, 20 MiB: `F / d` is 8.389 s.
#[test]
fn a_flat_network_takes_little_more_than_the_fluid_bound() {
    let ratio = over_the_bound("lab_s1", 8.389);
    assert!((1.0..1.25).contains(&ratio), "{ratio}");
}

/// Four sites of five behind 8 Mbit/s in and 2 out, the origin at 20: `4 F / (20 + 4 x 2) Mbit/s` is 23.967 s.
#[test]
fn four_sites_take_little_more_than_the_fluid_bound() {
    let ratio = over_the_bound("lab_s2", 23.967);
    assert!((1.0..1.3).contains(&ratio), "{ratio}");
}
