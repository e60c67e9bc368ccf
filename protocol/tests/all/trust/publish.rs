//! The publisher's side: what it writes, what it refuses, and what comes back from disk.

use burr_protocol::{
    Wall,
    release::Release,
    trust::{
        pack::Pack,
        write::{KEPT_RELEASES, Keys, Repository, WriteError},
    },
};

use super::repository::{Bent, DAY, NOW, key, keys, publish, release, shop, verified};

#[test]
fn a_repository_comes_back_from_its_files() {
    let mut shop = shop();
    for seq in 1..=3 {
        publish(&mut shop, "stable", seq);
    }
    let files = shop.files();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "1.app.shop.beta.json",
        "1.root.json",
        "1.targets.json",
        "4.app.shop.stable.json",
        "4.snapshot.json",
        "timestamp.json",
    ];
    assert_eq!(names, expected);
    let back = Repository::open(|name| files.get(name).cloned()).unwrap();
    assert_eq!(back, shop);
    for name in names {
        let without = Repository::open(|other| files.get(other).filter(|_| other != name).cloned());
        assert!(matches!(&without, Err(WriteError::MissingFile(missing)) if missing == name), "{without:?}");
    }
}

#[test]
fn what_may_not_be_published_is_refused_and_changes_nothing() {
    let mut shop = shop();
    publish(&mut shop, "stable", 2);
    let before = shop.clone();
    let mut other_key = keys();
    other_key.channels.insert("stable".to_owned(), key(66));
    let mut no_key = keys();
    no_key.channels.remove("stable");
    let mut other_timestamp = keys();
    other_timestamp.timestamp = key(66);
    let next = release("stable", 3);
    let cases = vec![
        (release("stable", 2), keys(), "not newer than release 2"),
        (release("stable", 1), keys(), "the next number is 3"),
        (Release { version: "2.0".to_owned(), ..next.clone() }, keys(), "not newer than version 2.0"),
        (Release { version: "1.10".to_owned(), ..next.clone() }, keys(), "not newer than version 2.0"),
        (Release { channel: "nightly".to_owned(), ..next.clone() }, keys(), "no channel"),
        (Release { app: "bank".to_owned(), ..next.clone() }, keys(), "no channel"),
        (Release { app: "../etc".to_owned(), ..next.clone() }, keys(), "no usable app"),
        (next.clone(), other_key, "not the one"),
        (next.clone(), other_timestamp, "not the one"),
        (next.clone(), no_key, "missing"),
    ];
    for (release, keys, words) in cases {
        let error = shop.release(&release, [0; 32], &keys, NOW).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(shop, before);
    }
    shop.release(&next, [0; 32], &keys(), NOW).unwrap();
}

#[test]
fn a_repository_is_not_made_with_one_key_for_two_roles_or_without_a_channel() {
    let mut shared = keys();
    shared.timestamp = key(1);
    let error = Repository::create("shop", &["stable"], &shared, NOW).unwrap_err();
    assert!(matches!(error, WriteError::SharedKey { .. }), "{error}");
    assert_eq!(Repository::create("shop", &[], &keys(), NOW), Err(WriteError::NoChannel));
    assert!(matches!(Repository::create("shop", &["nightly"], &keys(), NOW), Err(WriteError::MissingKey { .. })));
    assert!(matches!(Repository::create("Shop", &["stable"], &keys(), NOW), Err(WriteError::Label(_))));
}

#[test]
fn the_root_and_targets_keys_stay_at_home_when_a_release_is_published() {
    let mut shop = shop();
    let online = Keys { root: None, targets: None, ..keys() };
    shop.release(&release("stable", 1), [1; 32], &online, NOW).unwrap();
    shop.refresh(&online, NOW).unwrap();
}

#[test]
fn refreshing_keeps_a_quiet_repository_alive_and_signed_time_never_goes_back() {
    let mut shop = shop();
    publish(&mut shop, "stable", 1);
    let first = shop.verified().clone();
    shop.refresh(&keys(), Wall(NOW.0 + 20 * DAY)).unwrap();
    assert_eq!(shop.verified().expires(), Wall(NOW.0 + 50 * DAY));
    assert_eq!(Bent::of(&shop).delegated, {
        let pack = Pack::decode(first.pack()).unwrap();
        pack.delegated.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
    });
    for day in (30..400).step_by(20) {
        shop.refresh(&keys(), Wall(NOW.0 + day * DAY)).unwrap();
        assert_eq!(shop.verified().expires(), Wall(NOW.0 + (day + 30) * DAY), "day {day}");
    }
    let issued = shop.verified().issued();
    shop.refresh(&keys(), Wall(0)).unwrap();
    assert_eq!(shop.verified().issued(), issued);
    assert_eq!(verified(&shop, Some(&first)).unwrap().releases().count(), 1);
}

#[test]
fn a_channels_document_keeps_its_newest_releases_alone() {
    let mut shop = shop();
    for seq in 1..=KEPT_RELEASES as u64 + 5 {
        publish(&mut shop, "stable", seq);
    }
    let seqs: Vec<u64> = shop.verified().releases().map(|release| release.seq).collect();
    assert_eq!(seqs, (6..=KEPT_RELEASES as u64 + 5).collect::<Vec<_>>());
}
