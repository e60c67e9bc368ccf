//! What an enroller hands to a new device: the key of the fleet's newest epoch, sealed to that device alone.

use super::{DeviceKey, Epoch, EpochKey, KeysError, MAX_EPOCH, find, share};
use crate::{RepositoryId, SealKey};

/// The number of an epoch and its list of keys with the one entry of this device. `entropy` is fresh random bytes.
///
/// # Errors
/// As [`share`].
pub fn hand_over(epoch: &Epoch, key: &EpochKey, device: SealKey, entropy: [u8; 32]) -> Result<Vec<u8>, KeysError> {
    Ok([&epoch.number.to_be_bytes()[..], &share(epoch, key, &[device], entropy)?].concat())
}

/// Takes what was handed to this device.
///
/// # Errors
/// [`KeysError`] if it is not for this device and fleet.
pub fn take_over(
    bytes: &[u8],
    repository: RepositoryId,
    fleet: &str,
    device: &DeviceKey,
) -> Result<(Epoch, EpochKey), KeysError> {
    let malformed = KeysError::Malformed("it names no epoch");
    let (number, list) = bytes.split_first_chunk().ok_or(malformed.clone())?;
    let number = u64::from_be_bytes(*number);
    if !(1..MAX_EPOCH).contains(&number) {
        return Err(malformed);
    }
    let epoch = Epoch { repository, fleet: fleet.to_owned(), number };
    let key = find(list, &epoch, device)?.ok_or(KeysError::NotSealed)?;
    Ok((epoch, key))
}
