//! Sealed bytes: whatever was altered, cut, moved or sealed for another use does not open, and what opens is what was
//! sealed.

use burr_protocol::{
    RepositoryId, SealKey,
    seal::{
        DeviceKey, Epoch, EpochKey, Lock, Opening, Owner, Part, ReleaseKey, SEGMENT, SUITE, Sealed, Sealing, TAG, find,
        hand_over, plain_size, sealed_size, share, take_over,
    },
};

use super::{program::Program, shop};

pub(crate) fn run(data: &[u8]) {
    let mut program = Program::new(data);
    match program.below(6) {
        0 => stream(program),
        1 => any_keys(program.rest()),
        2 => keys(program),
        3 => handover(program),
        4 => wrapped(program.rest()),
        _ => sizes(u64::from(program.short()) << (program.byte() % 64), program.byte()),
    }
}

fn epoch(number: u64) -> Epoch {
    Epoch { repository: shop::id(), fleet: "stores".to_owned(), number }
}

fn owner(number: u64, seq: u64) -> Owner {
    Owner { epoch: epoch(number), app: "shop".to_owned(), channel: "stable".to_owned(), seq }
}

fn epoch_key() -> EpochKey {
    EpochKey::from_bytes([4; 32])
}

fn device() -> DeviceKey {
    DeviceKey::from_bytes(&[5; 32])
}

/// A payload that is altered on the way: each segment that opens is the one that was sealed in its place.
fn stream(mut program: Program<'_>) {
    let length = usize::from(program.short()) * usize::from(1 + program.byte() % 4);
    let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    let part = if program.flag() { Part::Payload } else { Part::Manifest };
    let key = |seq: u64| ReleaseKey::new(owner(1, seq), [9; 32]);
    let mut bytes = seal(&key(1), part, &plain);
    assert_eq!(bytes.len() as u64, sealed_size(plain.len() as u64));
    let true_bytes = bytes.clone();
    program.alter(&mut bytes);
    let other = program.below(4) == 0;
    let opened = open(&key(if other { 2 } else { 1 }), part, &bytes);
    let whole = opened.as_ref().is_some_and(|(whole, _)| *whole);
    assert_eq!(whole, bytes == true_bytes && !other, "what was altered is not whole");
    if let Some((_, opened)) = opened {
        assert!(plain.starts_with(&opened), "what opens is what was sealed");
        assert!(!other || opened.is_empty());
    }
}

fn seal(key: &ReleaseKey, part: Part, plain: &[u8]) -> Vec<u8> {
    let mut sealing = Sealing::new(key, part);
    let mut bytes = Vec::new();
    let mut segments: Vec<Vec<u8>> = plain.chunks(SEGMENT).map(<[u8]>::to_vec).collect();
    let mut last = segments.pop().unwrap_or_default();
    for mut segment in segments {
        sealing.next(&mut segment);
        bytes.extend(segment);
    }
    sealing.last(&mut last);
    bytes.extend(last);
    bytes
}

/// What opens, and whether that is all; `None` for a size that nothing sealed has.
fn open(key: &ReleaseKey, part: Part, bytes: &[u8]) -> Option<(bool, Vec<u8>)> {
    let mut opening = Opening::new(key, part, bytes.len() as u64).ok()?;
    let (mut opened, mut at) = (Vec::new(), 0);
    while opening.wants() > 0 {
        assert!(opening.wants() <= SEGMENT + TAG);
        let mut segment = bytes[at..at + opening.wants()].to_vec();
        at += segment.len();
        if opening.open(&mut segment).is_err() {
            assert!(segment.is_empty(), "nothing of what does not open is given out");
            return Some((false, opened));
        }
        opened.extend(segment);
    }
    assert_eq!(Some(opened.len() as u64), plain_size(bytes.len() as u64));
    Some((true, opened))
}

fn any_keys(blob: &[u8]) {
    assert!(!matches!(find(blob, &epoch(1), &device()), Ok(Some(_))), "a key comes out of a true list alone");
    assert!(take_over(blob, shop::id(), "stores", &device()).is_err());
}

fn keys(mut program: Program<'_>) {
    let others = program.below(4);
    let mut devices: Vec<SealKey> = (0..others).map(|at| SealKey([u8::try_from(at).expect("few") + 40; 32])).collect();
    devices.push(device().public());
    let mut blob = share(&epoch(1), &epoch_key(), &devices, [7; 32]).expect("sound keys");
    let number = u64::from(program.byte() % 3);
    if program.flag() {
        program.alter(&mut blob);
    } else if number == 1 {
        let found = find(&blob, &epoch(1), &device()).expect("a true list").expect("this device is in it");
        assert_eq!(found.as_bytes(), epoch_key().as_bytes());
    }
    if let Ok(Some(found)) = find(&blob, &epoch(number), &device()) {
        assert_eq!((number, found.as_bytes()), (1, epoch_key().as_bytes()), "no other key, in no other epoch");
    }
}

fn handover(mut program: Program<'_>) {
    let keys = || [(epoch(1), epoch_key())];
    let true_bytes = hand_over(keys(), device().public(), [7; 32]).expect("a sound key");
    let mut bytes = true_bytes.clone();
    program.alter(&mut bytes);
    let fleets = ["stores", "offices"];
    let (repository, fleet) = ([shop::id(), RepositoryId([1; 32])][program.below(2)], fleets[program.below(2)]);
    let taken = take_over(&bytes, repository, fleet, &device());
    let same = bytes == true_bytes && repository == shop::id() && fleet == "stores";
    assert_eq!(taken.is_ok(), same, "it is for this device, fleet and epoch alone");
    for (epoch_of, key) in taken.into_iter().flatten() {
        assert_eq!((epoch_of, key.as_bytes()), (epoch(1), epoch_key().as_bytes()));
    }
}

/// What a release says of its sealing, of any content.
fn wrapped(text: &[u8]) {
    let Ok(sealed) = serde_json::from_slice::<Sealed>(text) else { return };
    let again = serde_json::to_vec(&sealed).expect("plain");
    assert_eq!(serde_json::from_slice(&again).ok(), Some(sealed.clone()));
    let binary = postcard::to_stdvec(&sealed).expect("plain");
    assert_eq!(postcard::from_bytes(&binary).ok(), Some(sealed.clone()));
    let epoch = Epoch { fleet: sealed.fleet, ..epoch(sealed.epoch) };
    let owner_of = Owner { epoch, app: "shop".to_owned(), channel: sealed.channel, seq: sealed.seq };
    let lock = Lock { owner: owner_of, key: sealed.key };
    let own = epoch_key().wrap(&ReleaseKey::new(owner(1, 1), [9; 32]), [3; 24]);
    let opens = epoch_key().unwrap(&lock).is_ok();
    assert!(!opens || (lock.owner == owner(1, 1) && lock.key == own), "a key opens for its own release alone");
}

fn sizes(size: u64, more: u8) {
    let size = size.saturating_add(more.into());
    assert!(sealed_size(size) >= size);
    if let Some(plain) = plain_size(size) {
        assert_eq!(sealed_size(plain), size);
    }
    if sealed_size(size) < u64::MAX {
        assert_eq!(plain_size(sealed_size(size)), Some(size));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let sealed = Sealed {
        fleet: "stores".to_owned(),
        epoch: 1,
        channel: "stable".to_owned(),
        seq: 1,
        suite: SUITE.to_owned(),
        key: epoch_key().wrap(&ReleaseKey::new(owner(1, 1), [9; 32]), [3; 24]),
    };
    let list = share(&epoch(1), &epoch_key(), &[SealKey([40; 32])], [7; 32]).expect("sound keys");
    let handed = hand_over([(epoch(1), epoch_key())], SealKey([40; 32]), [7; 32]).expect("a sound key");
    let nothing: &[u8] = &[0, 255, 255, 3];
    vec![
        [&[0, 100, 0, 0, 1], nothing].concat(),
        [&[0, 0, 128, 2, 0], nothing].concat(),
        vec![0, 0, 128, 3, 1, 1, 9, 0, 3, 7, 90, 1, 1],
        vec![0, 0, 0, 0, 1, 0, 0, 0, 1],
        [&[1], list.as_slice()].concat(),
        [&[1], handed.as_slice()].concat(),
        vec![2, 3, 1, 0],
        vec![2, 1, 1, 1, 0, 40, 0, 3, 9],
        vec![2, 0, 2, 0],
        vec![3, 0, 255, 255, 3, 0, 0],
        vec![3, 0, 9, 0, 3, 1, 0, 0],
        [&[4], serde_json::to_vec(&sealed).expect("plain").as_slice()].concat(),
        vec![5, 1, 0, 63, 200],
        vec![5, 0, 128, 1, 16],
    ]
}
