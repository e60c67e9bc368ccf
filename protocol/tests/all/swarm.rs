//! Stories of whole swarms: many jobs that fetch one blob from each other, over links with rates, in simulated time.
//!
//! Only the scheduler is real. A piece passes the links between two nodes one after the other, each link carries one
//! piece at a time, and a provider gives each asker a piece in turn. Rule numbers are those of `protocol/README.md`.

mod stories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use burr_protocol::{
    Hash, NodeId, RepositoryId, Time,
    config::Config,
    fetch::{Job, PieceMap, Pieces, Request, RequestId, Step, piece_size},
};

const BLOB: Hash = Hash([9; 32]);
const REPOSITORY: RepositoryId = RepositoryId([1; 32]);
/// How long a word takes from node to node, or from when a piece came to when it is told of.
const WORD: u64 = 30;

/// What a node does with questions. All but the honest say that they have everything, or all but a piece, and fetch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conduct {
    Honest,
    /// Its bytes are not the blob's.
    Alters,
    /// It has nothing.
    Boasts,
    /// It brings a byte a second.
    Trickles,
    /// It never answers.
    Stalls,
}

/// A link: bytes a second each way, and until when it is taken.
#[derive(Debug, Clone, Copy)]
struct Link {
    rate: u64,
    free: u64,
    carried: u64,
}

impl Link {
    fn new(rate: u64) -> Self {
        Self { rate, free: 0, carried: 0 }
    }

    /// Carries bytes that are there at a time; returns when they are through.
    fn carry(&mut self, at: u64, bytes: u64) -> u64 {
        self.free = self.free.max(at) + bytes * 1000 / self.rate;
        self.carried += bytes;
        self.free
    }
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    site: usize,
    conduct: Conduct,
    up: Link,
    down: Link,
    job: Option<Job>,
    whole: bool,
    gone: bool,
    next_request: u64,
    refused: BTreeSet<NodeId>,
    /// Questions, by asker, and whose turn it is.
    asked: BTreeMap<usize, VecDeque<(Request, u64)>>,
    turn: usize,
    sending: bool,
    done: Option<u64>,
    /// Verified bytes that came.
    came: u64,
    failed: Vec<NodeId>,
}

/// A link that a piece passes.
#[derive(Debug, Clone, Copy)]
enum Way {
    OutOf(usize),
    Into(usize),
    Down,
}

#[derive(Debug, Clone)]
enum Event {
    /// A provider may send its next piece.
    Send,
    /// A piece is through one link and enters the next of its way.
    Enters {
        ways: VecDeque<Way>,
        request: Request,
        bytes: u64,
        last: bool,
    },
    /// A piece of a request came.
    Came {
        request: Request,
        bytes: u64,
        last: bool,
    },
    /// A request failed.
    Failed {
        request: Request,
    },
    Hears {
        from: usize,
        pieces: Vec<u16>,
        whole: bool,
    },
    Wake,
}

/// A swarm; node 0 has the blob from the start.
#[derive(Debug)]
pub(super) struct Swarm {
    size: u64,
    now: u64,
    config: Config,
    nodes: Vec<Node>,
    /// Each site's uplink: out and in. Site 0 is the world, with no uplink of its own.
    sites: Vec<(Link, Link)>,
    events: BTreeMap<(u64, u64), (usize, Event)>,
    caused: u64,
    /// Pieces that node 0 sent, by their first byte, and how many it sent again before it had sent all.
    out: BTreeSet<u64>,
    too_soon: u64,
}

impl Swarm {
    pub(super) fn new(size: u64, up: u64) -> Self {
        let mut swarm = Self {
            size,
            now: 0,
            config: Config::default(),
            nodes: Vec::new(),
            sites: vec![(Link::new(u64::MAX / 4000), Link::new(u64::MAX / 4000))],
            events: BTreeMap::new(),
            caused: 0,
            out: BTreeSet::new(),
            too_soon: 0,
        };
        swarm.add(0, up, up, Conduct::Honest);
        swarm.nodes[0].whole = true;
        swarm.nodes[0].job = None;
        swarm
    }

    /// A site behind an uplink.
    pub(super) fn site(&mut self, out: u64, into: u64) -> usize {
        self.sites.push((Link::new(out), Link::new(into)));
        self.sites.len() - 1
    }

    pub(super) fn add(&mut self, site: usize, up: u64, down: u64, conduct: Conduct) -> usize {
        let number = self.nodes.len();
        let id = NodeId(Hash::of(&number.to_le_bytes()).0);
        self.nodes.push(Node {
            id,
            site,
            conduct,
            up: Link::new(up),
            down: Link::new(down),
            job: Some(Job::new(id, REPOSITORY, BLOB, self.size, Time(0))),
            whole: false,
            gone: false,
            next_request: 0,
            refused: BTreeSet::new(),
            asked: BTreeMap::new(),
            turn: 0,
            sending: false,
            done: None,
            came: 0,
            failed: Vec::new(),
        });
        number
    }

    /// Everybody meets everybody.
    pub(super) fn meet(&mut self) {
        for node in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                let (id, near) = (self.nodes[other].id, self.is_near(node, other));
                let (promise, fetches) = (self.promise(other), !self.nodes[other].whole);
                let Some(job) = self.nodes[node].job.as_mut().filter(|_| node != other) else { continue };
                job.fetches(id, fetches, Time(0));
                if let Some(promise) = promise {
                    job.provides(id, self.size, &promise, Time(0));
                }
                job.is_near(id, near);
            }
            self.cause(0, node, Event::Wake);
        }
    }

    /// What a node says that it has when it meets others.
    fn promise(&self, node: usize) -> Option<PieceMap> {
        let Node { conduct, whole, .. } = self.nodes[node];
        if conduct == Conduct::Honest {
            return whole.then_some(PieceMap::All);
        }
        let mut pieces = Pieces::all(self.size);
        // Every other liar looks like one that is nearly done.
        if node % 2 == 1 {
            pieces.remove(node % pieces.count());
        }
        Some(pieces.map())
    }

    fn is_near(&self, node: usize, other: usize) -> bool {
        self.nodes[node].site == self.nodes[other].site
    }

    /// A node goes for good, at once.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].gone = true;
        let id = self.nodes[node].id;
        for other in 0..self.nodes.len() {
            self.nodes[other].asked.remove(&node);
            if let Some(job) = &mut self.nodes[other].job {
                job.without(id);
                self.step(other);
            }
        }
    }

    /// Runs until all honest nodes have the blob, or for some seconds; returns the milliseconds that it took.
    pub(super) fn run(&mut self, seconds: u64) -> Option<u64> {
        let end = self.now + seconds * 1000;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((now, _), (node, event)) = entry.remove_entry();
            self.now = now;
            if !self.nodes[node].gone {
                self.happen(node, event);
            }
            if self.honest().all(|node| node.done.is_some()) {
                return self.honest().filter_map(|node| node.done).max();
            }
        }
        self.now = end;
        None
    }

    fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().skip(1).filter(|node| node.conduct == Conduct::Honest && !node.gone)
    }

    /// Times the blob that a node sent, and that a site's uplink took in, in thousandths.
    pub(super) fn sent(&self, node: usize) -> u64 {
        self.nodes[node].up.carried * 1000 / self.size
    }

    /// Pieces that node 0 sent again, in thousandths of all, before it had sent each once: its uplink had better to do.
    pub(super) fn sent_too_soon(&self) -> u64 {
        self.too_soon * 1000 / self.size.div_ceil(piece_size(self.size))
    }

    pub(super) fn taken_in(&self, site: usize) -> u64 {
        self.sites[site].1.carried * 1000 / self.size
    }

    /// Liars that no honest node refused, or told its people of.
    pub(super) fn unnamed(&self) -> Vec<usize> {
        let is_named =
            |liar: &Node| self.honest().any(|node| node.failed.contains(&liar.id) || node.refused.contains(&liar.id));
        let liars = self.nodes.iter().enumerate().filter(|(_, node)| node.conduct != Conduct::Honest);
        liars.filter(|(_, liar)| !is_named(liar)).map(|(number, _)| number).collect()
    }

    /// Bytes that came to a node, in thousandths of the blob.
    pub(super) fn came(&self, node: usize) -> u64 {
        self.nodes[node].came * 1000 / self.size
    }

    fn cause(&mut self, at: u64, node: usize, event: Event) {
        self.caused += 1;
        self.events.insert((at.max(self.now), self.caused), (node, event));
    }

    fn happen(&mut self, node: usize, event: Event) {
        let (now, config) = (Time(self.now), self.config.clone());
        match event {
            Event::Wake => {
                let due = |job: &Job| job.wake_at(&config).is_some_and(|at| at <= now);
                if now == Time(0) || self.nodes[node].job.as_ref().is_some_and(due) {
                    self.step(node);
                }
            }
            Event::Send => {
                self.nodes[node].sending = false;
                self.send(node);
            }
            Event::Enters { mut ways, request, bytes, last } => {
                let (at, way) = (self.now, ways.pop_front());
                let event = Event::Enters { ways, request, bytes, last };
                match way {
                    Some(Way::OutOf(site)) => {
                        let through = self.sites[site].0.carry(at, bytes);
                        self.cause(through, node, event);
                    }
                    Some(Way::Into(site)) => {
                        let through = self.sites[site].1.carry(at, bytes);
                        self.cause(through, node, event);
                    }
                    Some(Way::Down) => {
                        let through = self.nodes[node].down.carry(at, bytes);
                        self.cause(through, node, event);
                    }
                    None => self.cause(at + WORD / 3, node, Event::Came { request, bytes, last }),
                }
            }
            Event::Came { request, bytes, last } => {
                let trickles = self.nodes[self.index(request.node)].conduct == Conduct::Trickles;
                let machine = &mut self.nodes[node];
                let Some(job) = machine.job.as_mut().filter(|job| job.owns(request.id)) else { return };
                machine.came += bytes;
                job.received(request.id, bytes, now, &config);
                if last {
                    job.fetched(request.id, now, &config);
                }
                if trickles {
                    self.cause(self.now + 1000, node, Event::Came { request, bytes: 1, last: false });
                }
                self.tell(node);
                self.step(node);
            }
            Event::Failed { request } => {
                let conduct = self.nodes[self.index(request.node)].conduct;
                let machine = &mut self.nodes[node];
                let Some(job) = machine.job.as_mut().filter(|job| job.owns(request.id)) else { return };
                job.failed(request.id, now, &config);
                if conduct == Conduct::Alters {
                    machine.refused.insert(request.node);
                    job.without(request.node);
                } else {
                    job.lacks(request.node, now);
                    machine.failed.push(request.node);
                }
                self.step(node);
            }
            Event::Hears { from, pieces, whole } => {
                let (id, near) = (self.nodes[from].id, self.is_near(node, from));
                let refused = self.nodes[node].refused.contains(&id);
                let Some(job) = self.nodes[node].job.as_mut().filter(|_| !refused) else { return };
                job.provides_also(id, &pieces, now);
                if whole {
                    job.fetches(id, false, now);
                }
                job.is_near(id, near);
                self.step(node);
            }
        }
    }

    /// Tells everyone what came, and notes the end.
    fn tell(&mut self, node: usize) {
        let Some(job) = &mut self.nodes[node].job else { return };
        let fresh = job.take_fresh();
        let whole = job.complete().is_some();
        if whole {
            let machine = &mut self.nodes[node];
            (machine.job, machine.whole, machine.done) = (None, true, Some(self.now));
        }
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let near = self.is_near(node, other);
            let told = fresh.iter().filter(|fresh| near || fresh.from_afar);
            let pieces: Vec<u16> = told.map(|fresh| u16::try_from(fresh.piece).expect("few")).collect();
            if !pieces.is_empty() || whole {
                let wait = if near { WORD } else { 10 * WORD };
                self.cause(self.now + wait, other, Event::Hears { from: node, pieces, whole });
            }
        }
    }

    fn step(&mut self, node: usize) {
        let (now, config) = (Time(self.now), self.config.clone());
        let machine = &mut self.nodes[node];
        let Some(job) = &mut machine.job else { return };
        let steps = job.steps(now, &mut machine.next_request, &config);
        machine.failed.extend(job.take_slow());
        let wake = job.wake_at(&config);
        for step in steps {
            match step {
                Step::Ask(request) => {
                    let provider = self.index(request.node);
                    self.nodes[provider].asked.entry(node).or_default().push_back((request, request.start));
                    self.send(provider);
                }
                Step::Cancel(id) => self.cancel(node, id),
                Step::Look => self.step(node),
            }
        }
        if let Some(at) = wake {
            self.cause(at.0.max(self.now + 1), node, Event::Wake);
        }
    }

    fn cancel(&mut self, asker: usize, id: RequestId) {
        for provider in &mut self.nodes {
            if let Some(asked) = provider.asked.get_mut(&asker) {
                asked.retain(|(request, _)| request.id != id);
            }
        }
    }

    fn index(&self, id: NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == id).expect("one of them")
    }

    /// Sends the next piece to the one whose turn it is.
    fn send(&mut self, node: usize) {
        let provider = &mut self.nodes[node];
        if provider.sending || provider.conduct == Conduct::Stalls || provider.gone {
            return;
        }
        let waiting: Vec<usize> =
            provider.asked.iter().filter(|(_, asked)| !asked.is_empty()).map(|(asker, _)| *asker).collect();
        let Some(asker) = waiting.iter().find(|asker| **asker > provider.turn).or(waiting.first()).copied() else {
            return;
        };
        provider.turn = asker;
        let queue = provider.asked.get_mut(&asker).expect("one waits");
        let (request, sent) = queue.front_mut().expect("one waits");
        let request = *request;
        let bytes = piece_size(self.size).min(request.end - *sent);
        let pieces = self.size.div_ceil(piece_size(self.size));
        if node == 0 && !self.out.insert(*sent) && (self.out.len() as u64) < pieces {
            self.too_soon += 1;
        }
        *sent += bytes;
        let last = *sent == request.end;
        if last {
            queue.pop_front();
        }
        if self.nodes[node].conduct == Conduct::Trickles {
            self.cause(self.now + 1000, asker, Event::Came { request, bytes: 1, last: false });
            return;
        }
        let held = self.size_held(node, request);
        if self.nodes[node].conduct != Conduct::Honest || !held {
            self.cause(self.now + WORD, asker, Event::Failed { request });
            return;
        }
        let out = self.nodes[node].up.carry(self.now, bytes);
        let (from, to) = (self.nodes[node].site, self.nodes[asker].site);
        let crossing = [Way::OutOf(from), Way::Into(to)];
        let ways = crossing.into_iter().filter(|_| from != to).chain([Way::Down]).collect();
        self.nodes[node].sending = true;
        self.cause(out, node, Event::Send);
        self.cause(out, asker, Event::Enters { ways, request, bytes, last });
    }

    fn size_held(&self, node: usize, request: Request) -> bool {
        let piece = piece_size(self.size);
        let first = usize::try_from(request.start / piece).expect("few");
        let end = usize::try_from(request.end.div_ceil(piece)).expect("few");
        self.nodes[node].job.as_ref().is_none_or(|job| (first..end).all(|piece| job.have().contains(piece)))
    }

    pub(super) fn wait(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((now, _), (node, event)) = entry.remove_entry();
            self.now = now;
            if !self.nodes[node].gone {
                self.happen(node, event);
            }
        }
        self.now = end;
    }
}
