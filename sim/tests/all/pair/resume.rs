//! A fetch that is interrupted, at many moments: what was verified stays, and at most a piece comes twice.

use std::time::Duration;

use burr_protocol::fetch::MIN_PIECE;

use super::{MIB, Pair, active, stable};

const SIZE: u64 = 16 * MIB;
/// How long the fetch takes alone, in milliseconds.
const LASTS: u64 = 16_000;

/// What happens to a fetch.
#[derive(Debug, Clone, Copy)]
enum Interruption {
    /// The device's power is cut.
    Device,
    /// The source's is.
    Source,
    /// They lose each other.
    Way,
}

#[test]
fn at_most_a_piece_comes_twice_whenever_a_fetch_is_interrupted() {
    // §7.7: who fetches alone asks in runs of up to 2 MiB here, and what came of one stays.
    for kind in [Interruption::Device, Interruption::Source, Interruption::Way] {
        let (mut interruptions, mut cut_short) = (0, 0);
        for at in (100..LASTS).step_by(230) {
            let mut pair = Pair::new(stable());
            pair.publish("1.0.0", SIZE);
            pair.world.run(Duration::from_millis(at));
            let before = pair.world.received(pair.device);
            match kind {
                Interruption::Device => pair.world.crash(pair.device),
                Interruption::Source => pair.world.crash(pair.source),
                Interruption::Way => pair.part(),
            }
            pair.run(1);
            match kind {
                Interruption::Device => pair.world.start(pair.device),
                Interruption::Source => pair.world.start(pair.source),
                Interruption::Way => pair.meet(),
            }
            pair.run(60);
            assert_eq!(pair.outcomes(pair.device), [active("1.0.0")]);
            let twice = pair.world.received(pair.device) - SIZE;
            assert!(twice <= MIN_PIECE, "{kind:?} after {at} ms, {before} bytes: {twice} came twice");
            interruptions += 1;
            cut_short += u64::from(0 < before && before < SIZE);
        }
        assert!(cut_short * 10 >= interruptions * 9, "{cut_short} of {interruptions} met a fetch");
    }
}
