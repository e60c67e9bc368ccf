//! What verification costs on one core: of metadata that is read back or offered again, and of a new release.
//! `cargo bench -p burr-protocol --bench trust`.

use std::collections::BTreeMap;

use burr_protocol::{
    Hash, Wall,
    release::{Payload, Release},
    rules::Rules,
    trust::{
        Verified, verify,
        write::{Keys, Repository},
    },
};
use divan::{Bencher, black_box};
use ed25519_dalek::SigningKey;

const NOW: Wall = Wall(1_800_000_000);
/// Releases that each of two channels lists: a new app's, and as many as there can be.
const RELEASES: [u64; 2] = [1, 50];

fn main() {
    divan::main();
}

fn keys() -> Keys {
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let channels = BTreeMap::from([("beta".to_owned(), key(5)), ("stable".to_owned(), key(6))]);
    Keys { root: Some(key(1)), targets: Some(key(2)), snapshot: key(3), timestamp: key(4), channels }
}

fn publish(shop: &mut Repository, channel: &str) {
    let seq = shop.next_seq(channel);
    let release = Release {
        app: "shop".to_owned(),
        channel: channel.to_owned(),
        seq,
        version: format!("{seq}.0.0"),
        bundle: Hash::of(&seq.to_be_bytes()),
        payload: Payload { blob: Hash::of(channel.as_bytes()), size: 5 << 20 },
        files: 812,
        unpacked: 48 << 20,
        rules: Rules::default(),
        enc: None,
        capacitor: None,
    };
    shop.release(&release, [7; 32], &keys(), NOW).expect("it is newer");
}

fn shop(releases: u64) -> Repository {
    let mut shop = Repository::create("shop", &["beta", "stable"], &keys(), NOW).expect("names and keys are good");
    for _ in 0..releases {
        publish(&mut shop, "beta");
        publish(&mut shop, "stable");
    }
    shop
}

/// As at a start: everything, with nothing held.
#[divan::bench(args = RELEASES)]
fn unchanged_read_back(bencher: Bencher<'_, '_>, releases: u64) {
    let shop = shop(releases);
    bencher.bench(|| verify(shop.id(), None, black_box(shop.pack())).expect("it is good"));
}

/// As when a peer brings what is held already.
#[divan::bench(args = RELEASES)]
fn unchanged_offered_again(bencher: Bencher<'_, '_>, releases: u64) {
    let shop = shop(releases);
    let held: &Verified = shop.verified();
    bencher.bench(|| verify(shop.id(), Some(held), black_box(shop.pack())).expect_err("it is not newer"));
}

/// As when a peer brings news.
#[divan::bench(args = RELEASES)]
fn new_release(bencher: Bencher<'_, '_>, releases: u64) {
    let mut shop = shop(releases);
    let held = shop.verified().clone();
    publish(&mut shop, "stable");
    bencher.bench(|| verify(shop.id(), Some(&held), black_box(shop.pack())).expect("it is newer"));
}
