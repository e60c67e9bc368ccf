//! What nodes say to each other: messages on the sync stream and the announcement that gossip pushes.
//!
//! Encoded with postcard (its 1.x wire format), one message a frame. Every list has a bound that decoding enforces,
//! and nothing in a message is believed: metadata is verified, blobs are verified, receipts are signed.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Hash, NodeId, RepositoryId,
    config::MAX_FOLLOWS,
    fetch::{MAX_PIECES, PieceMap},
    receipt::SignedReceipt,
};

/// Bytes of one encoded [`Message`]: a trust pack of 4 MiB and its envelope.
pub const MAX_MESSAGE: usize = (4 << 20) + 1024;
/// Bytes of one encoded [`Announcement`]; gossip carries nothing larger.
pub const MAX_ANNOUNCEMENT: usize = 4096;
/// Receipts in one message.
pub const MAX_RECEIPTS: usize = 64;
/// Receipt marks in one digest.
pub const MAX_MARKS: usize = 1024;
/// Devices of whose receipts the first digest of a connection tells at most: of more, what concerns the other follows.
pub const FEW_MARKS: usize = 8;
/// Bytes of a piece map: a bit a piece.
pub const MAX_MAP: usize = (MAX_PIECES / 8) as usize;
/// Bytes of a site's name.
pub const MAX_SITE: usize = 64;
/// Pieces told of in one message that adds to a map: where there are more, the map is shorter.
pub const MAX_ALSO: usize = 512;
/// Blobs asked for in one message.
pub const MAX_WANTS: usize = 64;
/// Bytes of all but the longest encodings: a list that begins with room for as many does not grow a byte at a time.
const MOST_ENCODINGS: usize = 256;

/// A frame that is no message: too long, truncated, with trailing bytes, or over a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than its kind may be.
    #[error("{0} bytes are over the limit of {1}")]
    TooLong(usize, usize),
    /// Not the encoding of a message.
    #[error("not a message: {0}")]
    Malformed(postcard::Error),
    /// A list longer than its bound.
    #[error("a list of {0} is over its bound of {1}")]
    TooMany(usize, usize),
    /// A number in more bytes than it needs, or bytes after the end.
    #[error("not in its shortest form, or with bytes after its end")]
    NotShortest,
}

/// One message on the sync stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// What the sender holds; sent on contact, on change, and now and then.
    Digest(Digest),
    /// Send the trust pack of this name.
    AskPack {
        /// Of which repository.
        repository: RepositoryId,
        /// Its name.
        pack: Hash,
    },
    /// A trust pack, to be verified whole.
    Pack {
        /// Of which repository it claims to be.
        repository: RepositoryId,
        /// Its encoded bytes.
        #[serde(with = "crate::id::bytes")]
        bytes: Vec<u8>,
    },
    /// The sender looks for providers of these blobs; answered by [`Message::Holds`], now and as more arrives.
    Want {
        /// Which blobs.
        blobs: Vec<Hash>,
        /// Whether the sender is connected to nodes of other sites, and so may bring to its own what it fetches.
        outward: bool,
    },
    /// The sender no longer looks for these.
    Unwant(Vec<Hash>),
    /// The sender provides these pieces of a blob.
    Holds {
        /// Which blob.
        blob: Hash,
        /// Its size in bytes, which fixes the piece size.
        size: u64,
        /// Which pieces.
        pieces: PieceMap,
    },
    /// Receipts for the receiver to check, keep and carry on.
    Receipts(Vec<SignedReceipt>),
    /// The sender has these receipts on disk now.
    Stored(Vec<Mark>),
    /// The sender provides these pieces of a blob besides what it said before.
    Also {
        /// Which blob.
        blob: Hash,
        /// Which pieces, by their numbers; at most [`MAX_ALSO`].
        pieces: Vec<u16>,
    },
}

/// What a node holds: the newest metadata of each repository and the newest receipt of each device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Whether the sender collects receipts.
    pub collects: bool,
    /// The name of the sender's site, if it has one: a label of at most 64 bytes.
    pub site: Option<String>,
    /// Repositories that the sender follows, whether it holds anything of them yet or not.
    pub follows: Vec<RepositoryId>,
    /// Newest metadata by repository.
    pub holdings: Vec<Holding>,
    /// Newest receipts by device.
    pub marks: Vec<Mark>,
    /// What its marks hash to ([`Receipts::hash`](crate::receipt::Receipts::hash)), if there are too many to tell at once. It
    /// tells them once it knows of which devices the receiver has some, and is sent no receipts before; where the receiver's
    /// hash to the same, nothing is left to tell.
    pub more: Option<Hash>,
    /// Of which other devices it would keep receipts.
    pub room: Room,
}

/// Of which devices a node keeps receipts that holds none of theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Room {
    /// Of all.
    #[default]
    All,
    /// Of members of the fleets of their repository alone.
    Members,
    /// Of none.
    None,
}

/// The newest verified metadata that a node has of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holding {
    /// Which repository.
    pub repository: RepositoryId,
    /// How new.
    pub version: MetadataVersion,
    /// The trust pack's name.
    pub pack: Hash,
}

/// The order of trust packs of one repository. Root first: a new root may reset the timestamp's versions
/// (TUF 1.0.x section 5.3.11, recovery from fast-forward).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetadataVersion {
    /// Root version.
    pub root: u64,
    /// Timestamp version.
    pub timestamp: u64,
}

/// "I have this device's receipts up to this counter."
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Of which device.
    pub device: NodeId,
    /// The highest counter held.
    pub counter: u64,
}

/// "Newer metadata exists for this app": a hint to verify, never trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Which repository.
    pub repository: RepositoryId,
    /// The signed timestamp itself, so that a relay can check it before it passes it on.
    #[serde(with = "crate::id::bytes")]
    pub timestamp: Vec<u8>,
    /// The trust pack's name: a locator only.
    pub pack: Hash,
    /// The root version that the timestamp is signed under.
    pub root: u64,
}

impl Message {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not exactly one message within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let message = decode(bytes, MAX_MESSAGE)?;
        match &message {
            Self::Digest(digest) => {
                within(digest.site.as_ref().map_or(0, String::len), MAX_SITE)?;
                within(digest.follows.len(), MAX_FOLLOWS)?;
                within(digest.holdings.len(), MAX_FOLLOWS)?;
                within(digest.marks.len(), MAX_MARKS)?;
            }
            Self::Want { blobs, .. } | Self::Unwant(blobs) => within(blobs.len(), MAX_WANTS)?,
            Self::Receipts(receipts) => within(receipts.len(), MAX_RECEIPTS)?,
            Self::Stored(marks) => within(marks.len(), MAX_RECEIPTS)?,
            Self::Also { pieces, .. } => within(pieces.len(), MAX_ALSO)?,
            Self::Holds { pieces: PieceMap::Some(bits), .. } => within(bits.len(), MAX_MAP)?,
            Self::Holds { pieces: PieceMap::All, .. } | Self::AskPack { .. } | Self::Pack { .. } => {}
        }
        Ok(message)
    }
}

impl Announcement {
    /// The announcement's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads one announcement.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not exactly one announcement of at most [`MAX_ANNOUNCEMENT`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        decode(bytes, MAX_ANNOUNCEMENT)
    }
}

/// Encodes a value that came from our own types.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let room = Vec::with_capacity(MOST_ENCODINGS);
    postcard::to_extend(value, room).expect("our own types have no map, no float and no unsized sequence")
}

/// Reads a value that has exactly one encoding: the longer forms of numbers that postcard would read are refused.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLong(bytes.len(), limit));
    }
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(WireError::Malformed)?;
    // No form is as short as the shortest and yet another.
    let shortest = postcard::experimental::serialized_size(&value).map_err(WireError::Malformed)?;
    if rest.is_empty() && shortest == bytes.len() { Ok(value) } else { Err(WireError::NotShortest) }
}

fn within(length: usize, bound: usize) -> Result<(), WireError> {
    if length > bound { Err(WireError::TooMany(length, bound)) } else { Ok(()) }
}
