//! What strangers can name costs in proportion to what they name: a plan that looks at all of it again for each part
//! would hold a node up for minutes. Rule numbers are those of `protocol/README.md`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use burr_protocol::{
    Hash, NodeId, RepositoryId, Time,
    cache::{self, BASE, Disk, Stored, on_disk},
    config::{Config, MAX_PEERS},
    fetch::{Job, MAX_PIECES, MIN_PIECE, PieceMap, Step},
    table::Table,
};

/// Many times what the slowest machine that this runs on needs, unoptimised, and far less than squares of these numbers.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_plan_over_very_many_wishes_is_one_walk() {
    // §7.9: each wished for twice, half of them here already.
    let blob = |number: u32| Hash::of(&number.to_be_bytes());
    let wishes: Vec<_> = (0..200_000).chain(0..200_000).map(|number| (blob(number), 10)).collect();
    let store: Table<_, _> = (0..100_000).map(|number| (blob(number), Stored { size: 10, whole: true })).collect();
    let (none, nothing) = (BTreeSet::new(), Table::default());
    let disk = Disk { store: &store, pinned: &none, read: &none, leaving: &nothing };
    let began = Instant::now();
    let plan = cache::plan(&wishes, disk, BASE + 150_000 * on_disk(10));
    let took = began.elapsed();
    assert_eq!((plan.fetch.len(), plan.delete.len()), (50_000, 0));
    assert!(took < LONG, "{took:?}");
}

#[test]
fn the_largest_blob_among_the_most_peers_is_planned_in_a_moment() {
    // §7.4: every place taken by a peer that has half of the pieces, each another half.
    let size = MIN_PIECE * MAX_PIECES;
    let mut job = Job::new(NodeId([0; 32]), RepositoryId([1; 32]), Hash([9; 32]), size, Time(0));
    let node = |number: usize| NodeId(Hash::of(&number.to_be_bytes()).0);
    for number in 0..MAX_PEERS {
        let map = (0..MAX_PIECES / 8).map(|byte| Hash::of(&[number as u64, byte].map(u64::to_be_bytes).concat()).0[0]);
        job.fetches(node(number), true, Time(0));
        job.provides(node(number), size, &PieceMap::Some(map.collect()), Time(0));
        job.is_near(node(number), true);
    }
    let config = Config::default();
    let (mut next, mut asked) = (0, 0);
    let began = Instant::now();
    for round in 1..=4 {
        let steps = job.steps(Time(round * 10), &mut next, &config);
        for step in steps {
            if let Step::Ask(request) = step {
                asked += 1;
                job.fetched(request.id, Time(round * 10 + 5), &config);
            }
        }
    }
    let took = began.elapsed();
    assert!((config.requests_per_job / 2..=4 * config.requests_per_job).contains(&asked), "{asked} requests");
    assert!(took < LONG, "{asked} requests were chosen in {took:?}");
}
