//! Names: every thing Burr talks about is named by 32 bytes, printed as lower-case hex.
//!
//! Text forms (JSON, TOML, command line) are hex; binary forms (wire, records) are the bare bytes.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A text that is not 64 lower-case hex digits where a name was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hex digits, got {0:?}")]
pub struct BadName(pub String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub [u8; 32]);

        impl Ord for $name {
            /// As the bytes are ordered.
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                numbers(&self.0).cmp(&numbers(&other.0))
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The first eight hex digits: enough for people to tell names apart, never to decide by.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                unhex(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| BadName(text.chars().take(80).collect()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

/// A name's bytes as four numbers in the same order: nothing is done more often than to look for a name in a table, and
/// numbers are compared where they are, without a call.
#[inline]
fn numbers(name: &[u8; 32]) -> [u64; 4] {
    let (words, _) = name.as_chunks::<8>();
    [words[0], words[1], words[2], words[3]].map(u64::from_be_bytes)
}

name!(
    /// The BLAKE3 hash of some bytes; the name of a blob.
    Hash
);
name!(
    /// A node's Ed25519 public key: its identity on the mesh and the key that its receipts are checked with.
    NodeId
);
name!(
    /// A repository's name: the BLAKE3 of its first root metadata file. Knowing it pins the publisher's keys,
    /// so first contact is not trust on first use.
    RepositoryId
);
name!(
    /// A device's X25519 public key: what is sealed to it alone. Made on the device, and never made of its [`NodeId`].
    SealKey
);

impl Hash {
    /// The BLAKE3 hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl RepositoryId {
    /// The name of the repository whose first root file has these bytes.
    #[must_use]
    pub fn of_root(root_v1: &[u8]) -> Self {
        Self(Hash::of(root_v1).0)
    }
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut digits = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        digits.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    String::from_utf8(digits).expect("digits are text")
}

/// Bytes from lower-case hex.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_is_strict() {
        let hash = Hash::of(b"burr");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("".parse::<Hash>().is_err());
        assert!(hash.to_string().to_uppercase().parse::<Hash>().is_err());
        assert!(format!("{hash}0").parse::<Hash>().is_err());
    }

    #[test]
    fn json_is_hex_and_postcard_is_bare() {
        let hash = Hash::of(b"burr");
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{hash}\""));
        assert_eq!(postcard::to_stdvec(&hash).unwrap(), hash.0);
    }

    #[test]
    fn names_are_ordered_as_their_bytes_are() {
        let one = Hash::of(b"burr");
        for at in 0..32 {
            let mut other = one;
            other.0[at] ^= 0x81;
            assert_eq!(one.cmp(&other), one.0.cmp(&other.0), "{at}");
        }
        assert_eq!(one.cmp(&one), Ordering::Equal);
    }

    #[test]
    fn hex_is_lower_case_and_exact() {
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        for bad in ["0", "0F", "+1", "é0"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}

/// Bytes in one go: in binary forms what a list of bytes is, byte for byte, and quicker by far.
pub(crate) mod bytes {
    use std::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{Error, SeqAccess, Visitor},
    };

    // serde hands every field over by reference.
    #[expect(clippy::ptr_arg, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(bytes: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_owned())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// Bytes that may be missing: hex in text, bare in binary forms.
pub(crate) mod hex_or_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    // serde hands every field over by reference.
    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            bytes.as_deref().map(super::hex).serialize(serializer)
        } else {
            bytes.serialize(serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        if !deserializer.is_human_readable() {
            return Option::deserialize(deserializer);
        }
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| super::unhex(&text).ok_or_else(|| D::Error::custom("expected lower-case hex digits")))
            .transpose()
    }
}
