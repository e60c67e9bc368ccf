//! A publisher that is killed in the middle of `publish`.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use burr_node::Publisher;

use super::{
    super::program::{Shop, burr, publish},
    Draw,
};
use crate::support::{listing, noise, tree};

const KILLS: usize = 24;

fn build(at: &Path) {
    tree(at, &[("data", &noise(1, 3 << 20)), ("index.html", b"<h1>shop</h1>")]);
    for number in 0..100 {
        tree(at, &[(&format!("assets/{number}.js"), &noise(number, 4000))]);
    }
}

#[test]
fn a_publish_that_is_killed_leaves_the_old_or_the_new_release() {
    let shop = Shop::open(build);
    let source = shop.source().display().to_string();
    let mut draw = Draw(0x5eed);
    let begun = Instant::now();
    publish(&shop.publisher, &shop.source(), "1.0.1");
    let mut whole = begun.elapsed();
    let mut newest = "1.0.1".to_owned();
    let (mut old, mut new, mut outlived) = (0, 0, 0);
    let mut number = 1;
    while old + new < KILLS {
        number += 1;
        let version = format!("1.0.{number}");
        tree(&shop.source(), &[("data", &noise(number, 3 << 20))]);
        let mut command = burr(&shop.publisher);
        command.args(["publish", &source, "--app", "shop", "--version", &version]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Every third comes late, where the release begins to count.
        let late = if number % 3 == 0 { whole * 3 / 4 } else { Duration::ZERO };
        thread::sleep(late + draw.time(whole.saturating_sub(late)));
        let outlasted = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();

        let publisher = Publisher::open(&shop.publisher, "shop").expect("a whole repository");
        let found: Vec<_> = publisher.releases().collect();
        let last = found.last().expect("releases are never lost");
        assert!(last.version == newest || last.version == version, "{} after {newest}", last.version);
        for release in &found {
            let payload = fs::read(publisher.payload_path(release).expect("every release has its payload")).unwrap();
            assert_eq!(blake3::hash(&payload).as_bytes(), &release.payload.blob.0, "{}", release.version);
        }
        match (outlasted, last.version == version) {
            (true, _) => outlived += 1,
            (false, true) => new += 1,
            (false, false) => old += 1,
        }
        newest.clone_from(&last.version);

        // The next publish works and tidies up.
        number += 1;
        newest = format!("1.0.{number}");
        let begun = Instant::now();
        publish(&shop.publisher, &shop.source(), &newest);
        whole = (whole * 3 + begun.elapsed()) / 4;
        let publisher = Publisher::open(&shop.publisher, "shop").unwrap();
        let listed = publisher.releases().map(|release| release.seq).collect();
        let left = leftovers(&shop.publisher.join("publish/shop"), &listed);
        assert!(left.is_empty(), "{left:?}");
        assert!(outlived < 100, "a publish is over before it can be killed");
    }
    eprintln!("{KILLS} kills within `publish` ({whole:?}): {old} left the old release, {new} the new one");
    assert!(old > 0, "no kill came before the release counted");
}

/// What is there and should not be, after a publish that ended well.
fn leftovers(home: &Path, listed: &BTreeSet<u64>) -> Vec<String> {
    let names: Vec<String> = listing(home).iter().map(|path| path.display().to_string()).collect();
    let oldest = *listed.first().expect("just published");
    // What the last state named stays for clients that are just reading it: its documents, and the oldest payload.
    let snapshots = names.iter().filter(|name| name.ends_with(".snapshot.json")).count();
    let mut seen = BTreeSet::new();
    let mut is_odd = |name: &str| match name.strip_suffix(".burr").and_then(|name| name.rsplit_once('.')) {
        Some((_, seq)) => {
            let seq = seq.parse().expect("a number");
            !seen.insert(seq) || !(listed.contains(&seq) || seq + 1 == oldest)
        }
        None => name.contains(".unfinished") || name.contains(".part") || snapshots > 2,
    };
    names.iter().filter(|name| is_odd(name)).cloned().collect()
}
