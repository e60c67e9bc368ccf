//! Everything that runs on a connection, and how it is tuned.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::{
    Swarm, SwarmBuilder,
    allow_block_list::{self, BlockedPeers},
    connection_limits::{self, ConnectionLimits},
    identify,
    identity::Keypair,
    mdns, noise, ping,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};

use super::{
    gate::Gate,
    gossip,
    streams::{self, Protocol},
};
use crate::error::{Error, Kind};

/// Connections to one node at most: both sides may dial at once, over QUIC and TCP.
const MAX_CONNECTIONS_PER_NODE: u32 = 4;
/// Connections that the agent has not judged yet, or is about to drop: strangers beyond their places must not keep out
/// those that have one.
const MAX_ARRIVING: u32 = 64;
/// Connections that are being set up, each way.
const MAX_PENDING: u32 = 64;
/// A silent connection is dead after this time. Phones and cheap routers drop idle UDP paths after 30 s.
const IDLE: Duration = Duration::from_secs(25);
/// A connection is kept from being silent this often: seldom enough for batteries, often enough to lose one packet.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Neighbours on the LAN are asked for again this often: a lost packet costs a minute, not five.
const QUERY: Duration = Duration::from_mins(1);
/// TCP has no keep-alive of its own here: a ping notices that a node is gone.
const PING: Duration = Duration::from_secs(20);
/// Bytes in flight on one QUIC stream: a gigabit over 100 ms.
const STREAM_WINDOW: u32 = 16 << 20;
/// Bytes in flight on one QUIC connection.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// How long an idle connection stays. Forever: a connection is how nodes hear of news.
const KEEP: Duration = Duration::from_hours(10 * 365 * 24);

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub blocked: allow_block_list::Behaviour<BlockedPeers>,
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    /// Streams that may be opened before a connection is admitted.
    pub door: streams::Behaviour,
    pub speech: Gate<Speech>,
}

/// All that is spoken on an admitted connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Speech {
    identify: identify::Behaviour,
    pub gossip: gossip::Behaviour,
    pub streams: streams::Behaviour,
}

/// A swarm that does not listen yet, for so many nodes, with these streams at its door; in a closed one everything else
/// waits until a connection is admitted. Gossip that comes is counted.
pub(crate) fn swarm(
    identity: Keypair,
    mdns: bool,
    max_nodes: u32,
    closed: bool,
    door: &'static [Protocol],
    gossip: Arc<gossip::Counts>,
) -> Result<Swarm<Behaviour>, Error> {
    let failed =
        |what: &str, error: String| Error::new(Kind::Network, format!("can't set up {what}")).with_source(error);
    let public = identity.public();
    let mdns = if mdns {
        let found = mdns::tokio::Behaviour::new(
            mdns::Config { query_interval: QUERY, ..mdns::Config::default() },
            public.to_peer_id(),
        );
        Some(found.map_err(|error| failed("discovery on the LAN", error.to_string()).with_hint("turn mDNS off"))?)
    } else {
        None
    };
    let limits = ConnectionLimits::default()
        .with_max_established(Some(max_nodes * MAX_CONNECTIONS_PER_NODE + MAX_ARRIVING))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_NODE))
        .with_max_pending_incoming(Some(MAX_PENDING))
        .with_max_pending_outgoing(Some(MAX_PENDING));
    let about = identify::Config::new("/burr/1".to_owned(), public)
        .with_agent_version(concat!("burr/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_cache_size(0);
    let behaviour = Behaviour {
        blocked: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PING)),
        mdns: mdns.into(),
        door: streams::Behaviour::new(door),
        speech: Gate::new(
            Speech {
                identify: identify::Behaviour::new(about),
                gossip: gossip::behaviour(gossip),
                streams: streams::Behaviour::new(Protocol::SPEECH),
            },
            !closed,
        ),
    };
    let swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| failed("encryption", error.to_string()))?
        .with_quic_config(|mut config| {
            config.max_idle_timeout = u32::try_from(IDLE.as_millis()).expect("less than a minute");
            config.keep_alive_interval = KEEP_ALIVE;
            config.max_stream_data = STREAM_WINDOW;
            config.max_connection_data = CONNECTION_WINDOW;
            config
        })
        .with_behaviour(|_| behaviour)
        .expect("the behaviour is made already")
        .with_swarm_config(|config| config.with_idle_connection_timeout(KEEP))
        .build();
    Ok(swarm)
}

/// How often a free port is looked for that neither UDP nor TCP uses.
const PORT_ATTEMPTS: usize = 32;

/// Makes sure that UDP and TCP are both free on a port, and finds such a port for port 0.
///
/// Asking first is what makes "port in use" certain: the transports share a port with whoever allows it.
pub(crate) fn free_port(socket: SocketAddr) -> Result<SocketAddr, Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let bound = std::net::TcpListener::bind(socket).and_then(|listener| {
            let bound = listener.local_addr()?;
            std::net::UdpSocket::bind(bound)?;
            Ok(bound)
        });
        match bound {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                if socket.port() != 0 || attempt == PORT_ATTEMPTS {
                    return Err(in_use(socket));
                }
            }
            Err(error) => {
                return Err(Error::new(Kind::Network, format!("can't listen on {socket}"))
                    .with_source(error)
                    .with_hint("give an address of this machine, or 0.0.0.0 for all of them"));
            }
        }
    }
}

/// Why a socket can't be listened on.
pub(crate) fn not_listening(socket: SocketAddr, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    if is_in_use(&error) {
        in_use(socket)
    } else {
        Error::new(Kind::Network, format!("can't listen on {socket}")).with_source(error)
    }
}

/// Somebody else has the port.
fn in_use(socket: SocketAddr) -> Error {
    Error::new(Kind::PortInUse, format!("port {} is in use", socket.port()))
        .with_hint("stop the other process, or choose another port (port 0 takes any free one)")
}

/// Whether a transport's error says that the port is taken.
fn is_in_use(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(cause) = error {
        if cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse) {
            return true;
        }
        error = cause.source();
    }
    false
}
