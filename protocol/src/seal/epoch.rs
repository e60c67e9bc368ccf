//! A fleet's key of one epoch, and the keys of releases that it wraps.

use std::fmt;

use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

use super::{Lock, NotSealed, Owner, ReleaseKey, TAG, bound_to};
use crate::id;

const NONCE: usize = 24;
const KEY: usize = 32;

/// The key that a fleet's devices share for one epoch.
pub struct EpochKey(Zeroizing<[u8; KEY]>);

impl EpochKey {
    /// A key of these bytes: fresh random ones for a new epoch, or those that were kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, to be kept where its owner alone can read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// Wraps the key of a release; `nonce` is fresh random bytes.
    #[must_use]
    pub fn wrap(&self, key: &ReleaseKey, nonce: [u8; NONCE]) -> WrappedKey {
        let mut wrapped = key.bytes.clone();
        let tag = self
            .cipher()
            .encrypt_inout_detached(&nonce.into(), &associated(&key.owner), wrapped.as_mut_slice().into())
            .expect("a key is far shorter than what the cipher takes");
        let mut bytes = [0; WrappedKey::SIZE];
        bytes[..NONCE].copy_from_slice(&nonce);
        bytes[NONCE..NONCE + KEY].copy_from_slice(wrapped.as_slice());
        bytes[NONCE + KEY..].copy_from_slice(&tag);
        WrappedKey(bytes)
    }

    /// The key of a release.
    ///
    /// # Errors
    /// [`NotSealed`] if it was not wrapped by this key for this owner.
    pub fn unwrap(&self, lock: &Lock) -> Result<ReleaseKey, NotSealed> {
        let (nonce, rest) = lock.key.0.split_at(NONCE);
        let (key, tag) = rest.split_at(KEY);
        let nonce: [u8; NONCE] = nonce.try_into().expect("cut to size");
        let tag: [u8; TAG] = tag.try_into().expect("cut to size");
        let mut opened = Zeroizing::new([0; KEY]);
        opened.copy_from_slice(key);
        self.cipher()
            .decrypt_inout_detached(&nonce.into(), &associated(&lock.owner), opened.as_mut_slice().into(), &tag.into())
            .map_err(|_| NotSealed)?;
        Ok(ReleaseKey { owner: lock.owner.clone(), bytes: opened })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey")
    }
}

fn associated(owner: &Owner) -> Vec<u8> {
    bound_to("burr release key 1", owner)
}

/// A release's key as the signed release carries it: nonce, sealed key, tag. In text it is hex.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey([u8; Self::SIZE]);

impl WrappedKey {
    /// Its size in bytes.
    pub const SIZE: usize = NONCE + KEY + TAG;
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappedKey")
    }
}

impl Serialize for WrappedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&id::hex(&self.0))
        } else {
            self.0.as_slice().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for WrappedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refuse = || D::Error::custom("a wrapped key is 72 bytes");
        let bytes = if deserializer.is_human_readable() {
            id::unhex(&String::deserialize(deserializer)?).ok_or_else(refuse)?
        } else {
            Vec::<u8>::deserialize(deserializer)?
        };
        bytes.try_into().map(Self).map_err(|_| refuse())
    }
}
