//! The blob store: what it takes, frees, finds again after a kill, and what it does when somebody else has it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
};

use burr_node::{
    error::Kind,
    net::{Net, Settings},
    store::blobs::{Blobs, Listed},
};
use burr_protocol::{
    Hash,
    action::{Action, Input},
    cache::{BASE, on_disk},
    fetch::{PieceMap, Pieces, Request, RequestId, piece_size},
    peers::Address,
};
use tempfile::TempDir;

use crate::noise;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_blob_frees_its_space_and_nothing_else_goes() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let (small, large, kept) = (noise(1000), noise(8 * MIB), noise(MIB));
    let mut names = Vec::new();
    for bytes in [&small, &large, &kept] {
        names.push(blobs.import_bytes(bytes.clone()).await.unwrap().hash);
    }
    let before = blobs.used_bytes().await.unwrap();
    assert!(before >= 9 * MIB as u64, "{before}");
    for hash in &names[..2] {
        blobs.delete(*hash).await.unwrap();
        blobs.delete(*hash).await.unwrap();
    }
    let after = blobs.used_bytes().await.unwrap();
    assert!(after < before - 7 * MIB as u64, "{before} {after}");
    let left = [Listed { hash: names[2], size: Some(MIB as u64), complete: true }];
    assert_eq!(blobs.list().await.unwrap(), left);
    assert!(Pieces::of(1000, &blobs.held(names[0], 1000).await.unwrap()).is_empty());
    // What was deleted can come back.
    blobs.import_bytes(large.clone()).await.unwrap();
    assert_eq!(blobs.held(names[1], large.len() as u64).await.unwrap(), PieceMap::All);
    blobs.shutdown().await.unwrap();
    // And all of it is there when the store is opened again, protected as before.
    let blobs = Blobs::open(dir.path()).await.unwrap();
    blobs.delete(names[1]).await.unwrap();
    assert_eq!(blobs.list().await.unwrap(), left);
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_is_read_wherever_the_store_is_moved() {
    let dir = TempDir::new().unwrap();
    let (before, after, file) = (dir.path().join("before"), dir.path().join("after"), dir.path().join("file"));
    let (large, other) = (noise(2 * MIB), Hash::of(b"another"));
    let hash = Hash::of(&large);
    std::fs::write(&file, &large).unwrap();
    let blobs = Blobs::open(&before).await.unwrap();
    let refused = blobs.adopt(other, &file).await.unwrap_err();
    assert_eq!((refused.kind(), blobs.list().await.unwrap()), (Kind::BadInput, Vec::new()), "{refused}");
    blobs.adopt(hash, &file).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    blobs.shutdown().await.unwrap();
    std::fs::rename(&before, &after).unwrap();
    let blobs = Blobs::open(&after).await.unwrap();
    let (mut reader, mut read) = (blobs.reader(hash), Vec::new());
    while let Some(part) = reader.next().await.unwrap() {
        read.extend_from_slice(&part);
    }
    assert!(read == large);
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_on_keeps_no_store_from_closing() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let large = noise(8 * MIB);
    let hash = blobs.import_bytes(large.clone()).await.unwrap().hash;
    let mut reader = blobs.reader(hash);
    let mut read = reader.next().await.unwrap().unwrap().len();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(30), blobs.shutdown()).await;
    closed.expect("it ends").unwrap();
    // What was read ahead is there, and no more; nobody takes that for the end of the blob.
    let end = loop {
        match reader.next().await {
            Ok(Some(part)) => read += part.len(),
            end => break end,
        }
    };
    assert!(read <= 2 * MIB && end.is_err(), "{read} {end:?}");
    let again = Blobs::open(dir.path()).await.unwrap();
    assert_eq!(again.whole_size(hash).await.unwrap(), Some(large.len() as u64));
    again.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_file_is_not_copied_and_survives_its_deletion() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path().join("blobs")).await.unwrap();
    let (file, bytes) = (dir.path().join("payload"), noise(3 * MIB));
    std::fs::write(&file, &bytes).unwrap();
    let imported = blobs.import(&file).await.unwrap();
    assert_eq!((imported.hash, imported.size), (Hash::of(&bytes), bytes.len() as u64));
    let mut reader = blobs.reader(imported.hash);
    let read = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).map(|_| read)
    });
    assert!(read.await.unwrap().unwrap() == bytes);
    blobs.delete(imported.hash).await.unwrap();
    assert!(file.exists());
    assert_eq!(blobs.import(dir.path().join("missing")).await.unwrap_err().kind(), Kind::Storage);
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_blobs_that_a_kill_left_unnoted_are_removed() {
    let dir = TempDir::new().unwrap();
    let (kept, lost) = (noise(MIB), noise(2 * MIB));
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let kept_hash = blobs.import_bytes(kept).await.unwrap().hash;
    blobs.shutdown().await.unwrap();
    // As the store leaves them when it is killed after it wrote a part and before it noted it, or while it imports.
    let lost_hash = Hash::of(&lost);
    let left = ["data", "obao4", "sizes4", "bitfield"].map(|kind| dir.path().join(format!("data/{lost_hash}.{kind}")));
    let half = dir.path().join("temp/half.temp");
    for path in left.iter().chain([&half]) {
        std::fs::write(path, &lost[..MIB]).unwrap();
    }
    let blobs = Blobs::open(dir.path()).await.unwrap();
    assert!(left.iter().chain([&half]).all(|path| !path.exists()));
    assert_eq!(blobs.list().await.unwrap(), [Listed { hash: kept_hash, size: Some(MIB as u64), complete: true }]);
    assert!(blobs.reader(kept_hash).next().await.unwrap().is_some());
    assert_eq!(blobs.import_bytes(lost).await.unwrap().hash, lost_hash);
    assert_eq!(blobs.held(lost_hash, 2 * MIB as u64).await.unwrap(), PieceMap::All);
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_blob_takes_of_the_disk_is_known_beforehand() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let base = blobs.used_bytes().await.unwrap();
    assert!(base <= BASE, "{base}");
    let mut room = BASE;
    for size in [1, 1000, 16 << 10, (16 << 10) + 1, 100_000, MIB, 5 * MIB + 1] {
        blobs.import_bytes(noise(size)).await.unwrap();
        room += on_disk(size as u64);
    }
    let used = blobs.used_bytes().await.unwrap();
    println!("{base} bytes empty, {used} of {room} with seven blobs");
    assert!(used <= room, "{used} {room}");
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_blob_reads_it_to_its_end_though_it_is_deleted() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let bytes = noise(12 * MIB);
    let hash = blobs.import_bytes(bytes.clone()).await.unwrap().hash;
    let mut reader = blobs.reader(hash);
    let mut read = reader.next().await.unwrap().expect("a first part").to_vec();
    // It may say that it is in use; then it stays.
    let deleted = blobs.delete(hash).await;
    while let Some(part) = reader.next().await.unwrap() {
        read.extend_from_slice(&part);
    }
    assert!(read == bytes, "{} of {} bytes, {deleted:?}", read.len(), bytes.len());
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_read() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let error = blobs.reader(Hash::of(b"unknown")).next().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(blobs.reader(Hash::of(b"")).next().await.unwrap(), None);
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_said_to_be() {
    let dir = TempDir::new().unwrap();
    let blobs = Blobs::open(dir.path()).await.unwrap();
    let error = Blobs::open(dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.hint().unwrap().contains("another burr"), "{error}");
    blobs.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_said_to_be() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("blobs.db"), noise(100_000)).unwrap();
    let error = Blobs::open(dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.hint().unwrap().contains("move it away"), "{error}");
}

/// Names the directory and the provider to the process that is to be killed.
const VICTIM: &str = "BURR_TEST_VICTIM";
const VICTIM_BYTES: usize = 64 * MIB;

/// Not a test of its own: the other process of the test below, which fetches until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(words) = std::env::var(VICTIM) else { return };
    let mut words = words.split(' ');
    let (dir, address) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let (id, hash): (_, Hash) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
    let blobs = Blobs::open(dir).await.unwrap();
    let size = VICTIM_BYTES as u64;
    let held = Pieces::of(size, &blobs.held(hash, size).await.unwrap());
    let (net, mut inputs) = Net::start(settings(), blobs).await.unwrap();
    net.act(Action::Dial(Address(address))).await;
    while !matches!(inputs.recv().await, Some(Input::Connected { .. })) {}
    for piece in (0..held.count()).filter(|piece| !held.contains(*piece)) {
        let start = piece as u64 * piece_size(size);
        let end = (start + piece_size(size)).min(size);
        let request = Request { id: RequestId(start), node: id, blob: hash, size, start, end };
        net.act(Action::Fetch(request)).await;
        loop {
            match inputs.recv().await.unwrap() {
                Input::Received { bytes, .. } => println!("\nreceived {bytes}"),
                Input::Fetched { .. } => break,
                Input::FetchFailed { why, .. } => panic!("{why:?}"),
                _ => {}
            }
        }
    }
    println!("\nwhole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_killed_goes_on_where_it_was() {
    let (provider, taker) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let blobs = Blobs::open(provider.path()).await.unwrap();
    let imported = blobs.import_bytes(noise(VICTIM_BYTES)).await.unwrap();
    let listening = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], ..settings() };
    let (net, mut inputs) = Net::start(listening, blobs.clone()).await.unwrap();
    let draining = tokio::spawn(async move { while inputs.recv().await.is_some() {} });
    let words = format!("{} {} {} {}", taker.path().display(), net.listeners()[0], net.node(), imported.hash);
    let mut received = 0;
    for kill_after in [1, 20 * MIB as u64, 5 * MIB as u64, u64::MAX] {
        let words = words.clone();
        received += tokio::task::spawn_blocking(move || run_victim(&words, kill_after)).await.unwrap();
        // The first word of bytes received is not said before the store would find them again.
        let taken = Blobs::open(taker.path()).await.unwrap();
        let listed = taken.list().await.unwrap();
        assert_eq!(listed.iter().map(|blob| blob.hash).collect::<Vec<_>>(), [imported.hash], "{kill_after}");
        taken.shutdown().await.unwrap();
    }
    // What a killed process stored without saying so is missing from its sum.
    let twice = received.saturating_sub(VICTIM_BYTES as u64);
    assert!(twice < VICTIM_BYTES as u64 / 20, "{twice} bytes were fetched twice");
    assert!(is_whole(taker.path(), imported.hash).await);
    net.shutdown().await;
    draining.await.unwrap();
    blobs.shutdown().await.unwrap();
}

/// Fetches in a process that is killed after so many bytes; returns how many it received.
fn run_victim(words: &str, kill_after: u64) -> u64 {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "blobs::victim"])
        .env(VICTIM, words)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut received, mut whole) = (0, false);
    for line in BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(bytes) = line.strip_prefix("received ") {
            received += bytes.parse::<u64>().unwrap();
        }
        whole |= line == "whole";
        if received >= kill_after {
            victim.kill().unwrap();
            break;
        }
    }
    let status = victim.wait().unwrap();
    assert_eq!(whole && status.success(), kill_after == u64::MAX, "{status}");
    received
}

async fn is_whole(dir: &Path, hash: Hash) -> bool {
    let blobs = Blobs::open(dir).await.unwrap();
    let held = blobs.held(hash, VICTIM_BYTES as u64).await.unwrap();
    blobs.shutdown().await.unwrap();
    held == PieceMap::All
}

fn settings() -> Settings {
    let mut identity = [0; 32];
    getrandom::fill(&mut identity).unwrap();
    Settings {
        identity,
        listen: Vec::new(),
        peers: Vec::new(),
        mdns: false,
        max_connections: 8,
        closed: false,
        enroller: None,
        rationed: false,
    }
}
