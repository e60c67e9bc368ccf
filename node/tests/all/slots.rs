//! Slots: what is staged is whole, what is current changes in one step, and what a crash leaves is cleaned.

use std::{
    fs::{self, File},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use burr_node::{bundle::Packed, slots::Slots};
use burr_protocol::{Hash, action::StageFailure};

use crate::support::{SmallDisk, listing, noise, pack, scratch, tree};

fn version(dir: &Path, number: u8) -> Packed {
    let source = dir.join(format!("source-{number}"));
    tree(&source, &[("version", &[number; 100]), ("same/version", &[number; 100])]);
    pack(&source, &dir.join(format!("payload-{number}")))
}

fn stage(slots: &Slots, packed: &Packed) -> Result<(), StageFailure> {
    let payload = File::open(&packed.path).unwrap();
    slots.stage("shop", packed.bundle, payload, packed.manifest.files(), packed.manifest.bytes(), None)
}

#[test]
fn a_bundle_is_staged_switched_to_and_cleaned_away() {
    let dir = scratch();
    let slots = Slots::open(dir.path()).unwrap();
    let [one, two, three] = [1, 2, 3].map(|number| version(dir.path(), number));
    assert_eq!((slots.current("shop"), slots.staged("shop")), (None, vec![]));
    assert!(slots.switch("shop", Some(one.bundle)).is_err(), "it is not staged");
    slots.switch("shop", None).unwrap();

    for packed in [&one, &two, &three] {
        stage(&slots, packed).unwrap();
        stage(&slots, packed).unwrap();
    }
    slots.switch("shop", Some(one.bundle)).unwrap();
    slots.switch("shop", Some(two.bundle)).unwrap();
    assert_eq!(slots.current("shop"), Some(two.bundle));
    assert_eq!(fs::read(slots.path("shop").join("current/version")).unwrap(), [2; 100]);
    assert_eq!(fs::read(slots.tree("shop", one.bundle).join("version")).unwrap(), [1; 100]);

    // Even when it is not told to keep what is current.
    slots.clean("shop", &[three.bundle]).unwrap();
    let mut left = vec![two.bundle, three.bundle];
    left.sort();
    assert_eq!(slots.staged("shop"), left);
    slots.switch("shop", None).unwrap();
    slots.clean("shop", &[]).unwrap();
    assert_eq!((slots.current("shop"), slots.staged("shop")), (None, vec![]));
    assert_eq!(listing(&slots.path("shop")), [slots.path("shop").join("slots")]);
}

#[test]
fn a_payload_that_lies_leaves_no_slot() {
    let dir = scratch();
    let slots = Slots::open(dir.path()).unwrap();
    let packed = version(dir.path(), 1);
    let failure =
        slots.stage("shop", Hash::of(b"another"), File::open(&packed.path).unwrap(), 2, 200, None).unwrap_err();
    assert!(matches!(failure, StageFailure::Bad(_)));
    assert_eq!(slots.staged("shop"), vec![]);
    assert_eq!(listing(&slots.path("shop")), [slots.path("shop").join("slots")]);
}

#[test]
fn an_altered_slot_is_replaced_even_if_it_is_current() {
    let dir = scratch();
    let slots = Slots::open(dir.path()).unwrap();
    let packed = version(dir.path(), 1);
    stage(&slots, &packed).unwrap();
    slots.switch("shop", Some(packed.bundle)).unwrap();
    fs::write(slots.tree("shop", packed.bundle).join("version"), b"altered").unwrap();
    stage(&slots, &packed).unwrap();
    assert_eq!(fs::read(slots.path("shop").join("current/version")).unwrap(), [1; 100]);
    assert_eq!(slots.staged("shop"), vec![packed.bundle]);
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    let dir = scratch();
    let slots = Slots::open(dir.path()).unwrap();
    let packed = version(dir.path(), 1);
    stage(&slots, &packed).unwrap();
    slots.switch("shop", Some(packed.bundle)).unwrap();
    let before = listing(&slots.path("shop"));
    tree(&slots.path("shop").join("staging-1-1"), &[("tree/version", b"half")]);
    std::os::unix::fs::symlink("slots/x/tree", slots.path("shop").join("staging-1-2")).unwrap();
    let slots = Slots::open(dir.path()).unwrap();
    assert_eq!(listing(&slots.path("shop")), before);
    assert_eq!(slots.current("shop"), Some(packed.bundle));
}

#[test]
fn a_reader_of_current_sees_the_old_or_the_new_and_nothing_else() {
    let dir = scratch();
    let slots = Slots::open(dir.path()).unwrap();
    let versions = [1, 2].map(|number| version(dir.path(), number));
    for packed in &versions {
        stage(&slots, packed).unwrap();
    }
    slots.switch("shop", Some(versions[0].bundle)).unwrap();
    let current = slots.path("shop").join("current");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) || reads == 0 {
                // One resolution of the link, as a server does that enters the directory: then all is of one version.
                let tree = fs::canonicalize(&current).expect("there is always a current version");
                let seen = fs::read(tree.join("version")).unwrap();
                assert!(seen == [1; 100] || seen == [2; 100]);
                assert_eq!(fs::read(tree.join("same/version")).unwrap(), seen);
                reads += 1;
            }
        });
        for round in 0..200 {
            slots.switch("shop", Some(versions[round % 2].bundle)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_full_disk_leaves_no_slot_and_what_is_current() {
    let Some(disk) = SmallDisk::new() else { return };
    let dir = scratch();
    let slots = Slots::open(disk.path()).unwrap();
    let small = version(dir.path(), 1);
    stage(&slots, &small).unwrap();
    slots.switch("shop", Some(small.bundle)).unwrap();
    let before = listing(disk.path());
    let large = pack(&tree(&dir.path().join("large"), &[("a", &noise(1, 2 << 20))]), &dir.path().join("large.burr"));
    let failure = stage(&slots, &large).unwrap_err();
    assert!(matches!(failure, StageFailure::NoSpace(_)), "{failure:?}");
    assert_eq!(listing(disk.path()), before);
    assert_eq!(slots.current("shop"), Some(small.bundle));
}
