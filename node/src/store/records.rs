//! Records in sled, with a journal beside it: the only file that knows sled.
//!
//! A write is in the journal, then in the database, then flushed, and only then reported: what was reported is in both.
//! - A database that can't be opened or read is set aside under a name that says so, and made anew from the journal.
//! - A journal that does not read whole to its end is cut there if that is all that the database knows, since a crash
//!   leaves a write that was never reported. If the database knows better, the journal is damaged: it is set aside and
//!   made anew from the database.
//!
//! Either way nothing is lost. Only if both are damaged, what stood behind the journal's damage is, which is said.

use std::{io, path::Path};

use burr_protocol::record::Record;

use super::{
    home::{check_disk, set_aside},
    journal::{self, Entries, Journal},
    metadata::Metadata,
};
use crate::error::{Error, Kind};

/// Bytes of memory that the database may cache: records are few and small.
const CACHE: u64 = 1 << 20;

/// The open store of records.
#[derive(Debug)]
pub struct Records {
    database: sled::Db,
    journal: Journal,
    metadata: Metadata,
}

/// What was found at a start.
#[derive(Debug)]
pub struct Found {
    /// Everything that the agent restarts from.
    pub records: Vec<Record>,
    /// What was damaged, set aside and made anew, in words.
    pub rebuilt: Vec<String>,
    /// Records that can't be read and were left out.
    pub dropped: Vec<String>,
}

impl Records {
    /// Opens the records of a data directory.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the disk does not let it.
    pub fn open(data: &Path) -> Result<(Self, Found), Error> {
        let storage = |error: io::Error| Error::file("open the records in", data, error);
        let replayed = journal::read(data).map_err(storage)?;
        let path = data.join("records.sled");
        let mut rebuilt = Vec::new();
        let (database, entries) = match open_database(&path, &replayed.entries, replayed.whole) {
            Ok(opened) => opened,
            Err(why) => {
                check_disk(data).and_then(|()| check_disk(&path)).map_err(storage)?;
                let aside = set_aside(&path).map_err(storage)?;
                let lost = if replayed.whole { "nothing is lost" } else { "which has a damaged end: some may be lost" };
                rebuilt.push(format!(
                    "the database {} is damaged ({why}); it was set aside as {} and made anew from the journal, {lost}",
                    path.display(),
                    aside.display()
                ));
                open_database(&path, &replayed.entries, true).map_err(|why| {
                    Error::new(Kind::Storage, format!("can't make the database {}: {why}", path.display()))
                })?
            }
        };
        let journal = if entries == replayed.entries {
            let mut journal = Journal::open(data, &replayed).map_err(storage)?;
            if journal.is_long() {
                journal.rewrite(&entries).map_err(storage)?;
            }
            journal
        } else {
            rebuilt.push(set_journal_aside(&journal::path(data)).map_err(storage)?);
            let mut journal = Journal::open(data, &journal::read(data).map_err(storage)?).map_err(storage)?;
            journal.rewrite(&entries).map_err(storage)?;
            journal
        };
        let metadata = Metadata::open(data)?;
        let mut records = metadata.read_all()?;
        let mut dropped = Vec::new();
        for (key, value) in &entries {
            match Record::read(key, value) {
                Ok(record) => records.push(record),
                Err(why) => dropped.push(why.to_string()),
            }
        }
        Ok((Self { database, journal, metadata }, Found { records, rebuilt, dropped }))
    }

    /// Writes records durably, all of them or, after a crash, none of the indexed ones. A repository's metadata goes
    /// first: whatever rests on it comes after it.
    ///
    /// # Errors
    /// What went wrong, in words; what was there before stays.
    pub fn write(&mut self, records: &[Record]) -> Result<(), String> {
        let mut changes = Vec::new();
        for record in records {
            match (record, record.entry()) {
                (Record::Metadata { repository, pack }, _) => {
                    self.metadata.write(*repository, pack).map_err(|error| format!("metadata not written: {error}"))?;
                }
                (_, Some(entry)) => changes.push(entry),
                (_, None) => {}
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.journal.append(&changes).map_err(|error| format!("journal not written: {error}"))?;
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let written = self.database.apply_batch(batch).and_then(|()| self.database.flush());
        written.map_err(|error| format!("database not written: {error}"))?;
        if self.journal.is_long() {
            let shortened =
                read_all(&self.database).map_err(io::Error::other).and_then(|all| self.journal.rewrite(&all));
            if let Err(error) = shortened {
                // It is whole, only long.
                tracing::warn!("the journal could not be written anew: {error}");
            }
        }
        Ok(())
    }
}

/// Opens the database and says what counts: what the journal says, if it is believed or the database says the same, else
/// what the database says. The database is brought in line with that.
fn open_database(path: &Path, journalled: &Entries, believed: bool) -> Result<(sled::Db, Entries), String> {
    // sled reports some damage by a panic in its own threads or on the caller's.
    let opened = std::panic::catch_unwind(|| {
        let database = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None).open()?;
        let stored = read_all(&database)?;
        let entries = if believed { journalled.clone() } else { stored.clone() };
        let mut batch = sled::Batch::default();
        for key in stored.keys().filter(|key| !entries.contains_key(*key)) {
            batch.remove(key.as_slice());
        }
        for (key, value) in entries.iter().filter(|(key, value)| stored.get(*key) != Some(value)) {
            batch.insert(key.as_slice(), value.as_slice());
        }
        database.apply_batch(batch)?;
        database.flush()?;
        Ok::<_, sled::Error>((database, entries))
    });
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("its pages can't be read".to_owned()),
    }
}

fn read_all(database: &sled::Db) -> Result<Entries, sled::Error> {
    database.iter().map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

/// Sets a journal aside of which the database knows more than it says; returns that in words.
fn set_journal_aside(path: &Path) -> io::Result<String> {
    let what = if path.try_exists()? {
        format!("is damaged; it was set aside as {} and", set_aside(path)?.display())
    } else {
        "is gone; it was".to_owned()
    };
    Ok(format!("the journal {} {what} made anew from the database, nothing is lost", path.display()))
}
