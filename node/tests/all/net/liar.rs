//! A node that does not keep to the rules, on a stack of its own: it passes on what an honest node says, a bit turned.

use burr_protocol::peers::Address;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder,
    futures::{self, AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, io::copy},
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio::task::JoinHandle;

const SYNC: StreamProtocol = StreamProtocol::new("/burr/sync/1");
const BLOBS: StreamProtocol = StreamProtocol::new("/burr/blobs/1");

pub(super) struct Liar {
    address: Multiaddr,
    honest: PeerId,
    control: Control,
    tasks: Vec<JoinHandle<()>>,
}

impl Liar {
    /// Connects to an honest node and passes its blobs on, with a bit of the answer's byte at `place` turned.
    pub(super) async fn between(honest: &Address, place: usize) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::from_hours(1)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        swarm.dial(honest.0.parse::<Multiaddr>().unwrap()).unwrap();
        let (mut address, mut peer) = (None, None);
        while address.is_none() || peer.is_none() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address: place, .. } => address = Some(place),
                SwarmEvent::ConnectionEstablished { peer_id, .. } => peer = Some(peer_id),
                _ => {}
            }
        }
        let honest = peer.unwrap();
        let mut control = swarm.behaviour().new_control();
        let mut asked = control.accept(BLOBS).unwrap();
        let mut asking = control.clone();
        let running = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let lying = tokio::spawn(async move {
            while let Some((_, victim)) = asked.next().await {
                let source = asking.open_stream(honest, BLOBS).await.unwrap();
                let ((questions, mut answered), (mut answers, mut asking)) = (victim.split(), source.split());
                let passing = async { copy(questions, &mut asking).await };
                let lying = async {
                    let (mut passed, mut part) = (0, vec![0; 64 << 10]);
                    while let Ok(read @ 1..) = answers.read(&mut part).await {
                        if let Some(byte) = place.checked_sub(passed).and_then(|at| part[..read].get_mut(at)) {
                            *byte ^= 1;
                        }
                        passed += read;
                        if answered.write_all(&part[..read]).await.is_err() || answered.flush().await.is_err() {
                            return;
                        }
                    }
                };
                // Ends with whoever turns away first.
                futures::future::select(std::pin::pin!(passing), std::pin::pin!(lying)).await;
            }
        });
        Self { address: address.unwrap(), honest, control, tasks: vec![running, lying] }
    }

    pub(super) fn address(&self) -> Address {
        Address(self.address.to_string())
    }

    /// Sends bytes to the honest node where frames should be.
    pub(super) async fn send_sync(&self, bytes: &[u8]) {
        let mut stream = self.control.clone().open_stream(self.honest, SYNC).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        // Kept open: it is the honest node that must close.
        std::mem::forget(stream);
    }

    pub(super) async fn end(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}
