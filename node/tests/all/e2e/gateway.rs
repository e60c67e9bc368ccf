//! The gateway of a real node, asked over HTTP as others ask it.

mod capgo;
mod electron;
mod files;
mod hostile;
mod plugin;
mod tls;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::program::{DEADLINE, Node};

/// Runs a node with a gateway on plain HTTP.
#[track_caller]
fn run(data: &Path, arguments: &[&str]) -> Node {
    let gateway = ["--set", "gateway.listen=127.0.0.1:0", "--set", "gateway.transport=plain"];
    Node::start(data, &[&gateway, arguments].concat())
}

/// Waits until something holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "never came true: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
