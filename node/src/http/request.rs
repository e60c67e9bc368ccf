//! The body of a request, up to a bound of bytes and time.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, time::timeout};

/// Bytes that every connection may have in memory of a body.
const SHORT: usize = 64 << 10;
/// Longer bodies that may come at the same time, over all listeners: with 4 MiB each, 64 MiB of memory.
const MAX_LONG: usize = 16;
static LONG: Semaphore = Semaphore::const_new(MAX_LONG);
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a body is not taken, as an answer says it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// 400, 408, 413 or 503.
    pub(crate) status: StatusCode,
    /// For a program.
    pub(crate) error: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// Reads a body of JSON.
pub(crate) async fn json<T: DeserializeOwned>(request: Request<Incoming>, limit: usize) -> Result<T, Refused> {
    parse(&body(request, limit).await?)
}

/// Reads a body of JSON, or one of nothing.
pub(crate) async fn json_or_nothing<T: DeserializeOwned>(
    request: Request<Incoming>,
    limit: usize,
) -> Result<Option<T>, Refused> {
    let bytes = body(request, limit).await?;
    if bytes.is_empty() { Ok(None) } else { parse(&bytes).map(Some) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("the body is not what this path takes: {error}");
        Refused { status: StatusCode::BAD_REQUEST, error: "invalid_json_body", message }
    })
}

async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Refused> {
    let refused = |status, error, message: &str| Err(Refused { status, error, message: message.to_owned() });
    let too_large =
        || refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &format!("the body is over {limit} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return too_large();
    }
    let is_long = limit > SHORT && announced.is_none_or(|length: u64| length > SHORT as u64);
    let Ok(_place) = is_long.then(|| LONG.try_acquire()).transpose() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "busy", "too much comes in at once; try again later");
    };
    match timeout(PATIENCE, Limited::new(request.into_body(), limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(_)) => refused(StatusCode::BAD_REQUEST, "invalid_body", "the body is cut short"),
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took too long"),
    }
}
