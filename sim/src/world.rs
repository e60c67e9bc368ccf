//! The world: one clock, one queue of events, nodes with their disks, and what lies between them.
//!
//! A node's driver is `World::carry_out`: one match over [`Action`]. Two events of one moment happen in the order in
//! which they were caused. `machine` is a node, `place` what lies between nodes, `presence` how they come and go,
//! `transfer` and `gossip` what travels, `mishaps` what goes wrong, `check` what always holds.

mod check;
mod digest;
mod gossip;
mod machine;
mod mishaps;
mod names;
mod place;
mod presence;
mod transfer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use burr_protocol::{
    Agent, Hash, NodeId, Now, RepositoryId, Time, Wall,
    action::{Action, FetchFailure, Input, StageFailure},
    fact::Fact,
    fetch::{PieceMap, RequestId},
    record::Record,
    trust::Memory,
};

use crate::{
    disk::{Contents, Disk},
    ledger::Ledger,
    network::{Network, PipeId},
    queue::Queue,
};
use check::Checks;
pub use check::{Rule, Violation};
use digest::Digest;
use gossip::Gossip;
pub use machine::{Answers, Clock, Lies, Write};
use machine::{Connection, Machine, Writing};
use names::Names;
use place::{Link, Place, address};
pub use place::{PlaceIndex, PlaceModel, Uplink};
pub use presence::{Habit, Route};

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

/// More events than this of one moment, a node, and the world stands still: an agent wakes in a loop.
const MAX_EVENTS_OF_A_MOMENT: usize = 5000;

/// A time that does not come.
const NEVER: Time = Time(u64::MAX);

/// An event of no life: it happens whether the node is on, off, or on again.
const ANY_LIFE: u32 = u32::MAX;

/// What is to happen to a node. Most of what waits does so for a day: what takes more room than a number is behind a
/// pointer.
#[derive(Debug)]
enum Event {
    /// The agent's deadline.
    Wake,
    Give(Box<Input>),
    Message(Box<Letter>),
    /// The oldest write that is not durable is durable.
    Durable,
    /// The oldest write is reported.
    Reported,
    Connect(u32),
    Gossip(Box<Rumour>),
    Flow(RequestId),
    /// A provider said nothing for so long that its connection is not used any more.
    Silent(RequestId),
    Failed(RequestId, FetchFailure),
    Installed(Box<Installation>),
    /// The pipes are shared anew.
    Share,
    /// The node comes or goes.
    Turn,
    /// Connections over which nothing came back are given up.
    Idle,
}

/// A message on its way.
#[derive(Debug)]
struct Letter {
    from: u32,
    session: u32,
    bytes: Vec<u8>,
}

/// Gossip on its way.
#[derive(Debug)]
struct Rumour {
    from: u32,
    repository: RepositoryId,
    /// The same is of the same number.
    number: u32,
    bytes: Arc<[u8]>,
    /// It is sent only to who does not have it yet.
    offered: bool,
}

/// Work of the installer: it stages a bundle, or looks whether it is healthy.
#[derive(Debug)]
struct Installation {
    app: String,
    bundle: Hash,
    stages: bool,
}

/// Of which node, in which life, and what.
type Happening = (u32, u32, Event);

/// The whole world.
#[derive(Debug)]
pub struct World {
    seed: u64,
    time: Time,
    epoch: Wall,
    queue: Queue<Happening>,
    machines: Vec<Machine>,
    names: Names,
    links: BTreeMap<(u32, u32), Link>,
    places: Vec<Place>,
    network: Network,
    /// What the machine moves that all nodes run on, if they do.
    host: Option<PipeId>,
    /// Whose request each flow is.
    flows: Vec<Option<(u32, RequestId)>>,
    sharing: bool,
    sessions: u32,
    questions: u64,
    gossip: Gossip,
    /// What each node told people, with its time.
    told: BTreeMap<NodeIndex, Vec<(Time, Fact)>>,
    /// Bundles that do not stage, and bundles that are unhealthy.
    broken: BTreeSet<Hash>,
    unhealthy: BTreeSet<Hash>,
    /// Bundles that hooks say no to.
    unhooked: BTreeSet<Hash>,
    /// Packs that were verified: the same bytes are checked once.
    memory: Memory,
    contents: Contents,
    actions: Vec<Action>,
    ledger: Ledger,
    checks: Option<Box<Checks>>,
    speaks_too_soon: bool,
    /// Before each input of this number, and its multiples, the agent is read back from a snapshot of it.
    snapshots: Option<u64>,
    handled: u64,
    digest: Digest,
    /// Keeps every fact, and hashes every action rather than what was told.
    thorough: bool,
}

impl World {
    /// An empty world whose wall clocks show `epoch` at its start.
    #[must_use]
    pub fn new(epoch: Wall) -> Self {
        Self::of_seed(0, epoch)
    }

    /// An empty world with the luck of this seed.
    #[must_use]
    pub fn of_seed(seed: u64, epoch: Wall) -> Self {
        Self {
            seed,
            time: Time::default(),
            epoch,
            queue: Queue::default(),
            machines: Vec::new(),
            names: Names::default(),
            links: BTreeMap::new(),
            places: Vec::new(),
            network: Network::default(),
            host: None,
            flows: Vec::new(),
            sharing: false,
            sessions: 0,
            questions: 0,
            gossip: Gossip::default(),
            told: BTreeMap::new(),
            broken: BTreeSet::new(),
            unhealthy: BTreeSet::new(),
            unhooked: BTreeSet::new(),
            // A large fleet's receipts of a day: each is verified once, however many carry it.
            memory: Memory::of(1 << 16),
            contents: Contents::default(),
            actions: Vec::new(),
            ledger: Ledger::default(),
            checks: None,
            speaks_too_soon: false,
            snapshots: None,
            handled: 0,
            digest: Digest::default(),
            thorough: true,
        }
    }

    /// For many nodes: facts are counted and not kept, and the digest is one of what was told alone.
    pub fn keep_little(&mut self) {
        self.thorough = false;
    }

    /// A publisher's act on a node: its payload and its new trust pack are there.
    pub fn import(&mut self, node: NodeIndex, repository: RepositoryId, blob: Option<(Hash, u64)>, pack: Vec<u8>) {
        if let Some((blob, size)) = blob {
            self.machines[node].disk.import(blob, size);
            self.give(node, Input::Held { blob, size, pieces: PieceMap::All });
        }
        self.give(node, Input::Import { repository, pack });
    }

    /// From now on, a fleet's list of keys of this name has an entry for a node.
    pub fn list_in(&mut self, node: NodeIndex, list: Hash) {
        self.machines[node].disk.list_in(list);
    }

    /// Gives a node a certificate as a member of a fleet, from its next start on.
    pub fn enrol(&mut self, node: NodeIndex, certificate: Vec<u8>) {
        Arc::make_mut(&mut self.machines[node].config).certificates.push(certificate);
    }

    /// Hands an input to a node from outside the world: what a forger or an app would say.
    pub fn give(&mut self, node: NodeIndex, input: Input) {
        let now = self.shown(node);
        if self.machines[node].agent.is_none() {
            return;
        }
        self.handled += 1;
        if self.snapshots.is_some_and(|every| self.handled.is_multiple_of(every)) {
            self.read_back(node);
        }
        let Some(agent) = &mut self.machines[node].agent else { return };
        let mut actions = std::mem::take(&mut self.actions);
        agent.handle_with(&mut self.memory, now, input, &mut actions);
        let wake = agent.wake_at().map(|at| at.max(now.time));
        for action in actions.drain(..) {
            if self.thorough {
                self.digest.take(&(now, node, &action));
            }
            self.carry_out(node, action);
        }
        self.actions = actions;
        if let Some(at) = wake.filter(|at| *at < self.machines[node].wake) {
            self.machines[node].wake = at;
            self.cause(at, node, Event::Wake);
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
            let Some((time, (node, life, event))) = self.queue.pop(end) else {
                self.time = end;
                return until(self);
            };
            events = if time == self.time { events + 1 } else { 0 };
            let most = MAX_EVENTS_OF_A_MOMENT * (self.machines.len() + 1);
            assert!(events < most, "time stands still at {time:?} for node {node}");
            self.time = time;
            let node = node as usize;
            if life == ANY_LIFE || life == self.machines[node].life {
                self.happen(node, event);
            }
        }
    }

    /// What all actions so far hash to; of a world that keeps little, what was told.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.digest.so_far()
    }

    /// Inputs that agents handled so far.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// What was counted so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The same, to say what is to be counted.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
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

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// The writes of a node that it does not know to be durable, first asked first.
    pub fn writes(&self, node: NodeIndex) -> impl Iterator<Item = (Write, &[Record])> {
        let far = |writing: &Writing| if writing.durable.is_some() { Write::Durable } else { Write::Asked };
        self.machines[node].writes.values().map(move |writing| (far(writing), writing.records.as_slice()))
    }

    /// Bytes that fetches brought to a node, over all its lives.
    #[must_use]
    pub fn received(&self, node: NodeIndex) -> u64 {
        self.machines[node].received
    }

    /// Bytes that others fetched from a node, over all its lives.
    #[must_use]
    pub fn served(&self, node: NodeIndex) -> u64 {
        self.machines[node].served
    }

    /// A node's name.
    #[must_use]
    pub fn id(&self, node: NodeIndex) -> NodeId {
        self.machines[node].id
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, node: NodeIndex) -> &Disk {
        &self.machines[node].disk
    }

    /// A node's agent, while it is on.
    #[must_use]
    pub fn agent(&self, node: NodeIndex) -> Option<&Agent> {
        self.machines[node].agent.as_deref()
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
        self.told.get(&node).map_or(&[], Vec::as_slice)
    }

    fn cause(&mut self, at: Time, node: NodeIndex, event: Event) {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        // The world's own events are of no node, and there may be none yet.
        let life = self.machines.get(node).map_or(0, |machine| machine.life);
        let life = if matches!(event, Event::Share) { ANY_LIFE } else { life };
        self.queue.push(at, (number, life, event));
    }

    /// The same, whether the node is on then or not.
    fn cause_anyway(&mut self, at: Time, node: NodeIndex, event: Event) {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        self.queue.push(at, (number, ANY_LIFE, event));
    }

    fn later(&mut self, wait: Duration, node: NodeIndex, event: Event) {
        self.cause(self.time + wait, node, event);
    }

    fn index(&self, id: NodeId) -> Option<NodeIndex> {
        self.names.find(id, |node| self.machines[node as usize].id).map(|node| node as usize)
    }

    fn is_connected(&self, node: NodeIndex, other: NodeIndex) -> bool {
        u32::try_from(other).is_ok_and(|other| self.machines[node].connected.contains_key(&other))
    }

    fn disconnect(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, other) in [(a, b), (b, a)] {
            let id = self.id(other);
            // What came is told before that no more will.
            for request in self.asked_of(node, other) {
                if let Some(received) = self.arrived(node, request) {
                    self.give(node, received);
                }
            }
            if self.unplug(node, other) {
                self.give(node, Input::Disconnected { node: id });
            }
        }
    }

    /// Ends one side of a connection and what it has under way; returns whether there was one.
    fn unplug(&mut self, node: NodeIndex, other: NodeIndex) -> bool {
        let number = u32::try_from(other).expect("fewer nodes than 2^32");
        let was = self.machines[node].connected.remove(&number).is_some();
        if was {
            self.lose_transfers(node, other);
            self.machines[node].questions.retain(|_, (asker, _)| *asker != number);
        }
        was
    }

    fn happen(&mut self, node: NodeIndex, event: Event) {
        match event {
            Event::Wake => self.wake(node),
            Event::Give(input) => self.give(node, *input),
            Event::Message(letter) => {
                let Letter { from, session, bytes } = *letter;
                // What was in flight on a connection is lost with it.
                let connection = self.machines[node].connected.get(&from);
                if connection.is_some_and(|connection| connection.session == session) {
                    let from = from as usize;
                    for promise in self.promises(node, &bytes) {
                        self.transmit(node, from, promise);
                    }
                    let from = self.id(from);
                    self.give(node, Input::Message { node: from, bytes });
                }
            }
            Event::Durable => self.write(node),
            Event::Reported => {
                let Some((token, writing)) = self.machines[node].writes.pop_first() else { return };
                self.give(
                    node,
                    match writing.durable {
                        Some(false) => Input::StoreFailed { token, why: "no space is left".to_owned() },
                        _ => Input::Stored(token),
                    },
                );
            }
            Event::Connect(other) => self.connect(node, other as usize),
            Event::Gossip(rumour) => self.hear(node, *rumour),
            Event::Flow(id) => self.flow(node, id),
            Event::Silent(id) => self.fall_silent(node, id),
            Event::Failed(id, why) => self.give(node, Input::FetchFailed { id, why }),
            Event::Installed(work) if work.stages => {
                let Installation { app, bundle, .. } = *work;
                let result = if self.broken.contains(&bundle) {
                    Err(StageFailure::Bad("the payload is not the bundle".to_owned()))
                } else if self.machines[node].full {
                    Err(StageFailure::NoSpace("no space is left".to_owned()))
                } else {
                    self.machines[node].disk.stage(&app, bundle);
                    Ok(())
                };
                self.give(node, Input::Staged { app, bundle, result });
            }
            Event::Installed(work) => {
                let Installation { app, bundle, .. } = *work;
                let healthy = !self.unhealthy.contains(&bundle);
                let words = if healthy { "" } else { "the page stays blank" }.to_owned();
                self.give(node, Input::Health { app, bundle, healthy, words });
            }
            Event::Share => self.share(),
            Event::Turn => self.turn(node),
            Event::Idle => {
                if self.machines[node].mute {
                    let peers: Vec<_> = self.machines[node].connected.keys().copied().collect();
                    for peer in peers {
                        self.disconnect(node, peer as usize);
                    }
                }
            }
        }
    }

    fn wake(&mut self, node: NodeIndex) {
        // A deadline that came earlier has its own event.
        if self.machines[node].wake != self.time {
            return;
        }
        self.machines[node].wake = NEVER;
        let Some(at) = self.machines[node].agent.as_ref().and_then(|agent| agent.wake_at()) else { return };
        if at <= self.time {
            self.give(node, Input::Wake);
        } else {
            self.machines[node].wake = at;
            self.cause(at, node, Event::Wake);
        }
    }

    /// The oldest write that is not durable becomes so, or can't be written.
    fn write(&mut self, node: NodeIndex) {
        let machine = &mut self.machines[node];
        let full = machine.full;
        let open = machine.writes.iter_mut().find(|(_, writing)| writing.durable.is_none());
        let Some((token, writing)) = open else { return };
        writing.durable = Some(!full);
        if !full {
            let (token, records) = (*token, std::mem::take(&mut writing.records));
            writing.replaced = machine.disk.replaced_by(&records);
            machine.disk.write(&records, &mut self.contents);
            self.check_durable(node, &records);
            if let Some(writing) = self.machines[node].writes.get_mut(&token) {
                writing.records = records;
            }
        }
        // The news of it comes a moment later: a crash fits in between.
        self.later(REPORT, node, Event::Reported);
    }

    fn connect(&mut self, node: NodeIndex, other: NodeIndex) {
        let there = self.machines[other].agent.is_some() && !self.machines[node].mute && !self.machines[other].mute;
        let Some(path) = self.path(node, other).filter(|_| there) else {
            let address = address(other);
            if self.is_forgotten(node, other) {
                self.give(node, Input::Lost { address: address.clone() });
            }
            return self.give(node, Input::DialFailed { address });
        };
        self.sessions += 1;
        let session = self.sessions;
        for (this, that, address) in [(node, other, Some(address(other))), (other, node, None)] {
            let id = self.id(that);
            let number = u32::try_from(that).expect("fewer nodes than 2^32");
            if !self.machines[this].connected.contains_key(&number) {
                self.machines[this].connected.insert(number, Connection { session, clear: self.time });
                self.hear_meeting(this);
                self.give(this, Input::Connected { node: id, address, near: path.is_near() });
            }
        }
    }

    fn send(&mut self, node: NodeIndex, to: NodeId, mut bytes: Vec<u8>) {
        let Some(to) = self.index(to).filter(|to| self.is_connected(node, *to)) else { return };
        self.check_sent(node, &bytes);
        self.lie_about(node, &mut bytes);
        self.transmit(node, to, bytes);
    }

    fn transmit(&mut self, node: NodeIndex, to: NodeIndex, bytes: Vec<u8>) {
        let Some(path) = self.path(node, to) else { return };
        if self.machines[node].mute {
            return;
        }
        let wire = self.message_time(node, to, &path, bytes.len());
        let number = u32::try_from(to).expect("fewer nodes than 2^32");
        let Some(connection) = self.machines[node].connected.get_mut(&number) else { return };
        let at = (self.time + wire).max(connection.clear);
        connection.clear = at;
        let session = connection.session;
        let from = u32::try_from(node).expect("fewer nodes than 2^32");
        self.cause(at, to, Event::Message(Box::new(Letter { from, session, bytes })));
    }

    /// The driver: one match over what an agent wants done.
    fn carry_out(&mut self, node: NodeIndex, action: Action) {
        match action {
            Action::Persist { token, records } => {
                self.machines[node].writes.insert(token, Writing { records, durable: None, replaced: Vec::new() });
                self.later(WRITE, node, Event::Durable);
                if self.speaks_too_soon {
                    self.later(Duration::ZERO, node, Event::Give(Box::new(Input::Stored(token))));
                }
            }
            Action::Dial(address) => {
                let other = address.0.strip_prefix("node ").and_then(|index| index.parse().ok());
                let path = other.and_then(|other| self.path(node, other as usize));
                let wait = path.map_or(Duration::ZERO, |path| path.delay * 2) + Duration::from_millis(1);
                let failed = || Event::Give(Box::new(Input::DialFailed { address }));
                self.later(wait, node, other.map_or_else(failed, Event::Connect));
            }
            Action::Introduce { .. } | Action::Admit { .. } | Action::Dismiss { .. } => {
                unreachable!("the simulated mesh is open")
            }
            Action::Refuse(id) | Action::Drop(id) => {
                if let Some(other) = self.index(id) {
                    // Not within the agent's own call: its next inputs come after all its actions.
                    self.unplug(node, other);
                    let me = self.id(node);
                    if self.unplug(other, node) {
                        let gone = Input::Disconnected { node: me };
                        self.later(Duration::ZERO, other, Event::Give(Box::new(gone)));
                    }
                }
            }
            Action::Send { node: to, bytes } => self.send(node, to, bytes),
            Action::Subscribe(repository) => self.subscribe(node, repository),
            Action::Announce { repository, bytes } => {
                self.check_announced(node, &bytes);
                self.announce(node, repository, &bytes);
            }
            Action::Verdict { id, verdict } => self.judge(node, id, verdict),
            Action::Look { blob, size } => {
                let pieces = self.machines[node].disk.pieces(blob, size);
                self.later(LOOK, node, Event::Give(Box::new(Input::Held { blob, size, pieces })));
            }
            Action::Fetch(request) => {
                self.ask(node, request);
                self.check_asked(node);
            }
            Action::Cancel(id) => self.drop_transfer(node, id),
            Action::Serve(id) => self.serve(node, id),
            Action::Decline(id) => self.decline(node, id),
            Action::Delete { blob } => {
                self.machines[node].disk.delete(blob, &mut self.contents);
                self.later(LOOK, node, Event::Give(Box::new(Input::Deleted { blob, gone: true })));
            }
            Action::Unlock { lock, keys } => {
                let epoch = lock.owner.epoch;
                let result = self.machines[node].disk.unlock(&epoch, keys.as_ref());
                let unlocked = Input::Unlocked { epoch, result };
                self.later(LOOK, node, Event::Give(Box::new(unlocked)));
            }
            Action::Stage { app, bundle, .. } => {
                let work = Installation { app, bundle, stages: true };
                self.later(INSTALL, node, Event::Installed(Box::new(work)));
            }
            Action::Switch { app, bundle } => {
                self.check_switch(node, &app, bundle);
                let result = self.machines[node].disk.switch(&app, bundle);
                self.later(INSTALL, node, Event::Give(Box::new(Input::Switched { app, bundle, result })));
            }
            Action::RunHook { app, bundle, hook, .. } => {
                let bad = self.unhooked.contains(&bundle);
                let result = if bad { Err(format!("the hook `{hook}` says no")) } else { Ok(format!("{hook}")) };
                self.later(INSTALL, node, Event::Give(Box::new(Input::Hooked { app, bundle, hook, result })));
            }
            Action::CheckHealth { app, bundle, .. } => {
                let work = Installation { app, bundle, stages: false };
                self.later(INSTALL, node, Event::Installed(Box::new(work)));
            }
            Action::Clean { app, keep } => self.machines[node].disk.clean(&app, &keep, &mut self.contents),
            // Nothing here is behind a gateway, and who wishes something hears the facts.
            Action::Answer { .. } | Action::Grant { .. } => {}
            Action::Tell(fact) => {
                if !self.thorough {
                    self.digest.take(&(self.time, node, &fact));
                }
                self.tell(node, fact);
            }
        }
    }
}
