//! Keys: what a device that was removed, another fleet or a stranger can't open (T52, T53).

use burr_protocol::{
    Hash, RepositoryId, SealKey,
    seal::{Epoch, EpochKey, KeysError, Lock, MAX_MEMBERS, Owner, Part, WrappedKey, find, hand_over, share, take_over},
};

use super::{device, epoch, epoch_key, key_of, open, owner, plain, release_key, seal};

fn bytes(key: Option<EpochKey>) -> Option<[u8; 32]> {
    key.map(|key| *key.as_bytes())
}

fn shared(epoch: &Epoch, key: &EpochKey, devices: &[u8]) -> Vec<u8> {
    let devices: Vec<SealKey> = devices.iter().map(|n| device(*n).public()).collect();
    share(epoch, key, &devices, [8; 32]).unwrap()
}

#[test]
fn each_device_of_the_fleet_finds_the_key_and_no_other_does() {
    let blob = shared(&epoch(1), &epoch_key(5), &[1, 2, 3]);
    for member in 1..=3 {
        assert_eq!(bytes(find(&blob, &epoch(1), &device(member)).unwrap()), Some([5; 32]));
    }
    assert_eq!(bytes(find(&blob, &epoch(1), &device(4)).unwrap()), None);
    assert_eq!(blob.len(), 16 + 3 * 96, "§12.7");
}

/// T52: the whole way, from what the publisher wrote to plain bytes.
#[test]
fn a_removed_device_reads_what_was_before_and_nothing_after() {
    let before = shared(&epoch(1), &epoch_key(5), &[1, 2]);
    let after = shared(&epoch(2), &epoch_key(6), &[1]);
    let (old, new) = (owner(), Owner { epoch: epoch(2), seq: 8, ..owner() });
    let (old_key, new_key) = (key_of(old.clone(), 20), key_of(new.clone(), 21));
    let old = Lock { owner: old, key: epoch_key(5).wrap(&old_key, [1; 24]) };
    let new = Lock { owner: new, key: epoch_key(6).wrap(&new_key, [2; 24]) };
    let sealed = seal(&new_key, Part::Payload, &plain(100));

    let kept = find(&before, &epoch(1), &device(2)).unwrap().unwrap();
    let read_before = kept.unwrap(&old).expect("a removed device keeps what it could read");
    assert!(kept.unwrap(&new).is_err(), "its key does not open releases of the next epoch");
    assert_eq!(bytes(find(&after, &epoch(2), &device(2)).unwrap()), None, "and it gets no other");
    assert!(open(&read_before, Part::Payload, &sealed).1.is_err());

    let member = find(&after, &epoch(2), &device(1)).unwrap().unwrap();
    assert_eq!(open(&member.unwrap(&new).unwrap(), Part::Payload, &sealed), (plain(100), Ok(())));
}

/// T53.
#[test]
fn two_fleets_share_no_blob_although_they_get_the_same() {
    let trucks = Owner { epoch: Epoch { fleet: "trucks".to_owned(), ..epoch(1) }, ..owner() };
    let plain = plain(100_000);
    let stores_sealed = seal(&key_of(owner(), 20), Part::Payload, &plain);
    let trucks_sealed = seal(&key_of(trucks, 21), Part::Payload, &plain);
    assert_ne!(Hash::of(&stores_sealed), Hash::of(&trucks_sealed));
    let windows: std::collections::BTreeSet<&[u8]> = stores_sealed.windows(16).collect();
    assert!(!trucks_sealed.windows(16).any(|window| windows.contains(window)), "nor any 16 bytes");
}

#[test]
fn a_wrapped_key_opens_for_its_release_alone() {
    let wrapped = epoch_key(5).wrap(&release_key(), [1; 24]);
    let lock = Lock { owner: owner(), key: wrapped.clone() };
    let sealed = seal(&release_key(), Part::Payload, b"plain");
    assert_eq!(open(&epoch_key(5).unwrap(&lock).unwrap(), Part::Payload, &sealed), (b"plain".to_vec(), Ok(())));
    assert!(epoch_key(6).unwrap(&lock).is_err());
    for other in [
        Owner { seq: 8, ..owner() },
        Owner { channel: "beta".to_owned(), ..owner() },
        Owner { app: "till".to_owned(), ..owner() },
        Owner { epoch: epoch(2), ..owner() },
        Owner { epoch: Epoch { repository: RepositoryId([9; 32]), ..epoch(1) }, ..owner() },
    ] {
        let lock = Lock { owner: other, key: wrapped.clone() };
        assert!(epoch_key(5).unwrap(&lock).is_err(), "{lock:?}");
    }
    let text = serde_json::to_string(&wrapped).unwrap();
    assert_eq!(text.len(), 2 + 2 * WrappedKey::SIZE);
    for at in 1..text.len() - 1 {
        let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
        let mut altered = text.clone();
        altered.replace_range(at..=at, digit);
        let altered = Lock { owner: owner(), key: serde_json::from_str(&altered).unwrap() };
        assert!(epoch_key(5).unwrap(&altered).is_err(), "digit {at}");
    }
    for bad in ["\"\"", "\"00\"", &text.to_uppercase(), &format!("\"{}00\"", &text[1..text.len() - 1])] {
        assert!(serde_json::from_str::<WrappedKey>(bad).is_err(), "{bad}");
    }
    let binary = postcard::to_stdvec(&wrapped).unwrap();
    assert_eq!(postcard::from_bytes::<WrappedKey>(&binary).unwrap(), wrapped);
}

#[test]
fn the_keys_of_an_epoch_are_of_that_epoch_alone() {
    let blob = shared(&epoch(1), &epoch_key(5), &[1]);
    for other in [
        epoch(2),
        Epoch { fleet: "trucks".to_owned(), ..epoch(1) },
        Epoch { repository: RepositoryId([9; 32]), ..epoch(1) },
    ] {
        assert_eq!(bytes(find(&blob, &other, &device(1)).unwrap()), None, "{other}");
    }
    let mine = |blob: &[u8]| blob[16..32].to_vec();
    assert_ne!(mine(&blob), mine(&shared(&epoch(2), &epoch_key(5), &[1])), "marks don't follow a device around");
}

#[test]
fn a_new_device_is_handed_the_keys_of_all_epochs_and_nobody_else_takes_them() {
    let keys = || [1, 2, 4].map(|number| (epoch(number), epoch_key(u8::try_from(number).unwrap())));
    let handed = hand_over(keys(), device(1).public(), [8; 32]).unwrap();
    let taken = take_over(&handed, RepositoryId([1; 32]), "stores", &device(1)).unwrap();
    let plain = |(epoch, key): &(Epoch, EpochKey)| (epoch.clone(), *key.as_bytes());
    assert!(taken.iter().map(plain).eq(keys().iter().map(plain)));
    assert!(take_over(&handed, RepositoryId([1; 32]), "stores", &device(2)).is_err());
    assert!(take_over(&handed, RepositoryId([1; 32]), "trucks", &device(1)).is_err());
    let one = handed.len() / 3;
    let numbered = |number: u64| [&number.to_be_bytes()[..], &handed[8..]].concat();
    let moved = [&handed[one..2 * one], &handed[..one]].concat();
    let twice = [&handed[..one], &handed[..one]].concat();
    for bad in [&handed[..7], &handed[..one - 1], &handed[..one + 8], &[]] {
        assert!(take_over(bad, RepositoryId([1; 32]), "stores", &device(1)).is_err(), "{} bytes", bad.len());
    }
    for bad in [numbered(3), numbered(0), numbered(u64::MAX), moved, twice] {
        assert!(take_over(&bad, RepositoryId([1; 32]), "stores", &device(1)).is_err());
    }
}

#[test]
fn altered_keys_never_give_another_key() {
    let blob = shared(&epoch(1), &epoch_key(5), &[1, 2]);
    for bit in 0..blob.len() * 8 {
        let mut altered = blob.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        for member in 1..=2 {
            let found = find(&altered, &epoch(1), &device(member)).ok().and_then(bytes);
            assert!(found.is_none_or(|key| key == [5; 32]), "bit {bit}");
        }
    }
}

#[test]
fn a_list_of_keys_has_one_spelling() {
    let blob = shared(&epoch(1), &epoch_key(5), &[1, 2]);
    let (head, entries) = blob.split_at(16);
    let swapped = [head, &entries[96..], &entries[..96]].concat();
    let twice = [head, &entries[..96], &entries[..96]].concat();
    let count = |n: u32| [&blob[..12], &n.to_be_bytes(), entries].concat();
    let longer = [&blob[..], &[0]].concat();
    let other = [b"burr keys 2\n", &blob[12..]].concat();
    for bad in [&[][..], &blob[..15], &blob[..blob.len() - 1], &longer, &swapped, &twice, &count(1), &count(3), &other]
    {
        let found = find(bad, &epoch(1), &device(1));
        assert!(matches!(found, Err(KeysError::Malformed(_))), "{} bytes: {found:?}", bad.len());
    }
    let huge = [&blob[..12], &u32::MAX.to_be_bytes()].concat();
    assert!(matches!(find(&huge, &epoch(1), &device(1)), Err(KeysError::Malformed(_))));
}

#[test]
fn a_fleet_without_devices_and_keys_that_are_none_are_told_apart() {
    let nobody = shared(&epoch(1), &epoch_key(5), &[]);
    assert_eq!(bytes(find(&nobody, &epoch(1), &device(1)).unwrap()), None);
    // The neutral point: whatever is sealed to it, anybody could open.
    assert!(matches!(share(&epoch(1), &epoch_key(5), &[SealKey([0; 32])], [8; 32]), Err(KeysError::BadKey(_))));
    let many = vec![device(1).public(); MAX_MEMBERS + 1];
    assert_eq!(share(&epoch(1), &epoch_key(5), &many, [8; 32]), Err(KeysError::TooMany(MAX_MEMBERS + 1)));
}

#[test]
fn keys_print_as_nothing() {
    assert_eq!(format!("{:?} {:?} {:?}", release_key(), epoch_key(5), device(1)), "ReleaseKey EpochKey DeviceKey");
}
