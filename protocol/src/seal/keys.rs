//! An epoch's key for each device of a fleet: one blob, which the signed metadata names.
//!
//! Devices are not named in it. Each finds its entry by a mark that only those can make who know its public key, and that
//! is another one in every epoch.

use std::{collections::BTreeMap, convert::Infallible, fmt};

use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _,
    aead::{AeadTag, ChaCha20Poly1305},
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
    rand_core::{TryCryptoRng, TryRng},
    single_shot_open_inout_detached, single_shot_seal_inout_detached_with_rng,
};
use zeroize::Zeroizing;

use super::{Epoch, EpochKey, TAG, bound_to};
use crate::SealKey;

/// Devices of a fleet at most.
pub const MAX_MEMBERS: usize = 1 << 16;

/// Bytes of a blob of keys at most.
pub const MAX_KEYS: u64 = (ENTRIES_AT + MAX_MEMBERS * ENTRY) as u64;

const MAGIC: &[u8] = b"burr keys 1\n";
const MARK: usize = 16;
const PUBLIC: usize = 32;
/// Bytes of one entry.
pub(super) const ENTRY: usize = MARK + PUBLIC + 32 + TAG;
/// Where the entries begin.
pub(super) const ENTRIES_AT: usize = MAGIC.len() + 4;

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapped = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A blob of keys that is none, or one that can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It is not in its one spelling.
    #[error("it is no list of keys: {0}")]
    Malformed(&'static str),
    /// This device's entry does not open.
    #[error("this device's entry does not open")]
    NotSealed,
    /// A device's public key can't be sealed to.
    #[error("a device's key is none: {0}")]
    BadKey(String),
    /// The fleet is too large.
    #[error("the fleet has {0} devices, the limit is {MAX_MEMBERS}")]
    TooMany(usize),
}

/// A device's X25519 key, made on the device and never elsewhere.
pub struct DeviceKey(Private);

impl DeviceKey {
    /// A key of these bytes: fresh random ones, or those that were kept.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Private::from_bytes(bytes).expect("any 32 bytes are an X25519 key"))
    }

    /// The public half, which the device's certificate names.
    #[must_use]
    pub fn public(&self) -> SealKey {
        SealKey(X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().into())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey")
    }
}

/// Makes the blob that gives an epoch's key to the devices with these keys. `entropy` is fresh random bytes.
///
/// # Errors
/// [`KeysError::BadKey`] or [`KeysError::TooMany`].
pub fn share(epoch: &Epoch, key: &EpochKey, devices: &[SealKey], entropy: [u8; 32]) -> Result<Vec<u8>, KeysError> {
    if devices.len() > MAX_MEMBERS {
        return Err(KeysError::TooMany(devices.len()));
    }
    let bound = bound_to("burr epoch key 1", epoch);
    let mut random = Drawn::new(entropy, key, &bound);
    let mut entries = BTreeMap::new();
    for device in devices {
        let bad = |error: hpke::HpkeError| KeysError::BadKey(error.to_string());
        let public = Public::from_bytes(&device.0).map_err(bad)?;
        let mut wrapped = Zeroizing::new(*key.as_bytes());
        let (encapped, tag) =
            single_shot_seal_inout_detached_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &public,
                &bound,
                wrapped.as_mut_slice().into(),
                &[],
                &mut random,
            )
            .map_err(bad)?;
        let entry = [encapped.to_bytes().as_slice(), wrapped.as_slice(), tag.to_bytes().as_slice()].concat();
        entries.insert(mark(&bound, device), entry);
    }
    let count = u32::try_from(entries.len()).expect("checked above");
    let mut blob = [MAGIC, &count.to_be_bytes()].concat();
    for (mark, entry) in entries {
        blob.extend(mark);
        blob.extend(entry);
    }
    Ok(blob)
}

/// How many devices a blob of this size gives a key to.
#[must_use]
pub fn devices_in(size: u64) -> u64 {
    size.saturating_sub(ENTRIES_AT as u64) / ENTRY as u64
}

/// Finds a device's key of an epoch in the epoch's blob; `None` if the device has none, which is to say that it is not
/// in the fleet in this epoch.
///
/// # Errors
/// [`KeysError::Malformed`] or [`KeysError::NotSealed`]: the publisher's fault, since the metadata signs the blob.
pub fn find(blob: &[u8], epoch: &Epoch, device: &DeviceKey) -> Result<Option<EpochKey>, KeysError> {
    let bound = bound_to("burr epoch key 1", epoch);
    let mine = mark(&bound, &device.public());
    let Some(entry) = entries(blob)?.into_iter().find(|entry| entry[..MARK] == mine) else { return Ok(None) };
    let (encapped, rest) = entry[MARK..].split_at(PUBLIC);
    let (sealed, tag) = rest.split_at(32);
    let refuse = |_| KeysError::NotSealed;
    let encapped = Encapped::from_bytes(encapped).map_err(refuse)?;
    let tag = AeadTag::<ChaCha20Poly1305>::from_bytes(tag).map_err(refuse)?;
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(sealed);
    single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &device.0,
        &encapped,
        &bound,
        key.as_mut_slice().into(),
        &[],
        &tag,
    )
    .map_err(refuse)?;
    Ok(Some(EpochKey::from_bytes(*key)))
}

/// The entries of a blob, in strict order of their marks.
fn entries(blob: &[u8]) -> Result<Vec<&[u8]>, KeysError> {
    let malformed = KeysError::Malformed;
    let rest = blob.strip_prefix(MAGIC).ok_or(malformed("it does not begin like one"))?;
    let (count, rest) = rest.split_first_chunk().ok_or(malformed("it ends within its head"))?;
    let count = u32::from_be_bytes(*count) as usize;
    if count > MAX_MEMBERS || rest.len() != count * ENTRY {
        return Err(malformed("it does not hold as many entries as it says"));
    }
    let entries: Vec<&[u8]> = rest.chunks_exact(ENTRY).collect();
    let ordered = entries.windows(2).all(|pair| pair[0][..MARK] < pair[1][..MARK]);
    if ordered { Ok(entries) } else { Err(malformed("its entries are out of order")) }
}

fn mark(bound: &[u8], device: &SealKey) -> [u8; MARK] {
    let mut hasher = blake3::Hasher::new_derive_key("burr epoch key mark 1");
    let hash = hasher.update(&device.0).update(bound).finalize();
    hash.as_bytes()[..MARK].try_into().expect("a hash has 32 bytes")
}

/// Randomness that was passed in, drawn out to as much as is needed. The key and its use go in too, so that even the same
/// bytes given twice don't seal two different keys in the same way.
struct Drawn(blake3::OutputReader);

impl Drawn {
    fn new(entropy: [u8; 32], key: &EpochKey, bound: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("burr epoch key randomness 1");
        hasher.update(Zeroizing::new(entropy).as_slice()).update(key.as_bytes()).update(bound);
        Self(hasher.finalize_xof())
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(to);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}
