//! A node in this process: what `burr run` is, and what an app embeds.
//!
//! [`Node::start`] opens the data directory, the store and the mesh and lets the [driver](crate::driver) run; the
//! handle asks it things. Dropping the handle ends the node; [`Node::shutdown`] does so in good order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use burr_protocol::{
    Hash, NodeId, RepositoryId,
    action::Wish,
    config::Choice,
    fact::Fact,
    fetch::PieceMap,
    gateway::{Declined, Report},
    policy::explain::{Explanation, NoAnswer, Question},
    receipt::Receipt,
    record::ReleaseId,
    release::Payload,
    rules::Tally,
    standing::{Standing, standings},
    status::Status,
    trust::Verified,
    update::Refused,
};
use tokio::{
    sync::{Notify, broadcast, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    clock::Clock,
    condition::{self, Said},
    driver::{self, Ask},
    error::{Error, Kind},
    identity,
    metrics::Beside,
    pace::{Carried, Hold},
    settings::{Settings, device},
    store::{blobs::Blobs, home::Home},
    upstream,
};

/// Facts that a slow listener may lag behind; then it misses the oldest.
const MAX_FACTS: usize = 4096;
/// Questions that wait for the driver; then the asker waits.
const MAX_ASKS: usize = 64;

/// A running node. It ends by itself when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: NodeId,
    listeners: Vec<SocketAddr>,
    blobs: Blobs,
    asks: mpsc::Sender<Ask>,
    facts: broadcast::Sender<Fact>,
    clock: Clock,
    /// Told of each check.
    checks: Arc<Notify>,
    /// The data directory, for whoever has the turn to choose something there.
    choosing: tokio::sync::Mutex<PathBuf>,
    /// Hears from the start, for the first who asks.
    from_start: Mutex<Option<broadcast::Receiver<Fact>>>,
}

/// A handle for the node's own tasks, which does not keep it running.
#[derive(Debug, Clone)]
pub(crate) struct WeakNode(Weak<Inner>);

impl WeakNode {
    /// The node, for one question.
    ///
    /// # Errors
    /// [`Kind::Ended`] if it ended.
    pub(crate) fn upgrade(&self) -> Result<Node, Error> {
        self.0.upgrade().map(Node).ok_or_else(|| Error::new(Kind::Ended, "the node has ended"))
    }
}

/// The node's own task: ends when the node does, with what stopped it.
pub type Running = JoinHandle<Result<(), Error>>;

impl Node {
    /// Starts a node on `settings.data`, which it has for itself until it ends, with the upstreams and the
    /// measuring of its settings.
    /// [`Gateway`](crate::gateway::Gateway), [metrics](crate::metrics::http) and [control](crate::control) over HTTP are
    /// opened by whoever starts it. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another process has the data directory, [`Kind::NewerFormat`] if a newer Burr wrote it,
    /// [`Kind::Storage`] if the disk can't be used, [`Kind::PortInUse`] or [`Kind::Network`] if the network can't.
    pub async fn start(settings: Settings) -> Result<(Self, Running), Error> {
        Self::start_with_clock(settings, Clock::system()).await
    }

    /// As [`Node::start`], with another time of day than the machine's.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with_clock(settings: Settings, clock: Clock) -> Result<(Self, Running), Error> {
        // All that is opened is much to carry around in whoever waits.
        Box::pin(Self::open(settings, clock)).await
    }

    async fn open(settings: Settings, clock: Clock) -> Result<(Self, Running), Error> {
        let home = Home::open(&settings.data)?;
        let key = identity::load_or_make(home.path())?;
        let (facts, from_start) = broadcast::channel(MAX_FACTS);
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        let data = home.path().to_owned();
        let (upstream, measures) = (settings.upstream.clone(), settings.conditions.clone());
        let driver = driver::Driver::open(home, key, settings, clock.clone(), facts.clone(), asked).await?;
        let (id, listeners, blobs) = (driver.id(), driver.listeners(), driver.blobs());
        let choosing = tokio::sync::Mutex::new(data.clone());
        let heard = facts.subscribe();
        let task = tokio::spawn(driver.run());
        let from_start = Mutex::new(Some(from_start));
        let checks = Arc::default();
        let node = Self(Arc::new(Inner { id, listeners, blobs, asks, facts, clock, checks, choosing, from_start }));
        if let Some(settings) = measures {
            condition::begin(&node, &data, settings);
        }
        if let Some(settings) = upstream {
            upstream::begin(&node, &data, settings, heard).await?;
        }
        Ok((node, task))
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Where it listens, for QUIC and TCP alike.
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.0.listeners
    }

    /// What happens from now on; for the first listener, from the node's start. A listener that lags is told how much
    /// it missed.
    #[must_use]
    pub fn facts(&self) -> broadcast::Receiver<Fact> {
        let first = self.0.from_start.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.0.facts.subscribe())
    }

    /// How the node stands.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn status(&self) -> Result<Status, Error> {
        self.ask(Ask::Status).await
    }

    /// How the node stands and what happened since its start, in Prometheus' text format: the
    /// [`METRICS`](crate::metrics::METRICS).
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn metrics(&self) -> Result<String, Error> {
        self.ask(Ask::Metrics).await
    }

    /// All receipts that are kept here, own, carried and collected.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn receipts(&self) -> Result<Vec<Receipt>, Error> {
        self.ask(Ask::Receipts).await
    }

    /// How the releases of each followed repository stand with the devices, counted from the receipts that are here.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn releases(&self) -> Result<Vec<Standing>, Error> {
        let (catalog, receipts) = (self.catalog().await?, self.receipts().await?);
        let clock = self.0.clock.wall().unwrap_or_default();
        let count = move || {
            let of = |verified: &Verified| standings(verified, &receipts, clock.max(verified.issued()));
            catalog.iter().flat_map(of).collect()
        };
        tokio::task::spawn_blocking(count).await.map_err(|_| Error::new(Kind::Ended, "the node has ended"))
    }

    /// Why a device takes a release, or does not, as far as this node knows.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if app, release or device is not known here, [`Kind::Ended`] if the node ended.
    pub async fn explain(&self, question: Question) -> Result<Explanation, Error> {
        let answer = self.ask(|done| Ask::Explain { question, done }).await?;
        answer.map_err(|why| {
            let hint = match why {
                NoAnswer::Device(_) | NoAnswer::Ambiguous(_) => "`burr receipts` shows the devices that reported",
                NoAnswer::Release { .. } => "`burr releases` shows the newest of each channel",
                NoAnswer::App(_) | NoAnswer::Metadata(_) | NoAnswer::NotInstalled(_) => {
                    "`burr status` shows what this node follows and installs"
                }
            };
            Error::new(Kind::BadInput, why.to_string()).with_hint(hint)
        })
    }

    /// Chooses another channel or version of an app, or other attributes: from now on, and after each restart.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for what can't be chosen, [`Kind::Storage`] or [`Kind::Config`] if it can't be noted,
    /// [`Kind::Ended`] if the node ended.
    pub async fn choose(&self, choice: Choice) -> Result<(), Error> {
        let data = self.0.choosing.lock().await;
        self.choose_in(&data, choice).await
    }

    /// Changes some of the device's attributes, as [`Node::choose`]; returns all.
    ///
    /// # Errors
    /// As [`Node::choose`].
    pub async fn change_attributes(
        &self,
        set: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        let data = self.0.choosing.lock().await;
        let before = self.status().await?.attributes;
        let mut attributes = before.clone();
        attributes.extend(set);
        attributes.retain(|name, _| !remove.contains(name));
        if attributes != before {
            self.choose_in(&data, Choice::Attributes(attributes.clone())).await?;
        }
        Ok(attributes)
    }

    async fn choose_in(&self, data: &Path, choice: Choice) -> Result<(), Error> {
        let bad = |words: String| Error::new(Kind::BadInput, words);
        choice.check().map_err(|error| bad(error.to_string()))?;
        if let Choice::Attributes(attributes) = &choice
            && attributes.values().any(|value| value.contains(char::is_whitespace))
        {
            return Err(bad("the value of an attribute has no blanks".to_owned()));
        }
        let (data, noted) = (data.to_owned(), choice.clone());
        let noting = tokio::task::spawn_blocking(move || device::note(&data, noted)).await;
        noting.map_err(|_| Error::new(Kind::Ended, "the node has ended"))??;
        tracing::info!(target: "burr", "chosen at the device: {choice}");
        self.ask(|done| Ask::Choose { choice, done }).await
    }

    /// The newest metadata of each followed repository, verified.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn catalog(&self) -> Result<Vec<Verified>, Error> {
        self.ask(Ask::Catalog).await
    }

    /// The releases that halt by their own rules, by what is known here.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn halted(&self) -> Result<BTreeMap<ReleaseId, Tally>, Error> {
        self.ask(Ask::Halted).await
    }

    /// The channels that devices behind this node's gateway chose: app, device, channel.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn assigned(&self) -> Result<Vec<(String, String, String)>, Error> {
        self.ask(Ask::Assigned).await
    }

    /// Takes in what a device behind this node's gateway reports; the answer comes when it is on disk.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn report(&self, report: Report) -> Result<Result<(), Declined>, Error> {
        self.ask(|done| Ask::Report { report, done }).await
    }

    /// What this node holds of payloads.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// The app says that its new version works. Counts while it is on trial and waits for this call.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn confirm(&self, app: &str) -> Result<(), Error> {
        let app = app.to_owned();
        self.ask(|done| Ask::Confirm { app, done }).await
    }

    /// Switches to what is staged of an app, whatever it waits for.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn apply(&self, app: &str) -> Result<(), Error> {
        let app = app.to_owned();
        self.ask(|done| Ask::Apply { app, done }).await
    }

    /// Says how the device stands, for what its settings and releases ask. Until it is said, nobody uses it, and nothing
    /// else is known. It holds until something else is said, it is taken back, or the node ends.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if nothing is said, or a battery above 100 %, [`Kind::Ended`] if the node ended.
    pub async fn say(&self, said: Said) -> Result<(), Error> {
        if said == Said::default() {
            return Err(Error::new(Kind::BadInput, "nothing is said: busy, power, battery, metered or forget"));
        }
        if let Some(battery) = said.battery.filter(|battery| *battery > 100) {
            return Err(Error::new(Kind::BadInput, format!("a battery can't be at {battery} %; say 0 to 100")));
        }
        self.ask(|done| Ask::Condition { said, done }).await
    }

    /// Puts the release of an app that is under way off, for so long from now.
    ///
    /// # Errors
    /// [`Kind::Busy`] if something is under way that can't be left, [`Kind::BadInput`] if it is not to be,
    /// [`Kind::Storage`] if it can't be written down, [`Kind::Ended`] if the node ended.
    pub async fn defer(&self, app: &str, time: Duration) -> Result<(), Error> {
        self.wish(app, Wish::Defer(time)).await
    }

    /// Goes back to an app's last good version, and stays there until [`Node::retry`].
    ///
    /// # Errors
    /// As [`Node::defer`].
    pub async fn roll_back(&self, app: &str) -> Result<(), Error> {
        self.wish(app, Wish::RollBack).await
    }

    /// Tries again what failed of an app, and ends a stay.
    ///
    /// # Errors
    /// As [`Node::defer`].
    pub async fn retry(&self, app: &str) -> Result<(), Error> {
        self.wish(app, Wish::Retry).await
    }

    async fn wish(&self, app: &str, wish: Wish) -> Result<(), Error> {
        let app = app.to_owned();
        let granted = self.ask(|done| Ask::Wish { app, wish, done }).await?;
        granted.map_err(|refused| {
            let kind = match refused {
                Refused::Busy(_) => Kind::Busy,
                Refused::Storage(_) => Kind::Storage,
                _ => Kind::BadInput,
            };
            Error::new(kind, refused.to_string())
        })
    }

    /// Sets one of the agent's settings from now on, until the node ends; returns false if it is one that holds from the
    /// next start on only.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be that, [`Kind::Ended`] if the node ended.
    pub async fn set(&self, name: &str, text: &str) -> Result<bool, Error> {
        let (name, text) = (name.to_owned(), text.to_owned());
        self.ask(|done| Ask::Set { name, text, done }).await?
    }

    /// Looks for news now: asks every peer what it holds, and dials those that are not connected.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    pub async fn check(&self) -> Result<(), Error> {
        self.0.checks.notify_one();
        self.ask(Ask::Check).await
    }

    /// Told of each [`Node::check`].
    pub(crate) fn checks(&self) -> Arc<Notify> {
        Arc::clone(&self.0.checks)
    }

    /// A handle that does not keep the node running.
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.0))
    }

    /// Counts bytes of a blob that are about to go by HTTP, if `least` of them may: how many, `most` at most.
    pub(crate) async fn carry(&self, carried: Carried, least: u64, most: u64) -> Result<Result<u64, Hold>, Error> {
        self.ask(|done| Ask::Carry { carried, least, most, done }).await
    }

    /// Bytes that were counted so did not go.
    pub(crate) async fn not_carried(&self, carried: Carried, bytes: u64) {
        // Where the node has ended, nothing counts any more.
        let _ = self.0.asks.send(Ask::NotCarried { carried, bytes }).await;
    }

    /// Files beside the store take so many bytes of disk.
    pub(crate) async fn holds(&self, which: Beside, bytes: u64) {
        // Where the node has ended, nobody asks.
        let _ = self.0.asks.send(Ask::Holds(which, bytes)).await;
    }

    /// What the owner's command measured of the device's condition; or why it is not known.
    pub(crate) async fn measured(&self, measured: Result<Said, String>) -> Result<(), Error> {
        let asked = self.0.asks.send(Ask::Measured(measured)).await;
        asked.map_err(|_| Error::new(Kind::Ended, "the node has ended"))
    }

    /// Tells what one of the node's own tasks met.
    pub(crate) async fn tell(&self, fact: Fact) -> Result<(), Error> {
        self.0.asks.send(Ask::Tell(fact)).await.map_err(|_| Error::new(Kind::Ended, "the node has ended"))
    }

    /// Takes a payload that lies in a file into the store, and removes the file.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if it is another payload, [`Kind::Storage`] if it can't be read or written, [`Kind::Ended`] if
    /// the node ended.
    pub(crate) async fn adopt(&self, blob: Hash, size: u64, path: &Path) -> Result<(), Error> {
        self.0.blobs.adopt(blob, path).await?;
        self.ask(|done| Ask::Held { blob, size, done }).await?;
        std::fs::remove_file(path).map_err(|error| Error::file("remove", path, error))
    }

    /// Takes in a repository's metadata and payload files, which stay where they lie.
    ///
    /// # Errors
    /// [`Kind::Storage`] if a payload can't be read, [`Kind::BadInput`] if it is another, [`Kind::Ended`] if the node ended. Whether the metadata is good
    /// is told as a [`Fact`].
    pub async fn import(
        &self,
        repository: RepositoryId,
        pack: Vec<u8>,
        payloads: Vec<(Payload, PathBuf)>,
    ) -> Result<(), Error> {
        // Here, and not in the driver: to read a large payload takes seconds, in which everything else goes on.
        for (Payload { blob, size }, path) in payloads {
            if self.blobs().held(blob, size).await? != PieceMap::All && self.blobs().import(&path).await?.hash != blob {
                let words = format!("{} is not the payload that its release names", path.display());
                return Err(Error::new(Kind::BadInput, words).with_hint("publish the version again"));
            }
            self.ask(|done| Ask::Held { blob, size, done }).await?;
        }
        self.ask(|done| Ask::Import { repository, pack, done }).await
    }

    /// Ends the node in good order: what is under way is written down, connections are closed.
    pub async fn shutdown(&self) {
        // An answer or the end of the task: either way it is over.
        let _ = self.ask(Ask::Shutdown).await;
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Error> {
        let ended = || Error::new(Kind::Ended, "the node has ended");
        let (done, answer) = oneshot::channel();
        self.0.asks.send(make(done)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}
