//! Which pieces are asked of whom. Rule numbers are those of `protocol/README.md`.

use std::{collections::BTreeMap, time::Duration};

use burr_protocol::{
    Hash, NodeId, RepositoryId, Time,
    config::Config,
    fetch::{GROUP, Job, MAX_PIECES, MIN_PIECE, PieceMap, Pieces, Request, Step, piece_size},
    release::MAX_PAYLOAD,
};
use proptest::{collection::vec, prelude::*};

const REPOSITORY: RepositoryId = RepositoryId([1; 32]);

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

fn job(size: u64) -> Job {
    Job::new(node(0), REPOSITORY, Hash([9; 32]), size, Time(0))
}

fn asks(steps: Vec<Step>) -> Vec<Request> {
    steps.into_iter().filter_map(|step| if let Step::Ask(request) = step { Some(request) } else { None }).collect()
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    Failed,
    Lacks,
    Lost,
    Silent,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Answered),
        2 => Just(Fate::Failed),
        1 => Just(Fate::Lacks),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Silent),
    ]
}

proptest! {
    // §7.1
    #[test]
    fn pieces_are_few_and_of_whole_groups(size in 0..=MAX_PAYLOAD) {
        let piece = piece_size(size);
        prop_assert!(piece >= MIN_PIECE && piece.is_multiple_of(GROUP) && piece.is_power_of_two());
        prop_assert!(size.div_ceil(piece) <= MAX_PIECES);
        let none = Pieces::none(size);
        prop_assert_eq!(none.count() as u64, size.div_ceil(piece).max(1));
        prop_assert!(Pieces::of(size, &PieceMap::All).is_all() && none.is_empty());
    }

    // §7.2
    #[test]
    fn a_map_says_what_the_set_holds(size in 1u64..64 << 20, bits in vec(any::<u8>(), 0..40), more in vec(any::<u8>(), 0..40)) {
        let pieces = Pieces::of(size, &PieceMap::Some(bits.clone()));
        prop_assert_eq!(&Pieces::of(size, &pieces.map()), &pieces);
        prop_assert_eq!(pieces.len(), (0..pieces.count()).filter(|piece| pieces.contains(*piece)).count());
        let said = |piece: usize| bits.get(piece / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1);
        prop_assert!((0..pieces.count()).all(|piece| pieces.contains(piece) == said(piece)));
        prop_assert!(!pieces.contains(pieces.count()));
        let other = Pieces::of(size, &PieceMap::Some(more));
        let adds = (0..pieces.count()).any(|piece| other.contains(piece) && !pieces.contains(piece));
        prop_assert_eq!(other.adds_to(&pieces), adds);
        let mut both = pieces.clone();
        both.merge(&other);
        prop_assert!(!other.adds_to(&both) && !pieces.adds_to(&both));
    }

    // §7.4, §7.5
    #[test]
    fn no_piece_is_asked_of_two_at_once_and_every_job_ends(
        size in 0u64..40 << 20,
        maps in vec(vec(any::<u8>(), 0..20), 0..5),
        fates in vec(fate(), 0..60),
        held in vec(any::<u8>(), 0..20),
    ) {
        let config = Config::default();
        let mut job = job(size);
        job.holds(&PieceMap::Some(held));
        let claims = |job: &mut Job| {
            for (number, map) in (2..).zip(&maps) {
                job.provides(node(number), size, &PieceMap::Some(map.clone()));
            }
            // One is honest and has it all.
            job.provides(node(1), size, &PieceMap::All);
        };
        claims(&mut job);
        let (mut now, mut next, mut fates) = (Time(0), 0, fates.into_iter());
        let mut under: BTreeMap<u64, Request> = BTreeMap::new();
        for _ in 0..2000 {
            if job.complete().is_some() {
                break;
            }
            for step in job.steps(now, &mut next, &config) {
                match step {
                    Step::Cancel(id) => prop_assert!(under.remove(&id.0).is_some()),
                    Step::Ask(request) => {
                        prop_assert!(request.start < request.end.max(1) && request.end <= size);
                        prop_assert_eq!(request.start % GROUP, 0);
                        prop_assert!(under.values().all(|other| request.end <= other.start || other.end <= request.start));
                        under.insert(request.id.0, request);
                    }
                }
            }
            prop_assert!(under.len() <= config.requests_per_job);
            for number in 1..7 {
                let load = under.values().filter(|request| request.node == node(number)).count();
                prop_assert!(load <= config.requests_per_provider);
            }
            now = now + Duration::from_millis(700);
            let Some((id, request)) = under.pop_first() else {
                claims(&mut job);
                continue;
            };
            match fates.next().unwrap_or(Fate::Answered) {
                Fate::Answered => job.fetched(request.id),
                Fate::Failed => {
                    prop_assert_eq!(job.failed(request.id, now, &config), Some(request.node));
                }
                Fate::Lacks => {
                    job.failed(request.id, now, &config);
                    job.lacks(request.node);
                }
                Fate::Lost => {
                    prop_assert!(job.without(request.node));
                    under.retain(|_, other| other.node != request.node);
                }
                Fate::Silent => {
                    under.insert(id, request);
                }
            }
        }
        prop_assert_eq!(job.complete().map(|complete| complete.size), Some(size));
    }
}

#[test]
fn a_provider_that_lacks_what_it_claims_is_not_asked_in_a_loop() {
    // §7.5
    let config = Config::default();
    let mut job = job(MIN_PIECE);
    let (mut now, mut next, mut asked) = (Time(0), 0, 0);
    for _ in 0..1000 {
        job.provides(node(1), MIN_PIECE, &PieceMap::All);
        for request in asks(job.steps(now, &mut next, &config)) {
            asked += 1;
            job.failed(request.id, now, &config);
            job.lacks(request.node);
        }
        now = now + Duration::from_millis(10);
    }
    assert_eq!(asked, 10, "once a second");
}

#[test]
fn a_slow_provider_is_not_ended_for_one_that_is_no_better() {
    // §7.5: 1 brings 5 KiB a second, 2 answers nothing ever.
    let config = Config::default();
    let mut job = job(MIN_PIECE);
    job.provides(node(1), MIN_PIECE, &PieceMap::All);
    job.provides(node(2), MIN_PIECE, &PieceMap::All);
    let (mut now, mut next, mut brought) = (Time(0), 0, BTreeMap::new());
    for _ in 0..300 {
        for step in job.steps(now, &mut next, &config) {
            match step {
                Step::Ask(request) if request.node == node(1) => {
                    brought.insert(request.id, 0);
                }
                Step::Ask(request) => {
                    job.failed(request.id, now, &config);
                }
                Step::Cancel(id) => {
                    brought.remove(&id);
                }
            }
        }
        now = now + Duration::from_secs(1);
        for (id, bytes) in &mut brought {
            job.received(*id, 5 << 10);
            *bytes += 5 << 10;
        }
        let done: Vec<_> = brought.iter().filter(|(_, bytes)| **bytes >= MIN_PIECE).map(|(id, _)| *id).collect();
        for id in done {
            job.fetched(id);
        }
    }
    assert!(job.complete().is_some());
}

#[test]
fn a_silent_provider_gives_way_to_one_that_is_idle() {
    // §7.5
    let config = Config::default();
    let mut job = job(MIN_PIECE);
    job.provides(node(1), MIN_PIECE, &PieceMap::All);
    let mut next = 0;
    let [silent] = asks(job.steps(Time(0), &mut next, &config))[..] else { panic!("one request") };
    job.provides(node(2), MIN_PIECE, &PieceMap::All);
    assert_eq!(job.steps(Time(9_999), &mut next, &config), []);
    let steps = job.steps(Time(10_000), &mut next, &config);
    assert!(matches!(steps[..], [Step::Cancel(id), Step::Ask(request)] if id == silent.id && request.node == node(2)));
}
