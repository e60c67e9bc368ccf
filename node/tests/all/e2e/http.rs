//! A small HTTP client that shows all of an answer, and sends what no decent client would.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::e2e::program::DEADLINE;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The body as JSON.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends bytes and reads until the other side closes or the answer is whole.
#[track_caller]
pub(super) fn raw(at: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(at).expect("the gateway listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    // The other side may answer and close before all is said.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body: bytes.split_off(end + 4) })
}

/// Asks with a method, headers and a body.
#[track_caller]
pub(super) fn ask(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let length = if method == "GET" || method == "HEAD" { String::new() } else { body.len().to_string() };
    let fixed = [("Host", at.to_string()), ("Connection", "close".to_owned()), ("Content-Length", length)];
    let mut lines = vec![format!("{method} {path} HTTP/1.1")];
    lines.extend(fixed.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}: {value}")));
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    let head = lines.join("\r\n") + "\r\n\r\n";
    raw(at, &[head.as_bytes(), body].concat()).expect("an answer")
}

/// Gets a path.
#[track_caller]
pub(super) fn get(at: SocketAddr, path: &str) -> Answer {
    ask(at, "GET", path, &[], b"")
}

/// Gets a path with one header.
#[track_caller]
pub(super) fn get_with(at: SocketAddr, path: &str, name: &str, value: &str) -> Answer {
    ask(at, "GET", path, &[(name, value)], b"")
}
