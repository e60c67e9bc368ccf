//! Real nodes on loopback: how they meet, talk, gossip and pass blobs on, and what a bad one can't do.

mod crowd;
mod far;
mod liar;

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use burr_node::{
    error::Kind,
    net::{Net, Settings},
    store::blobs::Blobs,
};
use burr_protocol::{
    Hash, NodeId, RepositoryId,
    action::{Action, FetchFailure, Input, Verdict},
    fetch::{PieceMap, Pieces, Request, RequestId},
    peers::Address,
};
use liar::Liar;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::noise;

/// Long past anything that should happen: only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

struct Node {
    net: Net,
    inputs: mpsc::Receiver<Input>,
    blobs: Blobs,
    dir: TempDir,
}

impl Node {
    async fn start() -> Self {
        Self::start_as(seed(), loopback()).await
    }

    async fn start_as(identity: [u8; 32], listen: SocketAddr) -> Self {
        let dir = TempDir::new().unwrap();
        let blobs = Blobs::open(dir.path()).await.unwrap();
        let settings = Settings {
            identity,
            listen: vec![listen],
            peers: Vec::new(),
            mdns: false,
            max_connections: 64,
            closed: false,
            enroller: None,
            rationed: false,
        };
        let (net, inputs) = Net::start(settings, blobs.clone()).await.unwrap();
        Self { net, inputs, blobs, dir }
    }

    fn id(&self) -> NodeId {
        self.net.node()
    }

    fn address(&self) -> Address {
        Address(self.net.listeners()[0].to_string())
    }

    /// One way to this node only.
    fn over(&self, transport: &str) -> Address {
        let socket = self.net.listeners()[0];
        Address(match transport {
            "tcp" => format!("/ip4/{}/tcp/{}", socket.ip(), socket.port()),
            _ => format!("/ip4/{}/udp/{}/quic-v1", socket.ip(), socket.port()),
        })
    }

    /// The first input that is wanted; others are passed over.
    async fn hear<T>(&mut self, mut wanted: impl FnMut(&Input) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let input = self.inputs.recv().await.expect("the network runs");
                if let Some(found) = wanted(&input) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("heard in time")
    }

    async fn meet(&mut self, other: &mut Self) {
        self.meet_at(other.address(), other).await;
    }

    async fn meet_at(&mut self, place: Address, other: &mut Self) {
        self.net.act(Action::Dial(place.clone())).await;
        let them = other.id();
        let dialled = self.hear(|input| match input {
            Input::Connected { node, address, .. } if *node == them => Some(address.clone()),
            _ => None,
        });
        assert_eq!(dialled.await, Some(place));
        let us = self.id();
        let address = other.hear(|input| match input {
            Input::Connected { node, address, .. } if *node == us => Some(address.clone()),
            _ => None,
        });
        assert_eq!(address.await, None);
    }

    async fn fetch(&mut self, request: Request) -> Result<u64, FetchFailure> {
        self.net.act(Action::Fetch(request)).await;
        let mut received = 0;
        self.hear(|input| match input {
            Input::Received { id, bytes } if *id == request.id => {
                received += bytes;
                None
            }
            Input::Fetched { id } if *id == request.id => Some(Ok(())),
            Input::FetchFailed { id, why } if *id == request.id => Some(Err(*why)),
            _ => None,
        })
        .await
        .map(|()| received)
    }

    async fn bytes(&self, hash: Hash) -> std::io::Result<Vec<u8>> {
        let mut reader = self.blobs.reader(hash);
        let mut bytes = Vec::new();
        while let Some(part) = reader.next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    async fn end(self) {
        self.net.shutdown().await;
        self.blobs.shutdown().await.unwrap();
    }
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    seed
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn ask(id: u64, node: NodeId, bytes: &[u8], start: usize, end: usize) -> Request {
    let (size, start, end) = (bytes.len() as u64, start as u64, end as u64);
    Request { id: RequestId(id), node, blob: Hash::of(bytes), size, start, end }
}

fn message(input: &Input) -> Option<Vec<u8>> {
    match input {
        Input::Message { bytes, .. } => Some(bytes.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_meet_and_exchange_frames_in_order() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    a.meet(&mut b).await;
    let frames = [vec![], vec![1], noise(3 * MIB), vec![2; 100]];
    for bytes in frames.clone() {
        a.net.act(Action::Send { node: b.id(), bytes }).await;
    }
    b.net.act(Action::Send { node: a.id(), bytes: vec![3] }).await;
    for frame in frames {
        assert_eq!(b.hear(message).await, frame);
    }
    assert_eq!(a.hear(message).await, [3]);
    let gone = b.id();
    b.end().await;
    a.hear(|input| (*input == Input::Disconnected { node: gone }).then_some(())).await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_both_sides_and_both_transports_are_one_link() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    for place in [b.over("tcp"), b.over("quic")] {
        a.net.act(Action::Dial(place)).await;
    }
    b.net.act(Action::Dial(a.address())).await;
    let mut dialled = BTreeSet::new();
    while dialled.len() < 2 {
        let answer = |input: &Input| match input {
            Input::Connected { address, .. } => Some(address.clone()),
            Input::Disconnected { .. } | Input::DialFailed { .. } => panic!("{input:?}"),
            _ => None,
        };
        dialled.extend(a.hear(answer).await);
    }
    a.net.act(Action::Send { node: b.id(), bytes: vec![1] }).await;
    let mut before = Vec::new();
    b.hear(|input| {
        before.push(input.clone());
        message(input)
    })
    .await;
    assert!(!before.iter().any(|input| matches!(input, Input::Disconnected { .. })), "{before:?}");
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_comes_to_nothing_is_answered() {
    let (mut a, b) = (Node::start().await, Node::start().await);
    let gone = b.over("tcp");
    b.end().await;
    for place in [gone, Address("nowhere".to_owned()), a.over("tcp")] {
        a.net.act(Action::Dial(place.clone())).await;
        a.hear(|input| (*input == Input::DialFailed { address: place.clone() }).then_some(())).await;
    }
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_and_comes_back_is_met_anew() {
    let (mut a, identity) = (Node::start().await, seed());
    let mut b = Node::start_as(identity, loopback()).await;
    a.meet(&mut b).await;
    b.net.act(Action::Send { node: a.id(), bytes: vec![1] }).await;
    assert_eq!(a.hear(message).await, [1]);
    // The first b stays, silent: to a it looks like a node that lost its power.
    let again = Node::start_as(identity, loopback()).await;
    again.net.act(Action::Dial(a.address())).await;
    let mut again = again;
    again.hear(|input| matches!(input, Input::Connected { .. }).then_some(())).await;
    again.net.act(Action::Send { node: a.id(), bytes: vec![2] }).await;
    let mut heard = Vec::new();
    a.hear(|input| {
        heard.push(input.clone());
        message(input)
    })
    .await;
    let node = again.id();
    assert!(heard.contains(&Input::Disconnected { node }), "{heard:?}");
    a.net.act(Action::Send { node, bytes: vec![3] }).await;
    assert_eq!(again.hear(message).await, [3]);
    for node in [a, b, again] {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_is_passed_on_only_when_it_is_accepted() {
    let (mut a, mut b, mut c) = (Node::start().await, Node::start().await, Node::start().await);
    let repository = RepositoryId([7; 32]);
    for node in [&a, &b, &c] {
        node.net.act(Action::Subscribe(repository)).await;
    }
    a.meet(&mut b).await;
    b.meet(&mut c).await;
    let announcement = |input: &Input| match input {
        Input::Announcement { node, id, bytes } => Some((*node, *id, bytes.clone())),
        _ => None,
    };
    // Who listens to what is told after the connection stands, so the first words may find nobody.
    let mut round = 0;
    let id = loop {
        a.net.act(Action::Announce { repository, bytes: vec![0, round] }).await;
        let heard = tokio::time::timeout(Duration::from_millis(200), b.hear(announcement)).await;
        if let Ok((from, id, _)) = heard {
            assert_eq!(from, a.id());
            break id;
        }
        round += 1;
    };
    b.net.act(Action::Verdict { id, verdict: Verdict::Reject }).await;
    let last = loop {
        round += 1;
        a.net.act(Action::Announce { repository, bytes: vec![1, round] }).await;
        let (_, id, bytes) = b.hear(announcement).await;
        let verdict = if bytes[0] == 1 { Verdict::Accept } else { Verdict::Ignore };
        b.net.act(Action::Verdict { id, verdict }).await;
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(200), c.hear(announcement)).await {
            break heard;
        }
    };
    assert_eq!(last.0, b.id(), "c hears it from b");
    assert_eq!(last.2[0], 1, "what was rejected or ignored is not passed on");
    for node in [a, b, c] {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_node_is_out_and_stays_out() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    a.meet(&mut b).await;
    let (us, them) = (a.id(), b.id());
    a.net.act(Action::Refuse(them)).await;
    a.hear(|input| (*input == Input::Disconnected { node: them }).then_some(())).await;
    b.hear(|input| (*input == Input::Disconnected { node: us }).then_some(())).await;
    a.net.act(Action::Dial(b.over("tcp"))).await;
    a.hear(|input| matches!(input, Input::DialFailed { .. }).then_some(())).await;
    // From the other side the connection may stand for a moment before it is closed.
    b.net.act(Action::Dial(a.over("tcp"))).await;
    b.hear(|input| matches!(input, Input::DialFailed { .. } | Input::Disconnected { .. }).then_some(())).await;
    let heard = std::iter::from_fn(|| a.inputs.try_recv().ok()).collect::<Vec<_>>();
    assert!(!heard.iter().any(|input| matches!(input, Input::Connected { .. })), "{heard:?}");
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_to_be() {
    let a = Node::start().await;
    let taken = a.net.listeners()[0];
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let settings = |listen| Settings {
        identity: seed(),
        listen,
        peers: Vec::new(),
        mdns: false,
        max_connections: 8,
        closed: false,
        enroller: None,
        rationed: false,
    };
    let error = Net::start(settings(vec![taken]), blobs.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::PortInUse, "{error}");
    assert!(error.to_string().contains(&taken.port().to_string()) && error.hint().is_some(), "{error}");
    let udp = std::net::UdpSocket::bind(loopback()).unwrap();
    let error = Net::start(settings(vec![udp.local_addr().unwrap()]), blobs.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::PortInUse, "{error}");
    let elsewhere = "192.0.2.1:0".parse().unwrap();
    let error = Net::start(settings(vec![elsewhere]), blobs.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Network, "{error}");
    let unreadable = Settings { peers: vec![Address("over there".to_owned())], ..settings(vec![]) };
    assert_eq!(Net::start(unreadable, blobs).await.unwrap_err().kind(), Kind::Config);
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_nodes_are_found() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let address = Address("127.0.0.1:7447".to_owned());
    let settings = Settings {
        identity: seed(),
        listen: vec![],
        peers: vec![address.clone()],
        mdns: false,
        max_connections: 8,
        closed: false,
        enroller: None,
        rationed: false,
    };
    let (net, mut inputs) = Net::start(settings, blobs).await.unwrap();
    assert_eq!(inputs.recv().await, Some(Input::Found { address, node: None, fixed: true }));
    net.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_travels_over_quic_and_over_tcp() {
    let mut a = Node::start().await;
    for (transport, length) in [("quic", 5 * MIB + 4321), ("tcp", 5 * MIB + 4321), ("tcp", 100), ("quic", 0)] {
        let mut b = Node::start().await;
        let bytes = noise(length);
        let imported = a.blobs.import_bytes(bytes.clone()).await.unwrap();
        assert_eq!((imported.hash, imported.size), (Hash::of(&bytes), length as u64));
        b.meet_at(a.over(transport), &mut a).await;
        assert_eq!(b.fetch(ask(1, a.id(), &bytes, 0, length)).await, Ok(length as u64), "{transport} {length}");
        assert_eq!(b.blobs.held(imported.hash, imported.size).await.unwrap(), PieceMap::All);
        assert!(b.bytes(imported.hash).await.unwrap() == bytes);
        b.end().await;
    }
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_fetched_kept_and_served_on() {
    let (mut a, mut b, mut c) = (Node::start().await, Node::start().await, Node::start().await);
    let bytes = noise(4 * MIB + 17);
    let (hash, size) = (Hash::of(&bytes), bytes.len() as u64);
    a.blobs.import_bytes(bytes.clone()).await.unwrap();
    b.meet(&mut a).await;
    c.meet(&mut b).await;
    assert_eq!(b.fetch(ask(1, a.id(), &bytes, MIB, 2 * MIB)).await, Ok(MIB as u64));
    assert_eq!(b.fetch(ask(2, a.id(), &bytes, 4 * MIB, bytes.len())).await, Ok(17));
    let held = Pieces::of(size, &b.blobs.held(hash, size).await.unwrap());
    assert_eq!(
        (0..held.count()).filter(|piece| held.contains(*piece)).collect::<Vec<_>>(),
        (16..32).chain([64]).collect::<Vec<_>>()
    );
    assert!(Pieces::of(size + 1, &b.blobs.held(hash, size + 1).await.unwrap()).is_empty(), "of another size");
    // b serves what it holds, and says so when it does not.
    assert_eq!(c.fetch(ask(1, b.id(), &bytes, MIB, 2 * MIB)).await, Ok(MIB as u64));
    assert_eq!(c.fetch(ask(2, b.id(), &bytes, MIB, 3 * MIB)).await, Err(FetchFailure::NotFound));
    assert_eq!(c.fetch(ask(3, b.id(), &noise(9), 0, 9)).await, Err(FetchFailure::NotFound));
    // The rest, from both at once.
    for request in [ask(4, b.id(), &bytes, 4 * MIB, bytes.len()), ask(5, b.id(), &bytes, 0, MIB)] {
        c.net.act(Action::Fetch(request)).await;
    }
    b.net.act(Action::Fetch(ask(6, a.id(), &bytes, 0, MIB))).await;
    b.hear(|input| (*input == Input::Fetched { id: RequestId(6) }).then_some(())).await;
    assert_eq!(b.fetch(ask(7, a.id(), &bytes, 2 * MIB, 4 * MIB)).await, Ok(2 * MIB as u64));
    assert!(b.bytes(hash).await.unwrap() == bytes);
    assert_eq!(b.blobs.held(hash, size).await.unwrap(), PieceMap::All);
    for node in [a, b, c] {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_goes_away_is_lost_and_a_cancelled_request_is_silent() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    let bytes = noise(64 * MIB);
    let hash = a.blobs.import_bytes(bytes.clone()).await.unwrap().hash;
    // Over TCP: a QUIC connection's last words may be lost, and then it takes until the request times out.
    b.meet_at(a.over("tcp"), &mut a).await;
    let provider = a.id();
    let some =
        |id: u64| move |input: &Input| matches!(input, Input::Received { id: of, .. } if of.0 == id).then_some(());
    b.net.act(Action::Fetch(ask(1, provider, &bytes, 0, bytes.len()))).await;
    b.hear(some(1)).await;
    b.net.act(Action::Cancel(RequestId(1))).await;
    b.net.act(Action::Fetch(ask(2, provider, &bytes, 32 * MIB, bytes.len()))).await;
    b.hear(some(2)).await;
    a.end().await;
    let mut heard = Vec::new();
    let why = b.hear(|input| {
        heard.push(input.clone());
        match input {
            Input::FetchFailed { id: RequestId(2), why } => Some(*why),
            _ => None,
        }
    });
    assert_eq!(why.await, FetchFailure::Lost);
    let first =
        |input: &Input| matches!(input, Input::Fetched { id } | Input::FetchFailed { id, .. } if *id == RequestId(1));
    assert!(!heard.iter().any(first), "{heard:?}");
    let held = Pieces::of(bytes.len() as u64, &b.blobs.held(hash, bytes.len() as u64).await.unwrap());
    assert!(!held.is_empty(), "what came is kept");
    assert_eq!(b.fetch(ask(3, provider, &bytes, 0, MIB)).await, Err(FetchFailure::Lost));
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_bytes_are_found_out_and_not_kept() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    let bytes = noise(4 * MIB);
    let size = bytes.len() as u64;
    let hash = a.blobs.import_bytes(bytes.clone()).await.unwrap().hash;
    // The liar passes on what a says, with one bit of the third megabyte turned.
    let liar = Liar::between(&a.over("tcp"), 2 * MIB + (100 << 10)).await;
    b.net.act(Action::Dial(liar.address())).await;
    let liar_id = b.hear(|input| match input {
        Input::Connected { node, .. } => Some(*node),
        _ => None,
    });
    let liar_id = liar_id.await;
    assert_eq!(b.fetch(ask(1, liar_id, &bytes, 0, bytes.len())).await, Err(FetchFailure::Corrupt));
    let held = Pieces::of(size, &b.blobs.held(hash, size).await.unwrap());
    assert!(!held.contains(33) && !held.is_all(), "{held:?}");
    // What is missing comes from an honest node, and then the blob is right.
    b.meet(&mut a).await;
    assert_eq!(b.fetch(ask(2, a.id(), &bytes, 2 * MIB, bytes.len())).await, Ok(2 * MIB as u64));
    if !held.contains(31) {
        assert_eq!(b.fetch(ask(3, a.id(), &bytes, 0, 2 * MIB)).await, Ok(2 * MIB as u64));
    }
    assert!(b.bytes(hash).await.unwrap() == bytes);
    liar.end().await;
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_the_size_is_found_out() {
    let (a, mut b) = (Node::start().await, Node::start().await);
    let bytes = noise(MIB);
    a.blobs.import_bytes(bytes.clone()).await.unwrap();
    let liar = Liar::between(&a.over("tcp"), 2).await;
    b.net.act(Action::Dial(liar.address())).await;
    let node = b.hear(|input| match input {
        Input::Connected { node, .. } => Some(*node),
        _ => None,
    });
    let node = node.await;
    assert_eq!(b.fetch(ask(1, node, &bytes, 0, MIB)).await, Err(FetchFailure::Corrupt));
    let held = b.blobs.held(Hash::of(&bytes), MIB as u64).await.unwrap();
    assert!(Pieces::of(MIB as u64, &held).is_empty());
    liar.end().await;
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_the_limit_ends_the_connection() {
    let mut a = Node::start().await;
    let liar = Liar::between(&a.over("tcp"), 0).await;
    let node = a.hear(|input| match input {
        Input::Connected { node, .. } => Some(*node),
        _ => None,
    });
    let node = node.await;
    liar.send_sync(&u32::MAX.to_be_bytes()).await;
    a.hear(|input| (*input == Input::Disconnected { node }).then_some(())).await;
    liar.end().await;
    a.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_neither_served_nor_read() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    let mut bytes = noise(2 * MIB);
    let file = a.dir.path().join("payload");
    std::fs::write(&file, &bytes).unwrap();
    let imported = a.blobs.import(&file).await.unwrap();
    let used = a.blobs.used_bytes().await.unwrap();
    assert!(used < 4 * MIB as u64, "not copied: {used}");
    assert!(a.bytes(imported.hash).await.unwrap() == bytes);
    let request = ask(1, a.id(), &bytes, 0, bytes.len());
    bytes[MIB + 5] ^= 1;
    write_in_place(&file, &bytes);
    assert!(a.bytes(imported.hash).await.is_err());
    b.meet(&mut a).await;
    assert_eq!(b.fetch(request).await, Err(FetchFailure::Lost));
    let held = Pieces::of(imported.size, &b.blobs.held(imported.hash, imported.size).await.unwrap());
    assert!(held.contains(0) && !held.contains(16), "only what is right was served: {held:?}");
    a.end().await;
    b.end().await;
}

fn write_in_place(file: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).open(file).unwrap().write_all(bytes).unwrap();
}
