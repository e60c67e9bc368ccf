//! Upstreams: directories on web servers that this node takes from when no peer has what it needs.
//!
//! ```text
//! URL/repositories/<repository>/metadata/...     looked at every `upstream.interval` and at each `burr check`
//! URL/blobs/<blob>                               asked for when peers brought nothing of it for a while
//! ```
//!
//! It is what a [gateway](crate::gateway) serves and `burr export` writes, on any server for static files. When, and what
//! next, is decided by [`burr_protocol::upstream`]; metadata is verified by the agent as any import, a payload by its hash
//! (`upstream/payload.rs`). One thing is asked for at a time.

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
    trust::Verified,
    upstream::{Gather, LastResort, Next},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinHandle,
};

use crate::{
    error::{Error, Kind},
    http::client::Client,
    node::Node,
};

/// Upstreams of one node at most.
pub const MAX_UPSTREAMS: usize = 16;

/// Where a node takes from as a last resort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Their addresses, without a slash at the end, in the order in which they are asked.
    pub urls: Vec<String>,
    /// How often their metadata is looked at.
    pub interval: Duration,
}

/// Taking from upstreams, until it is dropped.
#[derive(Debug)]
pub struct Upstreams(JoinHandle<()>);

impl Upstreams {
    /// Begins, for a node that has the data directory `data`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Storage`] if parts of payloads can't be kept there.
    pub async fn open(node: Node, data: &Path, settings: Settings) -> Result<Self, Error> {
        let parts = data.join("upstream");
        let facts = node.facts();
        let wanted = node.status().await?.blobs.into_iter().filter(|blob| blob.held < blob.size);
        let wanted: Vec<_> = wanted.map(|blob| (blob.blob, blob.size)).collect();
        payload::keep_only(&parts, &wanted)?;
        let mut taking = Taking {
            node,
            settings,
            parts,
            client: Client::new(),
            resort: LastResort::default(),
            started: Instant::now(),
        };
        // What was wanted before anybody listened.
        for (blob, size) in wanted {
            taking.resort.told(&Fact::FetchStarted { blob, size, held: 0 }, Time(0));
        }
        Ok(Self(tokio::spawn(taking.run(facts))))
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Taking {
    node: Node,
    settings: Settings,
    /// Where payloads are put together.
    parts: PathBuf,
    client: Client,
    resort: LastResort,
    started: Instant,
}

impl Taking {
    async fn run(mut self, mut facts: broadcast::Receiver<Fact>) {
        let mut look = self.started;
        loop {
            let wake = self.resort.wake_at().map_or(look, |at| look.min(self.started + Duration::from_millis(at.0)));
            tokio::select! {
                heard = facts.recv() => match heard {
                    Ok(fact) => self.resort.told(&fact, self.now()),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                () = self.node.checked() => look = Instant::now(),
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= look {
                        self.look().await;
                        look = Instant::now() + self.settings.interval;
                    }
                    if let Some((blob, size)) = self.resort.due(self.now()) {
                        self.take(blob, size, &mut facts).await;
                    }
                }
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Looks for newer metadata of what the node follows.
    async fn look(&self) {
        let (Ok(status), Ok(catalog)) = (self.node.status().await, self.node.catalog().await) else { return };
        for repository in status.repositories.iter().map(|it| it.repository) {
            let mut held = catalog.iter().find(|held| held.repository() == repository).cloned();
            for url in &self.settings.urls {
                let (client, base, known) = (self.client.clone(), url.clone(), held.clone());
                let gathered = tokio::task::spawn_blocking(move || gather(&client, &base, repository, known)).await;
                match gathered {
                    Ok(Ok(Some(pack))) => {
                        // Whether it is any good, the agent says.
                        if self.node.import(repository, pack, Vec::new()).await.is_err() {
                            return;
                        }
                        let Ok(catalog) = self.node.catalog().await else { return };
                        held = catalog.into_iter().find(|held| held.repository() == repository);
                    }
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => tracing::info!(target: "burr", "upstream: {error}"),
                    Err(_) => return,
                }
            }
        }
    }

    /// Takes a payload from the first upstream that has it, unless peers bring it first.
    async fn take(&mut self, blob: Hash, size: u64, facts: &mut broadcast::Receiver<Fact>) {
        let Ok(status) = self.node.status().await else { return };
        if !status.blobs.iter().any(|held| held.blob == blob && held.held < held.size) {
            return self.resort.forget(blob);
        }
        for url in self.settings.urls.clone() {
            let stop = Stop::default();
            let part = payload::Part { directory: self.parts.clone(), blob, size };
            let (client, from, stopped) = (self.client.clone(), format!("{url}/blobs/{blob}"), Arc::clone(&stop.0));
            let mut getting = tokio::task::spawn_blocking(move || part.get(&client, &from, &stopped));
            let got = loop {
                tokio::select! {
                    got = &mut getting => break got,
                    heard = facts.recv() => match heard {
                        Ok(Fact::FetchCompleted { blob: whole, .. }) if whole == blob => {
                            drop(stop);
                            // It ends with the next bytes.
                            let _ = getting.await;
                            payload::discard(&self.parts, blob);
                            return self.resort.forget(blob);
                        }
                        Ok(fact) => self.resort.told(&fact, self.now()),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    },
                }
            };
            match got {
                Ok(Ok(Some(path))) => {
                    tracing::info!(target: "burr", "upstream: took {} ({size} bytes) from {url}", blob.short());
                    return match self.node.adopt(blob, size, &path).await {
                        Ok(()) => {
                            payload::discard(&self.parts, blob);
                            self.resort.forget(blob);
                        }
                        Err(error) => {
                            tracing::warn!(target: "burr", "upstream: {error}");
                            self.resort.failed(blob, self.now());
                        }
                    };
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(target: "burr", "upstream: {error}"),
                Err(_) => return,
            }
        }
        self.resort.failed(blob, self.now());
    }
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
