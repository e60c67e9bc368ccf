//! A node's disk: what was written before the durable mark survives a crash, the rest is gone. What many disks have alike is
//! in memory once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burr_protocol::{
    Hash, RepositoryId,
    action::NoKey,
    cache::Stored,
    fetch::{PieceMap, Pieces, piece_size},
    receipt::SignedReceipt,
    record::{AppRecord, Record},
    release::Payload,
    seal::Epoch,
    table::Table,
    wire::Mark,
};

/// A part of a blob, known by its pieces alone.
#[derive(Debug, Clone)]
struct Part {
    size: u64,
    pieces: Pieces,
}

/// The bundles that are installed of an app, and which of them is `current`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Slots {
    all: Vec<Hash>,
    current: Option<Hash>,
}

/// Keys of sealed releases.
#[derive(Debug, Clone, Default)]
struct Keys {
    here: BTreeSet<Epoch>,
    /// Lists of keys that have an entry for this node.
    listed_in: BTreeSet<Hash>,
}

/// What a file or a record is, and its name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    name: Hash,
    bytes: Box<[u8]>,
}

/// All on a disk that others have as well: everything but its receipts and what is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Files {
    /// All records but metadata and receipts, as a node's database has them.
    records: Table<Box<[u8]>, Arc<Content>>,
    /// The newest trust pack, and the first.
    metadata: Table<RepositoryId, [Arc<Content>; 2]>,
    /// Whole blobs, with their sizes.
    blobs: Table<Hash, u64>,
    apps: Table<Box<str>, Slots>,
}

/// What disks have, each once: many nodes have the same.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    by_name: BTreeMap<Hash, Arc<Content>>,
    files: BTreeSet<Arc<Files>>,
    /// Once there are so many of either, those that no disk has any more are forgotten.
    many: usize,
}

impl Contents {
    const MANY: usize = 256;

    fn content(&mut self, bytes: &[u8]) -> Arc<Content> {
        let name = Hash::of(bytes);
        self.by_name.entry(name).or_insert_with(|| Arc::new(Content { name, bytes: bytes.into() })).clone()
    }

    /// Takes what another disk has in the place of the same.
    fn share(&mut self, files: &mut Arc<Files>) {
        match self.files.get(&**files) {
            Some(same) => *files = same.clone(),
            None => drop(self.files.insert(files.clone())),
        }
        if self.files.len().max(self.by_name.len()) >= self.many {
            self.files.retain(|files| Arc::strong_count(files) > 1);
            self.by_name.retain(|_, content| Arc::strong_count(content) > 1);
            self.many = (self.files.len().max(self.by_name.len()) * 2).max(Self::MANY);
        }
    }

    /// A new disk.
    pub(crate) fn blank(&mut self) -> Disk {
        let mut files = Arc::default();
        self.share(&mut files);
        Disk { files, receipts: Table::default(), parts: Table::default(), keys: None }
    }
}

/// What is durable on one node.
#[derive(Debug)]
pub struct Disk {
    /// One's own while it is changed, and shared again with the next write.
    files: Arc<Files>,
    receipts: Table<Mark, SignedReceipt>,
    /// Blobs that are not whole.
    parts: Table<Hash, Part>,
    /// Of few nodes.
    keys: Option<Box<Keys>>,
}

impl Disk {
    /// Writes records, all at once; `contents` are those of all disks.
    pub(crate) fn write(&mut self, records: &[Record], contents: &mut Contents) {
        for record in records {
            match record {
                Record::Metadata { repository, pack } => {
                    let pack = contents.content(pack);
                    let kept = self.files().metadata.get_or_insert_with(*repository, || [pack.clone(), pack.clone()]);
                    kept[0] = pack;
                }
                Record::Receipt { mark, receipt: Some(signed) } => {
                    self.receipts.insert(*mark, signed.clone());
                }
                Record::Receipt { mark, receipt: None } => drop(self.receipts.remove(mark)),
                Record::App { .. } | Record::Assigned { .. } | Record::Used(_) => match record.entry() {
                    Some((key, Some(value))) => drop(self.files().records.insert(key.into(), contents.content(&value))),
                    Some((key, None)) => drop(self.files().records.remove(&*key)),
                    None => {}
                },
            }
        }
        contents.share(&mut self.files);
    }

    /// What is on it, to be changed.
    fn files(&mut self) -> &mut Files {
        Arc::make_mut(&mut self.files)
    }

    /// Everything that an agent restarts from.
    ///
    /// # Panics
    /// When a record that was written can't be read back: a defect that every run is to show.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let file = |(repository, [pack, _]): (&RepositoryId, &[Arc<Content>; 2])| Record::Metadata {
            repository: *repository,
            pack: pack.bytes.to_vec(),
        };
        let metadata = self.files.metadata.iter().map(file);
        let read = |key: &[u8], value: &[u8]| Record::read(key, value).expect("what was written is read back");
        let records = self.files.records.iter().map(|(key, value)| read(key, &value.bytes));
        let receipts = self.receipts.iter().filter_map(|(mark, signed)| {
            let (key, value) = Record::Receipt { mark: *mark, receipt: Some(signed.clone()) }.entry()?;
            Some(read(&key, &value?))
        });
        metadata.chain(records).chain(receipts).collect()
    }

    /// Loses all records but the metadata, which are files of their own: a database that was damaged and set aside.
    pub(crate) fn lose_records(&mut self) {
        self.files().records = Table::default();
        self.receipts = Table::default();
    }

    /// The trust pack of a repository.
    #[must_use]
    pub fn metadata(&self, repository: RepositoryId) -> Option<&[u8]> {
        self.files.metadata.get(&repository).map(|[pack, _]| &*pack.bytes)
    }

    /// The name of the trust pack of a repository.
    pub(crate) fn metadata_name(&self, repository: RepositoryId) -> Option<Hash> {
        self.files.metadata.get(&repository).map(|[pack, _]| pack.name)
    }

    /// The trust packs that give way to those among some records.
    pub(crate) fn replaced_by(&self, records: &[Record]) -> Vec<(RepositoryId, Hash)> {
        let replaced = records.iter().filter_map(|record| match record {
            Record::Metadata { repository, .. } => Some((*repository, self.metadata_name(*repository)?)),
            _ => None,
        });
        replaced.collect()
    }

    /// The first trust pack of a repository that was here.
    pub(crate) fn first_metadata(&self, repository: RepositoryId) -> Option<&[u8]> {
        self.files.metadata.get(&repository).map(|[_, first]| &*first.bytes)
    }

    /// Whether a receipt is here.
    pub(crate) fn has_receipt(&self, mark: &Mark) -> bool {
        self.receipts.contains_key(mark)
    }

    /// How many receipts of a device are here.
    pub(crate) fn receipts_of(&self, mark: &Mark) -> usize {
        let of_device = |other: &Mark| (other.repository, other.device) == (mark.repository, mark.device);
        self.receipts.from(&Mark { counter: 0, ..*mark }).take_while(|(other, _)| of_device(other)).count()
    }

    /// How an app stands, by its record.
    pub(crate) fn app(&self, app: &str) -> Option<AppRecord> {
        let key = format!("app/{app}").into_bytes();
        match Record::read(&key, &self.files.records.get(&*key)?.bytes) {
            Ok(Record::App { state, .. }) => Some(state),
            _ => None,
        }
    }

    /// Bytes of blobs.
    pub(crate) fn bytes(&self) -> u64 {
        let parts = self.parts.values().map(|part| part.pieces.len() as u64 * piece_size(part.size));
        self.files.blobs.values().sum::<u64>() + parts.sum::<u64>()
    }

    /// Whether everything that is current is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.files.apps.values().all(|slots| slots.current.is_none_or(|current| slots.all.contains(&current)))
    }

    /// Loses a piece of a blob.
    pub(crate) fn lose_piece(&mut self, blob: Hash, piece: usize) {
        if let Some(size) = self.files.blobs.get(&blob).copied() {
            self.files().blobs.remove(&blob);
            self.parts.insert(blob, Part { size, pieces: Pieces::all(size) });
        }
        if let Some(part) = self.parts.get_mut(&blob) {
            part.pieces.remove(piece);
        }
    }

    /// From now on, the list of keys of this name has an entry for this node.
    pub(crate) fn list_in(&mut self, list: Hash) {
        self.keys.get_or_insert_default().listed_in.insert(list);
    }

    /// Finds the key of an epoch: it is here, or in a list that is here.
    pub(crate) fn unlock(&mut self, epoch: &Epoch, list: Option<&Payload>) -> Result<(), NoKey> {
        let keys = self.keys.get_or_insert_default();
        match list {
            _ if keys.here.contains(epoch) => Ok(()),
            None => Err(NoKey::Missing),
            Some(list) if keys.listed_in.contains(&list.blob) => {
                keys.here.insert(epoch.clone());
                Ok(())
            }
            Some(list) => Err(NoKey::NotAMember(list.blob)),
        }
    }

    /// What the blob store holds.
    #[must_use]
    pub fn store(&self) -> BTreeMap<Hash, Stored> {
        let whole = self.files.blobs.iter().map(|(hash, size)| (*hash, Stored { size: *size, whole: true }));
        let parts = self.parts.iter().map(|(hash, part)| (*hash, Stored { size: part.size, whole: false }));
        whole.chain(parts).collect()
    }

    /// Puts a whole blob in.
    pub(crate) fn import(&mut self, blob: Hash, size: u64) {
        self.parts.remove(&blob);
        self.files().blobs.insert(blob, size);
    }

    /// Adds the whole pieces of a run of bytes.
    pub(crate) fn add(&mut self, blob: Hash, size: u64, start: u64, end: u64) {
        if self.files.blobs.contains_key(&blob) {
            return;
        }
        let part = self.parts.get_or_insert_with(blob, || Part { size, pieces: Pieces::none(size) });
        let piece = piece_size(size);
        for index in start.div_ceil(piece)..end.div_ceil(piece) {
            if end == size || (index + 1) * piece <= end {
                part.pieces.insert(usize::try_from(index).expect("at most MAX_PIECES"));
            }
        }
        if part.pieces.is_all() {
            self.import(blob, size);
        }
    }

    /// Which pieces of a blob are here.
    #[must_use]
    pub fn pieces(&self, blob: Hash, size: u64) -> PieceMap {
        if self.files.blobs.contains_key(&blob) {
            return PieceMap::All;
        }
        self.parts.get(&blob).map_or_else(|| Pieces::none(size).map(), |part| part.pieces.map())
    }

    /// Whether a run of bytes of a blob is here.
    #[must_use]
    pub fn holds(&self, blob: Hash, start: u64, end: u64) -> bool {
        let is_here = |part: &Part| {
            let piece = piece_size(part.size);
            (start / piece..end.div_ceil(piece))
                .all(|index| part.pieces.contains(usize::try_from(index).expect("at most MAX_PIECES")))
        };
        self.files.blobs.contains_key(&blob) || self.parts.get(&blob).is_some_and(is_here)
    }

    /// Removes a blob; `contents` are those of all disks.
    pub(crate) fn delete(&mut self, blob: Hash, contents: &mut Contents) {
        self.parts.remove(&blob);
        if self.files.blobs.contains_key(&blob) {
            self.files().blobs.remove(&blob);
            contents.share(&mut self.files);
        }
    }

    pub(crate) fn stage(&mut self, app: &str, bundle: Hash) {
        let slots = &mut self.files().apps.get_or_insert_with(app.into(), Slots::default).all;
        if let Err(at) = slots.binary_search(&bundle) {
            // Few have more than one or two.
            slots.reserve_exact(1);
            slots.insert(at, bundle);
        }
    }

    pub(crate) fn switch(&mut self, app: &str, bundle: Option<Hash>) -> Result<(), String> {
        let slots = self.files().apps.get_mut(app);
        match (slots, bundle) {
            (Some(slots), bundle) if bundle.is_none_or(|bundle| slots.all.contains(&bundle)) => slots.current = bundle,
            (_, Some(bundle)) => return Err(format!("no slot {}", bundle.short())),
            (_, None) => {}
        }
        Ok(())
    }

    /// Removes all slots of an app but these; `contents` are those of all disks.
    pub(crate) fn clean(&mut self, app: &str, keep: &[Hash], contents: &mut Contents) {
        if let Some(slots) = self.files().apps.get_mut(app) {
            slots.all.retain(|bundle| keep.contains(bundle));
        }
        contents.share(&mut self.files);
    }

    /// What `current` names for an app.
    #[must_use]
    pub fn current(&self, app: &str) -> Option<Hash> {
        self.files.apps.get(app)?.current
    }

    /// The slots of an app.
    #[must_use]
    pub fn slots(&self, app: &str) -> Vec<Hash> {
        self.files.apps.get(app).map(|slots| slots.all.clone()).unwrap_or_default()
    }
}
