//! The journal: every record as it was written, in a plain file, so that a damaged database loses nothing.
//!
//! A frame is `length u32 LE | BLAKE3 of the rest, 16 bytes | key length u16 LE | key | value`; a value of no bytes forgets the key
//! (no record encodes to nothing). A torn last frame is what a crash leaves; it was never acknowledged.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::home::write_atomically;

/// Bytes of one frame at most; the largest record is far below it.
const MAX_FRAME: usize = 1 << 20;
/// The journal is written anew at a start when it is this much larger than what it says.
const SLACK: u64 = 4 << 20;

/// Keys with their values.
pub(super) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    length: u64,
}

impl Journal {
    /// Opens the journal and says what it holds.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Entries)> {
        let path: PathBuf = directory.join("records.journal");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (entries, good) = replay(&bytes);
        let compact: Vec<u8> = entries.iter().flat_map(|(key, value)| frame(key, Some(value))).collect();
        if good as u64 > compact.len() as u64 + SLACK || (good < bytes.len() && !path.exists()) {
            write_atomically(&path, &compact)?;
            let file = OpenOptions::new().append(true).open(&path)?;
            return Ok((Self { file, length: compact.len() as u64 }, entries));
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(good as u64)?;
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok((Self { file, length: good as u64 }, entries))
    }

    /// Appends changes, durably. After a failure the journal is as before.
    pub(super) fn append(&mut self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> io::Result<()> {
        let bytes: Vec<u8> = changes.iter().flat_map(|(key, value)| frame(key, value.as_deref())).collect();
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A part of a frame must not stand before later ones.
                self.file.set_len(self.length)?;
                Err(error)
            }
        }
    }
}

fn frame(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let key_length = u16::try_from(key.len()).expect("keys are short: names, hex and numbers");
    let mut rest = key_length.to_le_bytes().to_vec();
    rest.extend_from_slice(key);
    rest.extend_from_slice(value.unwrap_or_default());
    let length = u32::try_from(rest.len()).expect("records are below MAX_FRAME");
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&blake3::hash(&rest).as_bytes()[..16]);
    frame.extend_from_slice(&rest);
    frame
}

/// What whole frames say, and how many bytes they take.
fn replay(bytes: &[u8]) -> (Entries, usize) {
    let mut entries = Entries::new();
    let mut at = 0;
    while let Some((key, value, end)) = read_frame(bytes, at) {
        if value.is_empty() {
            entries.remove(key);
        } else {
            entries.insert(key.to_vec(), value.to_vec());
        }
        at = end;
    }
    (entries, at)
}

fn read_frame(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let head = bytes.get(at..at + 20)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    if length > MAX_FRAME {
        return None;
    }
    let rest = bytes.get(at + 20..at + 20 + length)?;
    if blake3::hash(rest).as_bytes()[..16] != head[4..] {
        return None;
    }
    let key_length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
    Some((rest.get(2..2 + key_length)?, rest.get(2 + key_length..)?, at + 20 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: Option<&str>) -> (Vec<u8>, Option<Vec<u8>>) {
        (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_end_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, entries) = Journal::open(directory.path()).unwrap();
        assert!(entries.is_empty());
        journal.append(&[change("a", Some("1")), change("b", Some("2"))]).unwrap();
        journal.append(&[change("a", None)]).unwrap();
        drop(journal);

        let path = directory.path().join("records.journal");
        let whole = fs::read(&path).unwrap();
        let expected = Entries::from([(b"b".to_vec(), b"2".to_vec())]);
        let torn: Vec<u8> = whole.iter().copied().chain(frame(b"c", Some(b"3")).into_iter().take(22)).collect();
        fs::write(&path, torn).unwrap();
        let (mut journal, entries) = Journal::open(directory.path()).unwrap();
        assert_eq!(entries, expected);
        journal.append(&[change("d", Some("4"))]).unwrap();
        drop(journal);
        let (_, entries) = Journal::open(directory.path()).unwrap();
        assert_eq!(entries.len(), 2);
    }
}
