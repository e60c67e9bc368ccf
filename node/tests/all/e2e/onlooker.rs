//! A kiosk that keeps all that it is given, as it comes out of the connection: what there is to see for whoever carries.

use std::{collections::BTreeMap, time::Duration};

use burr_node::{
    net::{Net, Settings},
    store::blobs::Blobs,
};
use burr_protocol::{
    Hash, NodeId, RepositoryId,
    action::{Action, Input},
    fetch::{Request, RequestId},
    peers::Address,
    trust::{self, Verified},
    wire::{Digest, Message},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::program::DEADLINE;
use crate::support::scratch;

/// All of a repository that a node gives to somebody who asks for everything.
#[derive(Default)]
pub(super) struct Seen {
    /// Frames of the sync stream, and announcements of the gossip.
    pub(super) said: Vec<Vec<u8>>,
    /// Whole blobs: every payload and list of keys that the metadata names.
    pub(super) blobs: BTreeMap<Hash, Vec<u8>>,
}

struct Onlooker {
    net: Net,
    inputs: mpsc::Receiver<Input>,
    blobs: Blobs,
    seen: Seen,
    _dir: TempDir,
}

/// Asks the node at `place` for everything of a repository until it gives `releases` of them, with all that they name.
pub(super) fn look(place: &str, repository: RepositoryId, releases: usize) -> Seen {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut onlooker = Onlooker::start().await;
        let looking = onlooker.look(place, repository, releases);
        tokio::time::timeout(DEADLINE, looking).await.expect("all of it is given in time");
        let Onlooker { net, inputs, blobs, seen, .. } = onlooker;
        drop(inputs);
        net.shutdown().await;
        blobs.shutdown().await.unwrap();
        seen
    })
}

impl Onlooker {
    async fn start() -> Self {
        let mut identity = [0; 32];
        getrandom::fill(&mut identity).unwrap();
        let dir = scratch();
        let blobs = Blobs::open(dir.path()).await.unwrap();
        let settings = Settings {
            identity,
            listen: Vec::new(),
            peers: Vec::new(),
            mdns: false,
            max_connections: 8,
            closed: false,
            enroller: None,
            rationed: false,
        };
        let (net, inputs) = Net::start(settings, blobs.clone()).await.unwrap();
        Self { net, inputs, blobs, seen: Seen::default(), _dir: dir }
    }

    async fn look(&mut self, place: &str, repository: RepositoryId, releases: usize) {
        self.net.act(Action::Subscribe(repository)).await;
        self.net.act(Action::Dial(Address(place.to_owned()))).await;
        let (node, metadata) = self.metadata(repository, releases).await;
        let payloads: Vec<_> =
            metadata.releases().map(|release| &release.payload).chain(metadata.keys().map(|(_, list)| list)).collect();
        for (number, payload) in payloads.into_iter().enumerate() {
            let bytes = self.fetch(node, RequestId(number as u64), payload.blob, payload.size).await;
            self.seen.blobs.insert(payload.blob, bytes);
        }
    }

    /// Asks for metadata until it lists so many releases.
    async fn metadata(&mut self, repository: RepositoryId, releases: usize) -> (NodeId, Verified) {
        loop {
            match self.hear().await {
                Input::Connected { node, .. } => {
                    self.say(node, &Message::Digest(Digest { follows: vec![repository], ..Digest::default() })).await;
                }
                Input::Message { node, bytes } => match Message::decode(&bytes).unwrap() {
                    Message::Digest(digest) => {
                        for holding in digest.holdings {
                            self.say(node, &Message::AskPack { repository, pack: holding.pack }).await;
                        }
                    }
                    Message::Pack { bytes, .. } => {
                        let metadata = trust::verify(repository, None, &bytes).unwrap();
                        if metadata.releases().count() >= releases {
                            return (node, metadata);
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// A whole blob of a node, asked for again as long as it has not got it itself.
    async fn fetch(&mut self, node: NodeId, id: RequestId, blob: Hash, size: u64) -> Vec<u8> {
        loop {
            self.net.act(Action::Fetch(Request { id, node, blob, size, start: 0, end: size })).await;
            let fetched = loop {
                match self.hear().await {
                    Input::Fetched { .. } => break true,
                    Input::FetchFailed { .. } => break false,
                    _ => {}
                }
            };
            if fetched {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (mut reader, mut bytes) = (self.blobs.reader(blob), Vec::new());
        while let Some(part) = reader.next().await.unwrap() {
            bytes.extend_from_slice(&part);
        }
        bytes
    }

    async fn hear(&mut self) -> Input {
        let input = self.inputs.recv().await.expect("the network runs");
        if let Input::Message { bytes, .. } | Input::Announcement { bytes, .. } = &input {
            self.seen.said.push(bytes.clone());
        }
        input
    }

    async fn say(&self, node: NodeId, message: &Message) {
        self.net.act(Action::Send { node, bytes: message.encode() }).await;
    }
}
