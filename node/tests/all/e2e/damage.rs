//! A device whose disk is damaged, full, newer or taken: it says so, and goes on where that can be.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use burr_node::store::records::Records;
use burr_protocol::record::Record;
use serde_json::{Value, json};

use super::program::{Node, Shop, current, publish, say, set_up, snapshot};
use crate::support::{SmallDisk, noise, tree};

const BUSY: i32 = 4;
const FAILED: i32 = 1;
const DISK: i32 = 5;

fn page(at: &Path) {
    tree(at, &[("index.html", b"<h1>shop</h1>"), ("app.js", &noise(1, 100_000))]);
}

fn device(shop: &Shop, data: &Path, publisher: &Node) -> Node {
    let peer = publisher.address().to_string();
    let quick = ["--set", "tuning.retry_backoff=500ms", "--set", "apps.shop.attempts=100"];
    Node::start(data, &[&["--install", &shop.link, "--peer", &peer], &quick[..]].concat())
}

/// A stopped device with 1.0.0, which it had from a publisher that still runs.
fn installed(shop: &Shop, data: &Path) -> Node {
    let publisher = Node::start(&shop.publisher, &[]);
    let mut device = device(shop, data, &publisher);
    device.hear_step("1.0.0", "active");
    device.stop();
    publisher
}

fn active(status: &Value) -> &Value {
    &status["apps"][0]["active"]["version"]
}

/// Counters and versions of the receipts that a node keeps, in order.
fn receipts(node: &Node) -> Vec<(u64, String)> {
    let receipts = node.ask("receipts");
    let receipts = receipts.as_array().expect("a list").iter();
    receipts
        .map(|receipt| (receipt["counter"].as_u64().unwrap(), receipt["version"].as_str().unwrap().into()))
        .collect()
}

fn files_below(at: &Path) -> Vec<PathBuf> {
    crate::support::listing(at).into_iter().filter(|path| path.is_file()).collect()
}

/// Does something to a file.
type Damage<'a> = &'a dyn Fn(&Path);

#[test]
fn a_data_directory_that_another_process_uses() {
    let shop = Shop::open(page);
    let mut node = Node::start(&shop.publisher, &[]);
    node.hear_fact("metadata_verified");
    let said = say(&shop.publisher, &["run", "--listen", "127.0.0.1", "--no-mdns"]);
    assert_eq!(said.code, Some(BUSY), "{said:?}");
    assert!(said.err.contains("in use by another process") && said.err.contains("hint: stop that"), "{said:?}");
    assert_eq!(node.ask("status")["repositories"][0]["newest"], json!([["stable", "1.0.0"]]));
    node.stop();
}

#[test]
fn a_data_directory_of_a_newer_burr() {
    let shop = Shop::open(page);
    Node::start(&shop.publisher, &[]).stop();
    let format = shop.publisher.join("format");
    let ours = fs::read_to_string(&format).unwrap();
    fs::write(&format, "99\n").unwrap();
    let before = snapshot(&shop.publisher);
    let build = shop.source().display().to_string();
    for arguments in [
        &["run"][..],
        &["config"],
        &["init", "--app", "other"],
        &["publish", &build, "--app", "shop", "--version", "2.0.0"],
        &["release", "pause", "1.0.0", "--app", "shop"],
        &["release", "propose", &build, "--app", "shop", "--version", "2.0.0", "--out", "never"],
        &["channel", "add", "beta", "--app", "shop"],
        &["key", "rotate", "channel.stable", "--app", "shop"],
        &["fleet", "create", "stores"],
        &["enrol", "stores"],
        &["config", "set", "quota", "2 GiB"],
        &["export", "never", "--app", "shop"],
        &["status"],
    ] {
        let said = say(&shop.publisher, arguments);
        assert_eq!(said.code, Some(FAILED), "{arguments:?}: {said:?}");
        assert!(said.err.contains("format \"99\"") && said.err.contains("update this one"), "{arguments:?}: {said:?}");
        assert_eq!(snapshot(&shop.publisher), before, "{arguments:?}");
    }
    fs::write(&format, ours).unwrap();
    Node::start(&shop.publisher, &[]).stop();
}

#[test]
fn a_port_that_is_taken() {
    let shop = Shop::open(page);
    Node::start(&shop.publisher, &[]).stop();
    let kept = |at: &Path| -> Vec<_> {
        // The databases note that they were opened.
        let ours = |path: &Path| !path.starts_with(at.join("records.sled")) && !path.starts_with(at.join("blobs"));
        snapshot(at).into_iter().filter(|(path, _)| ours(path)).collect()
    };
    let before = kept(&shop.publisher);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()] {
        let said = say(&shop.publisher, &["run", "--listen", "127.0.0.1", "--no-mdns", "--port", &port.to_string()]);
        assert_eq!(said.code, Some(BUSY), "{said:?}");
        assert!(said.err.contains(&port.to_string()) && said.err.contains("hint: "), "{said:?}");
        assert_eq!(kept(&shop.publisher), before);
    }
}

#[test]
fn a_damaged_database_is_set_aside_and_rebuilt_and_nothing_is_lost() {
    let shop = Shop::open(page);
    let data = shop.data("device");
    let publisher = installed(&shop, &data);
    let records = |data: &Path| -> Vec<Record> { Records::open(data).unwrap().1.records };
    let known = records(&data);
    assert!(known.iter().any(|record| matches!(record, Record::App { state, .. } if state.active.is_some())));
    let garbage = |path: &Path| fs::write(path, noise(7, 100_000)).unwrap();
    let scribble = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        for at in (0..bytes.len()).step_by(61) {
            bytes[at] ^= 0x5a;
        }
        fs::write(path, bytes).unwrap();
    };
    let empty = |path: &Path| drop(File::create(path).unwrap());
    let damages: [(&str, Damage<'_>); 3] = [("garbage", &garbage), ("scribble", &scribble), ("empty", &empty)];
    let mut versions = vec![(1, "1.0.0".to_owned())];
    for (number, (damage, inflict)) in damages.into_iter().enumerate() {
        let before = records(&data);
        for path in files_below(&data.join("records.sled")) {
            inflict(&path);
        }
        let mut device = device(&shop, &data, &publisher);
        // An empty database is not damaged, only behind its journal.
        if damage != "empty" {
            let why = device.hear_fact("store_rebuilt")["why"].as_str().unwrap().to_owned();
            for words in ["is damaged", "set aside as", "nothing is lost"] {
                assert!(why.contains(words), "{damage}: {why}");
            }
            assert!(crate::support::listing(&data).iter().any(|path| path.display().to_string().contains("damaged-")));
        }
        assert_eq!(receipts(&device), versions, "{damage}");
        assert_eq!(active(&device.ask("status")), &versions.last().unwrap().1.as_str(), "{damage}");
        device.stop();
        assert_eq!(records(&data), before, "{damage}");

        // What was rebuilt works: the next version gets the next number.
        let mut device = self::device(&shop, &data, &publisher);
        let version = format!("{}.0.0", number + 2);
        publish(&shop.publisher, &shop.source(), &version);
        device.hear_step(&version, "active");
        versions.push((number as u64 + 2, version));
        assert_eq!(receipts(&device), versions, "{damage}");
        device.stop();
    }
}

#[test]
fn a_damaged_journal_is_made_anew_from_the_database_and_nothing_is_lost() {
    let shop = Shop::open(page);
    let data = shop.data("device");
    let publisher = installed(&shop, &data);
    let mut updated = device(&shop, &data, &publisher);
    publish(&shop.publisher, &shop.source(), "2.0.0");
    updated.hear_step("2.0.0", "active");
    let versions = receipts(&updated);
    assert_eq!(versions, [(1, "1.0.0".to_owned()), (2, "2.0.0".to_owned())]);
    updated.stop();
    let journal = data.join("records.journal");
    let flip = |path: &Path, at: fn(usize) -> usize| {
        let mut bytes = fs::read(path).unwrap();
        let at = at(bytes.len());
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let early = |path: &Path| flip(path, |length| length / 3);
    let late = |path: &Path| flip(path, |length| length - 3);
    let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..100]).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let damages: [(&str, Damage<'_>); 4] =
        [("set aside as", &early), ("set aside as", &late), ("set aside as", &cut), ("is gone", &remove)];
    for (what, inflict) in damages {
        inflict(&journal);
        let mut device = device(&shop, &data, &publisher);
        let why = device.hear_fact("store_rebuilt")["why"].as_str().unwrap().to_owned();
        for words in ["the journal", "records.journal", what, "made anew from the database", "nothing is lost"] {
            assert!(why.contains(words), "{why}");
        }
        assert_eq!(receipts(&device), versions);
        assert_eq!(active(&device.ask("status")), "2.0.0");
        device.stop();
    }
    let aside = |path: &PathBuf| path.display().to_string().contains("records.journal.damaged-");
    assert_eq!(crate::support::listing(&data).iter().filter(|path| aside(path)).count(), 1, "the newest is kept");
}

#[test]
fn metadata_and_blobs_that_are_lost_or_damaged_come_again() {
    let shop = Shop::open(page);
    let data = shop.data("device");
    let publisher = installed(&shop, &data);
    let bundle = current(&data);
    for path in files_below(&data.join("metadata")) {
        fs::write(path, "scribble").unwrap();
    }
    let mut first = device(&shop, &data, &publisher);
    let why = first.hear_fact("record_dropped")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("kept metadata"), "{why}");
    first.hear_fact("metadata_verified");
    assert_eq!(active(&first.ask("status")), "1.0.0");
    first.stop();

    fs::remove_dir_all(data.join("metadata")).unwrap();
    fs::remove_dir_all(data.join("blobs")).unwrap();
    let mut second = device(&shop, &data, &publisher);
    second.hear_fact("fetch_completed");
    assert_eq!(active(&second.ask("status")), "1.0.0");
    assert_eq!(receipts(&second), [(1, "1.0.0".to_owned())]);
    second.stop();

    for path in files_below(&data.join("blobs")) {
        fs::write(path, noise(9, 50_000)).unwrap();
    }
    let mut third = device(&shop, &data, &publisher);
    let why = third.hear_fact("store_rebuilt")["why"].as_str().unwrap().to_owned();
    assert!(why.contains("blob store") && why.contains("set aside as"), "{why}");
    assert_eq!(active(&third.ask("status")), "1.0.0");
    publish(&shop.publisher, &shop.source(), "2.0.0");
    third.hear_step("2.0.0", "active");
    assert_eq!(receipts(&third), [(1, "1.0.0".to_owned()), (2, "2.0.0".to_owned())]);
    assert_eq!(current(&data), bundle, "the same files");
    third.stop();
}

#[test]
fn a_slot_that_is_lost_or_altered_is_installed_anew() {
    let shop = Shop::open(page);
    let data = shop.data("device");
    let publisher = installed(&shop, &data);
    let bundle = current(&data);
    fs::remove_dir_all(data.join("apps")).unwrap();
    let mut device = device(&shop, &data, &publisher);
    device.hear_step("1.0.0", "active");
    assert_eq!(current(&data), bundle);
    device.stop();
}

#[test]
fn a_full_disk_on_a_device() {
    let Some(disk) = SmallDisk::of_mib(40) else { return };
    let shop = Shop::open(page);
    let data = disk.path().join("device");
    let publisher = installed(&shop, &data);
    let old = current(&data);
    let mut device = device(&shop, &data, &publisher);
    // No room for the payload, then room for it but not for its files.
    for (number, room) in [(2, 2 << 20), (3, 12 << 20)] {
        let version = format!("{number}.0.0");
        let before = current(&data);
        fill(disk.path(), room);
        tree(&shop.source(), &[("data", &noise(number, 8 << 20))]);
        publish(&shop.publisher, &shop.source(), &version);
        let why = device.hear("a full disk", |fact| {
            let failed = &fact["step"];
            let staging = failed["step"] == "failed" && failed["again"] == true;
            (staging || fact["fact"] == "storage_failed").then(|| fact.to_string())
        });
        assert!(why.contains("space") || why.contains("store"), "{why}");
        assert_eq!(current(&data), before, "the old version stays");
        device.listen(Duration::from_secs(1));
        fs::remove_file(disk.path().join("ballast")).unwrap();
        device.hear_step(&version, "active");
        assert_ne!(current(&data), before);
    }
    assert_ne!(current(&data), old);
    device.stop();
}

#[test]
fn a_disk_that_is_full_at_a_start_is_no_damage() {
    let Some(disk) = SmallDisk::of_mib(20) else { return };
    let data = disk.path().join("publisher");
    set_up(&data);
    let source = tree(&disk.path().join("build"), &[("index.html", b"<h1>shop</h1>")]);
    publish(&data, &source, "1.0.0");
    Node::start(&data, &[]).stop();
    fill(disk.path(), 0);
    let said = say(&data, &["run", "--listen", "127.0.0.1", "--no-mdns"]);
    assert_eq!(said.code, Some(DISK), "{said:?}");
    assert!(said.err.contains("No space left") && said.err.contains("hint: free some space"), "{said:?}");
    let aside = |path: &&PathBuf| path.display().to_string().contains("damaged-");
    assert_eq!(crate::support::listing(&data).iter().find(aside), None);
    fs::remove_file(disk.path().join("ballast")).unwrap();
    let mut node = Node::start(&data, &[]);
    assert_eq!(node.ask("status")["repositories"][0]["newest"], json!([["stable", "1.0.0"]]));
    node.listen(Duration::from_millis(200));
    assert!(node.heard.iter().all(|fact| fact["fact"] != "store_rebuilt"), "{:?}", node.heard);
    node.stop();
}

/// Fills a disk until only so many bytes are free.
fn fill(disk: &Path, room: u64) {
    let mut ballast = File::create(disk.join("ballast")).unwrap();
    let block = vec![0; 64 << 10];
    while free(disk) > room && ballast.write_all(&block).is_ok() {}
}

fn free(disk: &Path) -> u64 {
    let found = rustix::fs::statvfs(disk).unwrap();
    found.f_bavail * found.f_frsize
}
