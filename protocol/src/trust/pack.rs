//! The trust pack: all signed metadata of a repository as one blob, named by its BLAKE3. Its bytes are the same by
//! gossip, sync, USB and HTTP (`protocol/README.md` section 5). All numbers are big-endian.

/// Bytes of a pack at most: 4 MiB.
pub const MAX_PACK: usize = 4 << 20;
/// Root versions in a pack at most.
pub const MAX_ROOTS: usize = 256;
/// Delegated roles in a pack at most.
pub const MAX_DELEGATED: usize = 64;
/// Bytes of one root at most.
pub const MAX_ROOT: usize = 512 << 10;
/// Bytes of a timestamp at most.
pub const MAX_TIMESTAMP: usize = 16 << 10;
/// Bytes of a snapshot at most.
pub const MAX_SNAPSHOT: usize = 2 << 20;
/// Bytes of a targets document, delegated or not, at most.
pub const MAX_TARGETS: usize = 4 << 20;
/// Bytes of a delegated role's name at most: `app.`, two labels and a dot; `fleet.` and a label is shorter.
pub const MAX_ROLE_NAME: usize = 4 + 64 + 1 + 64;

const MAGIC: &[u8] = b"burr pack 1\n";

/// Bytes that are no trust pack, or documents that make none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Over a bound.
    #[error("{what}: {value} is over the limit of {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is.
        value: usize,
        /// How much there may be.
        limit: usize,
    },
    /// Not the encoding of a pack.
    #[error("{what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// The documents of a pack, as bytes that nobody verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack<'a> {
    /// Every root from version 1 to the newest.
    pub roots: Vec<&'a [u8]>,
    /// The timestamp.
    pub timestamp: &'a [u8],
    /// The snapshot.
    pub snapshot: &'a [u8],
    /// The top-level targets.
    pub targets: &'a [u8],
    /// The delegated roles by name, in strict byte order.
    pub delegated: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Pack<'a> {
    /// Splits a pack into its documents.
    ///
    /// # Errors
    /// [`PackError`] if the bytes are not the one encoding of a pack within bounds.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PackError> {
        at_most("the pack's size in bytes", bytes.len(), MAX_PACK)?;
        let mut from = Reader { bytes, at: 0 };
        if from.take(MAGIC.len())? != MAGIC {
            return Err(PackError::Malformed { what: "it does not start as a trust pack of version 1", at: 0 });
        }
        let roots = from.count("the number of roots", MAX_ROOTS)?;
        if roots == 0 {
            return Err(from.malformed("no root"));
        }
        let roots = (0..roots).map(|_| from.document("a root's size", MAX_ROOT)).collect::<Result<_, _>>()?;
        let timestamp = from.document("the timestamp's size", MAX_TIMESTAMP)?;
        let snapshot = from.document("the snapshot's size", MAX_SNAPSHOT)?;
        let targets = from.document("the targets' size", MAX_TARGETS)?;
        let count = from.count("the number of delegated roles", MAX_DELEGATED)?;
        let mut delegated: Vec<(&str, &[u8])> = Vec::with_capacity(count);
        for _ in 0..count {
            let len = from.count("the length of a role's name", MAX_ROLE_NAME)?;
            let name =
                std::str::from_utf8(from.take(len)?).map_err(|_| from.malformed("a role's name is not UTF-8"))?;
            if delegated.last().is_some_and(|(last, _)| *last >= name) {
                return Err(from.malformed("delegated roles are not in byte order"));
            }
            delegated.push((name, from.document("a delegated role's size", MAX_TARGETS)?));
        }
        if from.at < bytes.len() {
            return Err(from.malformed("bytes after the last document"));
        }
        Ok(Self { roots, timestamp, snapshot, targets, delegated })
    }

    /// Joins documents into a pack.
    ///
    /// # Errors
    /// [`PackError`] if they are too many or too large, or the roles are not in order: whatever a reader refuses.
    pub fn encode(&self) -> Result<Vec<u8>, PackError> {
        let mut out = MAGIC.to_vec();
        put_count(&mut out, "the number of roots", self.roots.len(), MAX_ROOTS)?;
        let fixed = [self.timestamp, self.snapshot, self.targets];
        for document in self.roots.iter().copied().chain(fixed) {
            put_document(&mut out, document)?;
        }
        put_count(&mut out, "the number of delegated roles", self.delegated.len(), MAX_DELEGATED)?;
        for (name, document) in &self.delegated {
            put_count(&mut out, "the length of a role's name", name.len(), MAX_ROLE_NAME)?;
            out.extend_from_slice(name.as_bytes());
            put_document(&mut out, document)?;
        }
        Pack::decode(&out)?;
        Ok(out)
    }

    /// A delegated role's document.
    #[must_use]
    pub fn delegated(&self, role: &str) -> Option<&'a [u8]> {
        let at = self.delegated.binary_search_by(|(name, _)| (*name).cmp(role)).ok()?;
        Some(self.delegated[at].1)
    }
}

fn at_most(what: &'static str, value: usize, limit: usize) -> Result<(), PackError> {
    if value > limit { Err(PackError::TooMuch { what, value, limit }) } else { Ok(()) }
}

fn put_count(out: &mut Vec<u8>, what: &'static str, value: usize, limit: usize) -> Result<(), PackError> {
    at_most(what, value, limit)?;
    let count = u16::try_from(value).expect("every count has a limit below 65,536");
    out.extend_from_slice(&count.to_be_bytes());
    Ok(())
}

fn put_document(out: &mut Vec<u8>, document: &[u8]) -> Result<(), PackError> {
    at_most("a document's size", document.len(), MAX_PACK)?;
    let len = u32::try_from(document.len()).expect("a document is at most MAX_PACK bytes");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(document);
    at_most("the pack's size in bytes", out.len(), MAX_PACK)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, what: &'static str) -> PackError {
        PackError::Malformed { what, at: self.at }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PackError> {
        let taken = self.bytes[self.at..].get(..len).ok_or_else(|| self.malformed("it is cut short"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, PackError> {
        let count = u16::from_be_bytes(self.array()?).into();
        at_most(what, count, limit)?;
        Ok(count)
    }

    fn document(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], PackError> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        at_most(what, len, limit)?;
        self.take(len)
    }
}
