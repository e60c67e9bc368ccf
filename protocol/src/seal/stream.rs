//! Bytes of any length, sealed in segments that can't be cut, moved, repeated or taken from elsewhere (STREAM).

use aead_stream::{NewStream as _, StreamBE32, StreamPrimitive as _};
use chacha20poly1305::XChaCha20Poly1305;

use super::{NotSealed, Part, ReleaseKey, bound_to};
use crate::Hash;

/// Plain bytes of every segment but the last, which has 1 to as many, or none if there are none at all.
pub const SEGMENT: usize = 64 << 10;
/// Bytes that each segment grows by.
pub const TAG: usize = 16;

const SEALED_SEGMENT: u64 = (SEGMENT + TAG) as u64;

/// How many bytes `plain` bytes have when they are sealed.
#[must_use]
pub fn sealed_size(plain: u64) -> u64 {
    plain.saturating_add(plain.div_ceil(SEGMENT as u64).max(1).saturating_mul(TAG as u64))
}

/// How many bytes are in `sealed` sealed ones; `None` if nothing has this size when it is sealed.
#[must_use]
pub fn plain_size(sealed: u64) -> Option<u64> {
    let segments = sealed.div_ceil(SEALED_SEGMENT);
    let plain = sealed.checked_sub(segments * TAG as u64)?;
    (sealed_size(plain) == sealed).then_some(plain)
}

/// The name of a sealed bundle: the BLAKE3 of its sealed manifest. The sealed manifest itself does not travel, since the
/// payload holds the manifest; who can open the one can seal the other again, and compare.
#[must_use]
pub fn bundle_name(key: &ReleaseKey, manifest: &[u8]) -> Hash {
    let mut sealing = Sealing::new(key, Part::Manifest);
    let mut hasher = blake3::Hasher::new();
    let mut segment = Vec::with_capacity(SEGMENT + TAG);
    let (segments, last) = match manifest.len() {
        0 => manifest.split_at(0),
        length => manifest.split_at((length - 1) / SEGMENT * SEGMENT),
    };
    for plain in segments.chunks(SEGMENT) {
        segment.clear();
        segment.extend_from_slice(plain);
        sealing.next(&mut segment);
        hasher.update(&segment);
    }
    segment.clear();
    segment.extend_from_slice(last);
    sealing.last(&mut segment);
    Hash(*hasher.update(&segment).finalize().as_bytes())
}

/// One stream of segments under way, in either direction.
struct Stream {
    cipher: StreamBE32<XChaCha20Poly1305>,
    associated: Vec<u8>,
    position: u32,
}

impl Stream {
    fn new(key: &ReleaseKey, part: Part) -> Self {
        let associated = bound_to("burr seal 1", &(&key.owner, part));
        // Different for each part of a release, whose key is for this release alone: no nonce comes twice.
        let nonce = blake3::hash(&associated);
        let nonce: [u8; 19] = nonce.as_bytes()[..19].try_into().expect("a hash has 32 bytes");
        let cipher = StreamBE32::new((&*key.bytes).into(), &nonce.into());
        Self { cipher, associated, position: 0 }
    }
}

/// Seals bytes, a segment at a time. One key seals one manifest and one payload, never two of either.
pub struct Sealing(Stream);

impl Sealing {
    /// Begins with the first segment.
    #[must_use]
    pub fn new(key: &ReleaseKey, part: Part) -> Self {
        Self(Stream::new(key, part))
    }

    /// Seals a segment in place, which grows by [`TAG`]; more must follow.
    ///
    /// # Panics
    /// If it has not exactly [`SEGMENT`] bytes.
    pub fn next(&mut self, segment: &mut Vec<u8>) {
        assert_eq!(segment.len(), SEGMENT, "only the last segment is shorter");
        self.seal(segment, false);
        self.0.position = self.0.position.checked_add(1).expect("a payload ends long before 2^32 segments");
    }

    /// Seals the last segment in place.
    ///
    /// # Panics
    /// If it has more than [`SEGMENT`] bytes, or none although others came before it.
    pub fn last(self, segment: &mut Vec<u8>) {
        assert!(segment.len() <= SEGMENT, "a segment has at most {SEGMENT} bytes");
        assert!(!segment.is_empty() || self.0.position == 0, "the last segment is empty only if it is the only one");
        self.seal(segment, true);
    }

    fn seal(&self, segment: &mut Vec<u8>, last: bool) {
        let Stream { cipher, associated, position } = &self.0;
        let sealed = cipher.encrypt_in_place(*position, last, associated, segment);
        sealed.expect("a segment is far shorter than what the cipher takes");
    }
}

/// Opens sealed bytes of a known size, a segment at a time. What it gives out is authentic, in order, and from the
/// beginning; that it is whole is known when [`Opening::wants`] says 0.
pub struct Opening {
    stream: Stream,
    /// Sealed bytes to come.
    rest: u64,
}

impl Opening {
    /// Begins with the first segment of `size` sealed bytes.
    ///
    /// # Errors
    /// [`NotSealed`] if nothing has this size when it is sealed.
    pub fn new(key: &ReleaseKey, part: Part, size: u64) -> Result<Self, NotSealed> {
        plain_size(size).ok_or(NotSealed)?;
        Ok(Self { stream: Stream::new(key, part), rest: size })
    }

    /// Bytes of the next sealed segment; 0 if all was opened.
    #[must_use]
    pub fn wants(&self) -> usize {
        usize::try_from(self.rest.min(SEALED_SEGMENT)).expect("a segment fits into memory")
    }

    /// Opens the next segment in place. Nothing of one that does not open is given out, and none opens after it.
    ///
    /// # Errors
    /// [`NotSealed`] if it is not, to the bit, what was sealed here; then `segment` is empty.
    ///
    /// # Panics
    /// If it has not exactly as many bytes as [`Opening::wants`] said.
    pub fn open(&mut self, segment: &mut Vec<u8>) -> Result<(), NotSealed> {
        assert!(!segment.is_empty() && segment.len() == self.wants(), "as many bytes as were asked for");
        let Stream { cipher, associated, position } = &mut self.stream;
        let last = self.rest == segment.len() as u64;
        let sealed = segment.len() as u64;
        if cipher.decrypt_in_place(*position, last, associated, segment).is_err() {
            segment.clear();
            return Err(NotSealed);
        }
        self.rest -= sealed;
        *position += u32::from(!last);
        Ok(())
    }
}
