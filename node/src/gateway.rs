//! The gateway: what a node gives to those who speak HTTP and nothing of Burr's own.
//!
//! ```text
//! curl, a CDN, nginx, another site's mirror ─▶ /blobs, /repositories        static files (`gateway/repository.rs`)
//! an app with Capgo's plugin                ─▶ /updates                     which bundle is for it (`gateway/updates.rs`)
//!                                              /bundles                     the bundle (`gateway/bundles.rs`)
//!                                              /stats                       reports (`gateway/stats.rs`)
//!                                              /channel_self                channels (`gateway/channels.rs`)
//! ```
//!
//! What an app is offered is decided by [`burr_protocol::gateway`], from the node's verified catalog, laid out in a view
//! (`gateway/view.rs`) that is made anew when the catalog changes: a check for updates reads memory alone. Everything
//! that goes out was verified on its way in. Every request is bounded in bytes and time, each address in its rate, and
//! all of them in their number. What is reported is on disk before it is answered.

mod bundles;
mod channels;
mod flood;
mod ready;
mod repository;
mod request;
mod stats;
mod tls;
mod updates;
mod view;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use burr_protocol::{
    Hash, RepositoryId,
    gateway::{Assigned, Declined, Report},
};
use hyper::{Method, Request, StatusCode, body::Incoming, header};
use serde_json::json;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};

use crate::{
    error::Error,
    http::{
        self,
        answer::{self, Reply},
        server::{self, Room},
    },
    node::Node,
    pace::Pace,
};
use bundles::Bundles;
use flood::Flood;
use view::View;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 4096;
/// Connections of one address at a time; a proxy has as many as there are.
const MAX_PER_ADDRESS: usize = 64;

/// Bytes that must move on a connection in a minute: an update check is more.
const MIN_MOVED: u64 = 512;

/// Seconds after which it is worth asking again for what the budget does not let go.
const NO_BUDGET: u64 = 60;

/// Devices that choose a channel at the same time, at most, without waiting for another.
const TURNS: usize = 64;

/// How a gateway is reached, and what it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who protects the connection.
    pub transport: Transport,
    /// Its address as devices know it, where that is not what they say in their requests: no slash at the end.
    pub url: Option<String>,
    /// Requests a second that one address may make, averaged over ten seconds.
    pub rate: u32,
    /// The channel of devices that neither chose one nor are configured with one.
    pub channel: String,
    /// Whether devices may choose their channel.
    pub self_assign: bool,
    /// Bytes of disk that bundles in the form for apps may take: their zips, and their files.
    pub quota: u64,
    /// The apps whose devices may ask.
    pub serves: Vec<Serves>,
}

/// Who protects a connection to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// The gateway itself.
    Tls {
        /// PEM file of the certificate chain.
        certificate: PathBuf,
        /// PEM file of its private key.
        key: PathBuf,
    },
    /// A proxy in front of it, which says whom it forwards for in `X-Forwarded-For`.
    Proxy,
    /// Nobody: for a LAN.
    Plain,
}

/// An app whose devices may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serves {
    /// The app, as Burr names it.
    pub app: String,
    /// The app's id, as its devices name it.
    pub id: String,
    /// Whose releases.
    pub repository: RepositoryId,
}

/// A gateway that serves until it is dropped.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Gateway {
    /// Opens the gateway of a node that has the data directory `data`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::PortInUse`](crate::Kind) or `Network` if the address can't be listened on, `Config` for a certificate or
    /// key that can't be used, `Storage` for the disk, `Ended` if the node ended.
    pub async fn open(node: Node, data: &Path, settings: Settings) -> Result<Self, Error> {
        let tls = match &settings.transport {
            Transport::Tls { certificate, key } => Some(tls::acceptor(certificate, key)?),
            Transport::Proxy | Transport::Plain => None,
        };
        let (listener, address) = http::listen(settings.listen, "gateway.listen").await?;
        let per_address = if settings.transport == Transport::Proxy { MAX_CONNECTIONS } else { MAX_PER_ADDRESS };
        let mut assigned = Assigned::default();
        for (app, device, channel) in node.assigned().await? {
            assigned.set(&app, &device, Some(channel));
        }
        let shared = Arc::new(Shared {
            flood: Flood::new(settings.rate),
            view: RwLock::default(),
            bundles: Arc::new(Bundles::open(data)?),
            assigned: RwLock::new(assigned),
            turns: [const { Mutex::const_new(()) }; TURNS],
            node,
            settings,
        });
        let facts = shared.node.facts();
        ready::show(&shared, &shared.node.catalog().await?, &shared.node.halted().await?);
        let followed = tokio::spawn(ready::follow(Arc::clone(&shared), facts));
        let room = Room { connections: MAX_CONNECTIONS, per_address, least: MIN_MOVED };
        let served = tokio::spawn(server::run(listener, tls, room, move |request, from| {
            let shared = Arc::clone(&shared);
            async move { shared.answer_within_rate(request, from).await }
        }));
        Ok(Self { address, tasks: [followed, served] })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    node: Node,
    settings: Settings,
    flood: Flood,
    view: RwLock<Arc<View>>,
    bundles: Arc<Bundles>,
    /// The channels that devices chose, as they are on disk.
    assigned: RwLock<Assigned>,
    turns: [Mutex<()>; TURNS],
}

impl Shared {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The gateway's address, as the client knows it; `None` if the client does not say so properly.
    fn base(&self, request: &Request<Incoming>) -> Option<String> {
        self.settings.url.clone().or_else(|| request::base(request, &self.settings.transport))
    }

    /// Waits until no other choice of this device is under way, and for as long as the guard lives.
    async fn turn(&self, device: &str) -> MutexGuard<'_, ()> {
        let turn = Hash::of(device.as_bytes()).0[0];
        self.turns[usize::from(turn) % TURNS].lock().await
    }

    /// Gives a device's report to the node, which writes it down.
    ///
    /// # Errors
    /// The answer, if it is not taken.
    async fn report(&self, report: Report) -> Result<(), Reply> {
        let declined = match self.node.report(report).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(declined)) => declined,
            Err(_) => Declined::Busy,
        };
        let (status, error) = match declined {
            Declined::UnknownApp => (StatusCode::NOT_FOUND, "app_not_found"),
            Declined::BadDevice => (StatusCode::BAD_REQUEST, "invalid_device_id"),
            Declined::UnknownChannel => (StatusCode::NOT_FOUND, "channel_not_found"),
            Declined::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Declined::Storage => (StatusCode::SERVICE_UNAVAILABLE, "storage_failed"),
        };
        Err(failure(status, error, &declined.to_string()))
    }

    async fn answer_within_rate(&self, request: Request<Incoming>, from: SocketAddr) -> Reply {
        let address = match self.settings.transport {
            Transport::Proxy => request::forwarded_for(request.headers()).unwrap_or(from.ip()),
            Transport::Tls { .. } | Transport::Plain => from.ip(),
        };
        match self.flood.take(address, Instant::now()) {
            Ok(()) => self.answer(request, is_near(address)).await,
            Err(seconds) => {
                let message = "too many requests from this address";
                let mut reply = failure(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
                reply.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
                reply
            }
        }
    }

    /// What counts the bytes of a payload, or of what was made of it, before they go to a client.
    ///
    /// # Errors
    /// The answer, if the budget lets none go now.
    async fn pace(&self, request: &Request<Incoming>, blob: Hash, near: bool) -> Result<Pace, Reply> {
        let pace = Pace::up(self.node.downgrade(), blob, near);
        if *request.method() == Method::HEAD {
            return Ok(pace);
        }
        let Err(hold) = pace.begin().await else { return Ok(pace) };
        let mut reply = failure(StatusCode::SERVICE_UNAVAILABLE, "no_budget", &hold.to_string());
        reply.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(NO_BUDGET));
        Err(reply)
    }

    /// Answers a request whose sender is within its rate, and of this site or not.
    async fn answer(&self, request: Request<Incoming>, near: bool) -> Reply {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        let posting = *request.method() == Method::POST;
        match parts.as_slice() {
            ["blobs", blob] if reading => repository::blob(self, &request, blob, near).await,
            ["repositories", repository, "metadata", name] if reading => {
                repository::document(&self.view(), &request, repository, name)
            }
            ["repositories", repository, "targets", "app", rest @ ..] if reading => {
                repository::target(self, &request, repository, &format!("app/{}", rest.join("/")), near).await
            }
            ["bundles", name] if reading => updates::zip(self, &request, name, near).await,
            ["bundles", bundle, sha256] if reading => updates::file(self, &request, bundle, sha256, near).await,
            ["updates"] if posting => updates::check(self, request).await,
            ["updates", "manifest_size"] if posting => updates::sizes(self, request).await,
            ["stats"] if posting => stats::take(self, request).await,
            ["channel_self"] => channels::answer(self, request).await,
            ["blobs" | "repositories" | "bundles", ..] if !reading => not_allowed("GET, HEAD"),
            ["updates" | "stats", ..] if !posting => not_allowed("POST"),
            _ => failure(StatusCode::NOT_FOUND, "not_found", "there is nothing under this path"),
        }
    }
}

/// Whether an address is one of a private network: what goes there is taken to cross no uplink.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// An error as the plugin takes it, for a program and for people.
fn failure(status: StatusCode, error: &str, message: &str) -> Reply {
    answer::json(status, &json!({ "error": error, "message": message, "kind": "failed" }))
}

fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = failure(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes other methods");
    reply.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(methods));
    reply
}
