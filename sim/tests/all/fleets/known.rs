//! Against results that are known: whoever is right about epidemics, swarms and floods, these must agree with.

use std::{collections::BTreeMap, time::Duration};

use burr_protocol::config::{Config, Install};
use burr_sim::{
    Publisher, World,
    fleet::Fleet,
    random::Stream,
    scenario::{Scenario, TraceFormat},
    story::EPOCH,
    trace,
    world::{Habit, PlaceModel},
};

const MIB: u64 = 1 << 20;

/// A pure-birth process: with n of N nodes infected, the next is after a mean of 1 / (λ n (N - n)). A node's delivery
/// takes H(N - 1) / (λ (N - 1)) on average, and the last one's 2 H(N - 1) / (λ N) (Groenevelt, Nain and Koole, "The
/// message delay in mobile ad hoc networks", Performance Evaluation 2005; Daley and Gani, "Epidemic modelling", 1999).
/// With N = 100 and λ = 1/h that is 188.3 s and 372.8 s. Tolerance: 10 %. Of 24 runs the standard error of the means is
/// 4 % at most, and a meeting's exchange takes up to half a second at each of about seven hops, 2 % more.
#[test]
fn an_epidemic_of_meetings_takes_the_time_that_theory_says() {
    let text = r#"
        teaches = "epidemics"
        duration = "15min"
        config = { max_receipts = 1 }
        meetings = { every = "1h", lasting = "2s", rate = "100 Mbit/s" }
        [[nodes]]
        name = "publisher"
        role = "publisher"
        [[nodes]]
        name = "device"
        role = "device"
        count = 99
        [[releases]]
        at = "0s"
        version = "1.0.0"
        size = "1 kB"
    "#;
    let scenario = Scenario::read(text).unwrap();
    let (mut means, mut lasts) = (Vec::new(), Vec::new());
    for seed in 1..=24 {
        let mut fleet = Fleet::new(&scenario, seed, Vec::new()).unwrap();
        fleet.run(|_| ());
        let adopted = &fleet.world.ledger().rollouts[0].adopted;
        assert_eq!(adopted.len(), 99, "seed {seed}");
        let seconds: Vec<f64> = adopted.iter().map(|(time, _)| time.0 as f64 / 1000.0).collect();
        means.push(seconds.iter().sum::<f64>() / 99.0);
        lasts.push(seconds[98]);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let near = |value: f64, theory: f64| (value - theory).abs() < 0.10 * theory;
    assert!(near(mean(&means), 188.3), "{}", mean(&means));
    assert!(near(mean(&lasts), 372.8), "{}", mean(&lasts));
}

/// Nodes of these rates (bytes a second, out and in) that all know each other, the first with the only copy; returns how
/// long it takes until all have it.
fn swarm(rates: &[(u64, u64)], size: u64) -> Duration {
    let mut world = World::of_seed(1, EPOCH);
    let place = world.add_place(PlaceModel {
        delay: Duration::from_millis(1),
        neighbours: usize::MAX,
        goodput: 1.0,
        uplink: None,
    });
    let mut shop = Publisher::new("shop", "known", EPOCH);
    let source = world.add(Config { follows: vec![shop.cached()], collect: true, ..Config::default() });
    let follows = vec![shop.installed(Install::of("stable"))];
    let devices: Vec<_> =
        rates[1..].iter().map(|_| world.add(Config { follows: follows.clone(), ..Config::default() })).collect();
    for (node, (up, down)) in std::iter::once(source).chain(devices.clone()).zip(rates) {
        world.set_rate(node, *up, *down);
        world.settle_down(node, Habit::Always(place));
    }
    world.run(Duration::from_secs(5));
    let begin = world.time();
    let release = shop.release("1.0.0", size, EPOCH);
    world.import(source, shop.id(), Some((release.payload.blob, size)), shop.pack());
    let all = |world: &World| devices.iter().all(|device| world.disk(*device).current("shop") == Some(release.bundle));
    assert!(world.run_while(Duration::from_secs(7200), all));
    world.time().since(begin)
}

/// The time in which a fluid can be with all: `F / min(u_s, (u_s + Σ u_i) / N, d_min)` (Kumar and Ross, "Peer-assisted
/// file distribution: the minimum distribution time", HOTWEB 2006). Nothing is ever faster, whatever the rates.
#[test]
fn no_swarm_is_faster_than_the_fluid_bound() {
    let mut stream = Stream::of(1, 0, "rates");
    for (nodes, size) in [(2, 4 * MIB), (5, 16 * MIB), (12, 20 * MIB)] {
        let rate = |stream: &mut Stream| stream.between(MIB / 2, 4 * MIB);
        let rates: Vec<_> = (0..nodes).map(|_| (rate(&mut stream), rate(&mut stream))).collect();
        let receivers = f64::from(nodes - 1);
        let up: u64 = rates.iter().map(|(up, _)| up).sum();
        let down = rates[1..].iter().map(|(_, down)| *down).min().unwrap() as f64;
        let fluid = size as f64 / (rates[0].0 as f64).min(up as f64 / receivers).min(down);
        let took = swarm(&rates, size).as_secs_f64();
        assert!(took >= fluid, "{nodes} nodes: {took} s, the bound is {fluid} s");
    }
}

/// With equal rates and M pieces, no schedule ends before 1 + floor(log2 N) / M times a single copy's time (Mundinger,
/// Weber and Weiss, "Optimal scheduling of peer-to-peer file dissemination", Journal of Scheduling 2008).
#[test]
fn no_swarm_of_equals_is_faster_than_the_best_schedule() {
    let (receivers, pieces) = (15_u32, 64_u64);
    let size = pieces * burr_protocol::fetch::MIN_PIECE;
    let rates = vec![(2 * MIB, 2 * MIB); receivers as usize + 1];
    let single = size as f64 / (2 * MIB) as f64;
    let best = single * (1.0 + f64::from(receivers.ilog2()) / pieces as f64);
    let took = swarm(&rates, size).as_secs_f64();
    assert!(took >= best, "{took} s, the best is {best} s");
}

/// A trace of 30 nodes that walk at random, made here in the form of The ONE's connectivity report, and the earliest
/// moment at which flooding reaches each node over it: Dijkstra over contacts (Jain, Fall and Patra, "Routing in a delay
/// tolerant network", SIGCOMM 2004). Agents over the same contacts reach each node then. Tolerance: never earlier, and at
/// most 2 s later for each hop of the way, which is what an exchange of a small release takes; nobody else is reached.
#[test]
fn flooding_over_a_trace_is_what_an_independent_computation_says() {
    let text = include_str!("../../../traces/walk.one");
    let contacts = trace::read(text, TraceFormat::One).unwrap();
    let nodes = contacts.iter().map(|contact| contact.a.max(contact.b)).max().unwrap() + 1;

    // The independent computation: over whole contacts, until nothing is earlier.
    let mut whole: Vec<(u64, u64, u32, u32)> = Vec::new();
    let mut open: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for contact in &contacts {
        if contact.up {
            open.insert((contact.a, contact.b), contact.at);
        } else if let Some(from) = open.remove(&(contact.a, contact.b)) {
            // One that is shorter than an exchange takes carries nothing in any model with a link.
            whole.push((from, contact.at, contact.a, contact.b));
        }
    }
    let exchange = 2000;
    let mut reached: BTreeMap<u32, (u64, u64)> = BTreeMap::from([(0, (0, 0))]);
    loop {
        let before = reached.clone();
        for (from, until, a, b) in &whole {
            for (one, other) in [(a, b), (b, a)] {
                let Some((at, hops)) = reached.get(one).copied() else { continue };
                let there = at.max(*from);
                let known = reached.get(other).map_or(u64::MAX, |(known, _)| *known);
                if there + exchange <= *until && there < known {
                    reached.insert(*other, (there, hops + 1));
                }
            }
        }
        if reached == before {
            break;
        }
    }
    assert!(reached.len() > 20, "the trace connects most nodes");

    let text = format!(
        r#"
        teaches = "flooding"
        duration = "2h"
        trace = {{ file = "walk.one", format = "one", rate = "100 Mbit/s" }}
        [[nodes]]
        name = "publisher"
        role = "publisher"
        [[nodes]]
        name = "device"
        role = "device"
        count = {}
        [[releases]]
        at = "0s"
        version = "1.0.0"
        size = "1 kB"
        "#,
        nodes - 1
    );
    let mut fleet = Fleet::new(&Scenario::read(&text).unwrap(), 1, contacts).unwrap();
    fleet.run(|_| ());
    let adopted: BTreeMap<u32, u64> =
        fleet.world.ledger().rollouts[0].adopted.iter().map(|(time, node)| (*node, time.0)).collect();
    for (node, (at, hops)) in reached.iter().filter(|(node, _)| **node != 0) {
        let took = adopted.get(node).copied().unwrap_or_else(|| panic!("node {node} is reached at {at} ms"));
        assert!((*at..=at + hops * exchange).contains(&took), "node {node}: {took} ms, flooding {at} ms, {hops} hops");
    }
    assert_eq!(adopted.len() + 1, reached.len());
}
