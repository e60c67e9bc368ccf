//! What is spoken stands behind a gate: until a connection is let in, the behaviour inside does not know of it, and no
//! protocol of that behaviour can be agreed on.
//!
//! A connection comes in by two steps, since each side may only speak once the other listens: [`Gate::listen`] when this
//! side lets the other in, [`Gate::speak`] when the other side said that it did the same. An open gate lets all in at once.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, UpgradeInfo, transport::PortUse, upgrade::InboundUpgrade},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
        behaviour::ConnectionEstablished,
        handler::{ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError, UpgradeInfoSend},
    },
};
use tokio::sync::oneshot;

/// The behaviour.
pub(crate) struct Gate<B: NetworkBehaviour> {
    inner: B,
    open: bool,
    /// Connections that the behaviour inside does not know.
    outside: HashMap<ConnectionId, (PeerId, ConnectedPoint)>,
    /// How many connections of a peer it knows.
    inside: HashMap<PeerId, usize>,
    events: VecDeque<Event<B>>,
    waker: Option<Waker>,
}

type Event<B> = ToSwarm<<B as NetworkBehaviour>::ToSwarm, Pass<THandler<B>>>;

impl<B: NetworkBehaviour> Gate<B> {
    /// A gate before `inner`.
    pub(super) fn new(inner: B, open: bool) -> Self {
        let (outside, inside, events) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { inner, open, outside, inside, events, waker: None }
    }

    /// The behaviour inside.
    pub(super) fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Lets the other side of a connection speak; what is returned resolves once it may. `None` if there is no such
    /// connection outside, or the behaviour inside does not want it.
    pub(super) fn listen(&mut self, connection: ConnectionId) -> Option<oneshot::Receiver<()>> {
        let (peer, endpoint) = self.outside.remove(&connection)?;
        let handler = match &endpoint {
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.inner.handle_established_inbound_connection(connection, peer, local_addr, send_back_addr)
            }
            ConnectedPoint::Dialer { address, role_override, port_use } => {
                self.inner.handle_established_outbound_connection(connection, peer, address, *role_override, *port_use)
            }
        };
        let (told, listens) = oneshot::channel();
        self.pass(peer, connection, Pass::Listen(Box::new(handler.ok()?), told));
        let count = self.inside.entry(peer).or_default();
        let established = ConnectionEstablished {
            peer_id: peer,
            connection_id: connection,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: *count,
        };
        *count += 1;
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(established));
        Some(listens)
    }

    /// Lets the behaviour inside speak on a connection on which it listens.
    pub(super) fn speak(&mut self, peer: PeerId, connection: ConnectionId) {
        self.pass(peer, connection, Pass::Speak);
    }

    fn pass(&mut self, peer_id: PeerId, connection: ConnectionId, event: Pass<THandler<B>>) {
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// A connection closed: how many of its peer's are left inside, if it was.
    fn closed(&mut self, peer: PeerId, connection: ConnectionId) -> Option<usize> {
        if self.outside.remove(&connection).is_some() {
            return None;
        }
        let count = self.inside.get_mut(&peer)?;
        *count -= 1;
        let left = *count;
        if left == 0 {
            self.inside.remove(&peer);
        }
        Some(left)
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        if !self.open {
            return Ok(Handler::outside());
        }
        self.inner.handle_established_inbound_connection(connection, peer, local, remote).map(Handler::inside)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        if !self.open {
            return Ok(Handler::outside());
        }
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port).map(Handler::inside)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) if !self.open => {
                self.outside.insert(event.connection_id, (event.peer_id, event.endpoint.clone()));
            }
            FromSwarm::ConnectionClosed(event) if !self.open => {
                if let Some(remaining_established) = self.closed(event.peer_id, event.connection_id) {
                    let event = ConnectionClosed { remaining_established, ..event };
                    self.inner.on_swarm_event(FromSwarm::ConnectionClosed(event));
                }
            }
            FromSwarm::AddressChange(event) if self.outside.contains_key(&event.connection_id) => {
                self.outside.insert(event.connection_id, (event.peer_id, event.new.clone()));
            }
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(context.waker().clone());
        self.inner.poll(context).map(|event| event.map_in(Pass::Inner))
    }
}

/// What the gate tells one connection.
pub(crate) enum Pass<H: ConnectionHandler> {
    /// From now on the other side may speak.
    Listen(Box<H>, oneshot::Sender<()>),
    /// From now on this side may speak too.
    Speak,
    /// From the behaviour inside.
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for Pass<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(..) => f.write_str("Listen"),
            Self::Speak => f.write_str("Speak"),
            Self::Inner(event) => event.fmt(f),
        }
    }
}

/// One connection's part.
pub(crate) struct Handler<H> {
    inner: Option<H>,
    speaks: bool,
}

impl<H> Handler<H> {
    fn outside() -> Self {
        Self { inner: None, speaks: false }
    }

    fn inside(inner: H) -> Self {
        Self { inner: Some(inner), speaks: true }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = Pass<H>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Agreeable<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match &self.inner {
            Some(inner) => inner.listen_protocol().map_upgrade(|upgrade| Agreeable(Some(upgrade))).map_info(Some),
            None => SubstreamProtocol::new(Agreeable(None), None),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.as_ref().is_some_and(ConnectionHandler::connection_keep_alive)
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        // What the other side says meanwhile waits inside. A connection polls again after each event.
        match &mut self.inner {
            Some(inner) if self.speaks => inner.poll(context),
            _ => Poll::Pending,
        }
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.as_mut().map_or(Poll::Ready(None), |inner| inner.poll_close(context))
    }

    fn on_behaviour_event(&mut self, event: Pass<H>) {
        match event {
            Pass::Listen(inner, told) => {
                self.inner = Some(*inner);
                // Nobody may want to know any more.
                let _ = told.send(());
            }
            Pass::Speak => self.speaks = true,
            // One for any connection of a peer may meet one that is not let in yet.
            Pass::Inner(event) => {
                if let Some(inner) = &mut self.inner {
                    inner.on_behaviour_event(event);
                }
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let Some(inner) = &mut self.inner else { return };
        inner.on_connection_event(match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                // Without it, it was agreed on before the connection was let in, which can't be.
                let Some(info) = info else { return };
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                // Refused while it was outside.
                let Some(info) = info else { return };
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(event) => ConnectionEvent::FullyNegotiatedOutbound(event),
            ConnectionEvent::DialUpgradeError(event) => ConnectionEvent::DialUpgradeError(event),
            ConnectionEvent::AddressChange(event) => ConnectionEvent::AddressChange(event),
            ConnectionEvent::LocalProtocolsChange(event) => ConnectionEvent::LocalProtocolsChange(event),
            ConnectionEvent::RemoteProtocolsChange(event) => ConnectionEvent::RemoteProtocolsChange(event),
            _ => return,
        });
    }
}

/// The protocols that may be agreed on: those of an upgrade, or none.
pub(crate) struct Agreeable<U>(Option<U>);

impl<U: UpgradeInfoSend> UpgradeInfo for Agreeable<U> {
    type Info = U::Info;
    type InfoIter = std::iter::Flatten<std::option::IntoIter<U::InfoIter>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.as_ref().map(UpgradeInfoSend::protocol_info).into_iter().flatten()
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for Agreeable<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> U::Future {
        self.0.expect("of no protocols none is agreed on").upgrade_inbound(stream, info)
    }
}
