//! Answers: JSON, and content with entity tags, ranges and caching.

use std::{
    io,
    ops::Range,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use burr_protocol::Hash;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
};

use crate::{pace::Pace, store::blobs::Blobs};

/// Parts of an answer that wait for a slow reader.
const PARTS: usize = 4;
/// Bytes of one part of a file.
const PART: usize = 64 << 10;

/// An answer.
pub(crate) type Reply = Response<Body>;

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    parts: Parts,
    /// Bytes that are to come; none if nobody knows.
    left: Option<u64>,
}

#[derive(Debug)]
enum Parts {
    Whole(Bytes),
    Read(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    fn whole(bytes: Bytes) -> Self {
        Self { left: Some(bytes.len() as u64), parts: Parts::Whole(bytes) }
    }

    /// What comes, until its sender goes.
    fn open(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { left: None, parts: Parts::Read(receiver) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let part = match &mut self.parts {
            Parts::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Parts::Read(receiver) => match receiver.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(part) => part,
            },
        };
        let part = match (part, self.left) {
            (Some(part), _) => part?,
            (None, None) => return Poll::Ready(None),
            // A source that ends early must not look like a whole answer.
            (None, Some(_)) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        };
        self.left = self.left.map(|left| left.saturating_sub(part.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// The media type of JSON.
pub(crate) fn json_type() -> &'static str {
    "application/json"
}

/// A JSON answer, which nobody on the way keeps.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    json_bytes(status, serde_json::to_vec(value).expect("our own types are JSON").into())
}

/// As [`json`], of bytes that are JSON.
pub(crate) fn json_bytes(status: StatusCode, bytes: Bytes) -> Reply {
    let mut reply = fresh(bytes, json_type());
    *reply.status_mut() = status;
    reply
}

/// Something made for this answer, which nobody on the way keeps.
pub(crate) fn fresh(bytes: Bytes, kind: &'static str) -> Reply {
    let mut reply = Response::new(Body::whole(bytes));
    set(reply.headers_mut(), header::CONTENT_TYPE, kind);
    set(reply.headers_mut(), header::CACHE_CONTROL, "no-store");
    reply
}

/// What goes on until its sender or the client goes.
pub(crate) fn stream(parts: mpsc::Receiver<io::Result<Bytes>>, kind: &'static str) -> Reply {
    let mut reply = fresh(Bytes::new(), kind);
    *reply.body_mut() = Body::open(parts);
    reply
}

/// How long others may keep a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// For ever: the name fixes the bytes.
    Immutable,
    /// Not without asking whether it is still the same.
    AskAgain,
}

/// Bytes that can be sent in whole or in part.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) size: u64,
    /// Names these bytes: the entity tag, without its quotes.
    pub(crate) tag: String,
    /// The media type.
    pub(crate) kind: &'static str,
    pub(crate) caching: Caching,
    pub(crate) source: Source,
    /// What counts its bytes and holds them up, if anything does.
    pub(crate) pace: Option<Pace>,
}

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Source {
    Bytes(Bytes),
    Blob(Blobs, Hash),
    File {
        path: PathBuf,
        /// Where in the file the content begins.
        offset: u64,
    },
}

impl Content {
    /// Bytes at hand.
    pub(crate) fn of(bytes: Bytes, kind: &'static str, caching: Caching) -> Self {
        let tag = Hash::of(&bytes).to_string();
        Self { size: bytes.len() as u64, tag, kind, caching, source: Source::Bytes(bytes), pace: None }
    }
}

/// Answers a GET or HEAD for content: 200, 206, 304 or 416.
pub(crate) fn serve(request: &Request<Incoming>, content: Content) -> Reply {
    let tag = format!("\"{}\"", content.tag);
    let mut headers = HeaderMap::new();
    set(&mut headers, header::ETAG, &tag);
    set(&mut headers, header::ACCEPT_RANGES, "bytes");
    set(&mut headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(
        &mut headers,
        header::CACHE_CONTROL,
        match content.caching {
            Caching::Immutable => "public, max-age=31536000, immutable",
            Caching::AskAgain => "no-cache",
        },
    );
    let (status, range) = decide(request.headers(), &tag, content.size);
    let length = range.end - range.start;
    match status {
        StatusCode::NOT_MODIFIED => {}
        StatusCode::RANGE_NOT_SATISFIABLE => {
            set(&mut headers, header::CONTENT_RANGE, &format!("bytes */{}", content.size));
        }
        _ => set(&mut headers, header::CONTENT_TYPE, content.kind),
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", range.start, range.end - 1, content.size);
        set(&mut headers, header::CONTENT_RANGE, &text);
    }
    let body = if length == 0 || *request.method() == Method::HEAD {
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            set(&mut headers, header::CONTENT_LENGTH, &length.to_string());
        }
        Body::whole(Bytes::new())
    } else {
        read(content.source, range, content.pace)
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}

/// What of `size` bytes under a quoted tag is sent, and how: RFC 9110 sections 13 and 14, with one range at most.
fn decide(headers: &HeaderMap, tag: &str, size: u64) -> (StatusCode, Range<u64>) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let names = |list: &str| list.split(',').any(|one| ["*", tag].contains(&one.trim().trim_start_matches("W/")));
    if text(header::IF_NONE_MATCH).is_some_and(names) {
        return (StatusCode::NOT_MODIFIED, 0..0);
    }
    // A part of something else is of no use to who asked for the rest of this.
    let same = text(header::IF_RANGE).is_none_or(|expected| expected.trim() == tag);
    match text(header::RANGE).filter(|_| same).and_then(|range| parse_range(range, size)) {
        None => (StatusCode::OK, 0..size),
        Some(range) if range.is_empty() => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
    }
}

/// The one range that is asked for, empty if there is nothing in it; `None` if the header is to be ignored.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond 64 bits is past every end.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (first.trim(), last.trim()) {
        ("", last) => Some(size.saturating_sub(number(last)?)..size),
        (first, "") => Some(number(first)?.min(size)..size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first.min(size)..last.saturating_add(1).min(size))
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("our own values are printable"));
}

/// Where the parts of a body go, each when it may.
struct Outlet {
    parts: mpsc::Sender<io::Result<Bytes>>,
    pace: Option<Pace>,
}

impl Outlet {
    /// Whether there is somebody for the next one.
    async fn send(&self, part: io::Result<Bytes>) -> bool {
        let bytes = part.as_ref().map_or(0, Bytes::len) as u64;
        let failed = part.is_err();
        if let Some(pace) = &self.pace
            && let Err(hold) = pace.take(bytes, bytes).await
        {
            let _ = self.parts.send(Err(io::Error::other(hold.to_string()))).await;
            return false;
        }
        let gone = self.parts.send(part).await.is_err();
        if let Some(pace) = &self.pace
            && gone
        {
            pace.give_back(bytes).await;
        }
        !gone && !failed
    }
}

fn read(source: Source, range: Range<u64>, pace: Option<Pace>) -> Body {
    let left = range.end - range.start;
    let (parts, receiver) = mpsc::channel(PARTS);
    let outlet = Outlet { parts, pace };
    match source {
        Source::Bytes(bytes) => {
            let place = |at: u64| usize::try_from(at).expect("bytes in memory");
            return Body::whole(bytes.slice(place(range.start)..place(range.end)));
        }
        Source::Blob(blobs, blob) => {
            tokio::spawn(async move {
                let mut reader = blobs.range_reader(blob, range);
                while let Some(part) = reader.next().await.transpose() {
                    if !outlet.send(part).await {
                        return;
                    }
                }
            });
        }
        Source::File { path, offset } => {
            let range = offset + range.start..offset + range.end;
            tokio::spawn(async move {
                if let Err(error) = read_file(&path, range, &outlet).await {
                    outlet.send(Err(error)).await;
                }
            });
        }
    }
    Body { parts: Parts::Read(receiver), left: Some(left) }
}

async fn read_file(path: &PathBuf, range: Range<u64>, outlet: &Outlet) -> io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(io::SeekFrom::Start(range.start)).await?;
    let mut file = file.take(range.end - range.start);
    loop {
        let mut part = Vec::with_capacity(PART);
        if (&mut file).take(PART as u64).read_to_end(&mut part).await? == 0 || !outlet.send(Ok(part.into())).await {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let ranges = [
            ("bytes=0-9", Some(0..10)),
            ("bytes=90-", Some(90..100)),
            ("bytes=90-200", Some(90..100)),
            ("bytes=-10", Some(90..100)),
            ("bytes=-200", Some(0..100)),
            ("bytes=100-", Some(100..100)),
            ("bytes=99999999999999999999-", Some(100..100)),
            ("bytes=0-99999999999999999999", Some(0..100)),
            ("bytes=-0", Some(100..100)),
            ("bytes=9-0", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,5-6", None),
            ("lines=0-1", None),
        ];
        for (text, expected) in ranges {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Some(0..0));
    }
}
