//! Two nodes far from each other: what many small blobs cost on a long way.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use burr_protocol::{
    action::{Action, Input},
    peers::Address,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
    time::sleep_until,
};

use super::{Node, ask, noise};

/// One way.
const DELAY: Duration = Duration::from_millis(100);
const BLOBS: u64 = 200;

/// A relay whose bytes take [`DELAY`] each way, as many at a time as there are.
async fn long_way(target: SocketAddr) -> (Address, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let relay = tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(target).await.unwrap();
            let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
            pass(near_out, far_in);
            pass(far_out, near_in);
        }
    });
    (Address(format!("/ip4/{}/tcp/{}", place.ip(), place.port())), relay)
}

fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (sent, mut arriving) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut part = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut part).await {
            let _ = sent.send((Instant::now() + DELAY, part[..read].to_vec()));
        }
    });
    tokio::spawn(async move {
        while let Some((at, part)) = arriving.recv().await {
            sleep_until(at.into()).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_blobs_take_no_round_trip_each() {
    let (mut a, mut b) = (Node::start().await, Node::start().await);
    let (place, relay) = long_way(a.net.listeners()[0]).await;
    b.meet_at(place, &mut a).await;
    let mut requests = Vec::new();
    for number in 0..BLOBS {
        let bytes = [number.to_be_bytes().to_vec(), noise(2000)].concat();
        a.blobs.import_bytes(bytes.clone()).await.unwrap();
        requests.push(ask(number, a.id(), &bytes, 0, bytes.len()));
    }
    let begun = Instant::now();
    let mut missing: BTreeSet<_> = requests.iter().map(|request| request.id).collect();
    for request in requests {
        b.net.act(Action::Fetch(request)).await;
    }
    while !missing.is_empty() {
        let fetched = b.hear(|input| match input {
            Input::Fetched { id } => Some(*id),
            Input::FetchFailed { id, why } => panic!("{id:?}: {why:?}"),
            _ => None,
        });
        missing.remove(&fetched.await);
    }
    let took = begun.elapsed();
    println!("{BLOBS} blobs took {took:?}");
    // One after the other they take 40 s; a stream is agreed on within two round trips, and this machine may be busy.
    assert!(took >= DELAY * 2, "{took:?}");
    assert!(took < DELAY * 2 * u32::try_from(BLOBS).unwrap() / 4, "{took:?}");
    for node in [a, b] {
        node.end().await;
    }
    relay.abort();
}
