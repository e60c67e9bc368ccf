//! The mesh: one identity, one port, every stream to other nodes.
//!
//! Carries out what the agent asks of the network and reports what happens; it decides nothing. One task owns the swarm
//! (`net/driver.rs`); what takes time on a stream runs in tasks of its own and reports to that task, so everything the
//! agent hears comes in one order:
//!
//! ```text
//!   agent ─ Action ─▶ driver ─┬─ swarm: QUIC, TCP, mDNS, gossip (behaviour.rs, gossip.rs, streams.rs)
//!   agent ◀─ Input ── driver ◀┼─ one writer and one reader of frames per node (sync.rs)
//!                             ├─ one task per request to a provider (fetch.rs)
//!                             └─ one task per request from a node (serve.rs)
//! ```
//!
//! In a closed mesh a connection first has to be admitted: certificates are shown at the door (`door.rs`), and until the
//! agent let it in, everything else stands behind a gate (`gate.rs`). New members are enrolled at the door too
//! (`enrol.rs`).
//!
//! A node may be connected more than once (both sides dialled, QUIC beside TCP); the agent hears of the first
//! connection and of the end of the last one. When what the agent said may have been lost although a connection is left,
//! it hears of an end and a new beginning.

mod address;
mod arrivals;
mod behaviour;
mod door;
mod driver;
pub mod enrol;
mod fetch;
mod gate;
mod gossip;
mod serve;
mod streams;
mod sync;

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use burr_protocol::{
    NodeId,
    action::{Action, Input},
    config::MAX_PEERS,
    peers::Address,
};
use libp2p::identity::Keypair;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    error::{Error, Kind},
    net::driver::Driver,
    store::blobs::Blobs,
};

/// Inputs that wait for the agent; then the network waits.
const MAX_INPUTS: usize = 64;
/// Actions that wait for the network; then the agent waits.
const MAX_ACTIONS: usize = 256;

/// How this node is on the mesh.
#[derive(Clone)]
pub struct Settings {
    /// The node's Ed25519 secret key (its seed, 32 bytes); its public key is the [`NodeId`].
    pub identity: [u8; 32],
    /// Where to listen, over QUIC and TCP on the same port. Port 0 is any free one. None: this node only dials.
    pub listen: Vec<SocketAddr>,
    /// Nodes to know from the start: `host:port` with an IP address for a host, or a multiaddress.
    pub peers: Vec<Address>,
    /// Whether to find nodes, and be found, by mDNS on the LAN.
    pub mdns: bool,
    /// Nodes connected at most; at least 1, at most [`MAX_PEERS`].
    pub max_connections: u32,
    /// Whether nothing may be spoken on a connection before [`Action::Admit`].
    pub closed: bool,
    /// Answers those who ask to be enrolled, if this node does that.
    pub enroller: Option<Enroller>,
    /// Whether what others ask for waits for [`Action::Serve`]. Without it, for a node with no agent, all is given.
    pub rationed: bool,
}

/// Answers a request to be enrolled. It may take its time; it runs on a thread of its own.
#[derive(Clone)]
pub struct Enroller(Arc<Answering>);

type Answering = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

impl Enroller {
    /// One that answers a request's bytes with an answer's.
    pub fn new(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }
}

impl fmt::Debug for Enroller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Enroller")
    }
}

/// Hides the identity.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .field("mdns", &self.mdns)
            .field("max_connections", &self.max_connections)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// This node on the mesh. Ends when it is dropped, but [`Net::shutdown`] says goodbye.
#[derive(Debug)]
pub struct Net {
    node: NodeId,
    commands: mpsc::Sender<Command>,
    listeners: Listeners,
    gossip: Arc<gossip::Counts>,
    task: JoinHandle<()>,
}

/// What the driver is told.
#[derive(Debug)]
enum Command {
    Act(Action),
    Shutdown(oneshot::Sender<()>),
}

type Listeners = Arc<Mutex<BTreeSet<SocketAddr>>>;

impl Net {
    /// Begins to listen, and reports what happens from then on. Needs a tokio runtime with its timers and its network.
    ///
    /// # Errors
    /// [`Kind::PortInUse`] if another process has a port that is asked for; [`Kind::Config`] for a peer's address that is
    /// none; [`Kind::Network`] for a listening address that is not this machine's, and when mDNS can't be used.
    pub async fn start(settings: Settings, blobs: Blobs) -> Result<(Self, mpsc::Receiver<Input>), Error> {
        let no_key = || Error::new(Kind::Network, "the node's identity is no Ed25519 key");
        let identity = Keypair::ed25519_from_bytes(settings.identity).map_err(|error| no_key().with_source(error))?;
        let node = address::node_of(&identity.public().to_peer_id()).ok_or_else(no_key)?;
        let limit = settings.max_connections.clamp(1, u32::try_from(MAX_PEERS).unwrap_or(u32::MAX));
        let mut found = Vec::new();
        for peer in settings.peers {
            let target = address::parse(&peer).ok_or_else(|| {
                Error::new(Kind::Config, format!("{:?} is no address of a node", peer.0))
                    .with_hint("write it as 192.168.1.5:7447, or as /ip4/192.168.1.5/tcp/7447")
            })?;
            found.push(Input::Found { address: peer, node: target.node, fixed: true });
        }
        let door = streams::Protocol::at_the_door(settings.closed, settings.enroller.is_some());
        let (listeners, gossip) = (Listeners::default(), Arc::default());
        let swarm = behaviour::swarm(identity, settings.mdns, limit, settings.closed, door, Arc::clone(&gossip))?;
        let (commands, actions) = mpsc::channel(MAX_ACTIONS);
        let (inputs, received) = mpsc::channel(MAX_INPUTS);
        let mut driver = Driver::new(swarm, blobs, actions, inputs, Arc::clone(&listeners), Arc::clone(&gossip), found);
        driver.keep_door(settings.closed, settings.enroller);
        driver.rationed = settings.rationed;
        driver.listen(&settings.listen).await?;
        let task = tokio::spawn(driver.run());
        Ok((Self { node, commands, listeners, gossip, task }, received))
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Carries out an action of the network's: [`Action::Dial`], [`Action::Refuse`], [`Action::Drop`],
    /// [`Action::Introduce`], [`Action::Admit`], [`Action::Dismiss`], [`Action::Send`], [`Action::Subscribe`],
    /// [`Action::Announce`], [`Action::Verdict`], [`Action::Fetch`], [`Action::Cancel`], [`Action::Serve`] and
    /// [`Action::Decline`].
    ///
    /// Returns when it is queued; waits while many are. What comes of it is an input. After a shutdown nothing happens.
    ///
    /// # Panics
    /// On any other action: it would be lost.
    pub async fn act(&self, action: Action) {
        let ours = matches!(
            action,
            Action::Dial(_)
                | Action::Refuse(_)
                | Action::Drop(_)
                | Action::Introduce { .. }
                | Action::Admit { .. }
                | Action::Dismiss { .. }
                | Action::Send { .. }
                | Action::Subscribe(_)
                | Action::Announce { .. }
                | Action::Verdict { .. }
                | Action::Fetch(_)
                | Action::Cancel(_)
                | Action::Serve(_)
                | Action::Decline(_)
        );
        assert!(ours, "not an action of the network: {action:?}");
        let _ = self.commands.send(Command::Act(action)).await;
    }

    /// The addresses that this node listens on now, each for QUIC and TCP, with the real port.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Announcements that gossip brought since the start: all, and those that this node did not have.
    #[must_use]
    pub fn announcements(&self) -> (u64, u64) {
        self.gossip.get()
    }

    /// Ends every request, closes every connection and stops listening.
    pub async fn shutdown(self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            let _ = ended.await;
        }
        let _ = self.task.await;
    }
}
