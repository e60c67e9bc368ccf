//! What strangers may send: each gets the right status, and none harms the others.

use std::io::Write as _;

use super::{run, until};
use crate::{
    e2e::http::{ask, get, raw},
    support::scratch,
};

#[test]
fn paths_that_lead_elsewhere_lead_nowhere() {
    let dir = scratch();
    let node = run(dir.path(), &[]);
    let at = node.gateway();
    for path in [
        "/",
        "/..",
        "/blobs",
        "/blobs/",
        "/blobs/../../burr.toml",
        "/blobs/%2e%2e%2fnode.key",
        "/blobs/0000",
        "/repositories/x/metadata/timestamp.json",
        "/repositories/../metadata/../../../../etc/passwd",
        "//etc/passwd",
        "/repositories/%00/targets/app/%ff/../x",
    ] {
        let answer = get(at, path);
        assert!(matches!(answer.status, 404 | 405), "{path}: {answer:?}");
        assert!(answer.json()["error"].is_string(), "{path}");
    }
    let posted = ask(at, "POST", "/blobs/00", &[], b"x");
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn what_is_no_http_is_refused_and_does_not_stop_the_others() {
    let dir = scratch();
    let node = run(dir.path(), &[]);
    let at = node.gateway();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 << 10));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(1000));
    for (request, expected) in [
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00".to_vec(), 400),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), 400),
        (vec![0xff; 32 << 10], 400),
        (long.into_bytes(), 431),
        (many.into_bytes(), 431),
    ] {
        let answer = raw(at, &request);
        assert!(answer.as_ref().is_none_or(|answer| answer.status == expected), "{answer:?}, not {expected}");
    }
    // More connections than one address may have, all silent: the next one is turned away, and served when one goes.
    let silent: Vec<_> = (0..64).filter_map(|_| std::net::TcpStream::connect(at).ok()).collect();
    assert_eq!(silent.len(), 64);
    let mut late = std::net::TcpStream::connect(at).expect("the system takes it");
    let _ = late.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut late, &mut answer);
    assert_eq!(answer, b"", "{}", String::from_utf8_lossy(&answer));
    drop(silent);
    until("the others are served again", || {
        raw(at, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_some_and(|answer| answer.status == 404)
    });
}

#[test]
fn a_flood_from_one_address_is_told_to_wait() {
    let dir = scratch();
    let node = run(dir.path(), &["--set", "gateway.rate=1"]);
    let at = node.gateway();
    let answers: Vec<_> = (0..40).map(|_| get(at, "/")).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty(), "{answers:?}");
    for answer in refused {
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.json()["error"], "too_many_requests");
    }
    // Behind a proxy, the address is the one that the proxy forwards for.
    let proxied = scratch();
    let settings = ["--set", "gateway.transport=proxy", "--set", "gateway.rate=1"];
    let node = run(proxied.path(), &settings);
    let from = |address: &str| ask(node.gateway(), "GET", "/", &[("X-Forwarded-For", address)], b"").status;
    assert!((0..40).map(|_| from("10.0.0.1, 192.0.2.1")).any(|status| status == 429));
    assert_eq!(from("10.0.0.1, 192.0.2.2"), 404);
}

#[test]
fn long_bodies_are_few_at_a_time_and_short_ones_go_on() {
    let dir = scratch();
    let node = run(dir.path(), &[]);
    let at = node.gateway();
    // Each announces 4 MiB, says little, and waits.
    let head = format!("POST /updates/manifest_size HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{{", 4 << 20);
    let begin = || {
        let mut stream = std::net::TcpStream::connect(at).expect("a connection");
        stream.write_all(head.as_bytes()).expect("it takes the head");
        stream
    };
    let more = b"POST /stats HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    let mut slow = Vec::new();
    until("all places are taken", || {
        // Those before were given up, if the machine was busy for so long.
        slow = (0..16).map(|_| begin()).collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        raw(at, more).is_some_and(|answer| answer.status == 503)
    });
    let short = ask(at, "POST", "/updates", &[], b"{}");
    assert_eq!(short.status, 400, "{short:?}");
    drop(slow);
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(100_000));
    let long =
        format!("POST /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{long}", long.len());
    // What is refused unread may be reset before its answer is read.
    until("a place is free", || raw(at, long.as_bytes()).is_some_and(|answer| answer.status == 400));

    // Files without end are not looked up one by one.
    let entries = "{\"file_hash\":\"0\"},".repeat(20_000);
    let body = format!(
        "{{\"app_id\":\"shop\",\"device_id\":\"d\",\"version\":\"1.0.0\",\"manifest\":[{}]}}",
        entries.trim_end_matches(',')
    );
    let refused = ask(at, "POST", "/updates/manifest_size", &[], body.as_bytes());
    assert_eq!((refused.status, &refused.json()["error"]), (413, &serde_json::json!("too_many_files")));
}
