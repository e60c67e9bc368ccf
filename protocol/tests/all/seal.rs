//! Stories of sealing: who can read what, and what becomes of sealed bytes that were tampered with.

mod keys;
mod metadata;
mod stream;

use burr_protocol::{
    RepositoryId,
    seal::{DeviceKey, Epoch, EpochKey, NotSealed, Opening, Owner, Part, ReleaseKey, SEGMENT, Sealing},
};

fn epoch(number: u64) -> Epoch {
    Epoch { repository: RepositoryId([1; 32]), fleet: "stores".to_owned(), number }
}

fn owner() -> Owner {
    Owner { epoch: epoch(1), app: "shop".to_owned(), channel: "stable".to_owned(), seq: 7 }
}

/// Bytes that nothing else here has: each is named by where it is.
fn plain(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"plain").finalize_xof().fill(&mut bytes);
    bytes
}

fn device(n: u8) -> DeviceKey {
    DeviceKey::from_bytes(&[n; 32])
}

fn key_of(owner: Owner, n: u8) -> ReleaseKey {
    ReleaseKey::new(owner, [n; 32])
}

fn release_key() -> ReleaseKey {
    key_of(owner(), 2)
}

fn epoch_key(n: u8) -> EpochKey {
    EpochKey::from_bytes([n; 32])
}

/// Seals as a publisher does.
fn seal(key: &ReleaseKey, part: Part, plain: &[u8]) -> Vec<u8> {
    let mut sealing = Sealing::new(key, part);
    let mut sealed = Vec::new();
    let mut chunks = plain.chunks(SEGMENT).peekable();
    let mut last = Vec::new();
    while let Some(chunk) = chunks.next() {
        let mut segment = chunk.to_vec();
        if chunks.peek().is_some() {
            sealing.next(&mut segment);
            sealed.append(&mut segment);
        } else {
            last = segment;
        }
    }
    sealing.last(&mut last);
    sealed.append(&mut last);
    sealed
}

/// Opens as a device does: what came out before anything was wrong, and whether all came out.
fn open(key: &ReleaseKey, part: Part, sealed: &[u8]) -> (Vec<u8>, Result<(), NotSealed>) {
    let mut plain = Vec::new();
    let mut opening = match Opening::new(key, part, sealed.len() as u64) {
        Ok(opening) => opening,
        Err(error) => return (plain, Err(error)),
    };
    let mut at = 0;
    while opening.wants() > 0 {
        let mut segment = sealed[at..at + opening.wants()].to_vec();
        at += segment.len();
        if let Err(error) = opening.open(&mut segment) {
            assert!(segment.is_empty(), "nothing is given out of a segment that does not open");
            return (plain, Err(error));
        }
        plain.append(&mut segment);
    }
    (plain, Ok(()))
}
