//! What an enroller hands to a new device: the keys of the fleet's epochs, each sealed to that device alone.

use super::{DeviceKey, Epoch, EpochKey, KeysError, MAX_EPOCH, find, keys::ENTRIES_AT, keys::ENTRY, share};
use crate::{RepositoryId, SealKey};

/// Bytes of one key: its epoch's number, and a list of keys with the one entry of the device.
const HANDED: usize = 8 + ENTRIES_AT + ENTRY;

/// Hands keys of a fleet's epochs, by their numbers, to a device. `entropy` is fresh random bytes.
///
/// # Errors
/// As [`share`].
pub fn hand_over(
    keys: impl IntoIterator<Item = (Epoch, EpochKey)>,
    device: SealKey,
    entropy: [u8; 32],
) -> Result<Vec<u8>, KeysError> {
    let mut handed = Vec::new();
    for (epoch, key) in keys {
        handed.extend(epoch.number.to_be_bytes());
        handed.extend(share(&epoch, &key, &[device], entropy)?);
    }
    Ok(handed)
}

/// Takes what was handed to this device: at least one key.
///
/// # Errors
/// [`KeysError`] if it is not for this device and fleet, or the epochs are not in their order.
pub fn take_over(
    bytes: &[u8],
    repository: RepositoryId,
    fleet: &str,
    device: &DeviceKey,
) -> Result<Vec<(Epoch, EpochKey)>, KeysError> {
    let (each, rest) = bytes.as_chunks::<HANDED>();
    if each.is_empty() || !rest.is_empty() {
        return Err(KeysError::Malformed("it does not hold whole keys"));
    }
    let mut taken: Vec<(Epoch, EpochKey)> = Vec::with_capacity(each.len());
    for handed in each {
        let (number, list) = handed.split_first_chunk().expect("longer than a number");
        let number = u64::from_be_bytes(*number);
        if taken.last().map_or(0, |(before, _)| before.number) >= number || number >= MAX_EPOCH {
            return Err(KeysError::Malformed("its epochs are none, or out of order"));
        }
        let epoch = Epoch { repository, fleet: fleet.to_owned(), number };
        let key = find(list, &epoch, device)?.ok_or(KeysError::NotSealed)?;
        taken.push((epoch, key));
    }
    Ok(taken)
}
