//! A cache's quota is one of disk, and is not passed at any moment: what goes is gone before what comes begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::program::{DEADLINE, Node, Shop, current, publish, say};
use crate::support::{noise, tree};

/// Watches how much disk directories take together.
pub(super) struct Watch {
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn on(dirs: Vec<PathBuf>) -> Self {
        let watch = Self { most: Arc::default(), ended: Arc::default() };
        let (most, ended) = (Arc::clone(&watch.most), Arc::clone(&watch.ended));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                most.fetch_max(taken(&dirs), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        watch
    }

    /// The most that it was.
    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Bytes of the blocks of all files, each once whatever names it has; what vanishes meanwhile takes none.
pub(super) fn taken(dirs: &[PathBuf]) -> u64 {
    let (mut files, mut open) = (BTreeMap::new(), dirs.to_vec());
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) => drop(files.insert(metadata.ino(), metadata.blocks() * 512)),
                Err(_) => {}
            }
        }
    }
    files.values().sum()
}

#[test]
fn a_kiosk_keeps_the_newest_that_fits_and_its_disk_never_takes_more() {
    const SIZE: usize = 3 << 20;
    const QUOTA: u64 = 12 << 20;
    let shop = Shop::open(|build| _ = tree(build, &[("data", &noise(1, SIZE))]));
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("kiosk");
    let watch = Watch::on(vec![data.join("blobs")]);
    let link = shop.link.replace("/stable@", "@");
    let quota = format!("quota={QUOTA} B");
    let peer = publisher.address().to_string();
    let mut kiosk = Node::start(&data, &["--cache", &link, "--set", &quota, "--peer", &peer]);
    kiosk.hear_fact("fetch_completed");
    let empty = 4 << 20;
    let mut newest = Vec::new();
    for (seed, version) in (2..).zip(["2.0.0", "3.0.0", "4.0.0", "5.0.0"]) {
        tree(&shop.source(), &[("data", &noise(seed, SIZE))]);
        let release = publish(&shop.publisher, &shop.source(), version);
        newest.push(release["payload"]["blob"].as_str().expect("a name").to_owned());
        let fetched = kiosk.hear_fact("fetch_completed");
        assert_eq!(fetched["blob"], **newest.last().expect("just pushed"), "{fetched}");
    }
    let held = kiosk.ask("status")["blobs"].clone();
    let held: Vec<&str> = held.as_array().expect("a list").iter().filter_map(|blob| blob["blob"].as_str()).collect();
    assert!(newest[2..].iter().all(|blob| held.contains(&blob.as_str())) && held.len() == 2, "{held:?} {newest:?}");
    let most = watch.most();
    eprintln!("at most {most} bytes of disk under a quota of {QUOTA}");
    assert!(most > 2 * SIZE as u64 && most <= QUOTA, "{most}");
    assert!(most - 2 * (SIZE as u64) < empty, "what the quota sets aside for the database suffices");
    kiosk.stop();
}

#[test]
fn earlier_versions_go_when_their_files_have_too_many_bytes() {
    let build = |at: &Path, seed: u64| drop(tree(at, &[("app.js", &noise(seed, 100_000))]));
    let shop = Shop::open(|at| build(at, 1));
    let publisher = Node::start(&shop.publisher, &[]);
    let (data, peer) = (shop.data("device"), publisher.address().to_string());
    let start = |keep: &str| {
        let keep = format!("apps.shop.keep_bytes={keep}");
        let arguments = ["--install", &shop.link, "--peer", &peer, "--set", "apps.shop.keep=4", "--set", &keep];
        Node::start(&data, &arguments)
    };
    // The bundles that have a slot, once the last cleaning is over.
    let slots = |wanted: usize| {
        let begun = Instant::now();
        loop {
            let found: BTreeSet<String> = fs::read_dir(data.join("apps/shop/slots"))
                .expect("a directory")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("hex"))
                .collect();
            if found.len() == wanted || begun.elapsed() > DEADLINE {
                return found;
            }
            thread::sleep(Duration::from_millis(20));
        }
    };
    let mut device = start("250 kB");
    device.hear_step("1.0.0", "active");
    let mut bundles = vec![current(&data).expect("installed")];
    for seed in 2..=5 {
        build(&shop.source(), seed);
        let version = format!("{seed}.0.0");
        publish(&shop.publisher, &shop.source(), &version);
        device.hear_step(&version, "active");
        bundles.push(current(&data).expect("installed"));
    }
    // The active one, two before it with 200 kB, and the first of all.
    let kept = [&bundles[4], &bundles[3], &bundles[2], &bundles[0]].map(Clone::clone);
    assert_eq!(slots(4), BTreeSet::from(kept));
    device.stop();
    let device = start("0 B");
    let kept = [&bundles[4], &bundles[0]].map(Clone::clone);
    assert_eq!(slots(2), BTreeSet::from(kept), "a smaller quota holds from the next start on");
    device.stop();
    let refused = say(&data, &["run", "--install", &shop.link, "--set", "apps.shop.keep_bytes=many"]);
    assert!(refused.code == Some(2) && refused.err.contains("500 MB"), "{refused:?}");
}
