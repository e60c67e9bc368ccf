//! Local control over HTTP, for apps and scripts on the device: each [`Request`] under a path of its own.
//!
//! On loopback alone, and never for web pages: a request that a browser sends on behalf of a page is refused by its
//! headers, and one for another host by its `Host`, so that no name that leads here (DNS rebinding) gets anything.
//! Whatever changes something needs the token in the data directory's `control.token`, which its owner alone can read.
//! `openapi.json` is the contract, and is served.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use burr_protocol::Hash;
use hyper::{
    HeaderMap, Method, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use super::{Request, answer, events::Events};
use crate::{
    error::{Error, Kind},
    http::{
        self,
        answer::{Reply, fresh, json as reply, json_type, stream},
        server::{self, Room},
    },
    identity,
    node::Node,
};

/// The contract, in `OpenAPI` 3.1.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// Connections at a time: all are of this machine.
const ROOM: Room = Room { connections: 64, per_address: 64, least: 1 };
/// Bytes of a request's body at most.
const MAX_BODY: usize = 16 << 10;

/// What is asked with GET: its path, and the name of its [`Request`]. Fields come from the path and from the query.
const READS: &[(&str, &str)] = &[
    ("/v1/status", "status"),
    ("/v1/receipts", "receipts"),
    ("/v1/releases", "releases"),
    ("/v1/apps/{app}/explain/{release}", "explain"),
];

/// What is asked with POST: its path, and the name of its [`Request`]. Fields come from the path and from the body.
const CHANGES: &[(&str, &str)] = &[
    ("/v1/check", "check"),
    ("/v1/device", "device"),
    ("/v1/device/attributes", "attributes"),
    ("/v1/apps/{app}/channel", "set_channel"),
    ("/v1/apps/{app}/pin", "pin"),
    ("/v1/apps/{app}/confirm", "confirm"),
    ("/v1/apps/{app}/apply", "apply"),
    ("/v1/apps/{app}/defer", "defer"),
    ("/v1/apps/{app}/rollback", "rollback"),
    ("/v1/apps/{app}/retry", "retry"),
    ("/v1/apps/{app}/import", "import"),
];

/// Control over HTTP, until it is dropped.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Http {
    /// Serves the node on the data directory `data`, on loopback. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Config`] for an address that others could reach, [`Kind::PortInUse`] or [`Kind::Network`] if it can't be
    /// listened on, [`Kind::Key`] or [`Kind::Storage`] if the token can't be read or made.
    pub async fn open(node: Node, data: &Path, at: SocketAddr) -> Result<Self, Error> {
        if !at.ip().is_loopback() {
            let words = format!("control.http is {at}; it must be on loopback, such as 127.0.0.1:7450");
            return Err(Error::new(Kind::Config, words)
                .with_hint("from another machine, reach it through a tunnel: ssh -L 7450:127.0.0.1:7450 DEVICE"));
        }
        let path = data.join("control.token");
        let token = identity::secret(&path, "remove it: the next start makes another token")?;
        let (listener, address) = http::listen(at, "control.http").await?;
        let events = Events::new();
        let followed = tokio::spawn(events.clone().follow(node.facts()));
        let token = Hash::of(Hash(*token).to_string().as_bytes());
        let shared = Arc::new(Shared { node, data: data.to_owned(), events, token });
        let served = tokio::spawn(server::run(listener, None, ROOM, move |request, _| {
            let shared = Arc::clone(&shared);
            async move { shared.answer(request).await.unwrap_or_else(Refusal::into_reply) }
        }));
        Ok(Self { address, tasks: [followed, served] })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Debug)]
struct Shared {
    node: Node,
    data: PathBuf,
    events: Events,
    /// Of the token, so that how long a comparison takes says nothing about it.
    token: Hash,
}

/// Why something is not answered as it was asked.
struct Refusal {
    status: StatusCode,
    error: &'static str,
    message: String,
    hint: Option<String>,
    /// A header that goes with the status.
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), hint: None, header: None }
    }

    fn into_reply(self) -> Reply {
        let said = json!({ "error": self.error, "message": self.message, "hint": self.hint });
        let mut answer = reply(self.status, &said);
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, name) = match error.kind() {
            Kind::BadInput | Kind::Config => (StatusCode::BAD_REQUEST, "bad_input"),
            Kind::Busy | Kind::Changed => (StatusCode::CONFLICT, "busy"),
            Kind::Ended => (StatusCode::SERVICE_UNAVAILABLE, "ended"),
            Kind::Storage | Kind::NoSpace => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self { hint: error.hint().map(str::to_owned), ..Self::new(status, name, error.to_string()) }
    }
}

impl Shared {
    async fn answer(&self, request: hyper::Request<Incoming>) -> Result<Reply, Refusal> {
        let headers = request.headers();
        not_for_pages(headers)?;
        let path = request.uri().path().to_owned();
        let reading = *request.method() == Method::GET;
        match path.as_str() {
            "/openapi.json" if reading => return Ok(fresh(Bytes::from_static(OPENAPI.as_bytes()), json_type())),
            "/v1/events" if reading => return self.events(headers),
            "/openapi.json" | "/v1/events" => return Err(not_allowed("GET")),
            _ => {}
        }
        let asked = match (named(READS, &path), named(CHANGES, &path)) {
            (Some(read), _) if reading => from_query(read, request.uri().query())?,
            (None, Some(change)) if *request.method() == Method::POST => {
                self.must_have_token(headers)?;
                from_body(change, request).await?
            }
            (None, None) => {
                return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing under this path"));
            }
            (Some(_), _) => return Err(not_allowed("GET")),
            (None, Some(_)) => return Err(not_allowed("POST")),
        };
        Ok(match answer(&self.node, &self.data, asked).await? {
            Value::Null => {
                let mut done = fresh(Bytes::new(), json_type());
                *done.status_mut() = StatusCode::NO_CONTENT;
                done.headers_mut().remove(header::CONTENT_TYPE);
                done
            }
            value => reply(StatusCode::OK, &value),
        })
    }

    fn events(&self, headers: &HeaderMap) -> Result<Reply, Refusal> {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let told = self.events.listen(last).ok_or_else(|| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many clients follow the events already")
        })?;
        Ok(stream(told, "text/event-stream"))
    }

    fn must_have_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if given.is_some_and(|given| Hash::of(given.trim().as_bytes()) == self.token) {
            return Ok(());
        }
        let words = "what changes something needs the header `Authorization: Bearer TOKEN`";
        let hint = format!("the token is in {}", self.data.join("control.token").display());
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "no_token", words);
        Err(Refusal { hint: Some(hint), header: Some((header::WWW_AUTHENTICATE, "Bearer")), ..refusal })
    }
}

/// Refuses what a browser sends on behalf of a page, and what was sent to another name than this machine's own.
fn not_for_pages(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let from_page = headers.contains_key(header::ORIGIN)
        || headers.get("sec-fetch-site").is_some_and(|from| from.as_bytes() != b"none");
    if from_page {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "web_page", "this is not for web pages"));
    }
    if text("host").is_some_and(is_loopback) {
        return Ok(());
    }
    let words = "this answers to 127.0.0.1, [::1] and localhost alone";
    Err(Refusal::new(StatusCode::FORBIDDEN, "wrong_host", words))
}

/// Whether a `Host` header names this machine by a name that nobody else can give it.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The request that a path asks for, as far as the path says it.
fn named(requests: &[(&str, &str)], path: &str) -> Option<Map<String, Value>> {
    requests.iter().find_map(|(pattern, name)| {
        let mut fields = Map::from_iter([("do".to_owned(), json!(name))]);
        let (mut given, mut wanted) = (path.split('/'), pattern.split('/'));
        loop {
            match (given.next(), wanted.next()) {
                (None, None) => return Some(fields),
                (Some(given), Some(wanted)) if given == wanted => {}
                (Some(given), Some(wanted)) if !given.is_empty() => {
                    let name = wanted.strip_prefix('{')?.strip_suffix('}')?;
                    fields.insert(name.to_owned(), json!(given));
                }
                _ => return None,
            }
        }
    })
}

/// Adds what the query says to what the path said, which counts. Names and versions have nothing to be escaped.
fn from_query(mut fields: Map<String, Value>, query: Option<&str>) -> Result<Request, Refusal> {
    for (name, value) in query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
        fields.entry(name).or_insert(json!(value));
    }
    into_request(fields, "the query")
}

fn into_request(fields: Map<String, Value>, part: &str) -> Result<Request, Refusal> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| {
        let words = format!("{part} is not what this path takes: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, "bad_input", words)
    })
}

/// Adds what the body says to what the path said, which counts.
async fn from_body(mut fields: Map<String, Value>, request: hyper::Request<Incoming>) -> Result<Request, Refusal> {
    let body: Option<Map<String, Value>> = http::request::json_or_nothing(request, MAX_BODY)
        .await
        .map_err(|refused| Refusal::new(refused.status, refused.error, refused.message))?;
    for (name, value) in body.unwrap_or_default() {
        fields.entry(name).or_insert(value);
    }
    into_request(fields, "the body")
}

fn not_allowed(method: &'static str) -> Refusal {
    let refusal =
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this path takes {method}"));
    Refusal { header: Some((header::ALLOW, method)), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_this_machine_or_refused() {
        for host in ["127.0.0.1:7450", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:7450", "[::1]", "127.9.9.9:1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7450", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1:1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
        for host in ["[::1", "[::2]", "::1", "[127.0.0.1", "0.0.0.0", "localhost."] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn every_path_is_a_request() {
        for (pattern, _) in READS.iter().chain(CHANGES) {
            let path = pattern.replace("{app}", "shop").replace("{release}", "1.0.0");
            let mut fields = named(READS, &path).or_else(|| named(CHANGES, &path)).unwrap();
            if *pattern == "/v1/apps/{app}/defer" {
                fields.insert("seconds".to_owned(), json!(60));
            }
            if pattern.ends_with("/channel") {
                fields.insert("channel".to_owned(), json!("beta"));
            }
            let request: Request = serde_json::from_value(Value::Object(fields)).unwrap();
            assert!(!pattern.contains("{app}") || format!("{request:?}").contains("\"shop\""), "{request:?}");
        }
        for path in ["/v1/check/", "/v1", "/v1/apps//confirm", "/v1/apps/a/b/confirm", "/v1/apps/a", "//v1/check"] {
            assert_eq!((named(READS, path), named(CHANGES, path)), (None, None), "{path}");
        }
    }
}
