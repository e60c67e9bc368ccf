//! How fast a payload is sealed and opened on one core, beside copying and naming the same bytes, and in how much memory:
//! `cargo bench -p burr-protocol --bench seal`.
//!
//! Argument: MiB to seal, 1024 if none is given. Each round seals and opens a stream of that length, segment by segment,
//! as a node does between two files; the best of five rounds is printed.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a benchmark measures time and prints"
)]

use std::{env, fs, hint::black_box, time::Instant};

use burr_protocol::{
    RepositoryId,
    seal::{Epoch, Opening, Owner, Part, ReleaseKey, SEGMENT, Sealing, TAG, sealed_size},
};

const ROUNDS: u32 = 5;
const MIB: usize = 1 << 20;

fn main() {
    let given = env::args().skip(1).find_map(|argument| argument.parse::<u32>().ok());
    let mib = given.unwrap_or(1024);
    let segments = u64::from(mib) * (MIB / SEGMENT) as u64;
    let plain: Vec<u8> = (0..SEGMENT).map(|n| u8::try_from(n % 251).expect("below 251")).collect();
    let before = peak_memory();
    let mut best = [f64::MAX; 4];
    for _ in 0..ROUNDS {
        let round = [copy(&plain, segments), name(&plain, segments), seal(&plain, segments), open(&plain, segments)];
        best.iter_mut().zip(round).for_each(|(best, now)| *best = best.min(now));
    }
    for (what, seconds) in ["copy", "blake3", "seal", "open"].iter().zip(best) {
        println!("{what:>6}: {:>8.0} MiB/s", f64::from(mib) / seconds);
    }
    println!("memory: {} KiB more at the peak, for {mib} MiB", peak_memory() - before);
}

fn key() -> ReleaseKey {
    let epoch = Epoch { repository: RepositoryId([1; 32]), fleet: "stores".to_owned(), number: 1 };
    let owner = Owner { epoch, app: "shop".to_owned(), channel: "stable".to_owned(), seq: 1 };
    ReleaseKey::new(owner, [7; 32])
}

fn copy(plain: &[u8], segments: u64) -> f64 {
    let mut segment = Vec::with_capacity(SEGMENT + TAG);
    timed(|| {
        for _ in 0..segments {
            segment.clear();
            segment.extend_from_slice(plain);
            black_box(&segment);
        }
    })
}

fn name(plain: &[u8], segments: u64) -> f64 {
    let mut hasher = blake3::Hasher::new();
    timed(|| {
        for _ in 0..segments {
            hasher.update(plain);
        }
        black_box(hasher.finalize());
    })
}

fn seal(plain: &[u8], segments: u64) -> f64 {
    let mut segment = Vec::with_capacity(SEGMENT + TAG);
    timed(|| {
        let mut sealing = Sealing::new(&key(), Part::Payload);
        for _ in 1..segments {
            segment.clear();
            segment.extend_from_slice(plain);
            sealing.next(&mut segment);
            black_box(&segment);
        }
        segment.clear();
        segment.extend_from_slice(plain);
        sealing.last(&mut segment);
    })
}

/// A segment is sealed outside of the measured time, then opened inside of it.
fn open(plain: &[u8], segments: u64) -> f64 {
    let key = key();
    let mut sealing = Some(Sealing::new(&key, Part::Payload));
    let size = sealed_size(segments * SEGMENT as u64);
    let mut opening = Opening::new(&key, Part::Payload, size).expect("the size of whole segments");
    let mut segment = Vec::with_capacity(SEGMENT + TAG);
    let mut seconds = 0.0;
    for left in (0..segments).rev() {
        segment.clear();
        segment.extend_from_slice(plain);
        match sealing.take() {
            Some(last) if left == 0 => last.last(&mut segment),
            under_way => {
                let mut under_way = under_way.expect("taken by the last segment alone");
                under_way.next(&mut segment);
                sealing = Some(under_way);
            }
        }
        seconds += timed(|| opening.open(&mut segment).expect("what was sealed opens"));
        black_box(&segment);
    }
    assert_eq!(opening.wants(), 0, "all was opened");
    seconds
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// KiB that this process had in memory at its peak; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}
