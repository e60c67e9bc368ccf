//! The blobs on this node's disk: bytes named by their BLAKE3 hash, whole or in part, every part verified.
//!
//! Kept in an iroh-blobs file store. What it guarantees, and what this file adds:
//! - Small blobs (16 KiB) lie in its database; larger ones are files of their own, or stay where they were imported from.
//! - Everything is verified again when it is read or served, so a file that changed on disk is an error, never bad bytes.
//! - After a kill, what is held of a partial blob is found again by hashing it against its stored tree.
//! - Files that a kill left behind unnoted are removed when the store is opened (`blobs/orphans.rs`).
//! - The store collects what no tag protects. Every blob gets a tag of its own before its first byte arrives, and
//!   [`Blobs::delete`] is the only thing that takes it away and the only thing that starts a collection.

mod orphans;

use std::{
    collections::BTreeSet,
    io::{self, Read},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{EncodeError, mixed::EncodedItem},
};
use burr_protocol::{
    Hash,
    fetch::{PieceMap, Pieces, piece_size},
};
use iroh_blobs::{
    BlobFormat,
    api::{
        Store,
        blobs::{AddPathOptions, BlobStatus, ImportMode},
    },
    store::{
        GcConfig, ProtectOutcome,
        fs::{FsStore, options::Options},
    },
};
use libp2p::{bytes::Bytes, futures::StreamExt as _};
use tokio::sync::{Notify, mpsc, watch};

use super::home::{check_disk, set_aside};
use crate::error::{Error, Kind};

/// Bytes of a BLAKE3 chunk, the unit of the store's ranges.
const CHUNK: u64 = 1024;
/// How long a collection may take before a deletion is given up.
const COLLECT_PATIENCE: Duration = Duration::from_mins(1);
/// The store pauses this long between two collections; it starts the next one only when asked.
const COLLECT_PAUSE: Duration = Duration::from_millis(10);
/// Chunk groups that a [`Reader`] reads ahead.
const READ_AHEAD: usize = 64;

/// The blob store of one data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: FsStore,
    dir: PathBuf,
    tagged: Arc<Mutex<BTreeSet<Hash>>>,
    collector: Arc<Collector>,
    /// Whether the store is being closed, which ends whoever reads.
    closing: watch::Sender<bool>,
}

/// A file that was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The blob's name.
    pub hash: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// A blob of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The blob's name.
    pub hash: Hash,
    /// Its size in bytes: of a part, what its first provider and the release agreed on. `None` if nothing of it came yet.
    pub size: Option<u64>,
    /// Whether it is whole.
    pub complete: bool,
}

/// A blob whose files stay open.
pub(crate) struct OpenFiles {
    pub(crate) hash: Hash,
    /// Nobody reads what it has to say: the store waits with it.
    _watched: Box<dyn Send>,
}

impl Blobs {
    /// Opens the store in `dir`, or makes one.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the directory can't be used, is damaged, or is open in another process.
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        let failed = |words: &str| Error::new(Kind::Storage, format!("{words} {}", dir.display()));
        tokio::fs::create_dir_all(&dir)
            .await
            .map_err(|error| failed("can't make the blob store").with_source(error))?;
        let collector = Arc::new(Collector::default());
        let mut options = Options::new(&dir);
        options.gc = Some(GcConfig {
            interval: COLLECT_PAUSE,
            add_protected: Some({
                let collector = Arc::clone(&collector);
                Arc::new(move |_| {
                    let collector = Arc::clone(&collector);
                    Box::pin(async move { collector.wait().await })
                })
            }),
        });
        let store = FsStore::load_with_opts(dir.join("blobs.db"), options).await.map_err(|error| {
            let error = error.to_string();
            let hint = if error.contains("already open") {
                "another burr runs with this data directory: stop it, or choose another directory"
            } else {
                "if it is damaged, move it away: what it held is fetched again"
            };
            failed("can't open the blob store").with_source(error).with_hint(hint)
        })?;
        let blobs = Self { store, dir, tagged: Arc::default(), collector, closing: watch::Sender::default() };
        blobs.load_tags().await?;
        blobs.remove_orphans().await?;
        Ok(blobs)
    }

    /// Opens the store in `dir`, which this process must have for itself. A store whose database is damaged is set
    /// aside and made anew, which is told in words: what was in it is fetched or imported again.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the disk does not let it.
    pub async fn open_or_rebuild(dir: impl Into<PathBuf>) -> Result<(Self, Option<String>), Error> {
        let dir = dir.into();
        let error = match Self::open(&dir).await {
            Ok(blobs) => return Ok((blobs, None)),
            Err(error) => error,
        };
        check_disk(&dir).map_err(|error| Error::file("use the blob store", &dir, error))?;
        let aside = set_aside(&dir).map_err(|error| Error::file("set aside", &dir, error))?;
        let blobs = Self::open(&dir).await?;
        let aside = aside.display();
        let words = format!("{error}; it was set aside as {aside} and made anew, its blobs come again; remove it");
        Ok((blobs, Some(words)))
    }

    /// Takes a file into the store where it lies, without copying it (files of 16 KiB and less are copied).
    ///
    /// The file must stay as it is. If it changes or goes, every read and every serving of the changed part fails:
    /// bytes that are not the blob's never leave the store.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the file can't be read.
    pub async fn import(&self, path: impl AsRef<Path>) -> Result<Imported, Error> {
        self.import_file(path.as_ref(), ImportMode::TryReference).await
    }

    /// Takes a copy of a file that is this blob into the store, on disk when it returns; the file may go then. A reference
    /// to it would not survive the store's being moved.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if it is another blob, [`Kind::Storage`] if the file can't be read, or the copy not written.
    pub async fn adopt(&self, hash: Hash, path: &Path) -> Result<Imported, Error> {
        let imported = self.import_file(path, ImportMode::Copy).await?;
        if imported.hash != hash {
            self.delete(imported.hash).await?;
            return Err(Error::new(Kind::BadInput, format!("{} is another blob than {hash}", path.display())));
        }
        self.sync(imported.hash).await?;
        Ok(imported)
    }

    async fn import_file(&self, path: &Path, mode: ImportMode) -> Result<Imported, Error> {
        let failed =
            |error: String| Error::new(Kind::Storage, format!("can't import {}", path.display())).with_source(error);
        let path = tokio::fs::canonicalize(path).await.map_err(|error| failed(error.to_string()))?;
        let options = AddPathOptions { path, format: BlobFormat::Raw, mode };
        let added = self.store.blobs().add_path_with_opts(options).temp_tag().await;
        self.keep_added(added.map_err(|error| failed(error.to_string()))?).await
    }

    /// Takes bytes into the store.
    ///
    /// # Errors
    /// [`Kind::Storage`] if they can't be written.
    pub async fn import_bytes(&self, bytes: impl Into<Bytes>) -> Result<Imported, Error> {
        let added = self.store.blobs().add_bytes(bytes).temp_tag().await.map_err(broken)?;
        self.keep_added(added).await
    }

    /// Which whole pieces of a blob of this size are held, verified.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the blob's files can't be read.
    pub async fn held(&self, hash: Hash, size: u64) -> Result<PieceMap, Error> {
        let mut pieces = Pieces::none(size);
        let (held_size, ranges) = self.ranges(hash).await?;
        if held_size == size {
            let piece = piece_size(size);
            for index in 0..pieces.count() {
                let start = index as u64 * piece;
                if ranges.is_superset(&chunks(start, (start + piece).min(size))) {
                    pieces.insert(index);
                }
            }
        }
        Ok(pieces.map())
    }

    /// Reads a whole blob from its start, verified as it is read.
    #[must_use]
    pub fn reader(&self, hash: Hash) -> Reader {
        self.range_reader(hash, 0..u64::MAX)
    }

    /// Reads a run of a blob's bytes, verified as they are read; what lies past the blob's end is left out.
    #[must_use]
    pub fn range_reader(&self, hash: Hash, range: Range<u64>) -> Reader {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let wanted = if range.end == u64::MAX { ChunkRanges::all() } else { chunks(range.start, range.end) };
        let export = self.store.export_bao(hash.0, wanted);
        let (mut closing, told) = (self.closing.subscribe(), Arc::new(AtomicBool::new(false)));
        let all_told = Arc::clone(&told);
        let read = async move |sender: &mpsc::Sender<io::Result<Bytes>>| {
            let mut items = std::pin::pin!(export.stream());
            let (mut size, mut sent) = (0, 0);
            while let Some(item) = items.next().await {
                let part = match item {
                    EncodedItem::Leaf(leaf) => Ok(within(leaf.offset, &leaf.data, &range)),
                    EncodedItem::Size(bytes) => {
                        size = bytes;
                        continue;
                    }
                    EncodedItem::Parent(_) | EncodedItem::Done => continue,
                    EncodedItem::Error(EncodeError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Err(error),
                    EncodedItem::Error(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
                };
                let failed = part.is_err();
                sent += part.as_ref().map_or(0, |part| part.len() as u64);
                if part.as_ref().is_ok_and(Bytes::is_empty) {
                    continue;
                }
                if sender.send(part).await.is_err() || failed {
                    return;
                }
            }
            let expected = range.end.min(size).saturating_sub(range.start);
            if expected != sent || (size == 0 && hash != Hash::of(b"")) {
                let _ = sender.send(Err(io::ErrorKind::NotFound.into())).await;
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = read(&sender) => all_told.store(true, Ordering::Release),
                Ok(_) = closing.wait_for(|closing| *closing) => {}
            }
            drop(sender);
        });
        Reader { receiver, part: Bytes::new(), told }
    }

    /// The size of a blob that is here whole.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the store's database can't be read.
    pub async fn whole_size(&self, hash: Hash) -> Result<Option<u64>, Error> {
        match self.store.blobs().status(hash.0).await.map_err(broken)? {
            BlobStatus::Complete { size } => Ok(Some(size)),
            _ => Ok((hash == Hash::of(b"")).then_some(0)),
        }
    }

    /// Removes a blob, whole or partial, and frees its disk space. A file imported from elsewhere stays where it is.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the store fails, or something holds the blob (a fetch of it still under way).
    pub async fn delete(&self, hash: Hash) -> Result<(), Error> {
        self.tags().remove(&hash);
        self.store.tags().delete(hash.to_string()).await.map_err(broken)?;
        if !self.collector.run().await
            || self.store.blobs().status(hash.0).await.map_err(broken)? != BlobStatus::NotFound
        {
            return Err(Error::new(Kind::Storage, format!("can't delete the blob {hash}: it is in use")));
        }
        Ok(())
    }

    /// Every blob, whole or partial.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the store's database can't be read.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for hash in self.store.blobs().list().hashes().await.map_err(broken)? {
            let (size, complete) = match self.store.blobs().status(hash).await.map_err(broken)? {
                BlobStatus::Complete { size } => (Some(size), true),
                BlobStatus::Partial { size: Some(size) } => (Some(size), false),
                // Verified only by the last chunk, which may be long in coming.
                BlobStatus::Partial { size: None } => {
                    let found = self.ranges(Hash(*hash.as_bytes())).await;
                    (found.ok().map(|(size, _)| size).filter(|size| *size > 0), false)
                }
                BlobStatus::NotFound => continue,
            };
            listed.push(Listed { hash: Hash(*hash.as_bytes()), size, complete });
        }
        Ok(listed)
    }

    /// Bytes of disk that the store takes, its database included. Files imported from elsewhere don't count.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the directory can't be read.
    pub async fn used_bytes(&self) -> Result<u64, Error> {
        let dir = self.dir.clone();
        let sum = move || {
            let mut sum = 0;
            let mut open = vec![dir];
            while let Some(dir) = open.pop() {
                for entry in std::fs::read_dir(dir)? {
                    let entry = entry?;
                    match entry.metadata() {
                        Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                        // Counted in blocks, since partial blobs are sparse.
                        Ok(metadata) => sum += metadata.blocks() * 512,
                        // Removed meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok::<_, io::Error>(sum)
        };
        tokio::task::spawn_blocking(sum)
            .await
            .map_err(broken)?
            .map_err(|error| Error::new(Kind::Storage, "can't read the blob store").with_source(error))
    }

    /// Makes what arrived of a blob survive a kill, and, once the blob is whole, a loss of power.
    ///
    /// Parts are in the hands of the operating system as they arrive; what a kill could lose is the database's note
    /// that the blob exists at all, half a second old at most. A partial blob needs no more, since it is verified again
    /// when it is found after a crash; a whole one is believed, so its files must be on disk.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the disk fails.
    pub async fn sync(&self, hash: Hash) -> Result<(), Error> {
        if let BlobStatus::Complete { .. } = self.store.blobs().status(hash.0).await.map_err(broken)? {
            for ending in ["data", "obao4"] {
                match tokio::fs::File::open(self.dir.join("data").join(format!("{hash}.{ending}"))).await {
                    Ok(file) => file.sync_all().await.map_err(broken)?,
                    // In the database, or imported from elsewhere.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(broken(error)),
                }
            }
        }
        self.store.sync_db().await.map_err(broken)
    }

    /// Writes everything to disk and closes the store; every clone is unusable afterwards, and who reads gets no more.
    ///
    /// # Errors
    /// [`Kind::Storage`] if the store failed before.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.closing.send_replace(true);
        self.store.shutdown().await.map_err(broken)
    }

    /// The store itself, for the blob protocol.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The size and the chunk ranges that are held of a blob; nothing of 0 bytes if it is unknown.
    pub(crate) async fn ranges(&self, hash: Hash) -> Result<(u64, ChunkRanges), Error> {
        let mut bitfields = std::pin::pin!(self.store.observe(hash.0).stream().await.map_err(broken)?);
        let bitfield = bitfields.next().await.ok_or_else(|| {
            Error::new(Kind::Storage, format!("can't read the files of the blob {hash}"))
                .with_hint("delete it, so that it is fetched again")
        })?;
        Ok((bitfield.size(), bitfield.ranges))
    }

    /// Keeps a blob's files open for as long as the result lives. The store flushes and closes those of a blob that nobody
    /// uses, which costs more than to write a piece, so it should not happen between two of them.
    pub(crate) async fn open_files(&self, hash: Hash) -> Result<OpenFiles, Error> {
        let watched = self.store.observe(hash.0).stream().await.map_err(broken)?;
        Ok(OpenFiles { hash, _watched: Box::new(watched) })
    }

    /// Protects a blob from collection, before its first byte is written.
    pub(crate) async fn keep(&self, hash: Hash) -> Result<(), Error> {
        if self.tags().contains(&hash) {
            return Ok(());
        }
        self.store.tags().set(hash.to_string(), iroh_blobs::Hash::from(hash.0)).await.map_err(broken)?;
        self.tags().insert(hash);
        Ok(())
    }

    async fn keep_added(&self, added: iroh_blobs::api::TempTag) -> Result<Imported, Error> {
        let hash = Hash(*added.hash().as_bytes());
        self.keep(hash).await?;
        self.sync(hash).await?;
        match self.store.blobs().status(hash.0).await.map_err(broken)? {
            BlobStatus::Complete { size } => Ok(Imported { hash, size }),
            // The empty blob needs no entry: every store has it.
            BlobStatus::NotFound if hash == Hash::of(b"") => Ok(Imported { hash, size: 0 }),
            _ => Err(Error::new(Kind::Storage, format!("the blob {hash} vanished while it was imported"))),
        }
    }

    /// To be called before the store is used.
    async fn remove_orphans(&self) -> Result<(), Error> {
        let known = self.store.blobs().list().hashes().await.map_err(broken)?;
        let known = known.into_iter().map(|hash| hash.to_hex()).collect();
        let dir = self.dir.clone();
        let removed = tokio::task::spawn_blocking(move || orphans::remove(&dir, &known)).await.map_err(broken)?;
        if let Err(error) = removed {
            // They take space, no more: the store works.
            tracing::warn!("can't remove what a kill left in the blob store: {error}");
        }
        Ok(())
    }

    async fn load_tags(&self) -> Result<(), Error> {
        let mut tags = std::pin::pin!(self.store.tags().list().await.map_err(broken)?);
        while let Some(tag) = tags.next().await {
            let hash = tag.map_err(broken)?.hash;
            self.tags().insert(Hash(*hash.as_bytes()));
        }
        Ok(())
    }

    fn tags(&self) -> std::sync::MutexGuard<'_, BTreeSet<Hash>> {
        self.tagged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chunks of a run of bytes that starts on a chunk's border and ends on one or at the blob's end.
pub(crate) fn chunks(start: u64, end: u64) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(start / CHUNK)..ChunkNum(end.div_ceil(CHUNK)))
}

/// The part of a leaf that lies in a run of bytes.
fn within(offset: u64, data: &Bytes, range: &Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
    let (start, end) = (place(range.start), place(range.end));
    if start < end { data.slice(start..end) } else { Bytes::new() }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Storage, "the blob store failed").with_source(error.to_string())
}

/// Starts the store's own collection when asked, and says when it is done.
///
/// The store only collects at intervals, but asks before each collection: the answer is held back until it is wanted.
#[derive(Debug, Default)]
struct Collector {
    wanted: Notify,
    state: watch::Sender<Collections>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Collections {
    /// How many have ended.
    ended: u64,
    /// Whether one is under way, which may have begun too early to see a change made now.
    running: bool,
}

impl Collector {
    /// The store's side: the collection before, if any, has ended; returns when the next one is wanted.
    async fn wait(&self) -> ProtectOutcome {
        self.state.send_modify(|state| {
            state.ended += u64::from(state.running);
            state.running = false;
        });
        self.wanted.notified().await;
        self.state.send_modify(|state| state.running = true);
        ProtectOutcome::Continue
    }

    /// Runs a collection that begins after now; returns whether it ended in time.
    async fn run(&self) -> bool {
        let mut state = self.state.subscribe();
        let now = *state.borrow();
        let target = now.ended + if now.running { 2 } else { 1 };
        self.wanted.notify_one();
        let done = state.wait_for(|state| state.ended >= target);
        matches!(tokio::time::timeout(COLLECT_PATIENCE, done).await, Ok(Ok(_)))
    }
}

/// The bytes of a blob, in order, each verified. [`io::ErrorKind::InvalidData`] if the stored bytes are not the blob's,
/// [`io::ErrorKind::NotFound`] if it is not there.
#[derive(Debug)]
pub struct Reader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
    /// Whether all is told, when nothing comes any more.
    told: Arc<AtomicBool>,
}

impl Reader {
    /// The next run of bytes, of any length but 0; `None` at the end.
    ///
    /// # Errors
    /// If the blob is not whole, or not what it should be.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.part.is_empty() {
            let part = self.receiver.recv().await;
            self.or_end(part)
        } else {
            Ok(Some(std::mem::take(&mut self.part)))
        }
    }

    /// What came; a store that was closed meanwhile is no end of a blob.
    fn or_end(&self, part: Option<io::Result<Bytes>>) -> io::Result<Option<Bytes>> {
        match part {
            None if !self.told.load(Ordering::Acquire) => Err(io::Error::other("the store was closed")),
            part => part.transpose(),
        }
    }
}

/// For threads that may block, such as those of [`tokio::task::spawn_blocking`]; panics on a runtime's own thread.
impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() {
            let part = self.receiver.blocking_recv();
            match self.or_end(part)? {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let length = self.part.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.part.split_to(length));
        Ok(length)
    }
}
