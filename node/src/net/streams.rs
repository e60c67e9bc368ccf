//! Burr's own streams on a connection: one behaviour that opens them and hands over those that peers open.
//!
//! A stream is opened on the best connection to its peer: QUIC before TCP for what is said, TCP before QUIC for blobs,
//! the newest among equals. Streams that peers
//! open are events of the swarm, so whoever does not take events slows the peer down instead of losing streams.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint, UpgradeInfo,
        transport::PortUse,
        upgrade::{InboundUpgrade, OutboundUpgrade},
    },
    multiaddr::Protocol as Part,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::oneshot;

/// What is spoken on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Frames of [`burr_protocol::wire::Message`], one way.
    Sync,
    /// Questions for parts of blobs, and their answers.
    Blobs,
    /// A certificate, and whether it was good (`door.rs`).
    Member,
    /// One request to be enrolled, and its answer (`enrol.rs`).
    Enrol,
}

impl Protocol {
    /// What nodes speak once they may.
    pub(super) const SPEECH: &[Self] = &[Self::Sync, Self::Blobs];

    /// What may be spoken before.
    pub(super) fn at_the_door(closed: bool, enrols: bool) -> &'static [Self] {
        match (closed, enrols) {
            (true, true) => &[Self::Member, Self::Enrol],
            (true, false) => &[Self::Member],
            (false, true) => &[Self::Enrol],
            (false, false) => &[],
        }
    }

    fn name(self) -> StreamProtocol {
        StreamProtocol::new(match self {
            Self::Sync => "/burr/sync/1",
            Self::Blobs => "/burr/blobs/1",
            Self::Member => "/burr/member/1",
            Self::Enrol => "/burr/enrol/1",
        })
    }
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// The peer does not speak the protocol.
    Unsupported,
    /// The connection broke, or the peer was silent.
    Lost,
}

/// A stream being opened. A dropped sender means that the connection is gone.
pub(crate) type Opening = oneshot::Receiver<Result<Stream, NotOpened>>;

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub protocol: Protocol,
    pub stream: Stream,
}

/// The behaviour.
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// What peers may open.
    takes: &'static [Protocol],
    connections: HashMap<PeerId, Vec<Connection>>,
    events: VecDeque<ToSwarm<Opened, Open>>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    id: ConnectionId,
    quic: bool,
}

impl Behaviour {
    /// Takes streams of these protocols.
    pub(super) fn new(takes: &'static [Protocol]) -> Self {
        Self { takes, connections: HashMap::new(), events: VecDeque::new(), waker: None }
    }

    /// Opens a stream to a connected peer; `None` if it is not connected.
    pub(super) fn open(&mut self, peer: PeerId, protocol: Protocol) -> Option<(ConnectionId, Opening)> {
        // What is said goes by QUIC, where it does not wait behind bulk; bulk goes by TCP, which costs less.
        let bulk = protocol == Protocol::Blobs;
        let best = self.connections.get(&peer)?.iter().max_by_key(|connection| connection.quic != bulk)?.id;
        Some((best, self.open_on(peer, best, protocol)))
    }

    /// Opens a stream on this very connection.
    pub(super) fn open_on(&mut self, peer_id: PeerId, connection: ConnectionId, protocol: Protocol) -> Opening {
        let (reply, opening) = oneshot::channel();
        let event = Open { protocol, reply };
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        opening
    }
}

impl Behaviour {
    /// Whether a peer is connected by TCP.
    pub(super) fn has_tcp(&self, peer: PeerId) -> bool {
        self.connections.get(&peer).is_some_and(|all| all.iter().any(|connection| !connection.quic))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Opened;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.takes))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.takes))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let quic = event.endpoint.get_remote_address().iter().any(|part| part == Part::QuicV1);
                let connection = Connection { id: event.connection_id, quic };
                self.connections.entry(event.peer_id).or_default().push(connection);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(connections) = self.connections.get_mut(&event.peer_id) {
                    connections.retain(|connection| connection.id != event.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let (protocol, stream) = event;
        self.events.push_back(ToSwarm::GenerateEvent(Opened { peer, connection, protocol, stream }));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Opened, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Asks a connection for a stream.
#[derive(Debug)]
pub(crate) struct Open {
    protocol: Protocol,
    reply: oneshot::Sender<Result<Stream, NotOpened>>,
}

/// One connection's part.
#[derive(Debug)]
pub(crate) struct Handler {
    takes: &'static [Protocol],
    open: VecDeque<Open>,
    opened: VecDeque<(Protocol, Stream)>,
}

impl Handler {
    fn new(takes: &'static [Protocol]) -> Self {
        Self { takes, open: VecDeque::new(), opened: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Protocol, Stream);
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<Result<Stream, NotOpened>>;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(self.takes.to_vec()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        // The connection polls again after each of the calls below, so nothing is to be woken.
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        if let Some(Open { protocol, reply }) = self.open.pop_front() {
            let protocol = SubstreamProtocol::new(Offer(vec![protocol]), reply);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Open) {
        self.open.push_back(event);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Self::OutboundOpenInfo>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.opened.push_back(protocol);
            }
            // Whoever asked may have given up meanwhile: then the stream is dropped, which resets it.
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (_, stream), info }) => {
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(match error {
                    StreamUpgradeError::NegotiationFailed => NotOpened::Unsupported,
                    StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) | StreamUpgradeError::Apply(_) => {
                        NotOpened::Lost
                    }
                }));
            }
            _ => {}
        }
    }
}

/// The protocols that one side of a stream offers or takes.
#[derive(Debug, Clone)]
pub(crate) struct Offer(Vec<Protocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|protocol| protocol.name()).collect()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, chosen: StreamProtocol) -> Self::Future {
        self.agreed(stream, &chosen)
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, chosen: StreamProtocol) -> Self::Future {
        self.agreed(stream, &chosen)
    }
}

impl Offer {
    fn agreed(self, stream: Stream, chosen: &StreamProtocol) -> Ready<Result<(Protocol, Stream), Infallible>> {
        let protocol = self.0.into_iter().find(|protocol| protocol.name() == *chosen);
        ready(Ok((protocol.expect("only what was offered can be chosen"), stream)))
    }
}
