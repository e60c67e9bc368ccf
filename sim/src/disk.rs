//! A node's disk: what was written before the durable mark survives a crash, the rest is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burr_protocol::{
    Hash, NodeId, RepositoryId,
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
    pieces: Pieces,
}

/// A trust pack, and its name.
#[derive(Debug)]
struct Pack {
    name: Hash,
    bytes: Box<[u8]>,
}

/// Trust packs that disks have, each once: many nodes have the same.
#[derive(Debug, Default)]
pub(crate) struct Packs(BTreeMap<Hash, Arc<Pack>>);

impl Packs {
    /// Packs that are remembered before those that no disk has any more are forgotten.
    const MANY: usize = 256;

    fn share(&mut self, pack: &[u8]) -> Arc<Pack> {
        if self.0.len() >= Self::MANY {
            self.0.retain(|_, pack| Arc::strong_count(pack) > 1);
        }
        let name = Hash::of(pack);
        self.0.entry(name).or_insert_with(|| Arc::new(Pack { name, bytes: pack.into() })).clone()
    }
}

/// What is durable on one node.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// All but the next two, as a node's database has them.
    records: Table<Vec<u8>, Vec<u8>>,
    receipts: Table<(RepositoryId, NodeId), Table<u64, SignedReceipt>>,
    /// The newest pack, and the first.
    metadata: Table<RepositoryId, [Arc<Pack>; 2]>,
    blobs: Table<Hash, Blob>,
    slots: Table<String, Vec<Hash>>,
    current: Table<String, Hash>,
    keys: BTreeSet<Epoch>,
    /// Lists of keys that have an entry for this node.
    listed_in: BTreeSet<Hash>,
}

impl Disk {
    /// Writes records, all at once; `packs` are those that any disk has.
    pub(crate) fn write(&mut self, records: &[Record], packs: &mut Packs) {
        for record in records {
            match record {
                Record::Metadata { repository, pack } => {
                    let pack = packs.share(pack);
                    let kept = self.metadata.get_or_insert_with(*repository, || [pack.clone(), pack.clone()]);
                    kept[0] = pack;
                }
                Record::Receipt { mark, receipt: Some(signed) } => {
                    let of_device = self.receipts.get_or_insert_with((mark.repository, mark.device), Table::default);
                    of_device.insert(mark.counter, signed.clone());
                }
                Record::Receipt { mark, receipt: None } => {
                    let key = (mark.repository, mark.device);
                    if let Some(of_device) = self.receipts.get_mut(&key) {
                        of_device.remove(&mark.counter);
                        if of_device.is_empty() {
                            self.receipts.remove(&key);
                        }
                    }
                }
                Record::App { .. } | Record::Assigned { .. } | Record::Used(_) => match record.entry() {
                    Some((key, Some(mut value))) => {
                        value.shrink_to_fit();
                        self.records.insert(key, value);
                    }
                    Some((key, None)) => drop(self.records.remove(&key)),
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
        let records = self.records.iter().map(|(key, value)| read(key, value));
        let marks = self.receipts.iter().flat_map(|((repository, device), of_device)| {
            let mark = |counter| Mark { repository: *repository, device: *device, counter };
            of_device.iter().map(move |(counter, signed)| (mark(*counter), signed))
        });
        let receipts = marks.filter_map(|(mark, signed)| {
            let (key, value) = Record::Receipt { mark, receipt: Some(signed.clone()) }.entry()?;
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
        let of_device = self.receipts.get(&(mark.repository, mark.device));
        of_device.is_some_and(|receipts| receipts.contains_key(&mark.counter))
    }

    /// How many receipts of a device are here.
    pub(crate) fn receipts_of(&self, mark: &Mark) -> usize {
        self.receipts.get(&(mark.repository, mark.device)).map_or(0, Table::len)
    }

    /// How an app stands, by its record.
    pub(crate) fn app(&self, app: &str) -> Option<AppRecord> {
        let key = format!("app/{app}").into_bytes();
        match Record::read(&key, self.records.get(&key)?) {
            Ok(Record::App { state, .. }) => Some(state),
            _ => None,
        }
    }

    /// Bytes of blobs.
    pub(crate) fn bytes(&self) -> u64 {
        let held = |blob: &Blob| {
            if blob.pieces.is_all() { blob.size } else { blob.pieces.len() as u64 * piece_size(blob.size) }
        };
        self.blobs.values().map(held).sum()
    }

    /// Whether everything that is current is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.current.iter().all(|(app, bundle)| self.slots.get(app).is_some_and(|slots| slots.contains(bundle)))
    }

    /// Loses a piece of a blob.
    pub(crate) fn lose_piece(&mut self, blob: Hash, piece: usize) {
        if let Some(held) = self.blobs.get_mut(&blob) {
            let mut left = Pieces::none(held.size);
            (0..left.count()).filter(|at| *at != piece && held.pieces.contains(*at)).for_each(|at| left.insert(at));
            held.pieces = left;
        }
    }

    /// From now on, the list of keys of this name has an entry for this node.
    pub(crate) fn list_in(&mut self, list: Hash) {
        self.listed_in.insert(list);
    }

    /// Finds the key of an epoch: it is here, or in a list that is here.
    pub(crate) fn unlock(&mut self, epoch: &Epoch, list: Option<&Payload>) -> Result<(), NoKey> {
        match list {
            _ if self.keys.contains(epoch) => Ok(()),
            None => Err(NoKey::Missing),
            Some(list) if self.listed_in.contains(&list.blob) => {
                self.keys.insert(epoch.clone());
                Ok(())
            }
            Some(list) => Err(NoKey::NotAMember(list.blob)),
        }
    }

    /// What the blob store holds.
    #[must_use]
    pub fn store(&self) -> BTreeMap<Hash, Stored> {
        let stored = |blob: &Blob| Stored { size: blob.size, whole: blob.pieces.is_all() };
        self.blobs.iter().map(|(hash, blob)| (*hash, stored(blob))).collect()
    }

    /// Puts a whole blob in.
    pub(crate) fn import(&mut self, blob: Hash, size: u64) {
        let pieces = Pieces::of(size, &PieceMap::All);
        self.blobs.insert(blob, Blob { size, pieces });
    }

    /// Adds the whole pieces of a run of bytes.
    pub(crate) fn add(&mut self, blob: Hash, size: u64, start: u64, end: u64) {
        let held = self.blobs.get_or_insert_with(blob, || Blob { size, pieces: Pieces::none(size) });
        let piece = piece_size(size);
        for index in start.div_ceil(piece)..end.div_ceil(piece) {
            if end == size || (index + 1) * piece <= end {
                held.pieces.insert(usize::try_from(index).expect("at most MAX_PIECES"));
            }
        }
    }

    /// Which pieces of a blob are here.
    #[must_use]
    pub fn pieces(&self, blob: Hash, size: u64) -> PieceMap {
        self.blobs.get(&blob).map_or_else(|| Pieces::none(size).map(), |held| held.pieces.map())
    }

    /// Whether a run of bytes of a blob is here.
    #[must_use]
    pub fn holds(&self, blob: Hash, start: u64, end: u64) -> bool {
        self.blobs.get(&blob).is_some_and(|held| {
            let piece = piece_size(held.size);
            (start / piece..end.div_ceil(piece))
                .all(|index| held.pieces.contains(usize::try_from(index).expect("at most MAX_PIECES")))
        })
    }

    pub(crate) fn delete(&mut self, blob: Hash) {
        self.blobs.remove(&blob);
    }

    pub(crate) fn stage(&mut self, app: &str, bundle: Hash) {
        let slots = self.slots.get_or_insert_with(app.to_owned(), Vec::new);
        if let Err(at) = slots.binary_search(&bundle) {
            // Few have more than one or two.
            slots.reserve_exact(1);
            slots.insert(at, bundle);
        }
    }

    pub(crate) fn switch(&mut self, app: &str, bundle: Option<Hash>) -> Result<(), String> {
        match bundle {
            None => {
                self.current.remove(app);
            }
            Some(bundle) if self.slots.get(app).is_some_and(|slots| slots.contains(&bundle)) => {
                self.current.insert(app.to_owned(), bundle);
            }
            Some(bundle) => return Err(format!("no slot {}", bundle.short())),
        }
        Ok(())
    }

    pub(crate) fn clean(&mut self, app: &str, keep: &[Hash]) {
        if let Some(slots) = self.slots.get_mut(app) {
            slots.retain(|bundle| keep.contains(bundle));
        }
    }

    /// What `current` names for an app.
    #[must_use]
    pub fn current(&self, app: &str) -> Option<Hash> {
        self.current.get(app).copied()
    }

    /// The slots of an app.
    #[must_use]
    pub fn slots(&self, app: &str) -> Vec<Hash> {
        self.slots.get(app).into_iter().flatten().copied().collect()
    }
}
