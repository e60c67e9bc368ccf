//! A node that does not keep to the rules, on a stack of its own: it passes on what an honest node says, a bit turned.

use burr_protocol::peers::Address;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder,
    futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _},
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
            while let Some((_, mut victim)) = asked.next().await {
                let mut question = Vec::new();
                victim.read_to_end(&mut question).await.unwrap();
                let mut source = asking.open_stream(honest, BLOBS).await.unwrap();
                source.write_all(&question).await.unwrap();
                source.close().await.unwrap();
                let mut answer = Vec::new();
                source.read_to_end(&mut answer).await.unwrap();
                answer[place] ^= 1;
                let _ = victim.write_all(&answer).await;
                let _ = victim.close().await;
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
