//! The world: one clock, one queue of events, nodes with their disks, links between them.
//!
//! A node's driver is `World::carry_out`: one match over [`Action`]. Two events of one moment happen in the order in
//! which they were caused.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use burr_protocol::{
    Agent, Hash, NodeId, Now, RepositoryId, Time, Wall,
    action::{Action, FetchFailure, GossipId, Input, StageFailure, Token, Verdict},
    config::Config,
    fact::Fact,
    fetch::{PieceMap, Request, RequestId},
    peers::Address,
    record::Record,
};
use ed25519_dalek::SigningKey;

use crate::disk::Disk;

/// A node's place in the world.
pub type NodeIndex = usize;

/// How long a write takes to be durable.
const WRITE: Duration = Duration::from_millis(5);
/// How long it then takes to say so.
const REPORT: Duration = Duration::from_millis(1);
/// How long it takes to look into the store.
const LOOK: Duration = Duration::from_millis(2);
/// How long staging and switching take.
const INSTALL: Duration = Duration::from_millis(20);
/// What is in flight of a fetch is reported this often.
const PROGRESS: Duration = Duration::from_millis(100);

/// More events than this of one moment, and the world stands still: an agent wakes in a loop.
const MAX_EVENTS_OF_A_MOMENT: u64 = 10_000;

/// What a node's wall clock shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The right time.
    #[default]
    Right,
    /// Nothing: it was never set.
    Unset,
    /// The same time always.
    Stopped(Wall),
}

/// How far a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Asked for, and not durable yet: a crash loses it.
    Asked,
    /// Durable, but the agent has not heard of it.
    Durable,
}

/// In which ways a node lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    /// It serves altered bytes.
    pub altered_bytes: bool,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    delay: Duration,
    /// Bytes a second.
    rate: u64,
    up: bool,
}

/// What a node is doing with one request.
#[derive(Debug)]
struct Transfer {
    request: Request,
    reported: u64,
    started: Time,
}

#[derive(Debug)]
struct Machine {
    key: SigningKey,
    config: Config,
    agent: Option<Agent>,
    /// Counts starts: what was caused before a crash does not reach the agent after it.
    life: u64,
    disk: Disk,
    clock: Clock,
    /// Bytes that fetches brought, whether they were here already or not.
    received: u64,
    lies: Lies,
    connected: BTreeSet<NodeIndex>,
    transfers: BTreeMap<RequestId, Transfer>,
    subscribed: BTreeSet<RepositoryId>,
    /// Gossip that was seen, by its hash.
    seen: BTreeSet<Hash>,
    /// Gossip that waits for a verdict.
    judged: BTreeMap<GossipId, (RepositoryId, Vec<u8>)>,
    next_gossip: u64,
    facts: Vec<(Time, Fact)>,
    wake: Option<Time>,
}

#[derive(Debug)]
enum Event {
    Wake,
    Give(Input),
    Durable { records: Vec<Record>, token: Token },
    Reported { records: Vec<Record>, token: Token },
    Connect(NodeIndex),
    Gossip { from: NodeIndex, repository: RepositoryId, bytes: Vec<u8> },
    Progress(RequestId),
    Installed { app: String, bundle: Hash, stage: bool },
}

/// The whole world.
#[derive(Debug)]
pub struct World {
    time: Time,
    epoch: Wall,
    queue: BTreeMap<(Time, u64), (NodeIndex, u64, Event)>,
    caused: u64,
    machines: Vec<Machine>,
    links: BTreeMap<(NodeIndex, NodeIndex), Link>,
    /// Bundles that do not stage, and bundles that are unhealthy.
    broken: BTreeSet<Hash>,
    unhealthy: BTreeSet<Hash>,
    digest: blake3::Hasher,
}

impl World {
    /// An empty world whose wall clocks show `epoch` at its start.
    #[must_use]
    pub fn new(epoch: Wall) -> Self {
        Self {
            time: Time::default(),
            epoch,
            queue: BTreeMap::new(),
            caused: 0,
            machines: Vec::new(),
            links: BTreeMap::new(),
            broken: BTreeSet::new(),
            unhealthy: BTreeSet::new(),
            digest: blake3::Hasher::new(),
        }
    }

    /// Adds a node, switched on, with an identity that follows from its place.
    pub fn add(&mut self, config: Config) -> NodeIndex {
        let index = self.machines.len();
        let seed = Hash::of(format!("burr-sim node {index}").as_bytes()).0;
        self.machines.push(Machine {
            key: SigningKey::from_bytes(&seed),
            config,
            agent: None,
            life: 0,
            disk: Disk::default(),
            clock: Clock::default(),
            received: 0,
            lies: Lies::default(),
            connected: BTreeSet::new(),
            transfers: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            seen: BTreeSet::new(),
            judged: BTreeMap::new(),
            next_gossip: 0,
            facts: Vec::new(),
            wake: None,
        });
        self.start(index);
        index
    }

    /// Connects two nodes from now on: `delay` one way, `rate` in bytes a second each way.
    pub fn link(&mut self, a: NodeIndex, b: NodeIndex, delay: Duration, rate: u64) {
        assert!(a != b && rate > 0, "a link has two ends and a rate");
        self.links.insert(ends(a, b), Link { delay, rate, up: true });
        self.find(a, b);
        self.find(b, a);
    }

    /// Cuts a link: connections and everything in flight on it are lost.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        if let Some(link) = self.links.get_mut(&ends(a, b)) {
            link.up = false;
        }
        self.disconnect(a, b);
    }

    /// Mends a link.
    pub fn mend(&mut self, a: NodeIndex, b: NodeIndex) {
        if let Some(link) = self.links.get_mut(&ends(a, b)) {
            link.up = true;
        }
        self.find(a, b);
        self.find(b, a);
    }

    /// Switches a node off, as a power cut does: what is not durable is gone.
    pub fn crash(&mut self, node: NodeIndex) {
        let peers: Vec<_> = self.machines[node].connected.iter().copied().collect();
        for peer in peers {
            self.disconnect(node, peer);
        }
        let machine = &mut self.machines[node];
        machine.agent = None;
        machine.life += 1;
        machine.transfers.clear();
        machine.subscribed.clear();
        machine.seen.clear();
        machine.judged.clear();
        machine.wake = None;
    }

    /// Switches a node on; it goes on from its disk.
    pub fn start(&mut self, node: NodeIndex) {
        let now = self.shown(node);
        let machine = &mut self.machines[node];
        assert!(machine.agent.is_none(), "node {node} is on");
        let (agent, facts) =
            Agent::new(machine.key.clone(), machine.config.clone(), machine.disk.records(), machine.disk.store(), now);
        machine.facts.extend(facts.into_iter().map(|fact| (now.time, fact)));
        machine.agent = Some(agent);
        self.give(node, Input::Wake);
        let linked: Vec<_> = self.links.keys().filter(|(a, b)| *a == node || *b == node).copied().collect();
        for (a, b) in linked {
            self.find(a, b);
            self.find(b, a);
        }
    }

    /// A publisher's act on a node: its payload and its new trust pack are there.
    pub fn import(&mut self, node: NodeIndex, repository: RepositoryId, blob: Option<(Hash, u64)>, pack: Vec<u8>) {
        if let Some((blob, size)) = blob {
            self.machines[node].disk.import(blob, size);
            self.give(node, Input::Held { blob, size, pieces: PieceMap::All });
        }
        self.give(node, Input::Import { repository, pack });
    }

    /// From now on this bundle does not come out of its payload.
    pub fn break_bundle(&mut self, bundle: Hash) {
        self.broken.insert(bundle);
    }

    /// From now on the health command says no to this bundle.
    pub fn make_unhealthy(&mut self, bundle: Hash) {
        self.unhealthy.insert(bundle);
    }

    /// From now on this node lies.
    pub fn lie(&mut self, node: NodeIndex, lies: Lies) {
        self.machines[node].lies = lies;
    }

    /// From now on a node's wall clock shows this.
    pub fn set_clock(&mut self, node: NodeIndex, clock: Clock) {
        self.machines[node].clock = clock;
    }

    /// Damages the database of a node that is off: its records are gone, its metadata files and blobs are not.
    pub fn lose_records(&mut self, node: NodeIndex) {
        assert!(self.machines[node].agent.is_none(), "node {node} is on");
        self.machines[node].disk.lose_records();
    }

    /// Hands an input to a node from outside the world: what a forger or an app would say.
    pub fn give(&mut self, node: NodeIndex, input: Input) {
        let now = self.shown(node);
        let Some(agent) = &mut self.machines[node].agent else { return };
        let mut actions = Vec::new();
        agent.handle(now, input, &mut actions);
        for action in actions {
            self.digest.update(&postcard::to_stdvec(&(now, node, &action)).expect("actions encode"));
            self.carry_out(node, action);
        }
        let wake = self.machines[node].agent.as_ref().and_then(Agent::wake_at).map(|at| at.max(now.time));
        if wake != self.machines[node].wake {
            self.machines[node].wake = wake;
            if let Some(at) = wake {
                self.cause(at, node, Event::Wake);
            }
        }
    }

    /// Lets the world go on for a while.
    pub fn run(&mut self, span: Duration) {
        let end = self.time + span;
        self.run_until(end, |_| false);
    }

    /// Lets the world go on until something is so; returns whether it came to be within `span`.
    pub fn run_while(&mut self, span: Duration, until: impl FnMut(&Self) -> bool) -> bool {
        let end = self.time + span;
        self.run_until(end, until)
    }

    fn run_until(&mut self, end: Time, mut until: impl FnMut(&Self) -> bool) -> bool {
        let mut events = 0;
        loop {
            if until(self) {
                return true;
            }
            let next = self.queue.first_entry().filter(|event| event.key().0 <= end);
            let Some(event) = next else {
                self.time = end;
                return until(self);
            };
            let ((time, _), (node, life, event)) = event.remove_entry();
            events = if time == self.time { events + 1 } else { 0 };
            assert!(events < MAX_EVENTS_OF_A_MOMENT, "time stands still at {time:?} for node {node}");
            self.time = time;
            if life == self.machines[node].life {
                self.happen(node, event);
            }
        }
    }

    /// What all actions so far hash to.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash(*self.digest.finalize().as_bytes())
    }

    /// The time that passed.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }

    /// Monotonic and wall time.
    #[must_use]
    pub fn now(&self) -> Now {
        let seconds = i64::try_from(self.time.0 / 1000).unwrap_or(i64::MAX);
        Now { time: self.time, wall: Some(Wall(self.epoch.0.saturating_add(seconds))) }
    }

    /// What a node's clocks show.
    fn shown(&self, node: NodeIndex) -> Now {
        let now = self.now();
        match self.machines[node].clock {
            Clock::Right => now,
            Clock::Unset => Now { wall: None, ..now },
            Clock::Stopped(wall) => Now { wall: Some(wall), ..now },
        }
    }

    /// The writes of a node that it does not know to be durable, first asked first.
    pub fn writes(&self, node: NodeIndex) -> impl Iterator<Item = (Write, &[Record])> {
        let life = self.machines[node].life;
        self.queue.values().filter(move |(of, in_life, _)| (*of, *in_life) == (node, life)).filter_map(
            |(_, _, event)| match event {
                Event::Durable { records, .. } => Some((Write::Asked, records.as_slice())),
                Event::Reported { records, .. } => Some((Write::Durable, records.as_slice())),
                _ => None,
            },
        )
    }

    /// Bytes that fetches brought to a node, over all its lives.
    #[must_use]
    pub fn received(&self, node: NodeIndex) -> u64 {
        self.machines[node].received
    }

    /// A node's name.
    #[must_use]
    pub fn id(&self, node: NodeIndex) -> NodeId {
        NodeId(self.machines[node].key.verifying_key().to_bytes())
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, node: NodeIndex) -> &Disk {
        &self.machines[node].disk
    }

    /// A node's agent, while it is on.
    #[must_use]
    pub fn agent(&self, node: NodeIndex) -> Option<&Agent> {
        self.machines[node].agent.as_ref()
    }

    /// The version of an app that is active and confirmed on a node, while it is on.
    #[must_use]
    pub fn active(&self, node: NodeIndex, app: &str) -> Option<String> {
        let apps = self.agent(node)?.status().apps;
        apps.into_iter().find(|found| found.app == app)?.active.map(|active| active.version)
    }

    /// What a node told people, with its time.
    #[must_use]
    pub fn facts(&self, node: NodeIndex) -> &[(Time, Fact)] {
        &self.machines[node].facts
    }

    fn cause(&mut self, at: Time, node: NodeIndex, event: Event) {
        self.caused += 1;
        self.queue.insert((at, self.caused), (node, self.machines[node].life, event));
    }

    fn later(&mut self, wait: Duration, node: NodeIndex, event: Event) {
        self.cause(self.time + wait, node, event);
    }

    fn link_between(&self, a: NodeIndex, b: NodeIndex) -> Option<Link> {
        self.links.get(&ends(a, b)).copied().filter(|link| link.up)
    }

    fn index(&self, id: NodeId) -> Option<NodeIndex> {
        (0..self.machines.len()).find(|index| self.id(*index) == id)
    }

    fn find(&mut self, node: NodeIndex, other: NodeIndex) {
        if self.link_between(node, other).is_some() {
            let id = self.id(other);
            let found = Input::Found { address: Address(format!("node {other}")), node: Some(id), fixed: false };
            self.give(node, found);
        }
    }

    fn disconnect(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, other) in [(a, b), (b, a)] {
            let id = self.id(other);
            if self.machines[node].connected.remove(&other) {
                self.give(node, Input::Disconnected { node: id });
            }
        }
    }

    fn happen(&mut self, node: NodeIndex, event: Event) {
        match event {
            Event::Wake => {
                if self.machines[node].wake == Some(self.time) {
                    self.machines[node].wake = None;
                    self.give(node, Input::Wake);
                }
            }
            Event::Give(Input::Message { node: from, bytes }) => {
                // What was in flight on a connection is lost with it.
                if self.index(from).is_some_and(|from| self.machines[node].connected.contains(&from)) {
                    self.give(node, Input::Message { node: from, bytes });
                }
            }
            Event::Give(input) => self.give(node, input),
            Event::Durable { records, token } => {
                self.machines[node].disk.write(&records);
                // The news of it comes a moment later: a crash fits in between.
                self.later(REPORT, node, Event::Reported { records, token });
            }
            Event::Reported { token, .. } => self.give(node, Input::Stored(token)),
            Event::Connect(other) => self.connect(node, other),
            Event::Gossip { from, repository, bytes } => self.gossip(node, from, repository, bytes),
            Event::Progress(id) => self.progress(node, id),
            Event::Installed { app, bundle, stage: true } => {
                let result = if self.broken.contains(&bundle) {
                    Err(StageFailure::Bad("the payload is not the bundle".to_owned()))
                } else {
                    self.machines[node].disk.stage(&app, bundle);
                    Ok(())
                };
                self.give(node, Input::Staged { app, bundle, result });
            }
            Event::Installed { app, bundle, stage: false } => {
                let healthy = !self.unhealthy.contains(&bundle);
                let words = if healthy { "" } else { "the page stays blank" };
                self.give(node, Input::Health { app, bundle, healthy, words: words.to_owned() });
            }
        }
    }

    fn connect(&mut self, node: NodeIndex, other: NodeIndex) {
        let address = Address(format!("node {other}"));
        if self.link_between(node, other).is_none() || self.machines[other].agent.is_none() {
            return self.give(node, Input::DialFailed { address });
        }
        for (this, that, address) in [(node, other, Some(address)), (other, node, None)] {
            let id = self.id(that);
            if self.machines[this].connected.insert(that) {
                self.give(this, Input::Connected { node: id, address });
            }
        }
    }

    fn gossip(&mut self, node: NodeIndex, from: NodeIndex, repository: RepositoryId, bytes: Vec<u8>) {
        let from_id = self.id(from);
        let machine = &mut self.machines[node];
        let wanted = machine.connected.contains(&from) && machine.subscribed.contains(&repository);
        if wanted && machine.seen.insert(Hash::of(&bytes)) {
            let id = GossipId(machine.next_gossip);
            machine.next_gossip += 1;
            machine.judged.insert(id, (repository, bytes.clone()));
            self.give(node, Input::Announcement { node: from_id, id, bytes });
        }
    }

    fn flood(&mut self, node: NodeIndex, repository: RepositoryId, bytes: &[u8]) {
        let peers: Vec<_> = self.machines[node].connected.iter().copied().collect();
        for peer in peers {
            if let Some(link) = self.link_between(node, peer) {
                let event = Event::Gossip { from: node, repository, bytes: bytes.to_vec() };
                self.later(link.delay, peer, event);
            }
        }
    }

    /// A request moves on, a step of [`PROGRESS`] at a time.
    fn progress(&mut self, node: NodeIndex, id: RequestId) {
        let Some(transfer) = self.machines[node].transfers.get(&id) else { return };
        let request = transfer.request;
        let failure = |why| Input::FetchFailed { id, why };
        let provider = self.index(request.node);
        let link = provider.and_then(|provider| self.link_between(node, provider));
        let (Some(provider), Some(link)) = (provider.filter(|p| self.machines[node].connected.contains(p)), link)
        else {
            self.machines[node].transfers.remove(&id);
            return self.give(node, failure(FetchFailure::Lost));
        };
        if !self.machines[provider].disk.holds(request.blob, request.start, request.end) {
            self.machines[node].transfers.remove(&id);
            return self.give(node, failure(FetchFailure::NotFound));
        }
        if self.machines[provider].lies.altered_bytes {
            self.machines[node].transfers.remove(&id);
            return self.give(node, failure(FetchFailure::Corrupt));
        }
        // Requests on one link share its rate evenly.
        let sharing = self.machines[node].transfers.values().filter(|t| t.request.node == request.node).count() as u64;
        let Some(transfer) = self.machines[node].transfers.get_mut(&id) else { return };
        let length = request.end - request.start;
        let step = u64::try_from(PROGRESS.as_millis()).unwrap_or(1) * link.rate / 1000 / sharing.max(1);
        let started = self.time.since(transfer.started) >= link.delay * 2;
        let bytes = if started { step.max(1).min(length - transfer.reported) } else { 0 };
        transfer.reported += bytes;
        let whole = transfer.reported == length;
        let (start, end) = (request.start, request.start + transfer.reported);
        self.machines[node].received += bytes;
        if whole {
            self.machines[node].transfers.remove(&id);
        }
        self.machines[node].disk.add(request.blob, request.size, start, end);
        if bytes > 0 {
            self.give(node, Input::Received { id, bytes });
        }
        if whole {
            self.give(node, Input::Fetched { id });
        } else {
            self.later(PROGRESS, node, Event::Progress(id));
        }
    }

    /// The driver: one match over what an agent wants done.
    fn carry_out(&mut self, node: NodeIndex, action: Action) {
        match action {
            Action::Persist { token, records } => {
                self.later(WRITE, node, Event::Durable { records, token });
            }
            Action::Dial(address) => {
                let other = address.0.strip_prefix("node ").and_then(|index| index.parse().ok());
                match other.filter(|other| self.link_between(node, *other).is_some()) {
                    Some(other) => self.later(Duration::from_millis(1), node, Event::Connect(other)),
                    None => self.later(Duration::from_millis(1), node, Event::Give(Input::DialFailed { address })),
                }
            }
            Action::Refuse(id) => {
                if let Some(other) = self.index(id) {
                    // Not within the agent's own call: its next inputs come after all its actions.
                    self.machines[node].connected.remove(&other);
                    let me = self.id(node);
                    if self.machines[other].connected.remove(&node) {
                        self.later(Duration::ZERO, other, Event::Give(Input::Disconnected { node: me }));
                    }
                }
            }
            Action::Send { node: to, bytes } => {
                if let Some(to) = self.index(to)
                    && let Some(link) = self.link_between(node, to)
                {
                    let from = self.id(node);
                    let wire = Duration::from_millis(bytes.len() as u64 * 1000 / link.rate);
                    self.later(link.delay + wire, to, Event::Give(Input::Message { node: from, bytes }));
                }
            }
            Action::Subscribe(repository) => {
                self.machines[node].subscribed.insert(repository);
            }
            Action::Announce { repository, bytes } => {
                if self.machines[node].seen.insert(Hash::of(&bytes)) {
                    self.flood(node, repository, &bytes);
                }
            }
            Action::Verdict { id, verdict } => {
                let judged = self.machines[node].judged.remove(&id);
                if let (Some((repository, bytes)), Verdict::Accept) = (judged, verdict) {
                    self.flood(node, repository, &bytes);
                }
            }
            Action::Look { blob, size } => {
                let pieces = self.machines[node].disk.pieces(blob, size);
                self.later(LOOK, node, Event::Give(Input::Held { blob, size, pieces }));
            }
            Action::Fetch(request) => {
                let transfer = Transfer { request, reported: 0, started: self.time };
                self.machines[node].transfers.insert(request.id, transfer);
                self.later(Duration::from_millis(1), node, Event::Progress(request.id));
            }
            Action::Cancel(id) => {
                self.machines[node].transfers.remove(&id);
            }
            Action::Delete { blob } => self.machines[node].disk.delete(blob),
            Action::Stage { app, bundle, .. } => {
                self.later(INSTALL, node, Event::Installed { app, bundle, stage: true });
            }
            Action::Switch { app, bundle } => {
                let result = self.machines[node].disk.switch(&app, bundle);
                self.later(INSTALL, node, Event::Give(Input::Switched { app, bundle, result }));
            }
            Action::CheckHealth { app, bundle, .. } => {
                self.later(INSTALL, node, Event::Installed { app, bundle, stage: false });
            }
            Action::Clean { app, keep } => self.machines[node].disk.clean(&app, &keep),
            Action::Tell(fact) => self.machines[node].facts.push((self.time, fact)),
        }
    }
}

fn ends(a: NodeIndex, b: NodeIndex) -> (NodeIndex, NodeIndex) {
    (a.min(b), a.max(b))
}
