//! The journal: every record as it was written, in a plain file, so that a damaged database loses nothing.
//!
//! One write is one frame, `length u32 LE | BLAKE3 of the rest, 16 bytes | changes`, so a crash leaves all of it or none.
//! A change is `key length u16 LE | value length u32 LE | key | value`; a value of no bytes forgets the key (no record
//! encodes to nothing). A file that does not read whole to its end was cut by a crash in a write that was never
//! acknowledged, or it is damaged; which of the two, the database knows (`store/records.rs`).

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::bundle::sync_dir;

/// The journal's name in the data directory.
const FILE: &str = "records.journal";
/// The journal is written anew when it is this much larger than what it said when that was done last.
const SLACK: u64 = 4 << 20;

/// Keys with their values.
pub(super) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
/// A key with its new value; without one it is forgotten.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);
/// Keys with their new values as a frame has them; an empty one forgets the key.
type Written<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole frames.
    length: u64,
    /// Bytes when it was written anew last.
    compact: u64,
    /// Whether a part of a frame may stand behind them.
    torn: bool,
}

/// What a journal says.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) entries: Entries,
    /// Whether it says something and reads whole to its end.
    pub(super) whole: bool,
    length: u64,
}

/// Where the journal of a data directory lies.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Reads a data directory's journal; one that is not there says nothing.
pub(super) fn read(data: &Path) -> io::Result<Replayed> {
    let bytes = match fs::read(path(data)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let (entries, length) = replay(&bytes);
    Ok(Replayed { entries, whole: length == bytes.len() && length > 0, length: length as u64 })
}

impl Journal {
    /// Opens a journal to append to what was read of it; what is behind that is cut off.
    pub(super) fn open(data: &Path, replayed: &Replayed) -> io::Result<Self> {
        let path = path(data);
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(replayed.length)?;
        file.sync_all()?;
        sync_dir(data)?;
        let compact = if replayed.entries.is_empty() { 0 } else { encode(&replayed.entries).len() as u64 };
        Ok(Self { path, file, length: replayed.length, compact, torn: false })
    }

    /// Appends changes, durably and as one. After a failure the journal is as before.
    pub(super) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.torn {
            // A part of a frame must not stand before later ones.
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        let bytes = frame(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref().unwrap_or_default())));
        match self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.torn = self.file.set_len(self.length).is_err();
                Err(error)
            }
        }
    }

    /// Whether most of it is about what was overwritten since.
    pub(super) fn is_long(&self) -> bool {
        self.length > self.compact + SLACK
    }

    /// Writes it anew, with these entries alone. After a failure it is as before.
    pub(super) fn rewrite(&mut self, entries: &Entries) -> io::Result<()> {
        let bytes = encode(entries);
        let directory = self.path.parent().expect("it lies in the data directory");
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        new.write_all(&bytes)?;
        new.as_file().sync_all()?;
        let file = OpenOptions::new().append(true).open(new.path())?;
        new.persist(&self.path)?;
        let length = bytes.len() as u64;
        (self.file, self.length, self.compact, self.torn) = (file, length, length, false);
        sync_dir(directory)
    }
}

fn encode(entries: &Entries) -> Vec<u8> {
    frame(entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
}

fn frame<'a>(changes: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut frame = vec![0; 20];
    for (key, value) in changes {
        let key_length = u16::try_from(key.len()).expect("keys are short: names, hex and numbers");
        let value_length = u32::try_from(value.len()).expect("records are a few KiB");
        frame.extend_from_slice(&key_length.to_le_bytes());
        frame.extend_from_slice(&value_length.to_le_bytes());
        frame.extend_from_slice(key);
        frame.extend_from_slice(value);
    }
    let length = u32::try_from(frame.len() - 20).expect("all records together are some MiB");
    let hash = blake3::hash(&frame[20..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..20].copy_from_slice(&hash.as_bytes()[..16]);
    frame
}

/// What whole frames say, and how many bytes they take.
fn replay(bytes: &[u8]) -> (Entries, usize) {
    let mut entries = Entries::new();
    let mut at = 0;
    while let Some((changes, end)) = read_frame(bytes, at) {
        for (key, value) in changes {
            if value.is_empty() {
                entries.remove(key);
            } else {
                entries.insert(key.to_vec(), value.to_vec());
            }
        }
        at = end;
    }
    (entries, at)
}

/// The changes of the frame at a place, and where it ends.
fn read_frame(bytes: &[u8], at: usize) -> Option<(Written<'_>, usize)> {
    let (head, rest) = bytes.get(at..)?.split_at_checked(20)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let mut rest = rest.get(..length)?;
    if blake3::hash(rest).as_bytes()[..16] != head[4..] {
        return None;
    }
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let (lengths, after) = rest.split_at_checked(6)?;
        let key_length = usize::from(u16::from_le_bytes(lengths[..2].try_into().ok()?));
        let value_length = u32::from_le_bytes(lengths[2..].try_into().ok()?) as usize;
        let (key, after) = after.split_at_checked(key_length)?;
        let (value, after) = after.split_at_checked(value_length)?;
        changes.push((key, value));
        rest = after;
    }
    Some((changes, at + 20 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: Option<&str>) -> Change {
        (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
    }

    fn open(data: &Path) -> (Journal, Replayed) {
        let replayed = read(data).unwrap();
        (Journal::open(data, &replayed).unwrap(), replayed)
    }

    fn entries(of: &[(&str, &str)]) -> Entries {
        of.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_end_is_cut() {
        let data = tempfile::tempdir().unwrap();
        let (mut journal, found) = open(data.path());
        assert!(found.entries.is_empty() && !found.whole);
        journal.append(&[change("a", Some("1")), change("b", Some("2"))]).unwrap();
        journal.append(&[change("a", None)]).unwrap();
        drop(journal);

        let whole = fs::read(path(data.path())).unwrap();
        let next = frame([(&b"b"[..], &b"9"[..]), (&b"c"[..], &b"3"[..])].into_iter());
        for cut in 1..next.len() {
            fs::write(path(data.path()), [&whole[..], &next[..cut]].concat()).unwrap();
            let found = read(data.path()).unwrap();
            assert!(!found.whole && found.entries == entries(&[("b", "2")]), "nothing of a write, or all of it: {cut}");
        }
        let (mut journal, _) = open(data.path());
        journal.append(&[change("d", Some("4"))]).unwrap();
        drop(journal);
        let found = read(data.path()).unwrap();
        assert!(found.whole);
        assert_eq!(found.entries, entries(&[("b", "2"), ("d", "4")]));
    }

    #[test]
    fn any_byte_that_is_another_shows() {
        let data = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(data.path());
        journal.append(&[change("a", Some("1"))]).unwrap();
        journal.append(&[change("b", Some("2"))]).unwrap();
        let good = fs::read(path(data.path())).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            fs::write(path(data.path()), bytes).unwrap();
            assert!(!read(data.path()).unwrap().whole, "byte {at}");
        }
    }

    #[test]
    fn it_is_written_anew_when_it_is_long_and_goes_on_from_there() {
        let data = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(data.path());
        let value = "x".repeat(64 << 10);
        let mut appended = 0;
        while !journal.is_long() {
            journal.append(&[change("a", Some(&value))]).unwrap();
            appended += value.len() as u64;
        }
        assert!((SLACK..SLACK + (1 << 20)).contains(&appended));
        journal.rewrite(&entries(&[("a", "1"), ("b", "2")])).unwrap();
        assert!(!journal.is_long());
        journal.append(&[change("b", Some("3"))]).unwrap();
        drop(journal);
        assert!(fs::metadata(path(data.path())).unwrap().len() < 100);
        assert_eq!(read(data.path()).unwrap().entries, entries(&[("a", "1"), ("b", "3")]));
    }
}
