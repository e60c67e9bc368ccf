//! What a request says: its body up to a bound, the fields of Capgo's plugin, and where it was sent to.

use std::{collections::BTreeMap, net::IpAddr};

use hyper::{HeaderMap, Request, body::Incoming};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Transport, failure};
use crate::http::{self, answer::Reply};

/// Bytes of a host's name and port at most.
const MAX_HOST: usize = 255;

/// What every request of the plugin says of its device; fields that nothing here depends on are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Info {
    /// The app's id.
    pub(super) app_id: String,
    /// The device's own id.
    pub(super) device_id: String,
    /// The version of the bundle that runs; `builtin` for the one that the app came with.
    #[serde(default)]
    pub(super) version_name: Option<String>,
    /// The version of the native app.
    #[serde(default)]
    pub(super) version_build: Option<String>,
    /// The channel that the app is configured with, or chose.
    #[serde(default, rename = "defaultChannel")]
    pub(super) default_channel: Option<String>,
    /// `android`, `ios` or `electron`.
    #[serde(default)]
    pub(super) platform: Option<String>,
}

/// Reads a body of JSON.
///
/// # Errors
/// The answer: 400, 408 or 413.
pub(super) async fn json<T: DeserializeOwned>(request: Request<Incoming>, limit: usize) -> Result<T, Reply> {
    let read = http::request::json(request, limit).await;
    read.map_err(|refused| failure(refused.status, refused.error, &refused.message))
}

/// The fields of a query; of one given twice, the last.
pub(super) fn query(request: &Request<Incoming>) -> BTreeMap<String, String> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// The device that a query speaks of.
pub(super) fn info_of(query: &BTreeMap<String, String>) -> Info {
    let field = |name| query.get(name).cloned();
    Info {
        app_id: field("app_id").unwrap_or_default(),
        device_id: field("device_id").unwrap_or_default(),
        version_name: field("version_name"),
        version_build: field("version_build"),
        default_channel: field("defaultChannel"),
        platform: field("platform"),
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where the client reached this gateway, such as `https://updates.example.com`, without a slash at the end. `None` if it
/// does not say so in a way that can stand in an address.
pub(super) fn base(request: &Request<Incoming>, transport: &Transport) -> Option<String> {
    let text = |headers: &HeaderMap, name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
    let headers = request.headers();
    let host = text(headers, "host").or_else(|| request.uri().authority().map(ToString::to_string));
    let (scheme, host) = match transport {
        Transport::Tls { .. } => ("https", host),
        Transport::Plain => ("http", host),
        Transport::Proxy => {
            let plain = text(headers, "x-forwarded-proto").is_some_and(|scheme| scheme == "http");
            (if plain { "http" } else { "https" }, text(headers, "x-forwarded-host").or(host))
        }
    };
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b".:[]-_".contains(&byte);
    let host = host.filter(|host| (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(usable))?;
    Some(format!("{scheme}://{host}"))
}

/// Whom a proxy forwards for: what it added itself stands last.
pub(super) fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_what_is_no_escape_stays() {
        assert_eq!(decode("a%20b+c%2Fd"), "a b c/d");
        assert_eq!(decode("%"), "%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
