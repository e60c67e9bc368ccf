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

/// One blob, known by its pieces alone.
#[derive(Debug, Clone)]
struct Blob {
    size: u64,
    held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    Whole,
    Part(Box<Pieces>),
}

impl Blob {
    fn is_whole(&self) -> bool {
        matches!(self.held, Held::Whole)
    }

    fn contains(&self, piece: usize) -> bool {
        match &self.held {
            Held::Whole => true,
            Held::Part(pieces) => pieces.contains(piece),
        }
    }
}

/// The bundles that are installed of an app, and which of them is `current`.
#[derive(Debug, Clone, Default)]
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
#[derive(Debug)]
struct Content {
    name: Hash,
    bytes: Box<[u8]>,
}

/// Trust packs and records that disks have, each once: many nodes have the same.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    by_name: BTreeMap<Hash, Arc<Content>>,
    /// Once there are so many, those that no disk has any more are forgotten.
    many: usize,
}

impl Contents {
    const MANY: usize = 256;

    fn share(&mut self, bytes: &[u8]) -> Arc<Content> {
        if self.by_name.len() >= self.many {
            self.by_name.retain(|_, content| Arc::strong_count(content) > 1);
            self.many = (self.by_name.len() * 2).max(Self::MANY);
        }
        let name = Hash::of(bytes);
        self.by_name.entry(name).or_insert_with(|| Arc::new(Content { name, bytes: bytes.into() })).clone()
    }
}

/// What is durable on one node.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// All but the next two, as a node's database has them.
    records: Table<Box<[u8]>, Arc<Content>>,
    receipts: Table<Mark, SignedReceipt>,
    /// The newest pack, and the first.
    metadata: Table<RepositoryId, [Arc<Content>; 2]>,
    blobs: Table<Hash, Blob>,
    apps: Table<Box<str>, Slots>,
    /// Of few nodes.
    keys: Option<Box<Keys>>,
}

impl Disk {
    /// Writes records, all at once; `contents` are those of all disks.
    pub(crate) fn write(&mut self, records: &[Record], contents: &mut Contents) {
        for record in records {
            match record {
                Record::Metadata { repository, pack } => {
                    let pack = contents.share(pack);
                    let kept = self.metadata.get_or_insert_with(*repository, || [pack.clone(), pack.clone()]);
                    kept[0] = pack;
                }
                Record::Receipt { mark, receipt: Some(signed) } => {
                    self.receipts.insert(*mark, signed.clone());
                }
                Record::Receipt { mark, receipt: None } => drop(self.receipts.remove(mark)),
                Record::App { .. } | Record::Assigned { .. } | Record::Used(_) => match record.entry() {
                    Some((key, Some(value))) => drop(self.records.insert(key.into(), contents.share(&value))),
                    Some((key, None)) => drop(self.records.remove(&*key)),
                    None => {}
                },
            }
        }
    }

    /// Everything that an agent restarts from.
    ///
    /// # Panics
    /// When a record that was written can't be read back: a defect that every run is to show.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let metadata = self
            .metadata
            .iter()
            .map(|(repository, [pack, _])| Record::Metadata { repository: *repository, pack: pack.bytes.to_vec() });
        let read = |key: &[u8], value: &[u8]| Record::read(key, value).expect("what was written is read back");
        let records = self.records.iter().map(|(key, value)| read(key, &value.bytes));
        let receipts = self.receipts.iter().filter_map(|(mark, signed)| {
            let (key, value) = Record::Receipt { mark: *mark, receipt: Some(signed.clone()) }.entry()?;
            Some(read(&key, &value?))
        });
        metadata.chain(records).chain(receipts).collect()
    }

    /// Loses all records but the metadata, which are files of their own: a database that was damaged and set aside.
    pub(crate) fn lose_records(&mut self) {
        self.records = Table::default();
        self.receipts = Table::default();
    }

    /// The trust pack of a repository.
    #[must_use]
    pub fn metadata(&self, repository: RepositoryId) -> Option<&[u8]> {
        self.metadata.get(&repository).map(|[pack, _]| &*pack.bytes)
    }

    /// The name of the trust pack of a repository.
    pub(crate) fn metadata_name(&self, repository: RepositoryId) -> Option<Hash> {
        self.metadata.get(&repository).map(|[pack, _]| pack.name)
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
        self.metadata.get(&repository).map(|[_, first]| &*first.bytes)
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
        match Record::read(&key, &self.records.get(&*key)?.bytes) {
            Ok(Record::App { state, .. }) => Some(state),
            _ => None,
        }
    }

    /// Bytes of blobs.
    pub(crate) fn bytes(&self) -> u64 {
        let held = |blob: &Blob| match &blob.held {
            Held::Whole => blob.size,
            Held::Part(pieces) => pieces.len() as u64 * piece_size(blob.size),
        };
        self.blobs.values().map(held).sum()
    }

    /// Whether everything that is current is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.apps.values().all(|slots| slots.current.is_none_or(|current| slots.all.contains(&current)))
    }

    /// Loses a piece of a blob.
    pub(crate) fn lose_piece(&mut self, blob: Hash, piece: usize) {
        if let Some(blob) = self.blobs.get_mut(&blob) {
            let mut left = Pieces::none(blob.size);
            (0..left.count()).filter(|at| *at != piece && blob.contains(*at)).for_each(|at| left.insert(at));
            blob.held = Held::Part(Box::new(left));
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
        let stored = |blob: &Blob| Stored { size: blob.size, whole: blob.is_whole() };
        self.blobs.iter().map(|(hash, blob)| (*hash, stored(blob))).collect()
    }

    /// Puts a whole blob in.
    pub(crate) fn import(&mut self, blob: Hash, size: u64) {
        self.blobs.insert(blob, Blob { size, held: Held::Whole });
    }

    /// Adds the whole pieces of a run of bytes.
    pub(crate) fn add(&mut self, blob: Hash, size: u64, start: u64, end: u64) {
        let none = || Blob { size, held: Held::Part(Box::new(Pieces::none(size))) };
        let blob = self.blobs.get_or_insert_with(blob, none);
        let Held::Part(pieces) = &mut blob.held else { return };
        let piece = piece_size(size);
        for index in start.div_ceil(piece)..end.div_ceil(piece) {
            if end == size || (index + 1) * piece <= end {
                pieces.insert(usize::try_from(index).expect("at most MAX_PIECES"));
            }
        }
        if pieces.is_all() {
            blob.held = Held::Whole;
        }
    }

    /// Which pieces of a blob are here.
    #[must_use]
    pub fn pieces(&self, blob: Hash, size: u64) -> PieceMap {
        match self.blobs.get(&blob).map(|blob| &blob.held) {
            Some(Held::Whole) => PieceMap::All,
            Some(Held::Part(pieces)) => pieces.map(),
            None => Pieces::none(size).map(),
        }
    }

    /// Whether a run of bytes of a blob is here.
    #[must_use]
    pub fn holds(&self, blob: Hash, start: u64, end: u64) -> bool {
        self.blobs.get(&blob).is_some_and(|blob| {
            let piece = piece_size(blob.size);
            (start / piece..end.div_ceil(piece))
                .all(|index| blob.contains(usize::try_from(index).expect("at most MAX_PIECES")))
        })
    }

    pub(crate) fn delete(&mut self, blob: Hash) {
        self.blobs.remove(&blob);
    }

    pub(crate) fn stage(&mut self, app: &str, bundle: Hash) {
        let slots = &mut self.apps.get_or_insert_with(app.into(), Slots::default).all;
        if let Err(at) = slots.binary_search(&bundle) {
            // Few have more than one or two.
            slots.reserve_exact(1);
            slots.insert(at, bundle);
        }
    }

    pub(crate) fn switch(&mut self, app: &str, bundle: Option<Hash>) -> Result<(), String> {
        let slots = self.apps.get_mut(app);
        match (slots, bundle) {
            (Some(slots), bundle) if bundle.is_none_or(|bundle| slots.all.contains(&bundle)) => slots.current = bundle,
            (_, Some(bundle)) => return Err(format!("no slot {}", bundle.short())),
            (_, None) => {}
        }
        Ok(())
    }

    pub(crate) fn clean(&mut self, app: &str, keep: &[Hash]) {
        if let Some(slots) = self.apps.get_mut(app) {
            slots.all.retain(|bundle| keep.contains(bundle));
        }
    }

    /// What `current` names for an app.
    #[must_use]
    pub fn current(&self, app: &str) -> Option<Hash> {
        self.apps.get(app)?.current
    }

    /// The slots of an app.
    #[must_use]
    pub fn slots(&self, app: &str) -> Vec<Hash> {
        self.apps.get(app).map(|slots| slots.all.clone()).unwrap_or_default()
    }
}
