//! A fetch that is interrupted again and again: by a kill of the device, a kill of who provides, a cut connection. The link
//! counts what crosses it, and next to nothing does so twice.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{
        link::Link,
        program::{DEADLINE, Node, Shop, publish},
    },
    Draw,
};
use crate::support::{noise, tree};

/// Bytes of a version that do not compress.
const SIZE: usize = 32 << 20;
/// Bytes a second that the link brings.
const RATE: u64 = 8 << 20;
const INTERRUPTIONS: u64 = 15;
/// Bytes that come between two interruptions at least, so that the device asks in long runs again (§7.4).
const AHEAD: u64 = 1 << 20;
const PIECE: u64 = 64 << 10;
/// What two nodes that meet tell each other, handshakes and metadata included.
const MEETING: u64 = 64 << 10;

fn start(shop: &Shop, link: &Link) -> Node {
    let quick = ["--set", "tuning.dial_backoff=50ms", "--set", "tuning.dial_backoff_max=200ms"];
    let arguments = ["--install", &shop.link, "--peer", &link.address()];
    Node::start(&shop.data("device"), &[&arguments[..], &quick[..]].concat())
}

/// Waits until so many bytes crossed the link in all.
fn wait_until(link: &Link, carried: u64) {
    let begun = Instant::now();
    while link.carried() < carried {
        assert!(begun.elapsed() < DEADLINE, "{} of {carried} bytes came", link.carried());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn at_most_a_piece_comes_twice_for_each_interruption() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"<h1>1</h1>")])));
    let mut publisher = Some(Node::start(&shop.publisher, &[]));
    let link = Link::to(publisher.as_ref().expect("it runs").address(), RATE);
    let mut device = start(&shop, &link);
    device.hear_step("1.0.0", "active");
    tree(&shop.source(), &[("data", &noise(7, SIZE))]);
    let release = publish(&shop.publisher, &shop.source(), "2.0.0");
    let size = release["payload"]["size"].as_u64().expect("a size");
    let (before, mut draw) = (link.carried(), Draw(0xf00d));
    for number in 0..INTERRUPTIONS {
        wait_until(&link, link.carried() + AHEAD + draw.below(AHEAD / 2));
        match number % 3 {
            0 => {
                drop(device.kill());
                device = start(&shop, &link);
            }
            1 => {
                drop(publisher.take().map(Node::kill));
                let again = Node::start(&shop.publisher, &[]);
                link.point(again.address());
                publisher = Some(again);
            }
            _ => link.cut(),
        }
    }
    assert!(link.carried() - before < size, "it was interrupted before it had all");
    device.hear_step("2.0.0", "active");
    // Proofs and frames are a hundredth, as a transfer without interruptions shows.
    let twice = (link.carried() - before).saturating_sub(size + size / 100);
    eprintln!(
        "{INTERRUPTIONS} interruptions: {} KiB for a payload of {} KiB, {} KiB a meeting",
        (link.carried() - before) >> 10,
        size >> 10,
        (twice / INTERRUPTIONS) >> 10
    );
    assert!(twice <= INTERRUPTIONS * (PIECE + MEETING), "{twice} bytes too many");
    device.stop();
}
