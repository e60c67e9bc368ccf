//! Which pieces of a blob to ask of whom.
//!
//! A piece is a run of BLAKE3 chunk groups; a request is a run of pieces asked of one provider. Each provider has a
//! few requests under way at a time, each request has an end, and what one provider does not bring is asked of another.
//! The driver verifies every chunk group as it arrives, so a provider can be wrong about at most one group.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Hash, NodeId, RepositoryId, Time, config::Config};

/// Bytes of a BLAKE3 chunk group, the unit of verification.
pub const GROUP: u64 = 16 << 10;
/// Bytes of the smallest piece.
pub const MIN_PIECE: u64 = 256 << 10;
/// Pieces of one blob at most: a piece map is at most 1 KiB, and pieces grow with the blob.
pub const MAX_PIECES: u64 = 8192;

/// How often the rates of requests under way are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A request to one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Which pieces of a blob are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceMap {
    /// All of them.
    All,
    /// Those whose bit is set, least significant bit first; at most 1 KiB.
    Some(Vec<u8>),
}

/// A blob that is whole and verified here. Made by a fetch, or by the driver for what it already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// Which blob.
    pub blob: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// Bytes of a piece of a blob of this size: [`MIN_PIECE`], doubled until there are at most [`MAX_PIECES`].
#[must_use]
pub fn piece_size(size: u64) -> u64 {
    let mut piece = MIN_PIECE;
    while size.div_ceil(piece) > MAX_PIECES {
        piece *= 2;
    }
    piece
}

/// A set of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    bits: Vec<u8>,
    count: usize,
    set: usize,
}

impl Pieces {
    /// No piece of a blob of this size. An empty blob has one empty piece.
    #[must_use]
    pub fn none(size: u64) -> Self {
        let count = usize::try_from(size.div_ceil(piece_size(size)).max(1)).expect("at most MAX_PIECES");
        Self { bits: vec![0; count.div_ceil(8)], count, set: 0 }
    }

    /// The pieces of a map that a peer or the store gave; bits past the end don't count.
    #[must_use]
    pub fn of(size: u64, map: &PieceMap) -> Self {
        let mut pieces = Self::none(size);
        for piece in 0..pieces.count {
            if match map {
                PieceMap::All => true,
                PieceMap::Some(bits) => bits.get(piece / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1),
            } {
                pieces.insert(piece);
            }
        }
        pieces
    }

    /// The map to tell others.
    #[must_use]
    pub fn map(&self) -> PieceMap {
        if self.is_all() { PieceMap::All } else { PieceMap::Some(self.bits.clone()) }
    }

    /// Whether a piece is in the set.
    #[must_use]
    pub fn contains(&self, piece: usize) -> bool {
        self.bits.get(piece / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
    }

    /// Adds a piece.
    pub fn insert(&mut self, piece: usize) {
        if piece < self.count && !self.contains(piece) {
            self.bits[piece / 8] |= 1 << (piece % 8);
            self.set += 1;
        }
    }

    /// Adds all pieces of another set of the same blob.
    pub fn merge(&mut self, other: &Self) {
        (0..self.count).filter(|piece| other.contains(*piece)).for_each(|piece| self.insert(piece));
    }

    /// How many pieces the blob has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many pieces are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set
    }

    /// Whether a piece is in the set that another set of the same blob lacks.
    #[must_use]
    pub fn adds_to(&self, other: &Self) -> bool {
        self.bits.iter().zip(&other.bits).any(|(here, there)| here & !there != 0)
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.set == self.count
    }
}

/// What to ask of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// Whom to ask.
    pub node: NodeId,
    /// Which blob.
    pub blob: Hash,
    /// The blob's size in bytes, from the signed release.
    pub size: u64,
    /// First byte, a multiple of [`GROUP`].
    pub start: u64,
    /// One past the last byte; at most `size`.
    pub end: u64,
}

#[derive(Debug)]
struct Under {
    request: Request,
    first: usize,
    count: usize,
    since: Time,
    bytes: u64,
}

/// One blob being fetched.
#[derive(Debug)]
pub struct Job {
    blob: Hash,
    size: u64,
    /// A repository that names the blob: those who follow it are asked.
    repository: RepositoryId,
    have: Pieces,
    providers: BTreeMap<NodeId, Pieces>,
    /// Providers that failed lately rest until then.
    resting: BTreeMap<NodeId, Time>,
    /// Providers that failed, or were slow, since they last answered in full: nobody else's request is ended for them.
    unreliable: BTreeSet<NodeId>,
    under: BTreeMap<RequestId, Under>,
    /// Where this node starts in the blob: nodes that start together ask for different pieces.
    offset: usize,
    started: Time,
    searched: Time,
    checked: Time,
    sources: BTreeMap<NodeId, u64>,
}

/// What a job wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask a provider.
    Ask(Request),
    /// End a request that another provider takes over.
    Cancel(RequestId),
}

impl Job {
    /// A job for a blob of which nothing is known to be here yet.
    #[must_use]
    pub fn new(me: NodeId, repository: RepositoryId, blob: Hash, size: u64, now: Time) -> Self {
        let have = Pieces::none(size);
        let spread = u64::from_le_bytes(Hash::of(&[me.0, blob.0].concat()).0[..8].try_into().expect("8 bytes"));
        let offset = usize::try_from(spread % have.count() as u64).expect("less than MAX_PIECES");
        Self {
            blob,
            size,
            repository,
            have,
            providers: BTreeMap::new(),
            resting: BTreeMap::new(),
            unreliable: BTreeSet::new(),
            under: BTreeMap::new(),
            offset,
            started: now,
            searched: now,
            checked: now,
            sources: BTreeMap::new(),
        }
    }

    /// The blob.
    #[must_use]
    pub fn blob(&self) -> Hash {
        self.blob
    }

    /// A repository that names it.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is here of it.
    #[must_use]
    pub fn have(&self) -> &Pieces {
        &self.have
    }

    /// Whether anything came from anyone yet.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Bytes that came from each provider, at most 16, most first.
    #[must_use]
    pub fn sources(&self) -> Vec<(NodeId, u64)> {
        let mut sources: Vec<_> = self.sources.iter().map(|(node, bytes)| (*node, *bytes)).collect();
        sources.sort_by_key(|(node, bytes)| (u64::MAX - bytes, *node));
        sources.truncate(16);
        sources
    }

    /// Bytes that are here, whole pieces counted.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        if self.have.is_all() { self.size } else { self.have.len() as u64 * piece_size(self.size) }
    }

    /// Time since the job began.
    #[must_use]
    pub fn took(&self, now: Time) -> Duration {
        now.since(self.started)
    }

    /// Whether anyone is known to have what is missing.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        self.providers.values().any(|held| held.adds_to(&self.have))
    }

    /// The whole blob, once every piece is here.
    #[must_use]
    pub fn complete(&self) -> Option<Complete> {
        self.have.is_all().then_some(Complete { blob: self.blob, size: self.size })
    }

    /// A peer says which pieces it provides. A wrong size is a lie about another blob: ignored.
    pub fn provides(&mut self, node: NodeId, size: u64, map: &PieceMap) {
        if size == self.size {
            self.providers.insert(node, Pieces::of(size, map));
        }
    }

    /// A provider is gone, or is not to be asked again. Its requests come back; returns whether there were any, for
    /// what they brought is in the store.
    pub fn without(&mut self, node: NodeId) -> bool {
        self.providers.remove(&node);
        self.resting.remove(&node);
        self.unreliable.remove(&node);
        let before = self.under.len();
        self.under.retain(|_, under| under.request.node != node);
        self.under.len() < before
    }

    /// A provider does not have what it said. What it says next is believed once it has rested.
    pub fn lacks(&mut self, node: NodeId) {
        self.providers.remove(&node);
    }

    /// The store holds these pieces now.
    pub fn holds(&mut self, map: &PieceMap) {
        let held = Pieces::of(self.size, map);
        self.have.merge(&held);
    }

    /// Verified bytes of a request arrived.
    pub fn received(&mut self, id: RequestId, bytes: u64) {
        if let Some(under) = self.under.get_mut(&id) {
            under.bytes += bytes;
            *self.sources.entry(under.request.node).or_default() += bytes;
        }
    }

    /// A request is answered in full.
    pub fn fetched(&mut self, id: RequestId) {
        if let Some(under) = self.under.remove(&id) {
            (under.first..under.first + under.count).for_each(|piece| self.have.insert(piece));
            self.unreliable.remove(&under.request.node);
        }
    }

    /// A request came to nothing; its provider rests, so that a broken one is not asked in a loop. Returns whom.
    pub fn failed(&mut self, id: RequestId, now: Time, config: &Config) -> Option<NodeId> {
        let under = self.under.remove(&id)?;
        self.resting.insert(under.request.node, now + config.dial_backoff.0);
        self.unreliable.insert(under.request.node);
        Some(under.request.node)
    }

    /// Whether a request is one of this job's.
    #[must_use]
    pub fn owns(&self, id: RequestId) -> bool {
        self.under.contains_key(&id)
    }

    /// The requests that are under way, to be ended with the job.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestId> {
        self.under.keys().copied().collect()
    }

    /// What to do now.
    pub fn steps(&mut self, now: Time, next_id: &mut u64, config: &Config) -> Vec<Step> {
        self.resting.retain(|_, until| *until > now);
        let mut steps = self.cancel_slow(now, config);
        self.checked = now;
        while self.under.len() < config.requests_per_job {
            let Some((node, first, count)) = self.choose(config) else { break };
            let piece = piece_size(self.size);
            let id = RequestId(*next_id);
            *next_id += 1;
            let request = Request {
                id,
                node,
                blob: self.blob,
                size: self.size,
                start: first as u64 * piece,
                end: ((first + count) as u64 * piece).min(self.size),
            };
            self.under.insert(id, Under { request, first, count, since: now, bytes: 0 });
            steps.push(Step::Ask(request));
        }
        steps
    }

    /// The least busy provider that has something, and the next run of pieces to ask it for.
    fn choose(&self, config: &Config) -> Option<(NodeId, usize, usize)> {
        let mut busy: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for under in self.under.values() {
            *busy.entry(under.request.node).or_default() += 1;
            taken.extend(under.first..under.first + under.count);
        }
        let mut ready: Vec<_> = self
            .providers
            .iter()
            .filter(|(node, _)| !self.resting.contains_key(node))
            .map(|(node, held)| (busy.get(node).copied().unwrap_or(0), *node, held))
            .filter(|(load, _, _)| *load < config.requests_per_provider)
            .collect();
        ready.sort_by_key(|(load, node, _)| (*load, *node));
        let free = |piece: usize| !self.have.contains(piece) && !taken.contains(&piece);
        let missing = (0..self.have.count()).filter(|piece| free(*piece)).count();
        // Small enough that every provider gets a share, large enough to hide round trips.
        let share = missing.div_ceil(self.providers.len().max(1) * config.requests_per_provider).max(1);
        let longest = usize::try_from((config.request_bytes / piece_size(self.size)).max(1)).unwrap_or(1).min(share);
        for (_, node, held) in ready {
            let count = self.have.count();
            let wanted = |piece: usize| free(piece) && held.contains(piece);
            let first = (0..count).map(|step| (self.offset + step) % count).find(|piece| wanted(*piece));
            if let Some(first) = first {
                let run = (first..count.min(first + longest)).take_while(|piece| wanted(*piece)).count();
                return Some((node, first, run));
            }
        }
        None
    }

    /// Ends requests that are slow while another provider is idle and has their pieces. Not for one that is no better:
    /// two slow providers would take a piece from each other for ever.
    fn cancel_slow(&mut self, now: Time, config: &Config) -> Vec<Step> {
        let busy: BTreeSet<NodeId> = self.under.values().map(|under| under.request.node).collect();
        let useless =
            |node: &NodeId| busy.contains(node) || self.resting.contains_key(node) || self.unreliable.contains(node);
        let idle: Vec<&Pieces> =
            self.providers.iter().filter(|(node, _)| !useless(node)).map(|(_, held)| held).collect();
        let slow: Vec<RequestId> = self
            .under
            .iter()
            .filter(|(_, under)| {
                let waited = now.since(under.since);
                let expected = u128::from(config.min_rate) * waited.as_millis() / 1000;
                waited >= config.patience
                    && u128::from(under.bytes) < expected
                    && idle.iter().any(|held| held.contains(under.first))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &slow {
            if let Some(under) = self.under.remove(id) {
                // A slow one rests long: it comes back if there is nobody else.
                self.resting.insert(under.request.node, now + config.patience);
                self.unreliable.insert(under.request.node);
            }
        }
        slow.into_iter().map(Step::Cancel).collect()
    }

    /// Whether it is time to ask around for providers again; notes that it is done.
    pub fn should_search(&mut self, now: Time, config: &Config) -> bool {
        let due = !self.has_provider() && now.since(self.searched) >= config.search_interval;
        if due {
            self.searched = now;
        }
        due
    }

    /// When to look again.
    #[must_use]
    pub fn wake_at(&self, config: &Config) -> Option<Time> {
        let slow = (!self.under.is_empty()).then(|| self.checked + CHECK_INTERVAL);
        let rested = self.resting.values().copied();
        let search = (!self.has_provider()).then(|| self.searched + config.search_interval);
        slow.into_iter().chain(rested).chain(search).min()
    }
}
