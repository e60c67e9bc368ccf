//! Two nodes that lie, as processes of their own on the real network. Honest nodes must refuse them by name.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use burr_node::{
    error::{Error, Kind},
    net::{Net, Settings},
    store::blobs::Blobs,
};
use burr_protocol::{
    NodeId, RepositoryId,
    action::{Action, Input},
    peers::Address,
    trust,
    wire::{Announcement, Digest, Message},
};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder,
    futures::{self, AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, io::copy},
    identity::{Keypair, PublicKey, ed25519},
    multiaddr::Protocol,
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio::sync::watch;

use crate::cli::{Context, print};

const SYNC: StreamProtocol = StreamProtocol::new("/burr/sync/1");
const BLOBS: StreamProtocol = StreamProtocol::new("/burr/blobs/1");
/// How often the forger repeats itself until somebody hears it: gossip takes a moment to know its neighbours.
const REPEAT: Duration = Duration::from_millis(50);

/// Lie to a node; part of `burr demo`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    lie: Lie,
}

#[derive(Debug, clap::Subcommand)]
enum Lie {
    /// Stand between two nodes, pass on what they say, and turn the last bit of every part of a blob.
    AlteredBytes {
        /// Who is asked.
        #[arg(long)]
        from: Multiaddr,
        /// Who is lied to.
        #[arg(long)]
        to: Multiaddr,
    },
    /// Announce a newer version of a repository's metadata, which nobody signed.
    ForgedMetadata {
        /// Which.
        #[arg(long)]
        repository: RepositoryId,
        /// Who is lied to.
        #[arg(long)]
        to: String,
    },
}

pub(in crate::cli) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Storage, "can't start threads").with_source(error))?;
    runtime.block_on(async {
        match arguments.lie {
            Lie::AlteredBytes { from, to } => alter(&from, &to).await,
            Lie::ForgedMetadata { repository, to } => forge(&context.data, repository, Address(to)).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where a node is for a stack that must know whom it dials.
pub(super) fn place(node: NodeId, listener: std::net::SocketAddr) -> String {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).expect("a node's name is its key");
    let place = Multiaddr::from(listener.ip()).with(Protocol::Tcp(listener.port()));
    place.with(Protocol::P2p(PublicKey::from(key).to_peer_id())).to_string()
}

/// Says who this is, as `burr run --json` does.
fn started(node: NodeId) -> Result<(), Error> {
    print(&serde_json::json!({ "fact": "started", "node": node, "listeners": [] }).to_string())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Network, "the liar's network failed").with_source(error)
}

/// Stands between two nodes until one of them turns away. To each it looks like the other: their own words on
/// the sync streams pass as they are, and only the answers to `victim` carry a lie.
async fn alter(from: &Multiaddr, to: &Multiaddr) -> Result<(), Error> {
    let identity = ed25519::Keypair::generate();
    let node = NodeId(identity.public().to_bytes());
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::from(identity))
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(failed)?
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .expect("the behaviour is made already")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_hours(1)))
        .build();
    let control = swarm.behaviour().new_control();
    let mut talking = control.clone().accept(SYNC).map_err(failed)?;
    let mut asking = control.clone().accept(BLOBS).map_err(failed)?;
    let [honest, victim] = [from, to].map(|place| match place.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => Err(Error::new(Kind::BadInput, format!("{place} does not end in the node's name"))),
    });
    let (honest, victim) = (honest?, victim?);
    swarm.dial(from.clone()).map_err(failed)?;
    started(node)?;
    let (connected, both) = watch::channel(false);
    let mut links: BTreeMap<PeerId, u32> = BTreeMap::new();
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    *links.entry(peer_id).or_default() += 1;
                    connected.send_replace(links.len() == 2);
                }
                SwarmEvent::ConnectionClosed { num_established: 0, .. } => return Ok(()),
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(failed(error)),
                _ => {}
            },
            Some((peer, said)) = talking.next() => {
                let other = if peer == honest { victim } else { honest };
                if links.len() == 1 {
                    // Not earlier: this stack drops a stream that is opened while another one waits to be taken.
                    swarm.dial(to.clone()).map_err(failed)?;
                }
                tokio::spawn(pass_on(said, control.clone(), other, both.clone()));
            },
            Some((_, question)) = asking.next() => {
                tokio::spawn(answer(question, control.clone(), honest));
            },
        }
    }
}

/// Passes everything that one node says to the other.
async fn pass_on(said: Stream, mut control: Control, other: PeerId, mut both: watch::Receiver<bool>) {
    // Whatever fails here ends the connections, and with them this process.
    if both.wait_for(|both| *both).await.is_ok()
        && let Ok(mut to) = control.open_stream(other, SYNC).await
    {
        let mut said = said;
        let mut part = vec![0; 64 << 10];
        while let Ok(read @ 1..) = said.read(&mut part).await {
            if to.write_all(&part[..read]).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Has questions answered by the honest node, and turns a bit of each part of the answers.
async fn answer(victim: Stream, mut control: Control, honest: PeerId) {
    let Ok(source) = control.open_stream(honest, BLOBS).await else { return };
    let ((questions, mut answered), (mut answers, mut asking)) = (victim.split(), source.split());
    let passing = async { copy(questions, &mut asking).await };
    let lying = async {
        let mut part = vec![0; 64 << 10];
        while let Ok(read @ 1..) = answers.read(&mut part).await {
            part[read - 1] ^= 1;
            answered.write_all(&part[..read]).await?;
            answered.flush().await?;
        }
        std::io::Result::Ok(())
    };
    // Ends with whoever turns away first: the victim need not read a lie to its end.
    futures::future::select(std::pin::pin!(passing), std::pin::pin!(lying)).await;
}

/// Learns a repository's metadata as any node may, and announces a version that is one higher.
async fn forge(data: &Path, repository: RepositoryId, to: Address) -> Result<(), Error> {
    let blobs = Blobs::open(data.join("blobs")).await?;
    let mut identity = [0; 32];
    getrandom::fill(&mut identity).map_err(|error| {
        Error::new(Kind::Storage, "the system gives no random bytes").with_source(std::io::Error::from(error))
    })?;
    let settings = Settings {
        identity,
        listen: Vec::new(),
        peers: Vec::new(),
        mdns: false,
        max_connections: 4,
        closed: false,
        enroller: None,
        rationed: false,
    };
    let (net, mut inputs) = Net::start(settings, blobs).await?;
    net.act(Action::Subscribe(repository)).await;
    net.act(Action::Dial(to)).await;
    started(net.node())?;
    let mut forged = None;
    let mut repeat = tokio::time::interval(REPEAT);
    loop {
        tokio::select! {
            input = inputs.recv() => match input {
                Some(Input::Connected { node, .. }) => {
                    let follows = Digest { follows: vec![repository], ..Digest::default() };
                    net.act(Action::Send { node, bytes: Message::Digest(follows).encode() }).await;
                }
                Some(Input::Message { node, bytes }) => match Message::decode(&bytes) {
                    Ok(Message::Digest(digest)) => {
                        for holding in digest.holdings.iter().filter(|holding| holding.repository == repository) {
                            let question = Message::AskPack { repository, pack: holding.pack };
                            net.act(Action::Send { node, bytes: question.encode() }).await;
                        }
                    }
                    Ok(Message::Pack { bytes, .. }) => forged = announcement(repository, &bytes),
                    _ => {}
                },
                // Refused, or there is nobody.
                Some(Input::Disconnected { .. } | Input::DialFailed { .. }) | None => return Ok(()),
                Some(_) => {}
            },
            _ = repeat.tick(), if forged.is_some() => {
                let bytes = forged.clone().expect("there is one");
                net.act(Action::Announce { repository, bytes }).await;
            }
        }
    }
}

/// The announcement of a trust pack, with a timestamp whose version was raised: its signature no longer fits.
fn announcement(repository: RepositoryId, pack: &[u8]) -> Option<Vec<u8>> {
    let verified = trust::verify(repository, None, pack).ok()?;
    let mut timestamp: serde_json::Value = serde_json::from_slice(verified.timestamp()).ok()?;
    timestamp["signed"]["version"] = (verified.timestamp_version() + 1).into();
    let announcement = Announcement {
        repository,
        timestamp: timestamp.to_string().into_bytes(),
        pack: verified.pack_hash(),
        root: verified.root_version(),
    };
    Some(announcement.encode())
}
