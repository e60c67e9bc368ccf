//! A peer that keeps to the transport and to nothing else: it claims what it likes and gives what it likes.

use std::sync::{Arc, Mutex};

use burr_node::{
    net::{Net, Settings},
    store::blobs::Blobs,
};
use burr_protocol::{
    Hash, NodeId, RepositoryId,
    action::{Action, Input, Verdict},
    fetch::PieceMap,
    peers::Address,
    wire::{Digest, Holding, Message, MetadataVersion},
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{DEADLINE, PayloadFile};
use crate::support::scratch;

/// What it does and what it saw.
#[derive(Default)]
struct Story {
    connected: Vec<NodeId>,
    pack: Vec<u8>,
    /// What it says to have of blobs that are asked for.
    claims: Vec<(Hash, u64)>,
    asked: u64,
    messages: Vec<Message>,
    announcements: Vec<Vec<u8>>,
}

/// The peer.
pub(super) struct Rogue {
    net: Arc<Net>,
    blobs: Blobs,
    repository: RepositoryId,
    story: Arc<Mutex<Story>>,
    /// Goes up with everything that happens.
    happened: watch::Receiver<u64>,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Rogue {
    pub(super) async fn start(repository: RepositoryId) -> Self {
        let mut identity = [0; 32];
        getrandom::fill(&mut identity).unwrap();
        let dir = scratch();
        let blobs = Blobs::open(dir.path()).await.unwrap();
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let settings = Settings {
            identity,
            listen,
            peers: Vec::new(),
            mdns: false,
            max_connections: 64,
            closed: false,
            enroller: None,
            rationed: false,
        };
        let (net, inputs) = Net::start(settings, blobs.clone()).await.unwrap();
        let (net, story) = (Arc::new(net), Arc::new(Mutex::new(Story::default())));
        let (happens, happened) = watch::channel(0);
        let task = tokio::spawn(live(Arc::clone(&net), inputs, repository, Arc::clone(&story), happens));
        Self { net, blobs, repository, story, happened, task, _dir: dir }
    }

    pub(super) fn id(&self) -> NodeId {
        self.net.node()
    }

    /// Connects, and waits until it is.
    pub(super) async fn meet(&self, place: &Address) {
        let before = self.with(|story| story.connected.len());
        self.net.act(Action::Dial(place.clone())).await;
        self.until("a connection", |story| story.connected.len() > before).await;
    }

    /// Claims to have the newest metadata there could be, and gives this pack to whoever asks.
    pub(super) async fn offer(&self, pack: Vec<u8>) {
        let connected = self.with(|story| {
            story.pack = pack;
            story.connected.clone()
        });
        for node in connected {
            self.say(node, &boast(self.repository)).await;
        }
    }

    /// Waits until somebody asked for the pack, and it is on its way.
    pub(super) async fn asked(&self) {
        self.until("a question", |story| story.asked > 0).await;
    }

    /// Serves these payloads, truly.
    pub(super) async fn hold(&self, payloads: &[PayloadFile]) {
        for (payload, path) in payloads {
            let bytes = std::fs::read(path).unwrap();
            self.blobs.import_bytes(bytes).await.unwrap();
            self.claim(payload.blob, payload.size);
        }
    }

    /// Says from now on that it holds a blob.
    pub(super) fn claim(&self, blob: Hash, size: u64) {
        self.with(|story| story.claims.push((blob, size)));
    }

    pub(super) async fn say(&self, node: NodeId, message: &Message) {
        self.net.act(Action::Send { node, bytes: message.encode() }).await;
    }

    pub(super) async fn say_garbage(&self, node: NodeId) {
        self.net.act(Action::Send { node, bytes: vec![0xff] }).await;
    }

    /// Listens to the gossip of its repository.
    pub(super) async fn subscribe(&self) {
        self.net.act(Action::Subscribe(self.repository)).await;
    }

    pub(super) async fn announce(&self, bytes: Vec<u8>) {
        self.net.act(Action::Announce { repository: self.repository, bytes }).await;
    }

    /// What gossip brought.
    pub(super) fn announcements(&self) -> Vec<Vec<u8>> {
        self.with(|story| story.announcements.clone())
    }

    /// Waits until something has been heard.
    pub(super) async fn until_heard(&self, what: &str, is: impl Fn(&[Message], &[Vec<u8>]) -> bool) {
        self.until(what, |story| is(&story.messages, &story.announcements)).await;
    }

    async fn until(&self, what: &str, is: impl Fn(&Story) -> bool) {
        let mut happened = self.happened.clone();
        let waiting = async {
            while !self.with(|story| is(story)) {
                happened.changed().await.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come"));
    }

    fn with<T>(&self, what: impl FnOnce(&mut Story) -> T) -> T {
        what(&mut self.story.lock().unwrap())
    }

    pub(super) async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
        Arc::try_unwrap(self.net).expect("the task is over").shutdown().await;
        self.blobs.shutdown().await.unwrap();
    }
}

/// Newer than anything that an honest node has.
fn boast(repository: RepositoryId) -> Message {
    let version = MetadataVersion { root: u64::MAX, timestamp: u64::MAX };
    let holdings = vec![Holding { repository, version, pack: Hash([0; 32]) }];
    Message::Digest(Digest { collects: true, follows: vec![repository], holdings, ..Digest::default() })
}

async fn live(
    net: Arc<Net>,
    mut inputs: mpsc::Receiver<Input>,
    repository: RepositoryId,
    story: Arc<Mutex<Story>>,
    happens: watch::Sender<u64>,
) {
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Connected { node, .. } => {
                let follows = Message::Digest(Digest { follows: vec![repository], ..Digest::default() });
                let offers = !story.lock().unwrap().pack.is_empty();
                let first = if offers { boast(repository) } else { follows };
                net.act(Action::Send { node, bytes: first.encode() }).await;
                story.lock().unwrap().connected.push(node);
            }
            Input::Message { node, bytes } => {
                let Ok(message) = Message::decode(&bytes) else { panic!("an honest node says nothing else") };
                match &message {
                    Message::AskPack { .. } => {
                        let pack = story.lock().unwrap().pack.clone();
                        if !pack.is_empty() {
                            let answer = Message::Pack { repository, bytes: pack };
                            net.act(Action::Send { node, bytes: answer.encode() }).await;
                            story.lock().unwrap().asked += 1;
                        }
                    }
                    Message::Want { blobs, .. } => {
                        let claims = story.lock().unwrap().claims.clone();
                        for (blob, size) in claims.into_iter().filter(|(blob, _)| blobs.contains(blob)) {
                            let holds = Message::Holds { blob, size, pieces: PieceMap::All };
                            net.act(Action::Send { node, bytes: holds.encode() }).await;
                        }
                    }
                    _ => {}
                }
                story.lock().unwrap().messages.push(message);
            }
            Input::Announcement { id, bytes, .. } => {
                story.lock().unwrap().announcements.push(bytes);
                net.act(Action::Verdict { id, verdict: Verdict::Ignore }).await;
            }
            _ => {}
        }
        happens.send_modify(|count| *count += 1);
    }
}
