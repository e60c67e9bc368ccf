//! A machine around an agent: a disk that keeps what was stored and forgets the rest at a kill, a blob store, slots, and
//! a list of what the agent asked for and nobody answered yet.

#![allow(clippy::disallowed_types, reason = "a lock around what is kept from run to run")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use burr_protocol::{
    Agent, Hash, NodeId, Now, Time, Wall,
    action::{Action, Input, LinkId, NoKey, Token},
    cache::Stored,
    config::{Config, Confirm, Follow, Install},
    fact::{Fact, UpdateStep},
    fetch::{PieceMap, Pieces, Request, piece_size},
    peers::Address,
    record::Record,
    trust::Memory,
    wire::Message,
};

use super::{
    super::shop::{self, NOW, history},
    door::{self, Link},
    rules::Rules,
};

/// Something that the agent asked for and that has no answer yet. Persists are answered in their order.
#[derive(Debug, Clone)]
pub(super) enum Duty {
    Persist,
    Dial(Address),
    Look { blob: Hash, size: u64 },
    Delete { blob: Hash },
    Fetch(Request),
    Stage { app: String, bundle: Hash },
    Switch { app: String, bundle: Option<Hash> },
    CheckHealth { app: String, bundle: Hash },
}

/// What was verified, in this run or one before: to verify the shop's packs again in each would be nearly all that a run
/// does. The targets `client` and `trust` look at that.
static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(|| Mutex::new(Memory::of(1024)));

fn memory() -> MutexGuard<'static, Memory> {
    MEMORY.lock().expect("nothing fails while it is held")
}

pub(super) struct World {
    pub(super) agent: Agent,
    memory: Memory,
    pub(super) config: Config,
    now: Now,
    rules: Rules,
    pub(super) connected: BTreeSet<NodeId>,
    duties: Vec<Duty>,
    /// Persists that are not durable yet.
    writing: VecDeque<(Token, Vec<Record>)>,
    /// Records that are durable, by key, and the pack's file.
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    pack: Option<Vec<u8>>,
    /// What the blob store holds, verified.
    blobs: BTreeMap<Hash, (u64, Pieces)>,
    slots: BTreeSet<Hash>,
    /// Whether a version waits for the app's own word.
    on_trial: bool,
    /// What an honest peer is asked and sent, until it answers.
    sent: Vec<(NodeId, Message)>,
    /// Connections that were not admitted yet.
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_link: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        *memory() = std::mem::take(&mut self.memory);
    }
}

impl World {
    /// A world around an agent that knows nothing; in a closed mesh, around one that was just enrolled.
    pub(super) fn new(confirm: Confirm, closed: bool) -> Self {
        let install = Install { confirm, attempts: 2, ..Install::of("stable") };
        let follow =
            Follow { repository: shop::id(), app: "shop".to_owned(), cache: Some(None), install: Some(install.into()) };
        let certificates = closed.then(|| door::certificate(shop::node(101))).into_iter().collect();
        let config = Config {
            follows: vec![follow],
            collect: true,
            max_receipts: 8,
            certificates,
            closed: closed.then(door::closed),
            ..Config::default()
        };
        let now = Now { time: Time(1), wall: Some(NOW) };
        let mut memory = std::mem::replace(&mut *memory(), Memory::of(1024));
        let (agent, facts) =
            Agent::new_with(&mut memory, shop::key(101), config.clone(), Vec::new(), BTreeMap::new(), now);
        assert_eq!(facts, []);
        let mut world = Self {
            agent,
            memory,
            config,
            now,
            rules: Rules::default(),
            connected: BTreeSet::new(),
            duties: Vec::new(),
            writing: VecDeque::new(),
            records: BTreeMap::new(),
            pack: None,
            blobs: BTreeMap::new(),
            slots: BTreeSet::new(),
            on_trial: false,
            sent: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
        };
        world.handle(Input::Wake);
        if world.config.closed.is_some() {
            let pack = history()[shop::FLEET].pack().to_vec();
            world.handle(Input::Import { repository: shop::id(), pack });
            while let Some(at) = world.duties.iter().position(|duty| matches!(duty, Duty::Persist)) {
                let duty = world.duties.remove(at);
                world.fulfil(duty);
            }
        }
        world
    }

    /// Gives the agent an input, and looks at all that comes of it.
    pub(super) fn handle(&mut self, input: Input) {
        let mut actions = Vec::new();
        let announced = matches!(input, Input::Announcement { .. });
        self.agent.handle_with(&mut self.memory, self.now, input, &mut actions);
        let verdicts = actions.iter().filter(|action| matches!(action, Action::Verdict { .. })).count();
        assert_eq!(verdicts, usize::from(announced), "a verdict for each announcement");
        for action in actions {
            self.rules.check_action(&action, self.pack.as_deref());
            self.take(action);
        }
        self.rules.check_state(&self.agent, &self.config);
    }

    /// An input that this peer may be refused for.
    pub(super) fn lie(&mut self, node: NodeId, input: Input) {
        self.rules.lied(node);
        self.handle(input);
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Persist { token, records } => {
                self.writing.push_back((token, records));
                self.duties.push(Duty::Persist);
            }
            Action::Dial(address) => self.duties.push(Duty::Dial(address)),
            Action::Introduce { certificate, .. } => {
                assert!(self.config.closed.is_some(), "nobody is asked for one in an open mesh");
                assert_eq!([certificate], self.config.certificates[..], "it shows its own");
            }
            Action::Admit { link } => self.admitted(link),
            Action::Dismiss { link, .. } => drop(self.links.remove(&link)),
            Action::Answer { .. } => unreachable!("no device is behind it"),
            Action::Serve(_) | Action::Decline(_) => unreachable!("nobody asks it for blobs"),
            Action::RunHook { app, bundle, hook, .. } => {
                self.handle(Input::Hooked { app, bundle, hook, result: Ok(String::new()) });
            }
            Action::Refuse(node) | Action::Drop(node) => {
                // Its connections are dropped, of which the driver tells.
                if self.connected.remove(&node) {
                    self.handle(Input::Disconnected { node });
                }
            }
            Action::Send { node, bytes } => {
                let message = Message::decode(&bytes).expect("what is sent can be read");
                self.sent.push((node, message));
            }
            Action::Look { blob, size } => self.duties.push(Duty::Look { blob, size }),
            Action::Fetch(request) => self.duties.push(Duty::Fetch(request)),
            Action::Cancel(id) => {
                self.duties.retain(|duty| !matches!(duty, Duty::Fetch(request) if request.id == id));
            }
            Action::Delete { blob } => self.duties.push(Duty::Delete { blob }),
            // This device is in no fleet.
            Action::Unlock { lock, keys } => {
                let result = keys.map_or(Err(NoKey::Missing), |keys| Err(NoKey::NotAMember(keys.blob)));
                self.handle(Input::Unlocked { epoch: lock.owner.epoch, result });
            }
            Action::Stage { app, bundle, payload, .. } => {
                let whole = self.blobs.get(&payload.blob).is_some_and(|(_, pieces)| pieces.is_all());
                assert!(whole, "what is staged is here");
                self.duties.push(Duty::Stage { app, bundle });
            }
            Action::Switch { app, bundle } => {
                assert!(bundle.is_none_or(|bundle| self.slots.contains(&bundle)), "a switch leads to a slot");
                self.duties.push(Duty::Switch { app, bundle });
            }
            Action::CheckHealth { app, bundle, .. } => self.duties.push(Duty::CheckHealth { app, bundle }),
            Action::Clean { keep, .. } => self.slots.retain(|slot| keep.contains(slot)),
            Action::Tell(Fact::Update { step, .. }) => self.on_trial = matches!(step, UpdateStep::OnTrial),
            Action::Subscribe(_)
            | Action::Announce { .. }
            | Action::Verdict { .. }
            | Action::Grant { .. }
            | Action::Tell(_) => {}
        }
    }

    /// A node connects; in a closed mesh it shows its certificate before that.
    pub(super) fn connect(&mut self, node: NodeId) {
        self.arrive(node, None);
    }

    /// As [`World::connect`], of a node that was dialled.
    pub(super) fn reach(&mut self, node: NodeId, address: Address) {
        self.arrive(node, Some(address));
    }

    pub(super) fn disconnect(&mut self, node: NodeId) {
        if self.connected.remove(&node) {
            let of = |duty: &Duty| matches!(duty, Duty::Fetch(request) if request.node == node);
            self.duties.retain(|duty| !of(duty));
            self.handle(Input::Disconnected { node });
        }
    }

    pub(super) fn message(&mut self, node: NodeId, message: &Message) {
        self.handle(Input::Message { node, bytes: message.encode() });
    }

    pub(super) fn set_clock(&mut self, wall: Option<Wall>) {
        self.now.wall = wall;
        self.handle(Input::Wake);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.time = self.now.time + time;
        self.handle(Input::Wake);
    }

    /// Goes on to the time that the agent asked for, which then lies ahead again.
    pub(super) fn wake(&mut self) {
        let Some(at) = self.agent.wake_at() else { return };
        self.now.time = self.now.time.max(at);
        for _ in 0..4 {
            self.handle(Input::Wake);
            if self.agent.wake_at().is_none_or(|at| at > self.now.time) {
                return;
            }
        }
        panic!("the agent wakes in a loop");
    }

    pub(super) fn take_duty(&mut self, at: usize) -> Option<Duty> {
        let at = at.checked_rem(self.duties.len())?;
        Some(self.duties.remove(at))
    }

    /// Does what was asked for.
    pub(super) fn fulfil(&mut self, duty: Duty) {
        match duty {
            Duty::Persist => {
                let (token, records) = self.writing.pop_front().expect("a duty for each persist");
                self.write(records);
                self.handle(Input::Stored(token));
            }
            Duty::Dial(address) => {
                self.handle(Input::Lost { address: address.clone() });
                self.handle(Input::DialFailed { address });
            }
            Duty::Look { blob, size } => {
                let held = self.blobs.get(&blob).filter(|(held, _)| *held == size);
                let pieces = held.map_or(PieceMap::Some(Vec::new()), |(_, pieces)| pieces.map());
                self.handle(Input::Held { blob, size, pieces });
            }
            Duty::Delete { blob } => {
                self.blobs.remove(&blob);
                self.handle(Input::Deleted { blob, gone: true });
            }
            Duty::Fetch(Request { id, blob, size, start, end, .. }) => {
                let (_, pieces) = self.blobs.entry(blob).or_insert_with(|| (size, Pieces::none(size)));
                let piece = piece_size(size);
                let run =
                    usize::try_from(start / piece).expect("few")..usize::try_from(end.div_ceil(piece)).expect("few");
                run.for_each(|piece| pieces.insert(piece));
                self.handle(Input::Received { id, bytes: end - start });
                self.handle(Input::Fetched { id });
            }
            Duty::Stage { app, bundle } => {
                self.slots.insert(bundle);
                self.handle(Input::Staged { app, bundle, result: Ok(()) });
            }
            Duty::Switch { app, bundle } => self.handle(Input::Switched { app, bundle, result: Ok(()) }),
            Duty::CheckHealth { app, bundle } => {
                self.handle(Input::Health { app, bundle, healthy: true, words: String::new() });
            }
        }
    }

    pub(super) fn fail_persist(&mut self) {
        let (token, _) = self.writing.pop_front().expect("a duty for each persist");
        self.handle(Input::StoreFailed { token, why: "the disk is full".to_owned() });
    }

    /// What is written is durable from now on.
    fn write(&mut self, records: Vec<Record>) {
        for record in records {
            self.rules.check_durable(&record);
            match record.entry() {
                Some((key, Some(value))) => drop(self.records.insert(key, value)),
                Some((key, None)) => drop(self.records.remove(&key)),
                None => {
                    let Record::Metadata { pack, .. } = record else { unreachable!("all others have an entry") };
                    self.pack = Some(pack);
                }
            }
        }
    }

    /// A kill and a new start. So many persists that were under way are durable without the agent having heard of it.
    pub(super) fn restart(&mut self, durable: usize) {
        for _ in 0..durable {
            let Some((_, records)) = self.writing.pop_front() else { break };
            self.write(records);
        }
        let read = |(key, value): (&Vec<u8>, &Vec<u8>)| Record::read(key, value).expect("what was written is read");
        let mut records: Vec<Record> = self.records.iter().map(read).collect();
        records.extend(self.pack.clone().map(|pack| Record::Metadata { repository: shop::id(), pack }));
        let stored =
            |(blob, (size, pieces)): (&Hash, &(u64, Pieces))| (*blob, Stored { size: *size, whole: pieces.is_all() });
        let store = self.blobs.iter().map(stored).collect();
        self.connected.clear();
        self.duties.clear();
        self.writing.clear();
        self.sent.clear();
        self.links.clear();
        self.now.time = Time(1);
        let (config, memory) = (self.config.clone(), &mut self.memory);
        let (agent, facts) = Agent::new_with(memory, shop::key(101), config, records, store, self.now);
        assert_eq!(facts, [], "what was durable is believed again");
        self.agent = agent;
        self.handle(Input::Wake);
    }

    /// An honest peer comes, the disk and the apps work: the agent ends with the newest metadata and release.
    pub(super) fn heal(&mut self, honest: NodeId) {
        self.set_clock(Some(NOW));
        self.connect(honest);
        let newest = shop::newest();
        self.message(honest, &Message::Digest(super::digest(newest)));
        for _ in 0..2000 {
            if let Some((node, message)) = self.sent.pop() {
                if node == honest {
                    self.reply(honest, message);
                }
            } else if !self.duties.is_empty() {
                match self.duties.remove(0) {
                    Duty::Fetch(request) if request.node != honest => self.disconnect(request.node),
                    duty => self.fulfil(duty),
                }
            } else if self.on_trial {
                self.on_trial = false;
                self.handle(Input::Confirm { app: "shop".to_owned() });
            } else if self.rules.is_healed(&self.agent) {
                return;
            } else {
                assert!(self.now.time < super::LONG, "it heals in its time: {:?}", self.agent.status());
                self.wake();
            }
        }
        panic!("it heals: {:?}", self.agent.status());
    }

    fn reply(&mut self, honest: NodeId, message: Message) {
        let newest = shop::newest();
        match message {
            Message::AskPack { repository, .. } => {
                self.message(honest, &Message::Pack { repository, bytes: newest.pack().to_vec() });
            }
            Message::Want { blobs, .. } => {
                for payload in newest.verified().releases().map(|release| release.payload.clone()) {
                    if blobs.contains(&payload.blob) {
                        let holds = Message::Holds { blob: payload.blob, size: payload.size, pieces: PieceMap::All };
                        self.message(honest, &holds);
                    }
                }
            }
            Message::Receipts(receipts) => {
                let receipts = receipts.iter().map(|signed| signed.verify().expect("a receipt is sent as signed"));
                let mark = |receipt: burr_protocol::receipt::Receipt| burr_protocol::wire::Mark {
                    repository: receipt.repository,
                    device: receipt.device,
                    counter: receipt.counter,
                };
                self.message(honest, &Message::Stored(receipts.map(mark).collect()));
            }
            _ => {}
        }
    }
}
