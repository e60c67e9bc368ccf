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
    fn what_is_asked_is_bounded_and_every_job_ends(
        size in 0u64..40 << 20,
        maps in vec(vec(any::<u8>(), 0..80), 0..5),
        fates in vec(fate(), 0..60),
        held in vec(any::<u8>(), 0..80),
    ) {
        let config = Config { provider_bytes: 1 << 20, requests_per_job: 40, ..Config::default() };
        let mut job = job(size);
        job.holds(&PieceMap::Some(held));
        let claims = |job: &mut Job, at: Time| {
            for (number, map) in (2..).zip(&maps) {
                job.provides(node(number), size, &PieceMap::Some(map.clone()), at);
            }
            // One is honest and has it all.
            job.provides(node(1), size, &PieceMap::All, at);
        };
        claims(&mut job, Time(0));
        let (mut now, mut next, mut fates) = (Time(0), 0, fates.into_iter());
        let mut under: BTreeMap<u64, Request> = BTreeMap::new();
        for _ in 0..4000 {
            if job.complete().is_some() {
                break;
            }
            for step in job.steps(now, &mut next, &config) {
                match step {
                    Step::Cancel(id) => prop_assert!(under.remove(&id.0).is_some()),
                    Step::Look => {}
                    Step::Ask(request) => {
                        prop_assert!(request.start < request.end.max(1) && request.end <= size);
                        prop_assert!(request.start.is_multiple_of(piece_size(size)));
                        // A provider is asked for a piece once, and at most two are asked for it.
                        let same: Vec<_> =
                            under.values().filter(|other| request.start < other.end && other.start < request.end).collect();
                        prop_assert!(same.len() <= 1 || size == 0);
                        prop_assert!(same.iter().all(|other| other.node != request.node));
                        under.insert(request.id.0, request);
                    }
                }
            }
            prop_assert!(under.len() <= config.requests_per_job);
            for number in 1..7 {
                let asked = under.values().filter(|request| request.node == node(number));
                let bytes: u64 = asked.map(|request| request.end - request.start).sum();
                prop_assert!(bytes <= config.provider_bytes + piece_size(size));
            }
            now = now + Duration::from_millis(700);
            let Some((id, request)) = under.pop_first() else {
                claims(&mut job, now);
                continue;
            };
            match fates.next().unwrap_or(Fate::Answered) {
                Fate::Answered => job.fetched(request.id, now, &config),
                Fate::Failed => {
                    prop_assert_eq!(job.failed(request.id, now, &config), Some(request.node));
                }
                Fate::Lacks => {
                    job.failed(request.id, now, &config);
                    job.lacks(request.node, now);
                }
                Fate::Lost => {
                    job.without(request.node);
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
fn a_provider_that_lacks_what_it_claims_is_asked_ever_more_seldom() {
    // §7.5
    let config = Config::default();
    let mut job = job(MIN_PIECE);
    let (mut now, mut next, mut asked) = (Time(0), 0, Vec::new());
    for _ in 0..4000 {
        job.provides(node(1), MIN_PIECE, &PieceMap::All, now);
        for request in asks(job.steps(now, &mut next, &config)) {
            asked.push(now.0 / 1000);
            job.failed(request.id, now, &config);
            job.lacks(request.node, now);
        }
        now = now + Duration::from_millis(10);
    }
    assert_eq!(asked, [0, 1, 3, 7, 15, 25, 35], "after 1 s, 2 s, 4 s, and so on up to the patience");
}

#[test]
fn a_silent_provider_is_overtaken_and_told_of_once() {
    // §7.5
    let config = Config::default();
    let size = 4 * MIN_PIECE;
    let mut job = job(size);
    job.provides(node(1), size, &PieceMap::All, Time(0));
    job.is_near(node(1), true);
    let mut next = 0;
    let silent = asks(job.steps(Time(0), &mut next, &config));
    assert!(!silent.is_empty() && silent.iter().all(|request| request.node == node(1)));
    job.provides(node(2), size, &PieceMap::All, Time(10));
    // What is free is asked of the other one; what is asked already is left to the first, for a while.
    let free = asks(job.steps(Time(10), &mut next, &config));
    assert!(
        free.iter().all(|request| request.node == node(2) && silent.iter().all(|other| request.start != other.start))
    );
    for request in free {
        job.fetched(request.id, Time(100), &config);
    }
    let mut cancelled = Vec::new();
    for time in (100..9000).step_by(100) {
        for step in job.steps(Time(time), &mut next, &config) {
            match step {
                Step::Ask(request) => {
                    assert!(request.node == node(2));
                    job.fetched(request.id, Time(time + 50), &config);
                }
                Step::Cancel(id) => cancelled.push(id),
                Step::Look => {}
            }
        }
    }
    assert!(job.complete().is_some());
    assert_eq!(cancelled.len(), silent.len());
    assert_eq!(job.take_slow(), [node(1)]);
}

#[test]
fn a_slow_provider_is_not_given_up_for_one_that_is_no_better() {
    // §7.5: 1 brings 5 KiB a second, 2 answers nothing ever.
    let config = Config::default();
    let mut job = job(MIN_PIECE);
    job.provides(node(1), MIN_PIECE, &PieceMap::All, Time(0));
    job.provides(node(2), MIN_PIECE, &PieceMap::All, Time(0));
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
                Step::Look => {}
            }
        }
        now = now + Duration::from_secs(1);
        for (id, bytes) in &mut brought {
            job.received(*id, 5 << 10, now, &config);
            *bytes += 5 << 10;
        }
    }
    assert!(job.complete().is_some());
}

#[test]
fn those_of_another_site_that_have_all_by_now_share_their_uplink_as_before() {
    // §7.4
    let config = Config::default();
    let size = 64 * MIN_PIECE;
    let (mut job, mut next) = (job(size), 0);
    let bytes = |steps| asks(steps).iter().map(|request| request.end - request.start).sum::<u64>();
    for fellow in 1..9 {
        job.fetches(node(fellow), true, Time(0));
        job.provides(node(fellow), size, &PieceMap::All, Time(0));
    }
    let asked = bytes(job.steps(Time(0), &mut next, &config));
    assert!(asked > 0);
    for fellow in 1..9 {
        job.fetches(node(fellow), false, Time(10));
    }
    assert_eq!(bytes(job.steps(Time(10), &mut next, &config)), 0, "{asked} bytes are asked of the eight together");
}

#[test]
fn of_what_fellows_have_the_rarest_is_asked_for_first() {
    // §7.4: 1 has all, 2 and 3 have the first half.
    let config = Config::default();
    let size = 32 * MIN_PIECE;
    let (mut job, mut next) = (job(size), 0);
    for (fellow, pieces) in [(1, 32), (2, 16), (3, 16)] {
        job.fetches(node(fellow), true, Time(0));
        job.provides_also(node(fellow), &(0..pieces).collect::<Vec<u16>>(), Time(0));
        job.is_near(node(fellow), true);
    }
    let mut rare = Vec::new();
    for time in (0..2000).step_by(100) {
        for request in asks(job.steps(Time(time), &mut next, &config)) {
            // At first it is not known whether any of them brings what it says.
            if time > 0 && request.node == node(1) {
                rare.push(request.start / MIN_PIECE);
            }
            job.fetched(request.id, Time(time + 40), &config);
        }
    }
    assert!(job.complete().is_some());
    let first = rare.iter().take_while(|piece| **piece >= 16).count();
    assert!(first >= 4 && rare[first..].iter().all(|piece| *piece < 16), "{rare:?}");
}

#[test]
fn what_a_near_one_has_by_now_is_not_waited_for_from_afar() {
    // §7.10
    let config = Config::default();
    let size = 8 * MIN_PIECE;
    let (mut job, mut next) = (job(size), 0);
    job.provides(node(1), size, &PieceMap::All, Time(0));
    let far = asks(job.steps(Time(0), &mut next, &config));
    let asked = |piece: u64| far.iter().any(|far| (far.start..far.end).contains(&(piece * MIN_PIECE)));
    let pieces: Vec<u16> = (0..8).filter(|piece| asked(u64::from(*piece))).collect();
    job.provides_also(node(2), &pieces, Time(10));
    job.is_near(node(2), true);
    let steps = job.steps(Time(10), &mut next, &config);
    let cancelled = steps.iter().filter(|step| matches!(step, Step::Cancel(id) if far.iter().any(|far| far.id == *id)));
    assert_eq!(cancelled.count(), far.len());
    let near = asks(steps).into_iter().filter(|request| request.node == node(2));
    assert_eq!(near.map(|near| near.end - near.start).sum::<u64>(), pieces.len() as u64 * MIN_PIECE);
}

#[test]
fn what_a_far_fellow_holds_up_is_asked_of_a_source_though_others_are_to_bring_more() {
    // §7.5: 1 is the source, 2 a far fellow that answers nothing, 3 a near one that is to bring what it claims.
    let config = Config::default();
    let size = 64 * MIN_PIECE;
    let (mut job, mut next) = (job(size), 0);
    for time in (0..5000).step_by(250) {
        let now = Time(time);
        job.provides(node(1), size, &PieceMap::All, now);
        job.fetches(node(2), true, now);
        job.provides(node(2), size, &PieceMap::All, now);
        job.fetches(node(3), true, now);
        job.is_near(node(3), true);
        for request in asks(job.steps(now, &mut next, &config)) {
            if request.node == node(1) {
                job.fetched(request.id, now + Duration::from_millis(100), &config);
            }
        }
    }
    let claimed = job.have().len();
    let silent = job.sources().iter().all(|(node, _)| *node == self::node(1));
    assert!(silent && claimed > 0 && claimed < 64, "{claimed} pieces are here");
    assert_eq!(job.requests().len(), 0, "nothing of its own share is waited for any more");
}

#[test]
fn what_came_of_a_request_is_not_asked_for_again() {
    // §7.7
    let config = Config { request_bytes: 4 * MIN_PIECE, ..Config::default() };
    let size = 4 * MIN_PIECE;
    let mut job = job(size);
    job.provides(node(1), size, &PieceMap::All, Time(0));
    let mut next = 0;
    let asked = asks(job.steps(Time(0), &mut next, &config));
    let first = asked[0];
    job.received(first.id, MIN_PIECE + 5, Time(10), &config);
    assert_eq!(job.take_fresh().len(), 1);
    job.without(node(1));
    job.provides(node(2), size, &PieceMap::All, Time(20));
    let mut again = Vec::new();
    for time in (20..5000).step_by(20) {
        for request in asks(job.steps(Time(time), &mut next, &config)) {
            again.push(request);
            job.fetched(request.id, Time(time + 10), &config);
        }
    }
    assert!(job.complete().is_some());
    let bytes: u64 = again.iter().map(|request| request.end - request.start).sum();
    assert_eq!(bytes, size - MIN_PIECE);
    assert!(again.iter().all(|request| request.start != first.start));
}

/// One source that brings a piece every so often, and what was asked of it.
struct Source {
    job: Job,
    now: Time,
    next: u64,
    under: BTreeMap<u64, (Request, u64)>,
    requests: Vec<Request>,
    ended: usize,
    /// Pieces that came, each as often as it did.
    came: Vec<u64>,
}

impl Source {
    fn new(size: u64) -> Self {
        let mut job = job(size);
        job.provides(node(1), size, &PieceMap::All, Time(0));
        let (under, requests) = (BTreeMap::new(), Vec::new());
        Self { job, now: Time(0), next: 0, under, requests, ended: 0, came: Vec::new() }
    }

    fn step(&mut self) {
        for step in self.job.steps(self.now, &mut self.next, &Config::default()) {
            match step {
                Step::Ask(request) => {
                    self.requests.push(request);
                    self.under.insert(request.id.0, (request, 0));
                }
                Step::Cancel(id) => {
                    self.under.remove(&id.0);
                    self.ended += 1;
                }
                Step::Look => {}
            }
        }
    }

    /// Brings the next pieces of what was asked first.
    fn bring(&mut self, pieces: usize, every: Duration) {
        for _ in 0..pieces {
            self.step();
            self.now = self.now + every;
            let Some((id, (request, bytes))) = self.under.first_entry().map(|entry| (*entry.key(), *entry.get()))
            else {
                return;
            };
            let more = MIN_PIECE.min(request.end - request.start - bytes);
            self.came.push(request.start + bytes);
            self.job.received(request.id, more, self.now, &Config::default());
            if bytes + more == request.end - request.start {
                self.under.remove(&id);
                self.job.fetched(request.id, self.now, &Config::default());
            } else {
                self.under.insert(id, (request, bytes + more));
            }
        }
    }
}

#[test]
fn who_fetches_alone_asks_few_questions_and_never_for_much_at_once() {
    // §7.4: 50 MB at 1 MiB a second.
    let mut source = Source::new(50_000_000);
    source.bring(763, Duration::from_millis(62));
    assert!(source.job.complete().is_some());
    let requests = source.requests.len();
    assert!(requests < 40, "{requests} requests for 763 pieces");
    let longest = source.requests.iter().map(|request| request.end - request.start).max();
    assert!(longest.is_some_and(|longest| longest <= 2300 << 10), "{longest:?}: about two seconds");
    source.came.sort_unstable();
    assert!(source.came.windows(2).all(|two| two[0] < two[1]), "no piece came twice");
}

#[test]
fn a_quick_source_that_one_alone_fetches_from_is_asked_a_few_times() {
    // §7.4: 50 MB at 60 MiB a second.
    let mut source = Source::new(50_000_000);
    source.bring(763, Duration::from_millis(1));
    assert!(source.job.complete().is_some());
    let requests = source.requests.len();
    assert!(requests <= 14, "{requests} requests for 763 pieces");
}

#[test]
fn one_that_keeps_a_rate_on_average_is_not_asked_for_more_than_two_seconds_of_it() {
    // §7.4, §7.12: it gives each answer at once, when nothing is owed any more for the last one.
    let mut source = Source::new(50_000_000);
    for _ in 0..200 {
        source.step();
        let Some((_, (request, _))) = source.under.first_key_value() else { break };
        let bytes = request.end - request.start;
        source.bring(usize::try_from(bytes.div_ceil(MIN_PIECE)).unwrap(), Duration::ZERO);
        // 1 MiB a second.
        source.now = source.now + Duration::from_millis((bytes * 1000) >> 20);
    }
    assert!(source.job.complete().is_some());
    let longest = source.requests.iter().map(|request| request.end - request.start).max();
    assert!(longest.is_some_and(|longest| (1 << 20..=2 << 20).contains(&longest)), "{longest:?}");
}

#[test]
fn a_gateway_asks_its_only_mirror_for_long_runs_though_its_devices_wait_for_the_same() {
    // §7.4: 1 is the mirror, which fetched the blob itself when the gateway began; 2 and 3 are devices of the gateway's site.
    let size = 50_000_000;
    let mut mirror = Source::new(size);
    mirror.job.fetches(node(1), true, Time(0));
    mirror.job.fetches(node(1), false, Time(0));
    for device in 2..4 {
        mirror.job.fetches(node(device), true, Time(0));
        mirror.job.is_near(node(device), true);
        mirror.job.is_outward(node(device), false);
    }
    mirror.bring(400, Duration::from_millis(62));
    let requests = mirror.requests.len();
    assert!(requests < 30, "{requests} requests for 400 pieces");
    // One of them found a way out of its own: it may fetch some of it itself.
    mirror.job.is_outward(node(3), true);
    let before = mirror.requests.len();
    mirror.bring(80, Duration::from_millis(62));
    assert!(mirror.requests.len() > before);
    assert!(mirror.requests[before..].iter().all(|request| request.end - request.start <= 4 * MIN_PIECE));
    mirror.came.sort_unstable();
    assert!(mirror.came.windows(2).all(|two| two[0] < two[1]), "no piece came twice");
}

#[test]
fn when_another_comes_what_is_under_way_still_comes_and_requests_are_short_from_then_on() {
    // §7.4, §7.7
    let size = 50_000_000;
    let mut source = Source::new(size);
    source.bring(300, Duration::from_millis(62));
    source.step();
    assert!(source.under.values().all(|(request, _)| request.end - request.start > 4 * MIN_PIECE));
    let (before, now) = (source.requests.len(), source.now);
    source.job.fetches(node(2), true, now);
    source.bring(30, Duration::from_millis(62));
    assert_eq!(source.ended, 0);
    // An interruption costs no more than what was under way of one piece.
    let now = source.now;
    source.job.without(node(1));
    source.under.clear();
    source.job.provides(node(1), size, &PieceMap::All, now);
    while source.job.complete().is_none() {
        source.job.fetches(node(2), true, source.now);
        source.bring(1, Duration::from_millis(62));
    }
    assert!(source.requests[before..].iter().all(|request| request.end - request.start <= 4 * MIN_PIECE));
    source.came.sort_unstable();
    assert!(source.came.windows(2).all(|two| two[0] < two[1]), "no piece came twice");
}
