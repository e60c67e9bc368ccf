//! Metadata as a rumour: agents that meet in rounds, as the theory of gossip has it.

use std::time::Duration;

use burr_protocol::config::Config;
use burr_sim::{NodeIndex, Publisher, World, random::Stream, story::EPOCH};

const NODES: usize = 1024;
const ROUND: Duration = Duration::from_secs(1);

/// Rounds until all have heard what the first one knows. In each round every node that is to call meets another one,
/// each as likely: those that know it, or all. What is heard in a round is passed on in the next, so that two of whom
/// neither knows it, or both, need not meet.
fn rounds(seed: u64, all_call: bool) -> u32 {
    let mut world = World::of_seed(seed, EPOCH);
    let shop = Publisher::new("shop", "rumours", EPOCH);
    let never = Duration::from_secs(3600);
    let config = Config { follows: vec![shop.cached()], dial_backoff: (never, never), ..Config::default() };
    let nodes: Vec<NodeIndex> = (0..NODES).map(|_| world.add(config.clone())).collect();
    world.import(nodes[0], shop.id(), None, shop.pack());
    world.run(ROUND);
    let mut luck = Stream::of(seed, 0, "calls");
    let mut rounds = 0;
    loop {
        let knows: Vec<bool> = nodes.iter().map(|node| world.disk(*node).metadata(shop.id()).is_some()).collect();
        if knows.iter().all(|knows| *knows) {
            return rounds;
        }
        rounds += 1;
        let mut met = Vec::new();
        for caller in (0..NODES).filter(|caller| all_call || knows[*caller]) {
            let called = (caller + 1 + luck.index(NODES - 1)) % NODES;
            if knows[caller] != knows[called] && !world.is_linked(caller, called) {
                world.link(caller, called, Duration::from_millis(1), 1 << 20);
                met.push((caller, called));
            }
        }
        world.run(ROUND);
        for (a, b) in met {
            world.unlink(a, b);
        }
    }
}

fn mean(all_call: bool) -> f64 {
    let seeds: u32 = 4;
    f64::from((1..=seeds).map(|seed| rounds(u64::from(seed), all_call)).sum::<u32>()) / f64::from(seeds)
}

/// Push: log2 n + ln n + about 1.1, 18.1 rounds for 1,024 nodes (Pittel, "On spreading a rumor", SIAM Journal on Applied
/// Mathematics 1987). Tolerance: 11 %, three standard errors of the mean of four runs.
#[test]
fn pushed_it_takes_the_rounds_that_theory_says() {
    let rounds = mean(false);
    assert!((rounds - 18.1).abs() < 0.11 * 18.1, "{rounds}");
}

/// Push and pull: about 9.1 rounds (Karp, Schindelhauer, Shenker and Vöcking, "Randomized rumor spreading", FOCS 2000:
/// log3 n + O(log log n)). Tolerance: 8 %, three standard errors of the mean of four runs.
#[test]
fn pushed_and_pulled_it_takes_half_of_them() {
    let rounds = mean(true);
    assert!((rounds - 9.1).abs() < 0.08 * 9.1, "{rounds}");
}
