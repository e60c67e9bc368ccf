//! Local control: how `burr status`, `burr publish` and others talk to the node that runs on a data directory, and how
//! apps on the device do, over HTTP (`control/http.rs`). The same [`Request`]s either way, and one place that answers.
//!
//! A Unix socket `control.sock` in the data directory, which only its owner can open. One JSON request a line, one
//! JSON answer a line: `{"ok": ...}` or `{"error": ..., "kind": ..., "hint": ...}`. `{"do":"facts"}` answers with a line
//! for each fact from then on, until the client goes.

mod events;
pub mod http;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream as BlockingStream,
    path::{Path, PathBuf},
    time::Duration,
};

use burr_protocol::{config::Choice, policy::explain::Question, release::Release, trust::Verified};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::broadcast::error::RecvError,
};

use crate::{
    condition::Said,
    error::{Error, Kind},
    node::Node,
    publisher::Publisher,
};

/// Bytes of a request at most.
const MAX_REQUEST: u64 = 64 << 10;
/// Clients at a time; more are turned away.
const MAX_CLIENTS: usize = 64;
/// How long a client may take to say or to take something.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is waited after a connection that could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long a client waits for an answer: an import reads a whole payload.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// A [`Status`](burr_protocol::status::Status) and where the node listens: an [`Overview`].
    Status,
    /// The [metrics](crate::metrics), as one text.
    Metrics,
    /// All [`Receipt`](burr_protocol::receipt::Receipt)s.
    Receipts,
    /// A [`Standing`](burr_protocol::standing::Standing) of each release.
    Releases,
    /// Why a device takes a release: an [`Explanation`](burr_protocol::policy::explain::Explanation).
    Explain(Question),
    /// Install an app from another channel from now on.
    SetChannel {
        /// The app.
        app: String,
        /// The channel.
        channel: String,
    },
    /// Take one version of an app alone.
    Pin {
        /// The app.
        app: String,
        /// The version; any if there is none.
        version: Option<String>,
    },
    /// Change attributes of the device: answered with all of them.
    Attributes {
        /// Those that have another value from now on.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// Those that the device has no longer.
        #[serde(default)]
        remove: Vec<String>,
    },
    /// Look for news now.
    Check,
    /// The app works.
    Confirm {
        /// Which.
        app: String,
    },
    /// What is staged of an app is to be switched to now.
    Apply {
        /// Which.
        app: String,
    },
    /// The release of an app that is under way is to be put off.
    Defer {
        /// Which app.
        app: String,
        /// For how long from now, in seconds.
        seconds: u64,
    },
    /// A setting is another from now on; answers whether it holds at once, or from the next start on.
    Set {
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// An app is to go back to its last good version, and to stay there.
    Rollback {
        /// Which.
        app: String,
    },
    /// What failed of an app is to be tried again, and a stay ends.
    Retry {
        /// Which.
        app: String,
    },
    /// What the device says of its condition; what is not said stays.
    Device(Said),
    /// The publisher's repository of this app on the same data directory has something new.
    Import {
        /// Which.
        app: String,
    },
    /// Every [`Fact`](burr_protocol::fact::Fact) from now on.
    Facts,
}

/// The answer to [`Request::Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Overview {
    /// Where the node listens.
    pub listeners: Vec<std::net::SocketAddr>,
    /// The agent's state.
    #[serde(flatten)]
    pub status: burr_protocol::status::Status,
}

fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Makes the socket of a data directory, which this process must have for itself. Needs a tokio runtime.
///
/// From here on clients can ask; they are answered by [`serve`].
///
/// # Errors
/// [`Kind::Storage`] if the socket can't be made.
pub fn listen(data: &Path) -> Result<UnixListener, Error> {
    let path = socket(data);
    // The data directory is locked, so a socket that is there belongs to nobody.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("replace", &path, error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|error| {
        Error::file("listen on", &path, error).with_hint("the path may be too long for a socket; use a shorter --data")
    })?;
    owner_only(&path).map_err(|error| Error::file("protect", &path, error))?;
    Ok(listener)
}

/// Answers clients until the future is dropped.
pub async fn serve(listener: UnixListener, node: Node, data: PathBuf) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others give theirs back.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = std::sync::Arc::clone(&places).try_acquire_owned() else { continue };
        let (node, data) = (node.clone(), data.clone());
        tokio::spawn(async move {
            // A client that goes away or is too slow ends its own connection.
            let _ = client(stream, node, data).await;
            drop(place);
        });
    }
}

fn owner_only(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

async fn client(stream: UnixStream, node: Node, data: PathBuf) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(MAX_REQUEST);
        if tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        match serde_json::from_slice(&line) {
            Ok(Request::Facts) => return facts(&node, &mut reader, &mut writer).await,
            Ok(request) => {
                let answer = match answer(&node, &data, request).await {
                    Ok(value) => json!({ "ok": value }),
                    Err(error) => json!({ "error": error.to_string(), "kind": error.kind(), "hint": error.hint() }),
                };
                say(&mut writer, &answer).await?;
            }
            Err(error) => {
                return say(&mut writer, &json!({ "error": format!("not a request: {error}") })).await;
            }
        }
    }
}

async fn say(writer: &mut tokio::net::unix::OwnedWriteHalf, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, writer.write_all(&line)).await?
}

/// Tells facts until the client goes, which shows at its end of the stream: a node may be silent for long.
async fn facts(
    node: &Node,
    reader: &mut tokio::io::BufReader<tokio::net::unix::OwnedReadHalf>,
    writer: &mut tokio::net::unix::OwnedWriteHalf,
) -> io::Result<()> {
    let mut facts = node.facts();
    say(writer, &json!({ "ok": null })).await?;
    loop {
        let heard = tokio::select! {
            heard = facts.recv() => heard,
            _ = reader.fill_buf() => return Ok(()),
        };
        match heard {
            Ok(fact) => say(writer, &fact).await?,
            Err(RecvError::Lagged(missed)) => say(writer, &json!({ "missed": missed })).await?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn answer(node: &Node, data: &Path, request: Request) -> Result<Value, Error> {
    let value = |value: serde_json::Result<Value>| value.expect("our own types are JSON");
    match request {
        Request::Status => {
            let overview = Overview { listeners: node.listeners().to_vec(), status: node.status().await? };
            Ok(value(serde_json::to_value(overview)))
        }
        Request::Metrics => node.metrics().await.map(Value::String),
        Request::Receipts => Ok(value(serde_json::to_value(node.receipts().await?))),
        Request::Releases => Ok(value(serde_json::to_value(node.releases().await?))),
        Request::Explain(question) => Ok(value(serde_json::to_value(node.explain(question).await?))),
        Request::SetChannel { app, channel } => {
            must_be_installed(node, &app).await?;
            must_have_channel(node, &app, &channel).await?;
            node.choose(Choice::Channel { app, channel }).await.map(|()| Value::Null)
        }
        Request::Pin { app, version } => {
            must_be_installed(node, &app).await?;
            node.choose(Choice::Pin { app, version }).await.map(|()| Value::Null)
        }
        Request::Attributes { set, remove } => {
            Ok(value(serde_json::to_value(node.change_attributes(set, &remove).await?)))
        }
        Request::Check => node.check().await.map(|()| Value::Null),
        Request::Confirm { app } => {
            must_be_installed(node, &app).await?;
            node.confirm(&app).await.map(|()| Value::Null)
        }
        Request::Apply { app } => {
            must_be_installed(node, &app).await?;
            node.apply(&app).await.map(|()| Value::Null)
        }
        Request::Set { name, text } => Ok(Value::Bool(node.set(&name, &text).await?)),
        Request::Defer { app, seconds } => {
            must_be_installed(node, &app).await?;
            node.defer(&app, Duration::from_secs(seconds)).await.map(|()| Value::Null)
        }
        Request::Rollback { app } => {
            must_be_installed(node, &app).await?;
            node.roll_back(&app).await.map(|()| Value::Null)
        }
        Request::Retry { app } => {
            must_be_installed(node, &app).await?;
            node.retry(&app).await.map(|()| Value::Null)
        }
        Request::Device(said) => node.say(said).await.map(|()| Value::Null),
        Request::Import { app } => offer(node, data, &app).await.map(|()| Value::Null),
        Request::Facts => unreachable!("answered by its own loop"),
    }
}

/// A command for an app that is not here should not look as if it did something.
async fn must_be_installed(node: &Node, app: &str) -> Result<(), Error> {
    if node.status().await?.apps.iter().any(|installed| installed.app == app) {
        return Ok(());
    }
    Err(Error::new(Kind::BadInput, format!("this device installs no app {app:?}"))
        .with_hint("`burr status` lists those that it does"))
}

/// A channel that the publisher never made would leave the app without news for ever.
async fn must_have_channel(node: &Node, app: &str, channel: &str) -> Result<(), Error> {
    let catalog = node.catalog().await?;
    let channels = catalog.iter().flat_map(Verified::channels).filter(|(of, _)| of == app);
    let channels: Vec<String> = channels.map(|(_, channel)| channel).collect();
    if channels.is_empty() || channels.iter().any(|known| known == channel) {
        return Ok(());
    }
    Err(Error::new(Kind::BadInput, format!("{app} has no channel {channel:?}"))
        .with_hint(format!("it has {}", channels.join(", "))))
}

/// Gives a node what an app's publisher has on the same data directory: its metadata and the newest payloads.
///
/// # Errors
/// As [`Publisher::open`] and [`Node::import`].
pub async fn offer(node: &Node, data: &Path, app: &str) -> Result<(), Error> {
    let publisher = Publisher::open(data, app)?;
    // In the order of channel and number: the last of a channel is its newest.
    let newest: BTreeMap<&str, &Release> =
        publisher.releases().map(|release| (release.channel.as_str(), release)).collect();
    let payloads: Vec<_> = newest
        .into_values()
        .filter_map(|release| Some((release.payload.clone(), publisher.payload_path(release)?)))
        .chain(publisher.key_lists())
        .collect();
    node.import(publisher.id(), publisher.pack().to_vec(), payloads).await
}

/// Asks the node that runs on a data directory.
///
/// # Errors
/// [`Kind::Ended`] if none runs there, [`Kind::Network`] if it does not answer or answers something else, or what the
/// node itself says.
pub fn ask<T: DeserializeOwned>(data: &Path, request: &Request) -> Result<T, Error> {
    let silent = |error: io::Error| {
        Error::new(Kind::Network, format!("the node on {} does not answer", data.display())).with_source(error)
    };
    let mut stream = connect(data)?;
    let mut line = serde_json::to_vec(request).expect("our own types are JSON");
    line.push(b'\n');
    stream.write_all(&line).map_err(silent)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(silent)?;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| silent(error.into()))?;
    if let Some(words) = answer.get("error").and_then(Value::as_str) {
        let kind = answer.get("kind").and_then(|kind| serde_json::from_value(kind.clone()).ok());
        let error = Error::new(kind.unwrap_or(Kind::BadInput), words);
        return Err(match answer.get("hint").and_then(Value::as_str) {
            Some(hint) => error.with_hint(hint),
            None => error,
        });
    }
    let ok = answer.get("ok").cloned().unwrap_or_default();
    serde_json::from_value(ok).map_err(|error| silent(error.into()))
}

/// Whether a node runs on a data directory.
#[must_use]
pub fn is_running(data: &Path) -> bool {
    BlockingStream::connect(socket(data)).is_ok()
}

fn connect(data: &Path) -> Result<BlockingStream, Error> {
    let stream = BlockingStream::connect(socket(data)).map_err(|error| {
        Error::new(Kind::Ended, format!("no node runs on {}", data.display()))
            .with_source(error)
            .with_hint("start it with `burr run`, or name its directory with --data")
    })?;
    let timed = stream.set_read_timeout(Some(ANSWER_PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    timed.map_err(|error| Error::new(Kind::Network, "can't set time limits").with_source(error))?;
    Ok(stream)
}
