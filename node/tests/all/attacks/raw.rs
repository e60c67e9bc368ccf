//! A peer on a stack of its own, which writes whatever bytes it likes on whatever stream it likes.

use burr_protocol::{NodeId, peers::Address, wire::Message};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder,
    futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _},
    identity::Keypair,
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio::task::JoinHandle;

const SYNC: StreamProtocol = StreamProtocol::new("/burr/sync/1");
/// Who does not take this is no peer to gossip, and whatever it says there goes unread.
const GOSSIP: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");
const BLOBS: StreamProtocol = StreamProtocol::new("/burr/blobs/1");

/// The peer, connected to its victim.
pub(super) struct Raw {
    id: NodeId,
    victim: PeerId,
    control: Control,
    tasks: Vec<JoinHandle<()>>,
}

impl Raw {
    pub(super) async fn connect(victim: &Address) -> Self {
        Self::connect_as(Keypair::generate_ed25519(), victim).await
    }

    /// With this identity. Whoever has several victims connects to each on a stack of its own: of streams that come at the
    /// same time, a stack drops all but one, and its victims hang up.
    pub(super) async fn connect_as(key: Keypair, victim: &Address) -> Self {
        let id = NodeId(key.public().try_into_ed25519().unwrap().to_bytes());
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::from_hours(1)))
            .build();
        // Before the victim can ask whether its streams are taken.
        let mut control = swarm.behaviour().new_control();
        let heard = [control.accept(SYNC).unwrap(), control.accept(GOSSIP).unwrap()];
        swarm.dial(victim.0.parse::<Multiaddr>().unwrap()).unwrap();
        let victim = loop {
            if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
                break peer_id;
            }
        };
        let running = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        // What the victim says is read and forgotten.
        let listening = heard.map(|mut heard| {
            tokio::spawn(async move {
                while let Some((_, mut stream)) = heard.next().await {
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 64 << 10];
                        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                    });
                }
            })
        });
        Self { id, victim, control, tasks: [running].into_iter().chain(listening).collect() }
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) async fn open(&self, protocol: &'static str) -> Stream {
        self.control.clone().open_stream(self.victim, StreamProtocol::new(protocol)).await.unwrap()
    }

    pub(super) async fn open_sync(&self) -> Stream {
        self.open("/burr/sync/1").await
    }

    /// Answers the first question on each stream for parts of blobs by `answer`, whatever it is.
    pub(super) fn provide<A>(&mut self, answer: impl Fn(Stream) -> A + Send + 'static)
    where
        A: Future<Output = ()> + Send + 'static,
    {
        let mut asked = self.control.accept(BLOBS).unwrap();
        self.tasks.push(tokio::spawn(async move {
            while let Some((_, mut stream)) = asked.next().await {
                let mut length = [0; 2];
                if stream.read_exact(&mut length).await.is_err() {
                    continue;
                }
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                if stream.read_exact(&mut question).await.is_ok() {
                    tokio::spawn(answer(stream));
                }
            }
        }));
    }

    pub(super) async fn end(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Writes a message as a frame; false if the victim is gone.
pub(super) async fn say(stream: &mut Stream, message: &Message) -> bool {
    let bytes = message.encode();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    stream.write_all(&length).await.is_ok() && stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok()
}
