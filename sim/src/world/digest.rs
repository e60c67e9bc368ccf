//! What a run hashes to: all that is put in, one after the other.

use burr_protocol::Hash;
use serde::Serialize;

/// Bytes that are hashed at a time: BLAKE3 is many times as fast on long inputs as on short ones.
const STEP: usize = 64 << 10;

/// A hash that grows.
#[derive(Debug, Default)]
pub(super) struct Digest {
    hasher: blake3::Hasher,
    /// Put in and not hashed yet.
    waiting: Vec<u8>,
}

impl Digest {
    /// Puts something in.
    pub(super) fn take(&mut self, what: &impl Serialize) {
        self.waiting =
            postcard::to_extend(what, std::mem::take(&mut self.waiting)).expect("what is told can be encoded");
        if self.waiting.len() >= STEP {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    /// The hash of all that was put in.
    pub(super) fn so_far(&self) -> Hash {
        Hash(*self.hasher.clone().update(&self.waiting).finalize().as_bytes())
    }
}
