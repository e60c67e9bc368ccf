//! One node: its agent, its disk, its clocks, and what its driver has under way.

use std::sync::Arc;

use burr_protocol::{
    Agent, Hash, NodeId, Now, RepositoryId, Time, Wall,
    action::Token,
    config::Config,
    fact::Fact,
    fetch::{Pieces, RequestId},
    flight::Snapshot,
    receipt::Signer,
    record::Record,
    serving::QuestionId,
    table::Table,
    wire::Message,
};
use ed25519_dalek::{SecretKey, SigningKey};

use super::{NEVER, NodeIndex, World, presence::Presence, transfer::Transfer};
use crate::{disk::Disk, network::PipeId, random::Stream};

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
    /// So many seconds more than the right time, or fewer.
    Off(i64),
}

/// How far a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Asked for, and not durable yet: a crash loses it.
    Asked,
    /// Durable, but the agent has not heard of it.
    Durable,
}

/// How a node answers questions for parts of blobs. All but the honest promise all of it, or all but a piece,
/// to whoever asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answers {
    /// With what it has.
    #[default]
    Honest,
    /// With altered bytes.
    Altered,
    /// That it does not have what it promised.
    Missing,
    /// With a byte a second.
    Trickle,
    /// Never.
    Silence,
}

/// In which ways a node lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lies {
    /// What others get who fetch from it.
    pub answers: Answers,
    /// It alters the metadata that it passes on.
    pub altered_metadata: bool,
    /// It answers with the first metadata that it ever held.
    pub old_metadata: bool,
    /// It claims to hold much newer metadata, and answers with this.
    pub forged: Option<Arc<[u8]>>,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) records: Vec<Record>,
    /// `None` until it is known; then whether it was written.
    pub(super) durable: Option<bool>,
    /// The packs that it replaced on the disk: until the agent hears of it, they are what it holds.
    pub(super) replaced: Vec<(RepositoryId, Hash)>,
}

/// A connection, as one of its ends sees it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Tells this connection from earlier ones with the same peer.
    pub(super) session: u32,
    /// When what was sent last arrives: a stream keeps its order.
    pub(super) clear: Time,
}

/// Gossip that a node has heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) subscribed: Table<RepositoryId, ()>,
    /// The numbers of what was seen lately, oldest first.
    pub(super) seen: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: NodeId,
    pub(super) config: Arc<Config>,
    pub(super) agent: Option<Box<Agent>>,
    /// Who is to sign for its agent, while it is off.
    signer: Option<Box<Signer>>,
    /// Counts starts: what was caused before a crash does not reach the agent after it.
    pub(super) life: u32,
    pub(super) disk: Disk,
    /// What its wall clock shows, if not the right time.
    pub(super) clock: Option<Box<Clock>>,
    /// Set while nothing can be written.
    pub(super) full: bool,
    /// Bytes that fetches brought, whether they were here already or not.
    pub(super) received: u64,
    /// Bytes that others fetched from here.
    pub(super) served: u64,
    pub(super) lies: Option<Box<Lies>>,
    /// What it says arrives nowhere.
    pub(super) mute: bool,
    pub(super) connected: Table<u32, Connection>,
    pub(super) transfers: Table<RequestId, Transfer>,
    /// Questions of others that wait for their turn: whose, and of which request.
    pub(super) questions: Table<QuestionId, (u32, RequestId)>,
    pub(super) writes: Table<Token, Writing>,
    pub(super) heard: Heard,
    /// The earliest wake that is in the queue, or [`NEVER`].
    pub(super) wake: Time,
    pub(super) presence: Presence,
    /// Bytes a second out of and into the node, at a place.
    pub(super) rate: (u64, u64),
    /// Pipes of these rates, while anything flows.
    pub(super) pipes: Option<(PipeId, PipeId)>,
    /// Nodes that it is configured to know, and whether its agent was told so.
    pub(super) fixed: Arc<[u32]>,
    pub(super) introduced: bool,
}

/// The secret key of the node of this number: its identity follows from its place in the world.
fn secret(node: NodeIndex) -> SecretKey {
    Hash::of(format!("burr-sim node {node}").as_bytes()).0
}

impl World {
    /// Adds a node, switched on, with an identity that follows from its place in the world.
    pub fn add(&mut self, config: impl Into<Arc<Config>>) -> NodeIndex {
        let index = self.add_dark(config);
        self.start(index);
        index
    }

    /// Adds a node that is off.
    pub fn add_dark(&mut self, config: impl Into<Arc<Config>>) -> NodeIndex {
        let index = self.machines.len();
        let number = u32::try_from(index).expect("fewer nodes than 2^32");
        let signer = Signer::from(SigningKey::from_bytes(&secret(index)));
        let id = signer.node();
        self.names.insert(id, number);
        self.machines.push(Machine {
            id,
            config: config.into(),
            agent: None,
            signer: Some(Box::new(signer)),
            life: 0,
            disk: self.contents.blank(),
            clock: None,
            full: false,
            received: 0,
            served: 0,
            lies: None,
            mute: false,
            connected: Table::default(),
            transfers: Table::default(),
            questions: Table::default(),
            writes: Table::default(),
            heard: Heard::default(),
            wake: NEVER,
            presence: Presence::default(),
            rate: (u64::MAX, u64::MAX),
            pipes: None,
            fixed: Arc::from([]),
            introduced: false,
        });
        index
    }

    /// Switches a node off, as a power cut does: what is not durable is gone.
    pub fn crash(&mut self, node: NodeIndex) {
        let peers: Vec<_> = self.machines[node].connected.keys().copied().collect();
        for peer in peers {
            self.disconnect(node, peer as usize);
        }
        self.end_transfers(node);
        self.gossip.forget(node);
        let machine = &mut self.machines[node];
        machine.signer = machine.agent.take().map(|agent| Box::new(agent.into_signer())).or(machine.signer.take());
        machine.life += 1;
        machine.writes = Table::default();
        machine.heard = Heard::default();
        machine.wake = NEVER;
        machine.introduced = false;
    }

    /// Switches a node on; it goes on from its disk.
    pub fn start(&mut self, node: NodeIndex) {
        let now = self.shown(node);
        let machine = &mut self.machines[node];
        assert!(machine.agent.is_none(), "node {node} is on");
        let (records, store) = (machine.disk.records(), machine.disk.store());
        // Its key was worked out once, and what disks hold was verified once.
        let signer = *machine.signer.take().expect("who is off does not sign");
        let (agent, facts) = Agent::new_with(&mut self.memory, signer, machine.config.clone(), records, store, now);
        machine.agent = Some(Box::new(agent));
        self.check_start(node);
        for fact in facts {
            self.tell(node, fact);
        }
        self.give(node, burr_protocol::action::Input::Wake);
        self.discover_all(node);
    }

    /// Writes an agent down and reads it back.
    pub(super) fn read_back(&mut self, node: NodeIndex) {
        let agent = &mut self.machines[node].agent;
        *agent = agent.take().map(|agent| {
            let snapshot = Snapshot::of(&agent);
            Box::new(snapshot.agent(agent.into_signer()).expect("what was written down is read back"))
        });
    }

    /// Whether a node is on.
    #[must_use]
    pub fn is_on(&self, node: NodeIndex) -> bool {
        self.machines[node].agent.is_some()
    }

    /// What a node's clocks show.
    #[must_use]
    pub fn shown(&self, node: NodeIndex) -> Now {
        let now = self.now();
        match self.machines[node].clock.as_deref().copied().unwrap_or_default() {
            Clock::Right => now,
            Clock::Unset => Now { wall: None, ..now },
            Clock::Stopped(wall) => Now { wall: Some(wall), ..now },
            Clock::Off(seconds) => Now { wall: now.wall.map(|wall| Wall(wall.0.saturating_add(seconds))), ..now },
        }
    }

    /// How a node answers questions for parts of blobs.
    pub(super) fn answers(&self, node: NodeIndex) -> Answers {
        self.machines[node].lies.as_ref().map_or(Answers::Honest, |lies| lies.answers)
    }

    /// What a liar makes of a message.
    pub(super) fn lie_about(&mut self, node: NodeIndex, bytes: &mut Vec<u8>) {
        let machine = &self.machines[node];
        let Some(lies) = &machine.lies else { return };
        match Message::decode(bytes) {
            Ok(Message::Pack { repository, bytes: mut pack }) => {
                if let Some(forged) = &lies.forged {
                    pack = forged.to_vec();
                } else if lies.old_metadata {
                    pack = machine.disk.first_metadata(repository).map_or(pack, <[u8]>::to_vec);
                } else {
                    let middle = pack.len() / 2;
                    pack[middle] ^= 1;
                }
                *bytes = Message::Pack { repository, bytes: pack }.encode();
                self.ledger.lies += 1;
            }
            Ok(Message::Digest(mut digest)) if lies.forged.is_some() => {
                for holding in &mut digest.holdings {
                    holding.version.timestamp += 1000;
                }
                *bytes = Message::Digest(digest).encode();
                self.ledger.lies += 1;
            }
            Ok(Message::Holds { blob, .. } | Message::Also { blob, .. }) => {
                *bytes = self.promise(node, blob).unwrap_or_else(|| std::mem::take(bytes));
            }
            _ => {}
        }
    }

    /// What a node that lies about blobs says to one that looks for some.
    pub(super) fn promises(&self, node: NodeIndex, heard: &[u8]) -> Vec<Vec<u8>> {
        if self.answers(node) == Answers::Honest {
            return Vec::new();
        }
        match Message::decode(heard) {
            Ok(Message::Want { blobs, .. }) => blobs.into_iter().filter_map(|blob| self.promise(node, blob)).collect(),
            _ => Vec::new(),
        }
    }

    /// That it has all of a blob, or all but a piece.
    fn promise(&self, node: NodeIndex, blob: Hash) -> Option<Vec<u8>> {
        if self.answers(node) == Answers::Honest {
            return None;
        }
        let payload = self.ledger.rollouts.iter().map(|rollout| &rollout.release.payload).find(|p| p.blob == blob)?;
        let mut pieces = Pieces::all(payload.size);
        // Every other liar looks like one that is nearly done.
        if node % 2 == 1 {
            pieces.remove(node % pieces.count());
        }
        Some(Message::Holds { blob, size: payload.size, pieces: pieces.map() }.encode())
    }

    /// A node told people something.
    pub(super) fn tell(&mut self, node: NodeIndex, fact: Fact) {
        self.ledger.note(self.time, node, &fact, |id| self.names.find(id, |n| self.machines[n as usize].id));
        if self.thorough {
            self.told.entry(node).or_default().push((self.time, fact));
        }
    }

    /// The luck of a node for one purpose, new in each millisecond.
    pub(super) fn luck(&self, node: NodeIndex, purpose: &str) -> Stream {
        let mut stream = Stream::of(self.seed, node as u64, purpose);
        Stream::of(stream.bits(), self.time.0, purpose)
    }
}
