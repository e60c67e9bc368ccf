//! Sealed bytes: what opens, and that nothing else does (T54, T55).

use burr_protocol::{
    Hash, RepositoryId,
    seal::{Owner, Part, SEGMENT, TAG, bundle_name, plain_size, sealed_size},
};
use proptest::prelude::*;

use super::{key_of, open, owner, plain, release_key, seal};

const SEALED: usize = SEGMENT + TAG;

fn sealed(plain: &[u8]) -> Vec<u8> {
    seal(&release_key(), Part::Payload, plain)
}

/// Refuses, and gave out nothing but the true beginning, up to the segment in which it is wrong.
#[track_caller]
fn refused(altered: &[u8], truth: &[u8], good_segments: usize) {
    let (given, result) = open(&release_key(), Part::Payload, altered);
    assert!(result.is_err(), "{} bytes were taken for whole", altered.len());
    assert!(given.len() <= good_segments * SEGMENT, "{} bytes given out of {good_segments} good segments", given.len());
    assert_eq!(given, truth[..given.len()]);
}

#[test]
fn what_is_sealed_opens_at_every_size() {
    for length in [0, 1, 100, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT + 7] {
        let plain = plain(length);
        let sealed = sealed(&plain);
        assert_eq!(sealed.len() as u64, sealed_size(length as u64), "§12.3");
        assert_eq!(plain_size(sealed.len() as u64), Some(length as u64));
        assert_eq!(open(&release_key(), Part::Payload, &sealed), (plain, Ok(())), "{length} bytes");
    }
}

#[test]
fn the_golden_segment_is_what_is_sealed() {
    let sealed = sealed(b"a sealed payload");
    assert_eq!(sealed, include_bytes!("../../golden/sealed.bin"), "§12.3");
}

/// T54, each bit of a stream of one segment.
#[test]
fn no_flipped_bit_of_a_short_stream_opens() {
    let plain = plain(300);
    let sealed = sealed(&plain);
    for bit in 0..sealed.len() * 8 {
        let mut altered = sealed.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        refused(&altered, &plain, 0);
    }
}

/// T54, bits at and around every edge of a longer stream, and in between.
#[test]
fn a_flipped_bit_of_a_long_stream_ends_it_before_its_segment() {
    let plain = plain(3 * SEGMENT + 1000);
    let sealed = sealed(&plain);
    let edges =
        (0..=3).flat_map(|n| [n * SEALED, n * SEALED + SEGMENT - 1, n * SEALED + SEGMENT, n * SEALED + SEALED - 1]);
    for at in edges.chain((0..sealed.len()).step_by(4099)).filter(|at| *at < sealed.len()) {
        for bit in [0, 7] {
            let mut altered = sealed.clone();
            altered[at] ^= 1 << bit;
            refused(&altered, &plain, at / SEALED);
        }
    }
}

/// T55.
#[test]
fn segments_that_are_moved_dropped_or_repeated_do_not_open() {
    let plain = plain(3 * SEGMENT + 1000);
    let sealed = sealed(&plain);
    let segments: Vec<&[u8]> = sealed.chunks(SEALED).collect();
    let [a, b, c, end] = segments[..] else { panic!("four segments") };
    let orders: [(&[&[u8]], usize); 12] = [
        (&[b, a, c, end], 0),
        (&[a, c, b, end], 1),
        (&[c, b, a, end], 0),
        (&[b, c, end], 0),
        (&[a, c, end], 1),
        (&[a, b, end], 2),
        (&[a, a, b, c, end], 1),
        (&[a, b, b, c, end], 2),
        (&[a, b, c, c, end], 3),
        (&[a, b, c, end, end], 3),
        (&[a, b, c, end, a], 3),
        (&[end], 0),
    ];
    for (order, good) in orders {
        refused(&order.concat(), &plain, good);
    }
}

/// T55: whole segments stand at the end, so that nothing but the mark of the last one is missing.
#[test]
fn a_stream_that_is_cut_or_longer_does_not_open() {
    let plain = plain(3 * SEGMENT);
    let sealed = sealed(&plain);
    for length in [0, 1, TAG - 1, TAG, SEALED - 1, SEALED, SEALED + 1, 2 * SEALED - TAG, 2 * SEALED, 3 * SEALED - 1] {
        refused(&sealed[..length], &plain, length / SEALED);
    }
    for more in [1, TAG, TAG + 1, SEALED] {
        refused(&[&sealed[..], &vec![0; more]].concat(), &plain, 3);
    }
}

/// T55: whatever it is taken from, under the same key or another.
#[test]
fn segments_of_something_else_do_not_open() {
    let plain = plain(2 * SEGMENT);
    let of = |change: fn(&mut Owner)| {
        let mut owner = owner();
        change(&mut owner);
        seal(&key_of(owner, 2), Part::Payload, &plain)
    };
    let others = [
        of(|owner| owner.seq = 8),
        of(|owner| owner.channel = "beta".to_owned()),
        of(|owner| owner.app = "till".to_owned()),
        of(|owner| owner.epoch.number = 2),
        of(|owner| owner.epoch.fleet = "trucks".to_owned()),
        of(|owner| owner.epoch.repository = RepositoryId([9; 32])),
        // The same letters, parted elsewhere.
        of(|owner| (owner.app, owner.channel) = ("shops".to_owned(), "table".to_owned())),
        seal(&release_key(), Part::Manifest, &plain),
        seal(&key_of(owner(), 3), Part::Payload, &plain),
    ];
    let sealed = sealed(&plain);
    for other in others {
        refused(&other, &plain, 0);
        refused(&[&sealed[..SEALED], &other[SEALED..]].concat(), &plain, 1);
        refused(&[&other[..SEALED], &sealed[SEALED..]].concat(), &plain, 0);
    }
}

#[test]
fn sizes_that_nothing_has_are_refused() {
    for size in [0, 1, TAG - 1, SEALED + 1, SEALED + TAG, 2 * SEALED + TAG] {
        assert_eq!(plain_size(size as u64), None, "{size}");
    }
    assert_eq!(plain_size(u64::MAX), plain_size(u64::MAX), "no overflow");
    assert_eq!(sealed_size(u64::MAX), u64::MAX);
}

#[test]
fn a_sealed_bundle_is_named_by_its_sealed_manifest() {
    for length in [0, 40, SEGMENT, SEGMENT + 1, 2 * SEGMENT] {
        let manifest = plain(length);
        let named = bundle_name(&release_key(), &manifest);
        assert_eq!(named, Hash::of(&seal(&release_key(), Part::Manifest, &manifest)), "§12.5");
        assert_ne!(named, bundle_name(&key_of(owner(), 3), &manifest), "it tells nothing of the content");
    }
}

proptest! {
    #[test]
    fn every_size_is_the_size_of_one_length(length in 0u64..1 << 40) {
        prop_assert_eq!(plain_size(sealed_size(length)), Some(length));
    }
}
