//! What swarms do.

use super::{Conduct, Swarm};

/// Bytes a second of a link of so many Mbit/s.
const fn mbit(mbit: u64) -> u64 {
    mbit * 125_000
}

const SIZE: u64 = 10 << 20;

#[test]
fn a_flat_swarm_takes_each_piece_from_its_source_about_once() {
    let mut swarm = Swarm::new(2 * SIZE, mbit(20));
    for _ in 0..12 {
        swarm.add(0, mbit(20), mbit(20), Conduct::Honest);
    }
    swarm.meet();
    let took = swarm.run(60).expect("all have it");
    assert!(took < 8389 * 115 / 100, "{took} ms");
    assert!(swarm.sent(0) < 1050, "{}", swarm.sent(0));
    assert!(swarm.sent_too_soon() < 15, "{}", swarm.sent_too_soon());
    assert!((1..=12).all(|node| swarm.came(node) <= 1010));
}

#[test]
fn slow_uplinks_are_all_used() {
    let mut swarm = Swarm::new(SIZE, mbit(10));
    for _ in 0..12 {
        swarm.add(0, mbit(4), mbit(50), Conduct::Honest);
    }
    swarm.meet();
    let took = swarm.run(200).expect("all have it");
    assert!(took < 17_355 * 110 / 100, "{took} ms");
}

fn sites() -> Swarm {
    let mut swarm = Swarm::new(SIZE, mbit(20));
    for _ in 0..4 {
        let site = swarm.site(mbit(2), mbit(8));
        for _ in 0..5 {
            swarm.add(site, mbit(100), mbit(100), Conduct::Honest);
        }
    }
    swarm
}

#[test]
fn each_piece_crosses_an_uplink_once_and_sites_help_each_other() {
    let mut swarm = sites();
    swarm.meet();
    let took = swarm.run(120).expect("all have it");
    let into: Vec<u64> = (1..=4).map(|site| swarm.taken_in(site)).collect();
    assert!(took < 11_985 * 115 / 100, "{took} ms");
    assert!(into.iter().all(|into| *into <= 1010), "{into:?}");
}

#[test]
fn when_the_one_that_pulls_dies_another_goes_on() {
    let mut swarm = sites();
    swarm.meet();
    swarm.wait(4000);
    swarm.kill(1);
    swarm.kill(7);
    let took = swarm.run(120).expect("the others have it");
    let into: Vec<u64> = (1..=4).map(|site| swarm.taken_in(site)).collect();
    assert!(took < 11_985 * 130 / 100, "{took} ms");
    assert!(into.iter().all(|into| *into <= 1080), "{into:?}");
}

#[test]
fn a_site_that_is_done_first_does_not_draw_the_others_away_from_the_source() {
    let mut swarm = Swarm::new(SIZE, mbit(20));
    for number in 0..4 {
        // The first one has a quick way in, and the same slow one out.
        let site = swarm.site(mbit(2), mbit(if number == 0 { 16 } else { 8 }));
        (0..5).for_each(|_| _ = swarm.add(site, mbit(100), mbit(100), Conduct::Honest));
    }
    swarm.meet();
    let took = swarm.run(120).expect("all have it");
    assert!(took < 11_985 * 115 / 100, "{took} ms");
}

/// A swarm of honest nodes with these liars among them: how long the honest take, against how long they take alone.
fn with_liars(conducts: &[Conduct], build: impl Fn(&[Conduct]) -> Swarm) {
    let alone = {
        let mut swarm = build(&[]);
        swarm.meet();
        swarm.run(100).expect("all have it")
    };
    let mut swarm = build(conducts);
    swarm.meet();
    let took = swarm.run(100).expect("the honest have it");
    assert!(took < alone * 3 / 2, "{took} ms for {alone}");
    assert_eq!(swarm.unnamed(), [0; 0]);
}

const LIARS: [Conduct; 4] = [Conduct::Alters, Conduct::Boasts, Conduct::Trickles, Conduct::Stalls];

#[test]
fn a_quarter_of_liars_costs_little_and_each_is_named() {
    with_liars(&LIARS, |liars| {
        let mut swarm = Swarm::new(2 * SIZE, mbit(20));
        let honest = std::iter::repeat_n(&Conduct::Honest, 12);
        honest.chain(liars).for_each(|conduct| _ = swarm.add(0, mbit(20), mbit(20), *conduct));
        swarm
    });
}

#[test]
fn a_liar_at_each_site_keeps_no_site_from_its_uplink() {
    with_liars(&LIARS, |liars| {
        let mut swarm = Swarm::new(2 * SIZE, mbit(20));
        for number in 0..4 {
            let site = swarm.site(mbit(2), mbit(8));
            let honest = std::iter::repeat_n(&Conduct::Honest, 3);
            honest.chain(liars.get(number)).for_each(|conduct| _ = swarm.add(site, mbit(100), mbit(100), *conduct));
        }
        swarm
    });
}
