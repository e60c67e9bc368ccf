//! The canonical bytes of a manifest (`protocol/README.md` §2.1). All numbers are big-endian.

use super::{Content, Entry, MAX_FILES, ManifestError, at_most};
use crate::Hash;

const MAGIC: &[u8] = b"burr manifest 1\n";
/// Bytes in front of the entries: what it is, and how many follow.
pub const HEAD: usize = MAGIC.len() + 4;
const FILE: u8 = 0;
const EXECUTABLE: u8 = 1;
const LINK: u8 = 2;
/// Bytes of the shortest entry: a link from a path of one byte to a target of one byte.
const SHORTEST: usize = 7;

/// How long the encoding is.
pub(super) fn len(entries: &[Entry]) -> u64 {
    let entry = |entry: &Entry| {
        let content = match &entry.content {
            Content::File { .. } => 8 + 32,
            Content::Link { target } => 2 + target.len(),
        };
        (1 + 2 + entry.path.len() + content) as u64
    };
    HEAD as u64 + entries.iter().map(entry).sum::<u64>()
}

/// Encodes entries that were checked.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let count = u32::try_from(entries.len()).expect("a checked manifest has at most MAX_FILES entries");
    out.extend_from_slice(&count.to_be_bytes());
    for Entry { path, content } in entries {
        match content {
            Content::File { size, executable, hash } => {
                out.push(if *executable { EXECUTABLE } else { FILE });
                put_text(&mut out, path);
                out.extend_from_slice(&size.to_be_bytes());
                out.extend_from_slice(&hash.0);
            }
            Content::Link { target } => {
                out.push(LINK);
                put_text(&mut out, path);
                put_text(&mut out, target);
            }
        }
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("a checked path is at most MAX_PATH bytes");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads how many entries follow.
pub(super) fn count(head: &[u8]) -> Result<u32, ManifestError> {
    let mut from = Reader { bytes: head, at: 0 };
    if from.take(MAGIC.len())? != MAGIC {
        return Err(ManifestError::Malformed { what: "it does not start as a manifest of version 1", at: 0 });
    }
    let count = u32::from_be_bytes(from.array()?);
    at_most("the number of files", count.into(), MAX_FILES)?;
    Ok(count)
}

/// Decodes the form alone and the order of the paths; the other rules are the caller's.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Entry>, ManifestError> {
    let count = count(bytes)?;
    let mut from = Reader { bytes, at: HEAD };
    if (count as usize).saturating_mul(SHORTEST) > from.left() {
        return Err(from.malformed("it is cut short"));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let [kind] = from.array()?;
        let path = from.text()?;
        if entries.last().is_some_and(|last| last.path > path) {
            return Err(from.malformed("paths are not in byte order"));
        }
        let content = match kind {
            FILE | EXECUTABLE => Content::File {
                size: u64::from_be_bytes(from.array()?),
                executable: kind == EXECUTABLE,
                hash: Hash(from.array()?),
            },
            LINK => Content::Link { target: from.text()? },
            _ => return Err(from.malformed("an unknown kind of entry")),
        };
        entries.push(Entry { path, content });
    }
    if from.left() > 0 {
        return Err(from.malformed("bytes after the last entry"));
    }
    Ok(entries)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn malformed(&self, what: &'static str) -> ManifestError {
        ManifestError::Malformed { what, at: self.at }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ManifestError> {
        let taken = self.bytes[self.at..].get(..len).ok_or_else(|| self.malformed("it is cut short"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn text(&mut self) -> Result<String, ManifestError> {
        let len = u16::from_be_bytes(self.array()?);
        let text = std::str::from_utf8(self.take(len.into())?);
        text.map(str::to_owned).map_err(|_| self.malformed("a path is not UTF-8"))
    }
}
