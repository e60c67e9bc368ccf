//! A fetch that is interrupted, at many moments: what was verified stays, and at most a piece of each provider comes twice.

use std::time::Duration;

use burr_protocol::fetch::MIN_PIECE;
use burr_sim::NodeIndex;

use super::{MIB, Pair, RATE, active, stable};

const SIZE: u64 = 16 * MIB;

/// What happens to a fetch, for a second.
#[derive(Debug, Clone, Copy)]
enum Interruption {
    /// The device's power is cut.
    Device,
    /// A source's is.
    Source,
    /// The device and a source lose each other.
    Way,
}

const KINDS: [Interruption; 3] = [Interruption::Device, Interruption::Source, Interruption::Way];

/// A device fetches from so many sources, each over a link of its own, and is interrupted after so many milliseconds: what
/// happens to a source happens to the one of this number. Returns the bytes that had come by then, and those that came
/// twice.
fn interrupted(kind: Interruption, sources: usize, lost: usize, at: u64) -> (u64, u64) {
    let mut pair = Pair::apart(stable());
    let release = pair.publish("1.0.0", SIZE);
    let mut all: Vec<NodeIndex> = vec![pair.source];
    while all.len() < sources {
        let other = pair.add_cache();
        pair.world.import(other, pair.shop.id(), Some((release.payload.blob, SIZE)), pair.shop.pack());
        all.push(other);
    }
    for source in &all {
        pair.link(*source, pair.device);
    }
    pair.world.run(Duration::from_millis(at));
    let before = pair.world.received(pair.device);
    let lost = all[lost];
    match kind {
        Interruption::Device => pair.world.crash(pair.device),
        Interruption::Source => pair.world.crash(lost),
        Interruption::Way => pair.world.cut(lost, pair.device),
    }
    pair.run(1);
    match kind {
        Interruption::Device => pair.world.start(pair.device),
        Interruption::Source => pair.world.start(lost),
        Interruption::Way => pair.link(lost, pair.device),
    }
    pair.run(60);
    assert_eq!(pair.outcomes(pair.device), [active("1.0.0")]);
    (before, pair.world.received(pair.device) - SIZE)
}

/// Interrupts fetches from so many sources, one every `step` milliseconds of the time that one takes.
fn whenever_it_is_interrupted(sources: usize, step: usize) {
    let lasts = SIZE / RATE * 1000 / sources as u64;
    for kind in KINDS {
        let (mut interruptions, mut cut_short) = (0, 0);
        for at in (100..lasts).step_by(step) {
            // Each source in turn.
            let lost = interruptions % sources;
            let (before, twice) = interrupted(kind, sources, lost, at);
            let most = MIN_PIECE * sources as u64;
            assert!(twice <= most, "{kind:?} {lost} after {at} ms, {before} bytes: {twice} came twice");
            interruptions += 1;
            cut_short += usize::from(0 < before && before < SIZE);
        }
        assert!(cut_short * 10 >= interruptions * 9, "{cut_short} of {interruptions} met a fetch");
    }
}

#[test]
fn at_most_a_piece_comes_twice_whenever_a_fetch_is_interrupted() {
    // §7.7: who fetches alone asks in runs of up to 2 MiB here, and what came of one stays.
    whenever_it_is_interrupted(1, 230);
}

#[test]
fn at_most_a_piece_of_each_source_comes_twice_whenever_one_of_two_is_lost() {
    // §7.7: the other source goes on, and is asked for nothing that the lost one brought.
    whenever_it_is_interrupted(2, 130);
}

#[test]
fn at_most_a_piece_of_each_source_comes_twice_whenever_one_of_three_is_lost() {
    whenever_it_is_interrupted(3, 130);
}
