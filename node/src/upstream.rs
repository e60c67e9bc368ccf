//! Upstreams: directories on web servers that this node takes from when no peer has what it needs.
//!
//! ```text
//! URL/repositories/<repository>/metadata/...     looked at every `upstream.interval` and at each `burr check`
//! URL/blobs/<blob>                               asked for when peers brought nothing of it for a while
//! ```
//!
//! It is what a [gateway](crate::gateway) serves and `burr export` writes, on any server for static files. When, and what
//! next, is decided by [`burr_protocol::upstream`]; metadata is verified by the agent as any import, a payload by its hash
//! (`upstream/payload.rs`). One thing is asked for at a time, as the budgets for other sites permit.

mod payload;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use burr_protocol::{
    Hash, RepositoryId, Time,
    fact::Fact,
    receipt::last_words,
    trust::Verified,
    upstream::{Gather, LastResort, Next},
};
use tokio::{
    runtime::Handle,
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
    },
};

use crate::{
    error::{Error, Kind},
    http::client::Client,
    metrics::Beside,
    node::{Node, WeakNode},
    pace::{Hold, Pace},
};

/// Upstreams of one node at most.
pub const MAX_UPSTREAMS: usize = 16;
/// Where a node takes from as a last resort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Their addresses, without a slash at the end, in the order in which they are asked.
    pub urls: Vec<String>,
    /// PEM file of the authorities that alone vouch for them; those that browsers trust if there is none.
    pub ca: Option<PathBuf>,
    /// How often their metadata is looked at.
    pub interval: Duration,
}

/// Begins to take from upstreams, until the node ends.
///
/// # Errors
/// [`Kind::Config`] for authorities that can't be used, [`Kind::Storage`] if parts of payloads can't be kept.
pub(crate) async fn begin(
    node: &Node,
    data: &Path,
    settings: Settings,
    facts: broadcast::Receiver<Fact>,
) -> Result<(), Error> {
    let client = match &settings.ca {
        Some(path) => Client::trusting(path)?,
        None => Client::new(),
    };
    let parts = data.join("upstream");
    // What is in the store in part has its place there, whether it is fetched now or not.
    let partial = node.status().await?.blobs.into_iter().filter(|blob| blob.held < blob.size);
    payload::keep_only(&parts, &partial.map(|blob| blob.blob).collect())?;
    let (resort, started) = (LastResort::default(), Instant::now());
    let (node, checks) = (node.downgrade(), node.checks());
    // What was wanted before anybody listened is among what was missed.
    let taking = Taking { node, checks, settings, parts, client, resort, missed: true, started };
    tokio::spawn(taking.run(facts));
    Ok(())
}

struct Taking {
    node: WeakNode,
    /// Told of each `burr check`.
    checks: Arc<Notify>,
    settings: Settings,
    /// Where payloads are put together.
    parts: PathBuf,
    client: Client,
    resort: LastResort,
    /// Whether facts were missed.
    missed: bool,
    started: Instant,
}

impl Taking {
    async fn run(mut self, mut facts: broadcast::Receiver<Fact>) {
        let mut look = self.started;
        loop {
            if std::mem::take(&mut self.missed) && (self.catch_up().await.is_err() || self.count().await.is_err()) {
                return;
            }
            let wake = self.resort.wake_at().map_or(look, |at| look.min(self.started + Duration::from_millis(at.0)));
            tokio::select! {
                heard = facts.recv() => match heard {
                    Ok(fact) => {
                        self.resort.told(&fact, self.now());
                        if let Fact::FetchLeft { blob } = fact
                            && Pace::down(self.node.clone(), blob).begin().await == Err(Hold::Unwanted)
                        {
                            payload::discard(&self.parts, blob);
                        }
                    }
                    Err(RecvError::Lagged(_)) => self.missed = true,
                    Err(RecvError::Closed) => return,
                },
                () = self.checks.notified() => look = Instant::now(),
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= look {
                        if self.look().await.is_err() {
                            return;
                        }
                        look = Instant::now() + self.settings.interval;
                    }
                    if let Some((blob, size)) = self.resort.due(self.now()) {
                        match self.take(blob, size, &mut facts).await {
                            Ok(Taken::Over) => {
                                payload::discard(&self.parts, blob);
                                self.resort.forget(blob);
                            }
                            Ok(Taken::Later) => self.resort.later(blob, self.now()),
                            Ok(Taken::Failed) => self.resort.failed(blob, self.now()),
                            Err(_) => return,
                        }
                        if self.count().await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Counts what parts take of the disk.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    async fn count(&self) -> Result<(), Error> {
        self.node.upgrade()?.holds(Beside::Upstreams, payload::taken(&self.parts)).await;
        Ok(())
    }

    /// Looks at what is being fetched by now.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let fetched = self.node.upgrade()?.status().await?.blobs.into_iter().filter(|blob| blob.wanted);
        self.resort.fetched(&fetched.map(|blob| (blob.blob, blob.size)).collect::<Vec<_>>(), self.now());
        Ok(())
    }

    /// Looks for newer metadata of what the node follows.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    async fn look(&self) -> Result<(), Error> {
        let node = self.node.upgrade()?;
        let repositories: Vec<_> = node.status().await?.repositories.iter().map(|it| it.repository).collect();
        drop(node);
        for repository in repositories {
            for url in &self.settings.urls {
                let held = self.node.upgrade()?.catalog().await?.into_iter().find(|it| it.repository() == repository);
                let (client, base) = (self.client.clone(), url.clone());
                let gathered = tokio::task::spawn_blocking(move || gather(&client, &base, repository, held)).await;
                let node = self.node.upgrade()?;
                match gathered.map_err(|_| ended())? {
                    // Whether it is any good, the agent says.
                    Ok(Some(pack)) => node.import(repository, pack, Vec::new()).await?,
                    Ok(None) => {}
                    Err(error) => node.tell(failed(url, &error)).await?,
                }
            }
        }
        Ok(())
    }

    /// Takes a payload from the first upstream that has it, unless peers bring it first.
    ///
    /// # Errors
    /// [`Kind::Ended`] if the node ended.
    async fn take(&mut self, blob: Hash, size: u64, facts: &mut broadcast::Receiver<Fact>) -> Result<Taken, Error> {
        let pace = Pace::down(self.node.clone(), blob);
        for url in self.settings.urls.clone() {
            match pace.begin().await {
                Ok(()) => {}
                Err(Hold::Unwanted) => return Ok(Taken::Over),
                Err(Hold::Ended) => return Err(ended()),
                Err(hold) => {
                    tracing::info!(target: "burr", "what is fetched from web servers waits: {hold}");
                    return Ok(Taken::Later);
                }
            }
            let stop = Stop::default();
            let part = payload::Part { directory: self.parts.clone(), blob, size };
            let (client, from) = (self.client.clone(), format!("{url}/blobs/{blob}"));
            let allowance = payload::Allowance::new(pace.clone(), Handle::current(), Arc::clone(&stop.0));
            let mut getting = tokio::task::spawn_blocking(move || part.get(&client, &from, allowance));
            let got = loop {
                tokio::select! {
                    got = &mut getting => break got,
                    heard = facts.recv() => match heard {
                        Ok(Fact::FetchCompleted { blob: whole, .. }) if whole == blob => {
                            drop(stop);
                            // It ends with the next bytes.
                            let _ = getting.await;
                            return Ok(Taken::Over);
                        }
                        Ok(fact) => self.resort.told(&fact, self.now()),
                        Err(RecvError::Lagged(_)) => self.missed = true,
                        Err(RecvError::Closed) => return Err(ended()),
                    },
                }
            };
            let node = self.node.upgrade()?;
            let problem = match got.map_err(|_| ended())? {
                Ok(Some(path)) => match node.adopt(blob, size, &path).await {
                    Ok(()) => {
                        node.tell(Fact::UpstreamTook { url, blob, size }).await?;
                        return Ok(Taken::Over);
                    }
                    Err(error) => error,
                },
                Ok(None) => continue,
                // It was the node that had enough; what came is kept.
                Err(error) if error.kind() == Kind::Busy => {
                    tracing::info!(target: "burr", "what is fetched from {url} waits: {error}");
                    return Ok(Taken::Later);
                }
                Err(error) => error,
            };
            node.tell(failed(&url, &problem)).await?;
        }
        Ok(Taken::Failed)
    }
}

/// What came of a payload.
enum Taken {
    /// It is here, or nobody wants it any more.
    Over,
    /// It is not to be taken yet; what came of it is kept.
    Later,
    /// No upstream has it.
    Failed,
}

fn failed(url: &str, error: &Error) -> Fact {
    Fact::UpstreamFailed { url: url.to_owned(), why: last_words(&error.to_string()) }
}

/// A transfer that is left for later, or for ever.
fn held(hold: &Hold) -> Error {
    if *hold == Hold::Ended { ended() } else { Error::new(Kind::Busy, hold.to_string()) }
}

fn ended() -> Error {
    Error::new(Kind::Ended, "the node has ended")
}

/// Ends a transfer when it is dropped: nobody waits for it any more.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A newer pack of a repository, if the server has one; nobody verified it.
fn gather(
    client: &Client,
    base: &str,
    repository: RepositoryId,
    held: Option<Verified>,
) -> Result<Option<Vec<u8>>, Error> {
    let failed = |why: burr_protocol::upstream::NoPack| {
        Error::new(Kind::Network, format!("{base} has no repository {}", repository.short())).with_source(why)
    };
    let mut gather = Gather::new(held);
    loop {
        match gather.next().map_err(failed)? {
            Next::File { name, limit } => {
                let mut bytes = Vec::new();
                let url = format!("{base}/repositories/{repository}/metadata/{name}");
                let found = client.get(&url, limit as u64, &mut |part| {
                    bytes.extend_from_slice(part);
                    Ok(())
                })?;
                gather.give(found.then_some(bytes)).map_err(failed)?;
            }
            Next::Pack(pack) => return Ok(Some(pack)),
            Next::Nothing => return Ok(None),
        }
    }
}
