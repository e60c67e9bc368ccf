//! Records in sled, with a journal beside it: the only file that knows sled.
//!
//! A write is in the journal, then in the database, then flushed, and only then reported. A database that can't be
//! opened or read is set aside under a name that says so, and made anew from the journal: nothing is lost.

use std::{io, path::Path};

use burr_protocol::record::Record;

use super::{
    home::set_aside,
    journal::{Entries, Journal},
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
    /// A database that was set aside and made anew, in words.
    pub rebuilt: Option<String>,
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
        let (journal, journalled) = Journal::open(data).map_err(storage)?;
        let path = data.join("records.sled");
        let mut rebuilt = None;
        let database = match open_database(&path, &journalled) {
            Ok(database) => database,
            Err(why) => {
                let aside = set_aside(&path).map_err(storage)?;
                rebuilt = Some(format!(
                    "the database {} is damaged ({why}); it was set aside as {} and made anew from the journal, nothing is lost",
                    path.display(),
                    aside.display()
                ));
                open_database(&path, &journalled).map_err(|why| {
                    Error::new(Kind::Storage, format!("can't make the database {}: {why}", path.display()))
                })?
            }
        };
        let metadata = Metadata::open(data)?;
        let mut records = metadata.read_all()?;
        let mut dropped = Vec::new();
        for (key, value) in &journalled {
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
        written.map(|_| ()).map_err(|error| format!("database not written: {error}"))
    }
}

/// Opens the database and brings it in line with the journal, which is written first and so may be ahead.
fn open_database(path: &Path, journalled: &Entries) -> Result<sled::Db, String> {
    // sled reports some damage by a panic in its own threads or on the caller's.
    let opened = std::panic::catch_unwind(|| {
        let database = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None).open()?;
        let found = database.iter().collect::<Result<Vec<_>, _>>()?;
        let stale =
            |key: &sled::IVec, value: &sled::IVec| journalled.get(key.as_ref()).is_none_or(|v| v[..] != value[..]);
        let mut batch = sled::Batch::default();
        found.iter().filter(|(key, value)| stale(key, value)).for_each(|(key, _)| batch.remove(key.clone()));
        for (key, value) in journalled {
            batch.insert(key.as_slice(), value.as_slice());
        }
        database.apply_batch(batch)?;
        database.flush()?;
        Ok::<_, sled::Error>(database)
    });
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("its pages can't be read".to_owned()),
    }
}
