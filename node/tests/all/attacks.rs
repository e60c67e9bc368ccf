//! Attacks from outside: a real node on loopback, and a peer that may say whatever it likes. The table of
//! `protocol/README.md` section 14 names these stories.

mod bundle;
mod clock;
mod floods;
mod halting;
mod mesh;
mod metadata;
mod publisher;
mod raw;
mod rogue;
mod shop;
mod swarm;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use burr_node::{
    Clock, Node, Running,
    settings::{Resolved, Source},
};
use burr_protocol::{
    NodeId, RepositoryId, Wall,
    fact::{Fact, UpdateStep},
    peers::{Address, Lie},
    release::Payload,
    status::Status,
};
use rogue::Rogue;
use tempfile::TempDir;
use tokio::sync::broadcast;

use crate::support::{listing, scratch};

/// Long past anything that should happen: only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

/// When the stories begin, by the right clock.
const EPOCH: Wall = Wall(1_800_000_000);
const DAY: i64 = 24 * 3600;

/// A clock that a story sets.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn at(time: Wall) -> Self {
        Self(Arc::new(AtomicI64::new(time.0)))
    }

    fn set(&self, time: Wall) {
        self.0.store(time.0, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let hands = Arc::clone(&self.0);
        Clock::new(move || UNIX_EPOCH + Duration::from_secs(hands.load(Ordering::SeqCst).try_into().unwrap()))
    }
}

/// A real node: `burr run` as an app embeds it, with everything but the clock.
struct Device {
    node: Node,
    running: Running,
    facts: broadcast::Receiver<Fact>,
    /// Every fact so far, oldest first.
    heard: Vec<Fact>,
    data: PathBuf,
}

impl Device {
    /// A device on `data` that installs `shop/stable` of a repository, with settings of the node and of the app.
    async fn start(data: &Path, repository: RepositoryId, clock: &Hands, app: &[(&str, &str)]) -> Self {
        Self::start_with(data, repository, clock, &[&[("install", "stable")], app].concat(), &[]).await
    }

    /// A node that keeps the shop's payloads for others, and calls on another one.
    async fn kiosk(data: &Path, repository: RepositoryId, clock: &Hands, other: Option<&Self>) -> Self {
        let peers = other.map_or_else(String::new, |other| other.address().0);
        Self::start_with(data, repository, clock, &[], &[("collect", "true"), ("peers", &peers)]).await
    }

    async fn start_with(
        data: &Path,
        repository: RepositoryId,
        clock: &Hands,
        app: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Self {
        Self::start_beside(data, repository, &[], clock, app, settings).await
    }

    /// The same, of a node that follows other repositories too.
    async fn start_beside(
        data: &Path,
        repository: RepositoryId,
        others: &[RepositoryId],
        clock: &Hands,
        app: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Self {
        let mut resolved = Resolved::load(data).unwrap();
        resolved.set_app("shop", "repository", repository.to_string(), Source::Flag).unwrap();
        for (number, other) in others.iter().enumerate() {
            resolved.set_app(&format!("other-{number}"), "repository", other.to_string(), Source::Flag).unwrap();
        }
        for (name, value) in app {
            resolved.set_app("shop", name, (*value).to_owned(), Source::Flag).unwrap();
        }
        let quick = [("listen", "127.0.0.1"), ("mdns", "false"), ("tuning.sync_interval", "500ms")];
        for (name, value) in quick.iter().chain(settings) {
            resolved.set(name, (*value).to_owned(), Source::Flag).unwrap();
        }
        let (node, running) = Node::start_with_clock(resolved.settings().unwrap(), clock.clock()).await.unwrap();
        let facts = node.facts();
        Self { node, running, facts, heard: Vec::new(), data: data.to_owned() }
    }

    fn id(&self) -> NodeId {
        self.node.id()
    }

    fn address(&self) -> Address {
        let socket = self.node.listeners()[0];
        Address(format!("/ip4/{}/tcp/{}", socket.ip(), socket.port()))
    }

    /// Waits for a fact; others are passed over, and remembered.
    async fn hear<T>(&mut self, what: &str, wanted: impl Fn(&Fact) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let fact = self.facts.recv().await.expect("the node runs");
                let found = wanted(&fact);
                self.heard.push(fact);
                if let Some(found) = found {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, waiting).await;
        found.unwrap_or_else(|_| panic!("{what} was not heard: {:#?}", self.heard))
    }

    /// Waits until a version is active.
    async fn hear_active(&mut self, version: &str) {
        self.hear(&format!("{version} active"), |fact| match fact {
            Fact::Update { version: told, step: UpdateStep::Active, .. } if told == version => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits until the node says why it takes nothing.
    async fn hear_waiting(&mut self) -> String {
        self.hear("why nothing is taken", |fact| match fact {
            Fact::Waiting { why, .. } => Some(why.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until metadata of this timestamp version is believed, if that was not told before.
    async fn hear_verified(&mut self, version: u64) {
        let is = |fact: &Fact| matches!(fact, Fact::MetadataVerified { version: told, .. } if *told == version);
        if !self.heard.iter().any(is) {
            self.hear(&format!("metadata {version}"), |fact| is(fact).then_some(())).await;
        }
    }

    async fn hear_refused(&mut self, node: NodeId) -> (Lie, String) {
        self.hear("a refusal", |fact| match fact {
            Fact::PeerRefused { node: told, lie, why } if *told == node => Some((*lie, why.clone())),
            _ => None,
        })
        .await
    }

    /// As [`Device::hear_refused`], if it was not heard before.
    async fn hear_refused_if_new(&mut self, node: NodeId) {
        let heard = |fact: &Fact| matches!(fact, Fact::PeerRefused { node: told, .. } if *told == node);
        if !self.heard.iter().any(heard) {
            self.hear_refused(node).await;
        }
    }

    /// A stranger offers this pack; returns how it was refused for it, or that it was not: the stranger ends with
    /// garbage, which is told after all that it said before was judged.
    async fn judge(&mut self, repository: RepositoryId, pack: Vec<u8>) -> (Lie, String) {
        let rogue = Rogue::start(repository).await;
        rogue.meet(&self.address()).await;
        rogue.offer(pack).await;
        rogue.asked().await;
        rogue.say_garbage(self.id()).await;
        let verdict = self.hear_refused(rogue.id()).await;
        rogue.end().await;
        verdict
    }

    /// Nothing of this pack may be believed, whatever it is: neither what is on disk nor what is active changes.
    async fn refuses(&mut self, repository: RepositoryId, pack: Vec<u8>) -> (Lie, String) {
        let (trusted, active) = (self.trusted(), self.active().await);
        let verdict = self.judge(repository, pack).await;
        assert_eq!(self.trusted(), trusted, "{verdict:?}");
        assert_eq!(self.active().await, active, "{verdict:?}");
        verdict
    }

    async fn status(&self) -> Status {
        self.node.status().await.unwrap()
    }

    /// The active version.
    async fn active(&self) -> Option<String> {
        self.status().await.apps[0].active.as_ref().map(|active| active.version.clone())
    }

    /// The version of the timestamp that is believed.
    async fn version(&self) -> Option<u64> {
        self.status().await.repositories[0].version
    }

    /// The trusted metadata as it lies on disk, and what is current.
    fn trusted(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let metadata = self.data.join("metadata");
        let files = if metadata.is_dir() { listing(&metadata) } else { Vec::new() };
        let mut found: BTreeMap<PathBuf, Vec<u8>> = files
            .into_iter()
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        if let Ok(target) = fs::read_link(self.current()) {
            found.insert(self.current(), target.to_str().unwrap().as_bytes().to_vec());
        }
        found
    }

    fn current(&self) -> PathBuf {
        self.data.join("apps/shop/current")
    }

    async fn import(&self, shop: &shop::Shop) {
        self.node.import(shop.id(), shop.pack(), shop.payloads()).await.unwrap();
    }

    async fn stop(self) {
        self.node.shutdown().await;
        self.running.await.unwrap().unwrap();
    }
}

/// A payload and its file.
type PayloadFile = (Payload, PathBuf);

/// A scratch directory whose parts have names.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(scratch())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
