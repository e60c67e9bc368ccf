//! Sealed releases between real nodes: what members read, what everybody carries, and what nobody else learns.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use burr_protocol::Hash;

use super::{
    link::Link,
    onlooker,
    program::{Node, current, publish, say, set_up},
};
use crate::support::{listing, noise, scratch, tree};

const WINDOW: usize = 32;

/// A build of one file: its name and its bytes are nowhere else, and two builds have nothing in common.
struct Build {
    name: String,
    secret: Vec<u8>,
}

fn build(at: &Path, seed: u64) -> Build {
    let (name, secret) = (Hash::of(&seed.to_be_bytes()).to_string(), noise(seed, 300_000));
    let _ = fs::remove_dir_all(at);
    tree(at, &[(&name, &secret)]);
    Build { name, secret }
}

/// All runs of 32 bytes of a build, and of its name.
struct Windows<'a>(HashSet<&'a [u8]>);

impl<'a> Windows<'a> {
    fn of(build: &'a Build) -> Self {
        Self(build.secret.windows(WINDOW).chain(build.name.as_bytes().windows(WINDOW)).collect())
    }

    fn are_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(WINDOW).any(|window| self.0.contains(window))
    }
}

/// The files below a directory that hold any 32 bytes of a build, or of its name.
fn who_knows(build: &Build, at: &Path) -> Vec<PathBuf> {
    let windows = Windows::of(build);
    let files = listing(at).into_iter().filter(|path| path.is_file() && !path.is_symlink());
    let knows =
        |path: &PathBuf| windows.are_in(&fs::read(path).unwrap()) || windows.are_in(path.to_string_lossy().as_bytes());
    files.filter(knows).collect()
}

/// Makes a device a member, by files as a person carries them; returns its node.
fn join(publisher: &Path, device: &Path) -> String {
    let [request, answer] = ["request", "answer"].map(|name| device.with_extension(name).display().to_string());
    let invited = say(publisher, &["enrol", "stores", "--json"]).json();
    let invitation = invited["invitation"].as_str().unwrap();
    say(device, &["join", invitation, "--request", &request]).ok();
    say(publisher, &["enrol", "stores", "--sign", &request, "--out", &answer]).ok();
    let joined = say(device, &["join", invitation, "--answer", &answer, "--json"]).json();
    joined["member"]["node"].as_str().unwrap().to_owned()
}

/// Makes a device a member over the network: asks the publisher's node, which runs.
fn join_there(publisher: &Path, device: &Path) -> serde_json::Value {
    let invited = say(publisher, &["enrol", "stores", "--json"]).json();
    say(device, &["join", invited["invitation"].as_str().unwrap(), "--json"]).json()
}

fn publish_sealed(publisher: &Path, source: &Path, version: &str) -> serde_json::Value {
    let source = source.display().to_string();
    let publish = ["publish", &source, "--app", "shop", "--version", version, "--encrypt-to", "stores", "--json"];
    say(publisher, &publish).json()
}

/// Waits until a device says that it is not a member in this epoch, and has installed nothing newer.
fn hear_no_member(device: &mut Node, epoch: u64) {
    let words = format!("not a member of fleet stores in epoch {epoch}");
    device.hear(&words, |fact| fact["why"].as_str().is_some_and(|why| why.contains(&words)).then_some(()));
    let status = device.ask("status");
    let why = status["apps"][0]["why"].as_str().unwrap();
    assert!(why.contains(&words), "{status}");
}

/// T50 and T52.
#[test]
fn members_read_what_a_kiosk_carries_and_cannot() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let [shop, kiosk_at, first_at, second_at, stranger_at] =
        ["publisher", "kiosk", "first", "second", "stranger"].map(at);
    let link = set_up(&shop);
    let cached = format!("shop@{}", link.split_once('@').unwrap().1);
    say(&shop, &["fleet", "create", "stores"]).ok();

    let source = at("build");
    let old = build(&source, 1);
    let refused = say(
        &shop,
        &["publish", &source.display().to_string(), "--app", "shop", "--version", "1.0.0", "--encrypt-to", "stores"],
    );
    assert!(refused.err.contains("has no key yet"), "{refused:?}");

    let origin = Node::start(&shop, &[]);
    let peer = origin.address().to_string();
    let kiosk = Node::start(&kiosk_at, &["--cache", &cached, "--peer", &peer]);
    let peer = kiosk.address().to_string();
    let install = ["--install", &link, "--peer", &peer];
    // One is a member when the fleet gets its key, and finds it in the list; the other is handed it when it joins.
    join(&shop, &first_at);
    say(&shop, &["fleet", "rotate", "stores"]).ok();
    let second_node = join(&shop, &second_at);
    let [mut first, mut second, mut stranger] =
        [&first_at, &second_at, &stranger_at].map(|data| Node::start(data, &install));
    let release = publish_sealed(&shop, &source, "1.0.0");
    assert_eq!(release["enc"]["epoch"], 1);
    first.hear_step("1.0.0", "active");
    second.hear_step("1.0.0", "active");
    hear_no_member(&mut stranger, 1);
    assert_eq!(current(&first_at).as_deref(), release["bundle"].as_str());
    assert_eq!(fs::read(first_at.join("apps/shop/current").join(&old.name)).unwrap(), old.secret);

    assert_eq!(who_knows(&old, &kiosk_at), [] as [&Path; 0], "T50: all files of the kiosk");
    assert_eq!(who_knows(&old, &stranger_at), [] as [&Path; 0]);
    assert!(who_knows(&old, &first_at).iter().any(|path| path.ends_with(&old.name)), "the search finds what is there");
    // The kiosk has it whole, as any blob.
    let blobs = kiosk.ask("status")["blobs"].clone();
    let held = |blob: &serde_json::Value| blob["blob"] == release["payload"]["blob"] && blob["held"] == blob["size"];
    assert!(blobs.as_array().unwrap().iter().any(held), "{blobs}");

    // The second device is taken out: it keeps what it has, and nothing after is for it.
    say(&shop, &["fleet", "revoke", "stores", &second_node]).ok();
    say(&shop, &["fleet", "rotate", "stores"]).ok();
    let news = build(&source, 2);
    let release = publish_sealed(&shop, &source, "2.0.0");
    assert_eq!(release["enc"]["epoch"], 2);
    first.hear_step("2.0.0", "active");
    hear_no_member(&mut second, 2);
    assert_eq!(fs::read(second_at.join("apps/shop/current").join(&old.name)).unwrap(), old.secret);
    assert_eq!(who_knows(&news, &second_at), [] as [&Path; 0], "T52");
    assert_eq!(who_knows(&news, &kiosk_at), [] as [&Path; 0], "T50");

    // A restart needs nobody: the keys are on the device, and its own release is whole.
    let bundle = current(&first_at);
    first.stop();
    let first = Node::start(&first_at, &install);
    assert_eq!(current(&first_at), bundle);
    let status = first.ask("status");
    assert_eq!(status["apps"][0]["active"]["version"], "2.0.0", "{status}");

    // What is for everybody is for everybody still.
    build(&source, 3);
    publish(&shop, &source, "3.0.0");
    second.hear_step("3.0.0", "active");
    stranger.hear_step("3.0.0", "active");
}

/// T50: neither the wire between two nodes nor what comes out of it at a kiosk's end has a plain byte of the build, or
/// its files' names.
#[test]
fn what_crosses_the_wire_and_what_a_kiosk_is_given_tell_nothing() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let [shop, kiosk_at, device_at] = ["publisher", "kiosk", "device"].map(at);
    let link = set_up(&shop);
    let repository = link.split_once('@').unwrap().1;
    say(&shop, &["fleet", "create", "stores"]).ok();
    let origin = Node::start(&shop, &[]);
    join(&shop, &device_at);
    say(&shop, &["fleet", "rotate", "stores"]).ok();

    // publisher ═ kiosk ═ device, by no other way than wires that are tapped.
    let wires = [Link::recording(origin.address())];
    let cached = format!("shop@{repository}");
    let kiosk = Node::start(&kiosk_at, &["--cache", &cached, "--peer", &wires[0].address()]);
    let [first] = wires;
    let wires = [first, Link::recording(kiosk.address())];
    let mut device = Node::start(&device_at, &["--install", &link, "--peer", &wires[1].address()]);
    let source = at("build");
    let builds = [1, 2].map(|number| {
        let made = build(&source, number);
        let version = format!("{number}.0.0");
        let release = publish_sealed(&shop, &source, &version);
        device.hear_step(&version, "active");
        (made, release)
    });
    // What is for everybody shows that both ways of looking find what there is.
    let open = build(&source, 3);
    publish(&shop, &source, "3.0.0");
    device.hear_step("3.0.0", "active");

    let seen = onlooker::look(&kiosk.address().to_string(), repository.parse().unwrap(), 3);
    let crossed: Vec<Vec<u8>> = wires.iter().flat_map(Link::recorded).collect();
    for (build, release) in &builds {
        let payload = seen.blobs[&release["payload"]["blob"].as_str().unwrap().parse().unwrap()].len();
        assert_eq!(Some(payload as u64), release["payload"]["size"].as_u64(), "the kiosk was given all of it");
        let windows = Windows::of(build);
        assert!(seen.said.iter().chain(seen.blobs.values()).all(|bytes| !windows.are_in(bytes)), "at a kiosk's end");
        assert!(crossed.iter().all(|bytes| !windows.are_in(bytes)), "on the wire");
    }
    for wire in &wires {
        let all: usize = wire.recorded().iter().map(Vec::len).sum();
        assert!(all > builds.iter().map(|(build, _)| build.secret.len()).sum(), "{all} bytes went another way");
    }
    assert!(seen.blobs.values().any(|bytes| Windows::of(&open).are_in(bytes)));
}

/// §12.9, §13.6: who joins over the network is handed the fleet's key with the certificate, in open and closed meshes.
#[test]
fn who_joins_over_the_network_reads_what_was_sealed_before() {
    for closed in ["mesh.closed=false", "mesh.closed=true"] {
        let dir = scratch();
        let at = |name: &str| dir.path().join(name);
        let [shop, device_at, late_at, source] = ["publisher", "device", "late", "build"].map(at);
        let link = set_up(&shop);
        say(&shop, &["fleet", "create", "stores"]).ok();
        say(&shop, &["fleet", "rotate", "stores"]).ok();
        let build = build(&source, 1);
        let release = publish_sealed(&shop, &source, "1.0.0");
        let origin = Node::start(&shop, &["--set", closed]);
        let joined = join_there(&shop, &device_at);
        let peer = origin.address().to_string();
        let run = ["--install", &link, "--peer", &peer, "--set", closed];
        let mut device = Node::start(&device_at, &run);
        assert_eq!(joined["member"]["node"], device.id());
        device.hear_step("1.0.0", "active");
        assert_eq!(current(&device_at).as_deref(), release["bundle"].as_str());
        assert_eq!(fs::read(device_at.join("apps/shop/current").join(&build.name)).unwrap(), build.secret);

        // In the next epoch it is in the list; who comes then is handed the keys of both, and reads what there is.
        say(&shop, &["fleet", "rotate", "stores"]).ok();
        join_there(&shop, &late_at);
        let mut late = Node::start(&late_at, &run);
        late.hear_step("1.0.0", "active");
        let release = publish_sealed(&shop, &source, "2.0.0");
        assert_eq!(release["enc"]["epoch"], 2);
        for node in [&mut device, &mut late] {
            node.hear_step("2.0.0", "active");
        }
        for node in [device, late, origin] {
            node.stop();
        }
    }
}
