//! HTTP as this node asks it of others, bounded in time and bytes: who serves may be slow, endless or lying. It waits, so
//! nothing here is for the node's own threads.

use std::{
    fs::File,
    io::Read as _,
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::Response,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::error::{Error, Kind};

/// How long a connection, and then the head of an answer, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer may be silent, and how long it may be slow at first.
const GRACE: Duration = Duration::from_secs(20);
/// Bytes a second that an answer must bring from then on, over its whole length.
const MIN_RATE: u64 = 2 << 10;
const MAX_REDIRECTS: u32 = 3;
/// Bytes of a file of authorities: those of all browsers are 300 KiB.
const MAX_AUTHORITIES: u64 = 1 << 20;

/// Takes each part of a payload with its place.
type Take<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
}

impl Client {
    /// One that believes the authorities that browsers trust.
    pub(crate) fn new() -> Self {
        Self::with(TlsConfig::default())
    }

    /// One that believes those of a PEM file alone.
    ///
    /// # Errors
    /// [`Kind::Config`] if the file can't be read, or names none.
    pub(crate) fn trusting(authorities: &Path) -> Result<Self, Error> {
        let bad = |why: String| {
            Error::new(Kind::Config, format!("can't use the authorities in {}", authorities.display()))
                .with_source(why)
                .with_hint("name a PEM file with the certificate of each, or none to trust those of browsers")
        };
        let read = File::open(authorities).and_then(|file| {
            let mut pem = Vec::new();
            file.take(MAX_AUTHORITIES + 1).read_to_end(&mut pem)?;
            Ok(pem)
        });
        let pem = read.map_err(|error| bad(error.to_string()))?;
        if pem.len() as u64 > MAX_AUTHORITIES {
            return Err(bad(format!("it has over {MAX_AUTHORITIES} bytes")));
        }
        let mut trusted = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| bad(error.to_string()))? {
                trusted.push(certificate);
            }
        }
        if trusted.is_empty() {
            return Err(bad("there is no certificate in it".to_owned()));
        }
        Ok(Self::with(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted)).build()))
    }

    fn with(tls: TlsConfig) -> Self {
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_send_request(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(GRACE))
            .user_agent(concat!("burr/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into() }
    }

    /// Reads a file of at most `limit` bytes part by part. Whether there is one: stores answer "forbidden" too where they
    /// have none.
    pub(crate) fn get(
        &self,
        url: &str,
        limit: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let failed = |words: &str| Error::new(Kind::Network, format!("{words} {url}"));
        let response = self.agent.get(url).call().map_err(|error| failed("can't get").with_source(error))?;
        match response.status().as_u16() {
            200 => read_body(response, url, 0, limit, &mut |_, part| take(part)).map(|()| true),
            403 | 404 => Ok(false),
            status => Err(failed("can't get").with_source(format!("the server answers {status}"))),
        }
    }

    /// Reads a part of a file of `size` bytes; all of it from its beginning, if the server knows no ranges. Each part of
    /// that comes with its place.
    pub(crate) fn get_range(
        &self,
        url: &str,
        range: Range<u64>,
        size: u64,
        take: &mut Take<'_>,
    ) -> Result<bool, Error> {
        let failed = |words: &str| Error::new(Kind::Network, format!("{words} {url}"));
        let mut request = self.agent.get(url);
        if !range.is_empty() {
            request = request.header("Range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        let response = request.call().map_err(|error| failed("can't get").with_source(error))?;
        let sent = response.headers().get("Content-Range").and_then(|sent| sent.to_str().ok());
        match response.status().as_u16() {
            200 => read_body(response, url, 0, size, take).map(|()| true),
            206 if sent.is_some_and(|sent| sent.starts_with(&format!("bytes {}-", range.start))) => {
                let total = sent.and_then(|sent| sent.rsplit_once('/')?.1.parse::<u64>().ok());
                if total.is_some_and(|total| total != size) {
                    return Err(failed("another file:").with_source(format!("it is not of {size} bytes")));
                }
                read_body(response, url, range.start, range.end, take).map(|()| true)
            }
            403 | 404 => Ok(false),
            status => Err(failed("can't get").with_source(format!("the server answers {status}"))),
        }
    }
}

/// Reads what an answer brings of a file, from a place on and to `limit` at most.
fn read_body(
    mut response: Response<Body>,
    url: &str,
    mut place: u64,
    limit: u64,
    take: &mut Take<'_>,
) -> Result<(), Error> {
    let failed = |words: &str| Error::new(Kind::Network, format!("{words} {url}"));
    let mut begin = Instant::now();
    // One byte more than there may be tells a file of the right size from one that does not end.
    let mut body = response.body_mut().with_config().limit(limit.saturating_add(2)).reader();
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0_u64;
    loop {
        let read = body.read(&mut buffer).map_err(|error| failed("can't read").with_source(error))?;
        if read == 0 {
            return Ok(());
        }
        length += read as u64;
        if place + read as u64 > limit {
            return Err(failed("too long:").with_source(format!("over the {limit} bytes that it may have")));
        }
        let due = begin.elapsed().saturating_sub(GRACE).as_secs().saturating_mul(MIN_RATE);
        if length < due {
            let rate = format!("under {MIN_RATE} bytes a second");
            return Err(failed("too slow:").with_source(rate).with_hint("try another server or a better link"));
        }
        // How long this side takes is not the server's fault.
        let taking = Instant::now();
        take(place, &buffer[..read])?;
        begin += taking.elapsed();
        place += read as u64;
    }
}
