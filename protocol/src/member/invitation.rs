//! An invitation: a short text that a person carries to a new device, as letters and digits or in a QR code. It works
//! once, for a while, and says where to go and whom to trust there (`protocol/README.md` §13.5).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Hash, NodeId, RepositoryId, Wall, label, wire};

/// Characters of an invitation at most: it fits into one QR code.
pub const MAX_INVITATION: usize = 1024;
/// Addresses in an invitation at most, and characters of each.
const MAX_ADDRESSES: usize = 8;
const MAX_ADDRESS: usize = 128;

const PREFIX: &str = "burr1";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const CHECKSUM: usize = 4;

/// Names an invitation without giving it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InvitationId(pub Hash);

/// Proves that somebody has an invitation; only the two sides know it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationKey(pub(super) [u8; 32]);

/// Hides the key.
impl fmt::Debug for InvitationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationKey")
    }
}

/// What a new device is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The repository of the fleet: the BLAKE3 of its first root, so the device knows the publisher's keys before it
    /// speaks to anybody.
    pub repository: RepositoryId,
    /// The fleet: a label.
    pub fleet: String,
    /// The node that enrols.
    pub enroller: NodeId,
    /// Where it may be reached; none where requests are passed on as files.
    pub addresses: Vec<String>,
    /// What makes this invitation that one: random, secret.
    pub nonce: [u8; 16],
    /// It works up to this time, by the enroller's clock.
    pub expires: Wall,
}

/// Hides the nonce.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("repository", &self.repository)
            .field("fleet", &self.fleet)
            .field("enroller", &self.enroller)
            .field("addresses", &self.addresses)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A text that is no invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// Something else.
    #[error("this is no invitation; one begins with {PREFIX}")]
    Other,
    /// Cut short, or with a mistake in it.
    #[error("the invitation has a mistake, or a part of it is missing; copy the whole of it again")]
    Damaged,
}

impl Invitation {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> InvitationId {
        InvitationId(Hash(blake3::derive_key("burr 1 invitation id", &self.nonce)))
    }

    /// What proves that one has it.
    #[must_use]
    pub fn key(&self) -> InvitationKey {
        InvitationKey(blake3::derive_key("burr 1 invitation key", &self.nonce))
    }

    fn is_sound(&self) -> bool {
        label::check_name("fleet", &self.fleet).is_ok()
            && self.addresses.len() <= MAX_ADDRESSES
            && self.addresses.iter().all(|address| address.len() <= MAX_ADDRESS)
    }
}

/// The text that is carried.
impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = wire::encode(self);
        let check = Hash::of(&bytes);
        bytes.extend_from_slice(&check.0[..CHECKSUM]);
        write!(f, "{PREFIX}{}", to_base32(&bytes))
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    /// Reads it back, in either case, and with white space anywhere: people and QR codes change both.
    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(MAX_INVITATION + 1).collect();
        let text = text.to_ascii_lowercase();
        let body = text.strip_prefix(PREFIX).ok_or(InvitationError::Other)?;
        if text.len() > MAX_INVITATION {
            return Err(InvitationError::Damaged);
        }
        let bytes = from_base32(body).ok_or(InvitationError::Damaged)?;
        let (bytes, check) = bytes.split_last_chunk::<CHECKSUM>().ok_or(InvitationError::Damaged)?;
        if Hash::of(bytes).0[..CHECKSUM] != check[..] {
            return Err(InvitationError::Damaged);
        }
        let invitation: Self = wire::decode(bytes, MAX_INVITATION).map_err(|_| InvitationError::Damaged)?;
        if invitation.is_sound() { Ok(invitation) } else { Err(InvitationError::Damaged) }
    }
}

/// RFC 4648 without padding, in lower case.
fn to_base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0);
    let mut put = |value: u32| text.push(char::from(ALPHABET[(value & 31) as usize]));
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            put(bits >> held);
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        put(bits << (5 - held));
    }
    text
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    // One spelling: no letter too many, and nothing in the bits that are left over.
    (held < 5 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_the_rfc_and_has_one_spelling() {
        for (plain, text) in [("", ""), ("f", "my"), ("fo", "mzxq"), ("foobar", "mzxw6ytboi")] {
            assert_eq!(to_base32(plain.as_bytes()), text);
            assert_eq!(from_base32(text).as_deref(), Some(plain.as_bytes()));
        }
        for bad in ["m", "mz", "mzx", "my=", "m1", "mya"] {
            assert_eq!(from_base32(bad), None, "{bad}");
        }
    }
}
