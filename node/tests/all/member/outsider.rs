//! A node on a stack of its own that belongs to nobody: it opens what streams it likes and shows what certificates it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use burr_protocol::NodeId;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder,
    futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _},
    identity::Keypair,
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio::{sync::watch, task::JoinHandle};

use super::PATIENCE;

const MEMBER: StreamProtocol = StreamProtocol::new("/burr/member/1");

pub(super) struct Outsider {
    identity: Keypair,
    peer: PeerId,
    control: Control,
    connected: watch::Receiver<bool>,
    /// How many certificates the node showed, none of which is answered.
    seen: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Outsider {
    /// A new node that is connected to the one there.
    pub(super) async fn at(place: &str) -> Self {
        Self::of(Keypair::generate_ed25519(), place).await
    }

    /// A node that has another's key.
    pub(super) async fn as_node(key: [u8; 32], place: &str) -> Self {
        Self::of(Keypair::ed25519_from_bytes(key).unwrap(), place).await
    }

    /// The same node on a new connection.
    pub(super) async fn again(&self, place: &str) -> Self {
        Self::of(self.identity.clone(), place).await
    }

    async fn of(identity: Keypair, place: &str) -> Self {
        let mut swarm: Swarm<libp2p_stream::Behaviour> = SwarmBuilder::with_existing_identity(identity.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_hours(1)))
            .build();
        swarm.dial(place.parse::<Multiaddr>().unwrap()).unwrap();
        let connecting = async {
            loop {
                if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
                    return peer_id;
                }
            }
        };
        let peer = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
        let mut control = swarm.behaviour().new_control();
        let mut shown = control.accept(MEMBER).unwrap();
        let mut told = control.accept(StreamProtocol::new("/burr/sync/1")).unwrap();
        let seen = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            // Whatever the node says is taken, and never answered.
            let mut unanswered = Vec::new();
            loop {
                tokio::select! {
                    Some((_, stream)) = shown.next() => {
                        counting.fetch_add(1, Ordering::Relaxed);
                        unanswered.push(stream);
                    }
                    Some((_, stream)) = told.next() => unanswered.push(stream),
                    else => return,
                }
            }
        });
        let (gone, connected) = watch::channel(true);
        let running = tokio::spawn(async move {
            loop {
                if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
                    let _ = gone.send(false);
                }
            }
        });
        Self { identity, peer, control, connected, seen, tasks: [running, looking] }
    }

    pub(super) fn node(&self) -> NodeId {
        NodeId(self.identity.public().try_into_ed25519().unwrap().to_bytes())
    }

    /// Whether the node agrees on a protocol.
    pub(super) async fn speaks(&self, protocol: &'static str) -> bool {
        let opening = self.control.clone().open_stream(self.peer, StreamProtocol::new(protocol)).await;
        match opening {
            Ok(_) => true,
            Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_)) => false,
            Err(error) => panic!("{protocol}: {error}"),
        }
    }

    /// Shows a certificate; the node's words if it does not let this one in, none if it hangs up.
    pub(super) async fn show(&self, certificate: &[u8]) -> Result<(), String> {
        let mut control = self.control.clone();
        let asking = async {
            let mut stream = control.open_stream(self.peer, MEMBER).await.ok()?;
            let length = u16::try_from(certificate.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, certificate].concat()).await.ok()?;
            stream.flush().await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            Some(answer)
        };
        match asking.await.as_deref() {
            Some([1]) => Ok(()),
            Some([0, _, why @ ..]) => Err(String::from_utf8(why.to_vec()).unwrap()),
            _ => Err(String::new()),
        }
    }

    /// Whether the connection stands.
    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// How many certificates the node showed.
    pub(super) fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// The node closes the connection.
    pub(super) async fn cut_off(mut self) {
        let cut = self.connected.wait_for(|connected| !connected);
        tokio::time::timeout(PATIENCE, cut).await.expect("cut off in time").unwrap();
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
