//! A publisher sets up, publishes, and is told what is wrong; nothing half done ever counts.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};

use burr_node::{
    Error, Kind, bundle,
    publisher::{Publication, Publisher},
};
use burr_protocol::{Hash, release::Release, trust};
use sha2::{Digest as _, Sha256};

use crate::support::{SmallDisk, listing, noise, scratch, small_app, tree};

fn publish(publisher: &mut Publisher, source: &Path, channel: &str, version: &str) -> Result<Release, Error> {
    publisher.publish(&Publication::new(source, channel, version), None, &|_, _| ())
}

#[test]
fn versions_are_published_and_any_tuf_client_finds_them() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    let id = Publisher::init(dir.path(), "shop", &["stable", "beta"], None).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    assert_eq!((publisher.id(), publisher.app()), (id, "shop"));
    assert_eq!(Publisher::apps(dir.path()), ["shop"]);

    let first = publish(&mut publisher, &source, "stable", "1.0").unwrap();
    fs::write(source.join("index.html"), b"<h1>2</h1>").unwrap();
    let second = publish(&mut publisher, &source, "stable", "1.10").unwrap();
    let beta = publish(&mut publisher, &source, "beta", "2.0-rc.1").unwrap();
    assert_eq!((first.seq, second.seq, beta.seq), (1, 2, 1));
    assert_ne!(first.bundle, second.bundle);
    publisher.refresh(None).unwrap();

    // What another process sees.
    let publisher = Publisher::open(dir.path(), "shop").unwrap();
    let verified = trust::verify(id, None, publisher.pack()).unwrap();
    let releases: Vec<&Release> = verified.releases().collect();
    assert_eq!(releases, [&beta, &first, &second]);
    for release in publisher.releases() {
        let path = publisher.payload_path(release).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!((Hash::of(&bytes), bytes.len() as u64), (release.payload.blob, release.payload.size));
        let name = format!("{}.{}.burr", Hash(Sha256::digest(&bytes).into()), release.seq);
        assert!(path.ends_with(Path::new("targets/app/shop").join(&release.channel).join(name)), "{path:?}");
        let slot = dir.path().join(format!("slot-{}-{}", release.channel, release.seq));
        bundle::unpack(&bytes[..], &slot, release.bundle, release.files, release.unpacked).unwrap();
    }
    let metadata = dir.path().join("publish/shop/repository/metadata");
    for name in ["timestamp.json", "1.root.json", "1.targets.json", "3.app.shop.stable.json", "5.snapshot.json"] {
        assert!(metadata.join(name).is_file(), "{name}");
    }
}

#[test]
fn what_can_not_be_published_changes_nothing() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    Publisher::init(dir.path(), "shop", &["stable"], None).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    publish(&mut publisher, &source, "stable", "1.2.0").unwrap();
    // Any attempt tidies up what the last release superseded.
    publish(&mut publisher, &dir.path().join("nowhere"), "stable", "2.0.0").unwrap_err();
    let before = listing(dir.path());
    for (channel, version) in [
        ("stable", "1.2.0"),
        ("stable", "1.1.9"),
        ("stable", "1.2.0-rc.1"),
        ("stable", "1.2.0+other"),
        ("stable", "1/3"),
        ("stable", ""),
        ("nightly", "2.0.0"),
        ("../stable", "2.0.0"),
    ] {
        let error = publish(&mut publisher, &source, channel, version).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput, "{channel} {version}: {error:?}");
    }
    let error = publish(&mut publisher, &dir.path().join("nowhere"), "stable", "2.0.0").unwrap_err();
    assert_eq!(error.kind(), Kind::BadInput, "{error:?}");
    let change = |done: u64, total: u64| {
        if 2 * done == total {
            fs::write(source.join("index.html"), b"the build goes on").unwrap();
        }
    };
    let error = publisher.publish(&Publication::new(&source, "stable", "2.0.0"), None, &change).unwrap_err();
    assert_eq!(error.kind(), Kind::Changed, "{error:?}");

    assert_eq!(listing(dir.path()), before);
    assert_eq!(publish(&mut publisher, &source, "stable", "2.0.0").unwrap().seq, 2);
}

#[test]
fn an_app_is_set_up_once_and_by_a_usable_name() {
    let dir = scratch();
    let id = Publisher::init(dir.path(), "shop", &["stable"], None).unwrap();
    assert_eq!(Publisher::init(dir.path(), "shop", &["stable"], None).unwrap_err().kind(), Kind::BadInput);
    assert_eq!(Publisher::open(dir.path(), "shop").unwrap().id(), id);
    for (app, channels) in [("../shop", vec!["stable"]), ("Shop", vec!["stable"]), ("a", vec![]), ("b", vec!["x/y"])] {
        let error = Publisher::init(dir.path(), app, &channels, None).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput, "{app}: {error:?}");
    }
    assert_eq!(Publisher::open(dir.path(), "other").unwrap_err().kind(), Kind::BadInput);
    assert_eq!(Publisher::apps(dir.path()), ["shop"]);
    // A set-up that a crash cut short does not count and does not stand in the way.
    tree(&dir.path().join("publish/.unfinished-other"), &[("keys/root.key", b"")]);
    Publisher::init(dir.path(), "other", &["stable"], None).unwrap();
    assert_eq!(Publisher::apps(dir.path()), ["other", "shop"]);
}

#[test]
fn private_keys_are_private_and_a_missing_or_wrong_one_is_named() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    Publisher::init(dir.path(), "shop", &["stable", "beta"], None).unwrap();
    let keys = dir.path().join("publish/shop/keys");
    assert_eq!(fs::metadata(&keys).unwrap().mode() & 0o777, 0o700);
    let files = listing(&keys);
    assert_eq!(files.len(), 6);
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600, "{file:?}");
    }

    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    fs::rename(keys.join("channel.stable.key"), dir.path().join("away")).unwrap();
    let error = publish(&mut publisher, &source, "stable", "1").unwrap_err();
    assert!(error.kind() == Kind::Key && error.to_string().contains("channel.stable.key"), "{error:?}");
    fs::copy(keys.join("channel.beta.key"), keys.join("channel.stable.key")).unwrap();
    assert_eq!(publish(&mut publisher, &source, "stable", "1").unwrap_err().kind(), Kind::Key);
    fs::write(keys.join("channel.stable.key"), b"scribble").unwrap();
    assert_eq!(publish(&mut publisher, &source, "stable", "1").unwrap_err().kind(), Kind::Key);
    // Keys that a release does not take can be elsewhere.
    fs::rename(dir.path().join("away"), keys.join("channel.stable.key")).unwrap();
    fs::remove_file(keys.join("root.key")).unwrap();
    fs::remove_file(keys.join("targets.key")).unwrap();
    publish(&mut publisher, &source, "stable", "1").unwrap();
}

#[test]
fn a_passphrase_opens_the_keys_and_no_other_does() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    assert_eq!(Publisher::init(dir.path(), "shop", &["stable"], Some("")).unwrap_err().kind(), Kind::BadInput);
    Publisher::init(dir.path(), "shop", &["stable"], Some("correct horse")).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    for wrong in [None, Some("battery staple"), Some("")] {
        let error = publisher.publish(&Publication::new(&source, "stable", "1"), wrong, &|_, _| ()).unwrap_err();
        assert!(error.kind() == Kind::Key && error.to_string().contains("passphrase"), "{error:?}");
    }
    publisher.publish(&Publication::new(&source, "stable", "1"), Some("correct horse"), &|_, _| ()).unwrap();
    for file in listing(&dir.path().join("publish/shop/keys")) {
        assert!(fs::read(&file).unwrap().starts_with(b"age-encryption.org/v1"), "{file:?}");
    }
}

#[test]
fn two_can_not_publish_at_once() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    Publisher::init(dir.path(), "shop", &["stable"], None).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    let lock = File::create(dir.path().join("publish/shop/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(publish(&mut publisher, &source, "stable", "1").unwrap_err().kind(), Kind::Busy);
    drop(lock);
    publish(&mut publisher, &source, "stable", "1").unwrap();

    // A second one that was opened before sees what the first one published.
    let mut late = Publisher::open(dir.path(), "shop").unwrap();
    publish(&mut publisher, &source, "stable", "2").unwrap();
    assert_eq!(publish(&mut late, &source, "stable", "2").unwrap_err().kind(), Kind::BadInput);
    assert_eq!(publish(&mut late, &source, "stable", "3").unwrap().seq, 3);
}

#[test]
fn a_full_disk_publishes_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let dir = scratch();
    Publisher::init(disk.path(), "shop", &["stable"], None).unwrap();
    let mut publisher = Publisher::open(disk.path(), "shop").unwrap();
    let small = tree(&dir.path().join("small"), &[("index.html", b"1")]);
    publish(&mut publisher, &small, "stable", "1").unwrap();
    // Any attempt tidies up what the last release superseded.
    publish(&mut publisher, &dir.path().join("nowhere"), "stable", "2").unwrap_err();
    let before = listing(disk.path());
    let large = tree(&dir.path().join("large"), &[("a", &noise(1, 2 << 20))]);
    let error = publish(&mut publisher, &large, "stable", "2").unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
    assert!(error.hint().unwrap().contains("free some space"));
    assert_eq!(listing(disk.path()), before);
    assert_eq!(publish(&mut publisher, &small, "stable", "2").unwrap().seq, 2);
}

#[test]
fn damaged_metadata_is_named() {
    let dir = scratch();
    Publisher::init(dir.path(), "shop", &["stable"], None).unwrap();
    let timestamp = dir.path().join("publish/shop/repository/metadata/timestamp.json");
    let text = fs::read_to_string(&timestamp).unwrap();
    fs::write(&timestamp, text.replace("\"version\":1", "\"version\":2")).unwrap();
    assert_eq!(Publisher::open(dir.path(), "shop").unwrap_err().kind(), Kind::Storage);
    fs::remove_file(&timestamp).unwrap();
    assert_eq!(Publisher::open(dir.path(), "shop").unwrap_err().kind(), Kind::Storage);
}
