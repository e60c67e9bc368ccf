//! Sealed payloads as files: what comes out of them, and of altered ones.

use std::fs;

use burr_node::{
    Publisher,
    bundle::{self, Packed},
    publisher::Publication,
    slots::Slots,
};
use burr_protocol::{
    RepositoryId,
    action::StageFailure,
    seal::{self, DeviceKey, Epoch, Owner, ReleaseKey, SEGMENT, TAG, sealed_size},
    trust::write::{Change, Draft, Role},
};
use ed25519_dalek::SigningKey;

use crate::support::{listing, noise, pack, scratch, small_app, tree};

fn key(n: u8) -> ReleaseKey {
    let epoch = Epoch { repository: RepositoryId([1; 32]), fleet: "stores".to_owned(), number: 1 };
    let owner = Owner { epoch, app: "shop".to_owned(), channel: "stable".to_owned(), seq: 1 };
    ReleaseKey::new(owner, [n; 32])
}

fn stage(slots: &Slots, packed: &Packed, sealed: &[u8], key: &ReleaseKey) -> Result<(), StageFailure> {
    let (files, bytes) = (packed.manifest.files(), packed.manifest.bytes());
    slots.stage("shop", packed.bundle, sealed, files, bytes, Some((key, sealed.len() as u64)))
}

#[test]
fn a_sealed_bundle_comes_out_as_it_went_in_and_stays_verifiable() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    let plain = pack(&source, &dir.path().join("plain"));
    let packed = bundle::pack_sealed(&source, &dir.path().join("sealed"), &key(1), &|_, _| ()).unwrap();
    assert_eq!(packed.size, sealed_size(plain.size));
    assert_eq!(packed.manifest, plain.manifest);
    assert_ne!((packed.bundle, packed.blob), (plain.bundle, plain.blob), "no name tells what is in it");

    let slots = Slots::open(dir.path()).unwrap();
    let sealed = fs::read(&packed.path).unwrap();
    stage(&slots, &packed, &sealed, &key(1)).unwrap();
    let tree = slots.tree("shop", packed.bundle);
    assert_eq!(fs::read(tree.join("index.html")).unwrap(), b"<h1>1</h1>");
    let verdict = bundle::verify(&tree, &|_, _| ()).unwrap();
    assert!(verdict.is_whole());
    assert_eq!(verdict.bundle, packed.bundle);
    // Staged already: nothing of the payload is needed, and what was altered is replaced.
    stage(&slots, &packed, &[0; TAG], &key(1)).unwrap();
    fs::write(tree.join("index.html"), "altered").unwrap();
    assert!(!bundle::verify(&tree, &|_, _| ()).unwrap().is_whole());
    stage(&slots, &packed, &sealed, &key(1)).unwrap();
    assert_eq!(fs::read(tree.join("index.html")).unwrap(), b"<h1>1</h1>");
}

/// T54, T55: whatever is wrong, and wherever, no slot comes of it.
#[test]
fn an_altered_sealed_payload_leaves_nothing() {
    let dir = scratch();
    let source = tree(&dir.path().join("source"), &[("a", &noise(1, 3 * SEGMENT))]);
    let packed = bundle::pack_sealed(&source, &dir.path().join("sealed"), &key(1), &|_, _| ()).unwrap();
    let sealed = fs::read(&packed.path).unwrap();
    let segment = SEGMENT + TAG;
    let mut altered = vec![
        sealed[..segment].to_vec(),
        sealed[..sealed.len() - 1].to_vec(),
        [&sealed[..], b"0"].concat(),
        [&sealed[segment..2 * segment], &sealed[..segment], &sealed[2 * segment..]].concat(),
        [&sealed[..segment], &sealed[..segment], &sealed[segment..]].concat(),
    ];
    for at in [0, 100, segment - 1, segment, 2 * segment + 5, sealed.len() - 1] {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        altered.push(flipped);
    }
    let slots = Slots::open(dir.path()).unwrap();
    let nothing = |slots: &Slots| listing(&slots.path("shop")).iter().all(|path| !path.is_file());
    for bytes in &altered {
        let failure = stage(&slots, &packed, bytes, &key(1)).unwrap_err();
        assert!(matches!(failure, StageFailure::Bad(_)), "{failure:?}");
        assert!(nothing(&slots), "{} bytes", bytes.len());
    }
    assert!(matches!(stage(&slots, &packed, &sealed, &key(2)), Err(StageFailure::Bad(_))), "another key");
    assert!(nothing(&slots));
    stage(&slots, &packed, &sealed, &key(1)).unwrap();
}

/// T53, and what a publisher keeps: its keys its own, its payloads sealed.
#[test]
fn two_fleets_get_the_same_build_as_two_blobs_and_an_epoch_survives_a_passphrase() {
    let dir = scratch();
    let passphrase = Some("correct horse");
    Publisher::init(dir.path(), "shop", &["beta", "stable"], passphrase).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    let source = small_app(&dir.path().join("source"), "1");
    let device = DeviceKey::from_bytes(&[1; 32]).public();
    for fleet in ["stores", "trucks"] {
        let role: Role = format!("fleet.{fleet}").parse().unwrap();
        let keys = vec![publisher.new_key(&role, passphrase).unwrap()];
        let change = Change::AddFleet { fleet: fleet.to_owned(), keys, threshold: 1 };
        assert!(publisher.change(&change, passphrase).unwrap().1);
        assert!(publisher.hand_over(fleet, device, passphrase).unwrap().is_empty(), "no key yet");
        assert!(publisher.rotate(fleet, &[device], passphrase).unwrap().1);
        assert!(!publisher.hand_over(fleet, device, passphrase).unwrap().is_empty());
    }
    let mut publish = |fleet, channel, version| {
        let publication = Publication { encrypt_to: Some(fleet), ..Publication::new(&source, channel, version) };
        publisher.publish(&publication, passphrase, &|_, _| ()).unwrap()
    };
    let (stores, trucks) = (publish("stores", "stable", "1"), publish("trucks", "beta", "1"));
    let again = publish("stores", "stable", "2");
    let names = |release: &burr_protocol::release::Release| [release.bundle, release.payload.blob];
    let all: std::collections::BTreeSet<_> = [&stores, &trucks, &again].into_iter().flat_map(names).collect();
    assert_eq!(all.len(), 6, "T53: nobody can tell that it is the same build");
    assert_eq!(publisher.key_lists().count(), 2);
    let secrets = dir.path().join("publish/shop/fleets");
    assert!(listing(&secrets).iter().filter(|path| path.is_file()).all(|path| path.extension().unwrap() == "age"));
    assert!(publisher.rotate("vans", &[device], passphrase).is_err(), "there is no such fleet");
    assert!(
        publisher
            .audit()
            .unwrap()
            .iter()
            .any(|entry| entry.what.iter().any(|act| act.contains("epoch 1 of fleet stores")))
    );
}

/// T52: a draft of an epoch gives a key to its devices, whether it comes about or not.
#[test]
fn whoever_was_given_the_key_of_a_draft_that_never_came_about_reads_nothing() {
    let dir = scratch();
    Publisher::init(dir.path(), "shop", &["stable"], None).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    let role: Role = "fleet.stores".parse().unwrap();
    let second = SigningKey::from_bytes(&[9; 32]);
    let keys = vec![publisher.new_key(&role, None).unwrap(), second.verifying_key()];
    let change = Change::AddFleet { fleet: "stores".to_owned(), keys, threshold: 2 };
    let agreed = |mut draft: Draft, publisher: &mut Publisher| {
        draft.sign(&second).unwrap();
        publisher.submit(draft, None, None).unwrap();
    };
    let (draft, _) = publisher.change(&change, None).unwrap();
    agreed(draft, &mut publisher);
    let [lost, kept] = [1, 2].map(|seed| DeviceKey::from_bytes(&[seed; 32]));
    // Two proposals of one epoch: the first still has the device that was lost, and the second is agreed on.
    let (_, holds) = publisher.rotate("stores", &[lost.public(), kept.public()], None).unwrap();
    assert!(!holds, "the other one has not signed");
    let drafts = listing(&dir.path().join("publish/shop/drafts"));
    let before = fs::read(drafts.iter().find(|path| path.extension() == Some("keys".as_ref())).unwrap()).unwrap();
    let (draft, _) = publisher.rotate("stores", &[kept.public()], None).unwrap();
    agreed(draft, &mut publisher);
    let (_, list) = publisher.key_lists().next().unwrap();
    let after = fs::read(list).unwrap();

    let app = small_app(&dir.path().join("app"), "1");
    let publication = Publication { encrypt_to: Some("stores"), ..Publication::new(&app, "stable", "1") };
    let release = publisher.publish(&publication, None, &|_, _| ()).unwrap();
    let lock = release.lock(publisher.id()).unwrap();
    let opens = |list: &[u8], device: &DeviceKey| {
        let key = seal::find(list, &lock.owner.epoch, device).unwrap();
        key.is_some_and(|key| key.unwrap(&lock).is_ok())
    };
    assert!(opens(&after, &kept), "the key that was agreed on is the one that counts");
    assert!(!opens(&before, &lost) && !opens(&after, &lost));
}
