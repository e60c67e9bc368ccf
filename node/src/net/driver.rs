//! The task that owns the swarm: actions in, inputs out, and who is connected how.

mod asking;
mod listening;
mod turns;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use burr_protocol::{
    Hash, NodeId, RepositoryId,
    action::{Action, FetchFailure, Input, LinkId},
    fetch::RequestId,
    peers::Address,
    serving::{MAX_QUESTIONS, QuestionId},
    wire::MAX_ANNOUNCEMENT,
};
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, transport::ListenerId},
    futures::StreamExt as _,
    gossipsub, mdns, ping,
    swarm::{
        ConnectionId, Swarm, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

pub(super) use self::turns::Asking;
use self::{asking::Asker, listening::Listening, turns::Turns};
use super::{
    Command, Enroller, Listeners,
    address::{address_of, node_of, parse, peer_of, quic, socket_of, tcp},
    arrivals::{Arrival, Arrivals, AtDoor, Contact},
    behaviour::{Behaviour, BehaviourEvent, SpeechEvent, free_port, not_listening},
    fetch::Progress,
    gossip::{self, Waiting},
    streams::{Opened, Protocol},
    sync::{self, Incoming, Outbox},
};
use crate::{
    error::{Error, Kind},
    store::blobs::Blobs,
};

/// Inputs that wait here while the agent is busy; then nothing more is taken from the network.
const MAX_PENDING: usize = 64;
/// Inputs that come before all listeners have begun, a matter of milliseconds, at most.
const MAX_EARLY: usize = 4096;
/// How long a listener may take to begin.
const LISTEN_PATIENCE: Duration = Duration::from_secs(10);
/// Reports of tasks that wait; then the tasks wait.
const MAX_REPORTS: usize = 16;
/// Requests to be enrolled that are answered at a time.
const MAX_ENROLLING: usize = 4;
/// Nodes that are kept out; the oldest is forgotten first.
const MAX_REFUSED: usize = 1024;
/// Addresses taken from one mDNS answer.
const MAX_DISCOVERED: usize = 64;
/// How often a node may begin anew without a gap.
const MAX_BEGUN: u32 = 8;
/// How long connections may take to close at the end.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    blobs: Blobs,
    actions: mpsc::Receiver<Command>,
    inputs: mpsc::Sender<Input>,
    pub(super) pending: VecDeque<Input>,
    listening: Listening,
    dials: HashMap<ConnectionId, Dial>,
    links: BTreeMap<NodeId, Link>,
    links_made: u64,
    refused: VecDeque<PeerId>,
    /// Whether connections have to be admitted.
    pub(super) closed: bool,
    pub(super) arrivals: Arrivals,
    pub(super) enroller: Option<Enroller>,
    pub(super) enrolling: Arc<Semaphore>,
    waiting: Waiting,
    gossip: Arc<gossip::Counts>,
    fetches: BTreeMap<RequestId, NodeId>,
    turns: Turns,
    /// Whether the agent says when questions are answered.
    pub(super) rationed: bool,
    pub(super) tasks: JoinSet<()>,
    reports: mpsc::Receiver<Report>,
    pub(super) report: mpsc::Sender<Report>,
}

/// A dial under way.
struct Dial {
    address: Address,
    node: Option<NodeId>,
    /// Where to try next.
    places: VecDeque<Multiaddr>,
}

/// A connected node.
struct Link {
    /// Tells this link from an earlier one to the same node, whose reports may be on their way still.
    id: u64,
    peer: PeerId,
    connections: Vec<ConnectionId>,
    outbox: Option<Outbox>,
    inbound: Option<(ConnectionId, AbortHandle)>,
    /// Where it is asked for parts of blobs.
    asker: Option<Asker>,
    /// Streams on which it may ask.
    asking: Arc<Semaphore>,
    /// How often it began anew while it was connected.
    begun: u32,
    /// Whether one of its connections needs no uplink.
    near: bool,
}

impl Link {
    /// Whether this side, which began anew when one of several connections broke, took the wrong one of the rest: a node
    /// that was killed speaks on a later connection, as it knows no earlier one.
    fn speaks_to_nobody(&self, heard: ConnectionId) -> bool {
        let age = |connection| self.connections.iter().position(|id| *id == connection);
        self.begun > 0 && self.outbox.as_ref().is_some_and(|outbox| age(outbox.connection) < age(heard))
    }
}

/// What a task says.
pub(super) enum Report {
    /// At the door of a closed mesh.
    AtDoor(AtDoor),
    /// A frame came.
    Frame { node: NodeId, link: u64, bytes: Vec<u8> },
    /// A sync stream failed.
    Broken { node: NodeId, link: u64, connection: ConnectionId, error: io::Error },
    /// A request goes on.
    Progress { id: RequestId, progress: Progress },
    /// A node asks for so many bytes, and waits for its turn.
    Asked { node: NodeId, blob: Hash, bytes: u64, turn: oneshot::Sender<QuestionId> },
    /// An answer ended.
    Served { id: QuestionId, bytes: u64 },
}

impl Driver {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        blobs: Blobs,
        actions: mpsc::Receiver<Command>,
        inputs: mpsc::Sender<Input>,
        listeners: Listeners,
        gossip: Arc<gossip::Counts>,
        found: Vec<Input>,
    ) -> Self {
        let (report, reports) = mpsc::channel(MAX_REPORTS);
        Self {
            swarm,
            blobs,
            actions,
            inputs,
            pending: found.into(),
            listening: Listening::new(listeners),
            dials: HashMap::new(),
            links: BTreeMap::new(),
            links_made: 0,
            refused: VecDeque::new(),
            closed: false,
            arrivals: Arrivals::new(),
            enroller: None,
            enrolling: Arc::new(Semaphore::new(MAX_ENROLLING)),
            waiting: Waiting::default(),
            gossip,
            fetches: BTreeMap::new(),
            turns: Turns::default(),
            rationed: false,
            tasks: JoinSet::new(),
            reports,
            report,
        }
    }

    /// Listens over QUIC and TCP on each of the sockets, and waits until it is so.
    ///
    /// The network does not wait: neighbours answer the first question after milliseconds, and are not named again for
    /// as long as they are known. What happens meanwhile is told like all that happens later.
    pub(super) async fn listen(&mut self, sockets: &[SocketAddr]) -> Result<(), Error> {
        // All ports are looked at before any is taken: a later one may overlap an earlier one of ours.
        let sockets = sockets.iter().map(|socket| free_port(*socket)).collect::<Result<Vec<_>, _>>()?;
        let mut waiting: Vec<(ListenerId, SocketAddr)> = Vec::new();
        for socket in sockets {
            for place in [quic(socket), tcp(socket)] {
                let id = self.swarm.listen_on(place).map_err(|error| not_listening(socket, error))?;
                waiting.push((id, socket));
            }
        }
        let late = || Error::new(Kind::Network, "the network did not begin to listen in time");
        let most = self.pending.len() + MAX_EARLY;
        let begun = async {
            while !waiting.is_empty() {
                if self.pending.len() > most {
                    return Err(late().with_source("too much comes from the network"));
                }
                match self.swarm.select_next_some().await {
                    SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                        if let Some((_, socket)) = waiting.iter().find(|(id, _)| *id == listener_id) {
                            return Err(not_listening(*socket, error));
                        }
                    }
                    event => {
                        if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                            waiting.retain(|(id, _)| id != listener_id);
                        }
                        self.on_event(event);
                    }
                }
            }
            Ok(())
        };
        timeout(LISTEN_PATIENCE, begun).await.unwrap_or_else(|_| Err(late()))
    }

    /// Runs until it is told to end, or nobody listens any more.
    pub(super) async fn run(mut self) {
        let inputs = self.inputs.clone();
        let ended: Option<oneshot::Sender<()>> = loop {
            // Actions are always taken, so that the agent never waits for a network that waits for the agent.
            let open = self.pending.len() < MAX_PENDING;
            tokio::select! {
                permit = inputs.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => permit.send(self.pending.pop_front().expect("one is pending")),
                    Err(_) => break None,
                },
                command = self.actions.recv() => match command {
                    Some(Command::Act(action)) => self.act(action),
                    Some(Command::Shutdown(ended)) => break Some(ended),
                    None => break None,
                },
                event = self.swarm.select_next_some(), if open => self.on_event(event),
                Some(report) = self.reports.recv(), if open => self.on_report(report),
                Some(ended) = self.tasks.join_next() => {
                    // A broken invariant must not look like a node that is slow.
                    if let Err(error) = ended
                        && let Ok(panic) = error.try_into_panic()
                    {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        };
        self.tasks.shutdown().await;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let goodbye = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
        drop(self);
        if let Some(ended) = ended {
            let _ = ended.send(());
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial(address) => match parse(&address) {
                Some(target) => self.dial(Dial { address, node: target.node, places: target.places.into() }),
                None => self.pending.push_back(Input::DialFailed { address }),
            },
            Action::Refuse(node) => self.refuse(node),
            Action::Drop(node) => {
                // An error says that it is gone already.
                let _ = peer_of(node).map(|peer| self.swarm.disconnect_peer_id(peer));
            }
            Action::Introduce { link, certificate } => self.introduce(link, certificate),
            Action::Admit { link } => self.admit(link),
            Action::Dismiss { link, why } => self.dismiss(link, why),
            Action::Send { node, bytes } => self.send(node, bytes),
            Action::Subscribe(repository) => {
                if let Err(error) =
                    self.swarm.behaviour_mut().speech.inner().gossip.subscribe(&gossip::topic(repository))
                {
                    tracing::warn!(%repository, "can't subscribe: {error}");
                }
            }
            Action::Announce { repository, bytes } => self.announce(repository, bytes),
            Action::Verdict { id, verdict } => {
                self.waiting.judge(&mut self.swarm.behaviour_mut().speech.inner().gossip, id, verdict);
            }
            Action::Fetch(request) => self.fetch(request),
            Action::Cancel(id) => self.cancel(id),
            Action::Serve(id) => self.serve(id),
            Action::Decline(id) => self.turns.decline(id),
            other => unreachable!("let through by Net::act: {other:?}"),
        }
    }

    /// Tries the next place of an address; the last failure is the agent's to know.
    fn dial(&mut self, mut dial: Dial) {
        while let Some(place) = dial.places.pop_front() {
            // A port of its own for TCP: two nodes that dial each other from their listening ports at the same time
            // would make one half-open connection of two.
            let options = match dial.node.and_then(peer_of) {
                Some(peer) => DialOpts::peer_id(peer)
                    .addresses(vec![place])
                    .condition(PeerCondition::Always)
                    .allocate_new_port()
                    .build(),
                None => DialOpts::unknown_peer_id().address(place).allocate_new_port().build(),
            };
            let id = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => {
                    self.dials.insert(id, dial);
                    return;
                }
                Err(error) => tracing::debug!(address = dial.address.0, "can't dial: {error}"),
            }
        }
        self.pending.push_back(Input::DialFailed { address: dial.address });
    }

    fn refuse(&mut self, node: NodeId) {
        let Some(peer) = peer_of(node) else { return };
        let blocked = &mut self.swarm.behaviour_mut().blocked;
        if blocked.block_peer(peer) {
            self.refused.push_back(peer);
            if self.refused.len() > MAX_REFUSED {
                let oldest = self.refused.pop_front().expect("there are many");
                blocked.unblock_peer(oldest);
            }
        }
    }

    fn send(&mut self, node: NodeId, bytes: Vec<u8>) {
        let Some(link) = self.links.get_mut(&node) else { return };
        if link.outbox.is_none() {
            let Some((connection, opening)) =
                self.swarm.behaviour_mut().speech.inner().streams.open(link.peer, Protocol::Sync)
            else {
                return;
            };
            let (outbox, queue) = Outbox::new(connection);
            link.outbox = Some(outbox);
            let (report, link) = (self.report.clone(), link.id);
            let grace = if self.enroller.is_some() { sync::ENROLLING } else { Duration::ZERO };
            self.tasks.spawn(async move {
                if let Err(error) = sync::send(opening, queue, grace).await {
                    let _ = report.send(Report::Broken { node, link, connection, error }).await;
                }
            });
        }
        let outbox = link.outbox.as_ref().expect("made above");
        if !outbox.send(bytes) {
            tracing::debug!(%node, "does not keep up: dropping the connection");
            self.swarm.close_connection(outbox.connection);
        }
    }

    fn announce(&mut self, repository: RepositoryId, bytes: Vec<u8>) {
        let topic = gossip::topic(repository);
        // Nobody to tell, or told already: sync on contact brings it to those who come later.
        if let Err(error) = self.swarm.behaviour_mut().speech.inner().gossip.publish(topic, bytes) {
            tracing::debug!(%repository, "not announced: {error}");
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(
                BehaviourEvent::Door(opened) | BehaviourEvent::Speech(SpeechEvent::Streams(opened)),
            ) => {
                self.on_stream(opened);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Speech(SpeechEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }))) => self.on_gossip(propagation_source, message_id, message.data),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => self.on_discovered(&found),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Expired(gone))) => {
                let gone = gone.iter().filter_map(|(_, place)| address_of(place));
                self.pending.extend(gone.map(|address| Input::Lost { address }));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result: Err(error), .. }))
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                tracing::debug!("no answer to a ping: {error}");
                self.swarm.close_connection(connection);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_arrived(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(%peer_id, ?cause, "connection closed");
                self.on_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(dial) = self.dials.remove(&connection_id) {
                    tracing::debug!(address = dial.address.0, "dial failed: {error}");
                    self.dial(dial);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listener(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listener(&address, false),
            SwarmEvent::ListenerError { error, .. } => tracing::warn!("a listener reports: {error}"),
            _ => {}
        }
    }

    fn on_listener(&mut self, place: &Multiaddr, listening: bool) {
        let changed = self.listening.note(place, listening);
        self.pending.extend(changed.map(|up| Input::Network { up }));
    }

    fn on_arrived(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let dial = self.dials.remove(&connection);
        let (address, places) = dial.map_or((None, VecDeque::new()), |dial| (Some(dial.address), dial.places));
        let Some(node) = node_of(&peer) else {
            // Not one of ours: our nodes have Ed25519 keys.
            self.swarm.close_connection(connection);
            self.pending.extend(address.map(|address| Input::DialFailed { address }));
            return;
        };
        self.links_made += 1;
        let (link, from) = (LinkId(self.links_made), socket_of(endpoint.get_remote_address()));
        // A node with an address of one of this machine's own networks needs no uplink to be reached.
        let near = from.is_some_and(|there| self.listening.is_near(there));
        let contact = Contact { peer, node, connection, address, near };
        self.pending.push_back(Input::Arrived {
            link,
            node,
            from: from.map(|socket| socket.ip()),
            dialled: endpoint.is_dialer(),
        });
        if self.closed {
            self.arrivals.insert(link, Arrival::new(contact));
        } else {
            self.join(contact);
        }
        self.dial_beside(peer, places);
    }

    /// A connection may be used.
    pub(super) fn join(&mut self, contact: Contact) {
        let Contact { peer, node, connection, address, near } = contact;
        let known = self.links.contains_key(&node);
        let next = &mut self.links_made;
        let link = self.links.entry(node).or_insert_with(|| {
            *next += 1;
            Link {
                id: *next,
                peer,
                connections: Vec::new(),
                outbox: None,
                inbound: None,
                asker: None,
                asking: Arc::new(Semaphore::new(MAX_QUESTIONS)),
                begun: 0,
                near,
            }
        });
        link.connections.push(connection);
        link.near |= near;
        // A dial is answered even if the node was connected before.
        if !known || address.is_some() {
            self.pending.push_back(Input::Connected { node, address, near: link.near });
        } else if near {
            self.pending.push_back(Input::Near { node });
        }
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if self.departed(connection) {
            return;
        }
        let Some(node) = node_of(&peer) else { return };
        let Some(link) = self.links.get_mut(&node) else { return };
        link.connections.retain(|other| *other != connection);
        let outgoing = link.outbox.as_ref().map(|outbox| outbox.connection);
        let incoming = link.inbound.as_ref().map(|(connection, _)| *connection);
        if link.connections.is_empty() {
            self.end_streams(node);
            self.links.remove(&node);
            self.pending.push_back(Input::Disconnected { node });
        } else if outgoing == Some(connection) || incoming == Some(connection) {
            self.begin_anew(node);
        }
    }

    /// Ends the tasks of a node's streams; what it was asked for is lost.
    fn end_streams(&mut self, node: NodeId) {
        self.turns.without(node);
        let Some(link) = self.links.get_mut(&node) else { return };
        if let Some((_, reader)) = link.inbound.take() {
            reader.abort();
        }
        // The writer ends when its queue is dropped.
        link.outbox = None;
        let Some(asker) = link.asker.take() else { return };
        asker.task.abort();
        for id in asker.under {
            self.fetches.remove(&id);
            self.pending.push_back(Input::FetchFailed { id, why: FetchFailure::Lost });
        }
    }

    /// What was said to or by a node may be lost, although it is connected: the agents begin anew.
    fn begin_anew(&mut self, node: NodeId) {
        self.end_streams(node);
        let Some(link) = self.links.get_mut(&node) else { return };
        self.links_made += 1;
        link.id = self.links_made;
        link.begun += 1;
        let near = link.near;
        self.pending.push_back(Input::Disconnected { node });
        self.pending.push_back(Input::Connected { node, address: None, near });
    }

    fn on_stream(&mut self, opened: Opened) {
        let Some(node) = node_of(&opened.peer) else { return };
        match opened.protocol {
            Protocol::Sync => self.on_sync_stream(node, opened),
            Protocol::Blobs => self.on_blob_stream(node, opened),
            Protocol::Member => self.on_member_stream(opened),
            Protocol::Enrol => self.on_enrol_stream(opened),
        }
    }

    fn on_sync_stream(&mut self, node: NodeId, opened: Opened) {
        let Some(link) = self.links.get(&node) else { return };
        // A node opens one sync stream as long as it is connected. Another one means that it began anew, which this side
        // may not have seen: it was killed, or one of several connections broke.
        if link.inbound.is_some() || link.speaks_to_nobody(opened.connection) {
            if link.begun > MAX_BEGUN {
                tracing::debug!(%node, "begins anew all the time: dropping the connection");
                self.swarm.close_connection(opened.connection);
                return;
            }
            let old: Vec<_> = link.connections.iter().filter(|id| **id != opened.connection).copied().collect();
            self.begin_anew(node);
            for connection in old {
                self.swarm.close_connection(connection);
            }
        }
        let Some(link) = self.links.get_mut(&node) else { return };
        let (report, id, connection) = (self.report.clone(), link.id, opened.connection);
        let task = self.tasks.spawn(async move {
            let mut frames = Incoming::new(opened.stream);
            let last = loop {
                match frames.next().await {
                    Ok(Some(bytes)) => {
                        if report.send(Report::Frame { node, link: id, bytes }).await.is_err() {
                            return;
                        }
                    }
                    // The node begins anew with another stream, or is about to leave.
                    Ok(None) => return,
                    Err(error) => break Report::Broken { node, link: id, connection, error },
                }
            };
            let _ = report.send(last).await;
        });
        link.inbound = Some((connection, task));
    }

    fn on_gossip(&mut self, from: PeerId, message: gossipsub::MessageId, bytes: Vec<u8>) {
        self.gossip.note_new();
        let gossip = &mut self.swarm.behaviour_mut().speech.inner().gossip;
        match node_of(&from) {
            Some(node) if bytes.len() <= MAX_ANNOUNCEMENT => {
                let id = self.waiting.add(gossip, message, from);
                self.pending.push_back(Input::Announcement { node, id, bytes });
            }
            _ => {
                gossip.report_message_validation_result(&message, &from, gossipsub::MessageAcceptance::Reject);
            }
        }
    }

    fn on_discovered(&mut self, found: &[(PeerId, Multiaddr)]) {
        let mut told = Vec::new();
        let beyond = |peer: &PeerId| {
            found.iter().any(|(other, place)| other == peer && socket_of(place).is_some_and(|s| !s.ip().is_loopback()))
        };
        for (peer, place) in found.iter().take(MAX_DISCOVERED) {
            let (Some(node), Some(address)) = (node_of(peer), address_of(place)) else { continue };
            // Another machine's loopback address is none; only when there is nothing else is it this machine's.
            let loopback = socket_of(place).is_some_and(|socket| socket.ip().is_loopback());
            if told.contains(&(node, address.clone())) || (loopback && beyond(peer)) {
                continue;
            }
            told.push((node, address.clone()));
            self.pending.push_back(Input::Near { node });
            self.pending.push_back(Input::Found { address, node: Some(node), fixed: false });
        }
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::AtDoor(report) => self.on_door(report),
            Report::Frame { node, link, bytes } => {
                if self.links.get(&node).is_some_and(|known| known.id == link) {
                    self.pending.push_back(Input::Message { node, bytes });
                }
            }
            Report::Broken { node, link, connection, error } => {
                if self.links.get(&node).is_some_and(|known| known.id == link) {
                    tracing::debug!(%node, "a sync stream ended: {error}");
                    self.swarm.close_connection(connection);
                }
            }
            // Cancelled ones have no answer.
            Report::Asked { node, blob, bytes, turn } => self.on_question(node, blob, bytes, turn),
            Report::Served { id, bytes } => self.on_served(id, bytes),
            Report::Progress { id, progress } => match progress {
                Progress::Stored(bytes) if self.fetches.contains_key(&id) => {
                    self.pending.push_back(Input::Received { id, bytes });
                }
                Progress::Stored(_) => {}
                Progress::Ended(result) => {
                    let Some(node) = self.fetches.remove(&id) else { return };
                    if let Some(asker) = self.links.get_mut(&node).and_then(|link| link.asker.as_mut()) {
                        asker.under.remove(&id);
                    }
                    self.pending.push_back(match result {
                        Ok(()) => Input::Fetched { id },
                        Err(why) => Input::FetchFailed { id, why },
                    });
                }
            },
        }
    }
}

/// Notes that a place is listened on, or no longer.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Net, Settings, behaviour};

    fn identity(seed: u8) -> [u8; 32] {
        [seed; 32]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_happens_before_the_listeners_have_begun_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).await.unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let settings = Settings {
            identity: identity(1),
            listen: vec![listen],
            peers: Vec::new(),
            mdns: false,
            max_connections: 8,
            closed: false,
            enroller: None,
            rationed: false,
        };
        let (other, mut heard) = Net::start(settings, blobs.clone()).await.unwrap();

        let key = libp2p::identity::Keypair::ed25519_from_bytes(identity(2)).unwrap();
        let swarm = behaviour::swarm(key, false, 8, false, &[], Arc::default()).unwrap();
        let (_commands, actions) = mpsc::channel(1);
        let (inputs, _inputs) = mpsc::channel(1);
        let mut driver =
            Driver::new(swarm, blobs.clone(), actions, inputs, Listeners::default(), Arc::default(), Vec::new());
        let address = Address(other.listeners()[0].to_string());
        driver.act(Action::Dial(address.clone()));
        while !matches!(heard.recv().await, Some(Input::Connected { .. })) {}
        driver.listen(&[listen]).await.unwrap();
        let wanted = |input: &Input| match input {
            Input::Connected { node, address: Some(at), .. } => (*node, at) == (other.node(), &address),
            _ => false,
        };
        let told = async {
            while !driver.pending.iter().any(wanted) {
                let event = driver.swarm.select_next_some().await;
                driver.on_event(event);
            }
        };
        timeout(Duration::from_mins(1), told).await.expect("a connection that was made is told");
        drop(driver);
        other.shutdown().await;
        blobs.shutdown().await.unwrap();
    }
}
