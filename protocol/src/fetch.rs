//! Which pieces of a blob to ask of whom.
//!
//! A piece is a run of BLAKE3 chunk groups; a request is a run of pieces asked of one provider. The driver verifies
//! every chunk group as it arrives and tells of each piece that is stored, which is passed on at once.
//!
//! The way of a piece through a swarm: one node takes it from a source (`fetch/claims.rs` says which), tells those that
//! fetch the same, and they take it from that node and from each other, rarest first. Across a site's uplink one node
//! of the site takes it; the others wait until it is near. Each provider is asked for as much ahead as keeps its pipe
//! full (`fetch/provider.rs`), and what one holds up is asked of another as well: the first answer counts.

mod alone;
mod claims;
mod late;
mod pieces;
mod plan;
mod provider;
mod request;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::{
    alone::Alone,
    claims::{Claims, RUN},
    plan::{Copies, Plan},
    provider::{Afar, Provider},
    request::Under,
};
pub use self::{
    pieces::{GROUP, MAX_PIECES, MIN_PIECE, PieceMap, Pieces, piece_size},
    request::{Request, RequestId},
};
use crate::{Hash, NodeId, RepositoryId, Time, config::Config, table::Table};

/// How often it is looked whether something is held up.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// A node of this site that brings it nothing for this long claims nothing any more: its line may be dead.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
/// A node that has had nothing to do for this long takes what another one claims.
const IDLE: Duration = Duration::from_secs(1);
/// Searches in vain after which the time between two, which doubles with each, does not grow: 64 times the first.
const LONGEST_SEARCH: u32 = 6;
/// Bytes of a request at most while others fetch the blob too: it can move to another provider soon.
const SHARED: u64 = 256 << 10;

/// A blob that is whole and verified here. Made by a fetch, or by the driver for what it already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// Which blob.
    pub blob: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// A piece that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// Which.
    pub piece: usize,
    /// Whether it came from afar: then this node brings it to its site.
    pub from_afar: bool,
}

/// One blob being fetched.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    blob: Hash,
    size: u64,
    piece: u64,
    /// A repository that names the blob: those who follow it are asked.
    repository: RepositoryId,
    have: Pieces,
    /// Those that have something of it, and those that fetch it.
    providers: Table<NodeId, Provider>,
    copies: Copies,
    claims: Claims,
    afar: Afar,
    under: BTreeMap<RequestId, Under>,
    /// Not waited for any more, and to be ended.
    ended: Vec<RequestId>,
    fresh: Vec<Fresh>,
    /// Those that held things up and were not told of yet.
    slow: Vec<NodeId>,
    /// Those that were told of.
    told: BTreeSet<NodeId>,
    /// Bytes that may be asked of near ones, and of far ones, by what the ways cost.
    allowed: [u64; 2],
    /// More may be here than was told: requests ended before their answers did.
    unsure: bool,
    /// It was told that the job began.
    begun: bool,
    started: Time,
    /// When something came last.
    moved: Time,
    searched: Time,
    /// How often in a row nobody was found who has what is missing.
    in_vain: u32,
    checked: Time,
    sources: BTreeMap<NodeId, u64>,
}

/// What a job wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask a provider.
    Ask(Request),
    /// End a request that another provider overtook.
    Cancel(RequestId),
    /// Look what is in the store of the blob, and then ask on.
    Look,
}

impl Job {
    /// A job for a blob of which nothing is known to be here yet.
    #[must_use]
    pub fn new(me: NodeId, repository: RepositoryId, blob: Hash, size: u64, now: Time) -> Self {
        let have = Pieces::none(size);
        Self {
            blob,
            size,
            piece: piece_size(size),
            repository,
            copies: Copies::none(size),
            claims: Claims::new(me, blob, size),
            afar: Afar::new(piece_size(size)),
            have,
            providers: Table::default(),
            under: BTreeMap::new(),
            ended: Vec::new(),
            fresh: Vec::new(),
            slow: Vec::new(),
            told: BTreeSet::new(),
            allowed: [u64::MAX; 2],
            unsure: false,
            begun: false,
            started: now,
            moved: now,
            searched: now,
            in_vain: 0,
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

    /// Whether it was not told yet that the job began; notes that it is.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
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
        if self.have.is_all() { self.size } else { self.have.len() as u64 * self.piece }
    }

    /// Time since the job began.
    #[must_use]
    pub fn took(&self, now: Time) -> Duration {
        now.since(self.started)
    }

    /// Whether anyone is known to have what is missing.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        self.providers.values().any(|provider| provider.held.adds_to(&self.have))
    }

    /// Whether this node has a piece, or a fellow of its site that is not known by its words alone.
    fn is_here(&self, piece: usize) -> bool {
        let has = |near: &Provider| near.near && near.is_copy() && near.held.contains(piece);
        self.have.contains(piece) || self.providers.values().any(has)
    }

    /// The whole blob, once every piece is here.
    #[must_use]
    pub fn complete(&self) -> Option<Complete> {
        self.have.is_all().then_some(Complete { blob: self.blob, size: self.size })
    }

    /// Whether a node fetches this blob too, as far as is known.
    #[must_use]
    pub fn is_fellow(&self, node: NodeId) -> bool {
        self.providers.get(&node).is_some_and(|provider| provider.fetches)
    }

    /// A peer says which pieces it provides, all in all. A wrong size is a lie about another blob: ignored.
    pub fn provides(&mut self, node: NodeId, size: u64, map: &PieceMap, now: Time) {
        if size == self.size {
            let held = Pieces::of(size, map);
            let brings = held.iter().any(|piece| !self.is_here(piece));
            self.change(node, now, |provider| {
                provider.held = held;
                if brings {
                    provider.heard = now;
                }
            });
        }
    }

    /// A peer says which pieces it provides besides.
    pub fn provides_also(&mut self, node: NodeId, pieces: &[u16], now: Time) {
        let (size, piece) = (self.size, self.piece);
        let brings = pieces.iter().any(|piece| !self.is_here(usize::from(*piece)));
        let provider = self.providers.get_or_insert_with(node, || Provider::new(size, piece, now));
        let (before, counts) = (provider.held.len(), provider.is_copy());
        for piece in pieces.iter().map(|piece| usize::from(*piece)) {
            if piece < self.copies.of.len() && !provider.held.contains(piece) {
                provider.held.insert(piece);
                if counts {
                    self.copies.more(piece);
                }
            }
        }
        if brings && provider.held.len() > before {
            provider.heard = now;
        }
    }

    /// A peer fetches this blob too, or does no longer.
    pub fn fetches(&mut self, node: NodeId, fetches: bool, now: Time) {
        if fetches || self.providers.contains_key(&node) {
            self.change(node, now, |provider| {
                if !provider.fetches {
                    provider.heard = now;
                }
                provider.fetches = fetches;
                provider.fellow |= fetches;
            });
        }
    }

    /// A peer shares this node's site, or does not.
    pub fn is_near(&mut self, node: NodeId, near: bool) {
        if let Some(provider) = self.providers.get_mut(&node) {
            provider.near = near;
        }
    }

    /// A peer may bring to its site what it fetches, or knows nobody elsewhere.
    pub fn is_outward(&mut self, node: NodeId, outward: bool) {
        if let Some(provider) = self.providers.get_mut(&node) {
            provider.outward = outward;
        }
    }

    fn change(&mut self, node: NodeId, now: Time, change: impl FnOnce(&mut Provider)) {
        let (size, piece) = (self.size, self.piece);
        let provider = self.providers.get_or_insert_with(node, || Provider::new(size, piece, now));
        if provider.is_copy() {
            provider.held.iter().for_each(|piece| self.copies.fewer(piece));
        }
        change(provider);
        if provider.is_copy() {
            provider.held.iter().for_each(|piece| self.copies.more(piece));
        }
    }

    /// A provider is gone, or is not to be asked again. What was asked of it is free for others; returns whether it was near,
    /// and the bytes of that which did not come.
    pub fn without(&mut self, node: NodeId) -> (bool, u64) {
        let Some(gone) = self.providers.remove(&node) else { return (false, 0) };
        if gone.is_copy() {
            gone.held.iter().for_each(|piece| self.copies.fewer(piece));
        }
        let lost = self.under.extract_if(.., |_, under| under.request.node == node);
        let lost: Vec<u64> = lost.map(|(_, under)| under.outstanding()).collect();
        self.unsure |= !lost.is_empty();
        (gone.near, lost.iter().sum())
    }

    /// A provider does not have what it said. What it says next is believed once it has rested.
    pub fn lacks(&mut self, node: NodeId, now: Time) {
        let none = Pieces::none(self.size);
        self.change(node, now, |provider| provider.held = none);
    }

    /// The store holds these pieces now.
    pub fn holds(&mut self, map: &PieceMap) {
        let held = Pieces::of(self.size, map);
        self.have.merge(&held);
    }

    /// Verified bytes of a request were stored, in their order.
    pub fn received(&mut self, id: RequestId, bytes: u64, now: Time, config: &Config) {
        let Some(under) = self.under.get_mut(&id) else { return };
        let node = under.request.node;
        if under.bytes == 0
            && let Some(provider) = self.providers.get_mut(&node)
        {
            provider.begins(now);
        }
        under.bytes += bytes;
        *self.sources.entry(node).or_default() += bytes;
        let length = under.request.end - under.request.start;
        let first = under.rest().start;
        while under.done < under.count && under.bytes >= (self.piece * (under.done as u64 + 1)).min(length) {
            under.done += 1;
        }
        let (came, asked) = (first..under.rest().start, under.asked_for());
        if !came.is_empty() {
            under.moved = now;
        }
        self.came(came, node, asked, now, config);
    }

    /// A request is answered in full.
    pub fn fetched(&mut self, id: RequestId, now: Time, config: &Config) {
        let Some(under) = self.under.remove(&id) else { return };
        if under.bytes == 0
            && let Some(provider) = self.providers.get_mut(&under.request.node)
        {
            provider.begins(now);
        }
        let rest = under.outstanding();
        if rest > 0 {
            *self.sources.entry(under.request.node).or_default() += rest;
        }
        if under.is_long() {
            // What stood behind it has its turn from now on.
            let behind = self.under.values_mut().filter(|behind| behind.request.node == under.request.node);
            behind.for_each(|behind| behind.moved = now);
        }
        self.came(under.rest(), under.request.node, under.asked_for(), now, config);
    }

    /// Pieces of one request came, of which each took the time from `since` on, if that says how long one takes.
    fn came(&mut self, pieces: Range<usize>, node: NodeId, since: Option<Time>, now: Time, config: &Config) {
        if pieces.is_empty() {
            return;
        }
        self.moved = now;
        let bytes = self.bytes_of(pieces.start, pieces.len());
        let mut from_afar = false;
        if self.providers.get(&node).is_some_and(|provider| !provider.proven) {
            self.change(node, now, Provider::prove);
        }
        if let Some(provider) = self.providers.get_mut(&node) {
            provider.brought(bytes, now);
            from_afar = !provider.near;
            for _ in pieces.clone() {
                if let Some(since) = since {
                    provider.took(since, now, self.piece, config);
                }
                if from_afar {
                    let pooled = since.filter(|_| provider.is_pooled());
                    self.afar.brought(pooled, now, self.piece, config);
                }
            }
        }
        let new = pieces.clone().filter(|piece| !self.have.contains(*piece));
        self.fresh.extend(new.map(|piece| Fresh { piece, from_afar }));
        self.have.insert_run(pieces.clone());
        let meets = |rest: &Range<usize>| rest.start < pieces.end && pieces.start < rest.end;
        let useless = |under: &Under| meets(&under.rest()) && under.rest().all(|rest| self.have.contains(rest));
        let overtaken: Vec<RequestId> = self
            .under
            .iter()
            .filter(|(_, under)| under.request.node != node && useless(under))
            .map(|(id, _)| *id)
            .collect();
        for id in overtaken {
            self.end(id);
        }
    }

    /// Ends a request that is not waited for any more.
    fn end(&mut self, id: RequestId) {
        let Some(under) = self.under.remove(&id) else { return };
        self.ended.push(id);
        let rest = under.rest();
        let bytes = self.bytes_of(rest.start, rest.len());
        if let Some(provider) = self.providers.get_mut(&under.request.node) {
            provider.released(bytes);
        }
    }

    /// Bytes of a run of pieces.
    fn bytes_of(&self, first: usize, count: usize) -> u64 {
        ((first + count) as u64 * self.piece).min(self.size).saturating_sub(first as u64 * self.piece)
    }

    /// A request came to nothing; its provider rests, so that a broken one is not asked in a loop. Returns whom.
    pub fn failed(&mut self, id: RequestId, now: Time, config: &Config) -> Option<NodeId> {
        let under = self.under.remove(&id)?;
        self.unsure |= under.count > 1;
        let (node, rest) = (under.request.node, under.rest());
        let bytes = self.bytes_of(rest.start, rest.len());
        if let Some(provider) = self.providers.get_mut(&node) {
            provider.released(bytes);
            // What was asked of it at the same time fails at the same time, which counts once.
            if provider.rests.is_none() {
                self.strike(node, now, config);
            }
        }
        Some(node)
    }

    fn strike(&mut self, node: NodeId, now: Time, config: &Config) {
        let piece = self.piece;
        self.change(node, now, |provider| provider.strike(now, piece, config));
    }

    /// The pieces that came since this was asked last.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.fresh)
    }

    /// Those that stood still until others were asked for what they held up, each once.
    pub fn take_slow(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.slow)
    }

    /// Whether it was not told of this provider yet that it failed; notes that it is.
    pub fn is_news(&mut self, node: NodeId) -> bool {
        self.told.insert(node)
    }

    /// Which of these pieces a peer is not known to have.
    #[must_use]
    pub fn lacked_by(&self, node: NodeId, pieces: &[u16]) -> Vec<u16> {
        let held = self.providers.get(&node).map(|provider| &provider.held);
        pieces.iter().copied().filter(|piece| held.is_none_or(|held| !held.contains(usize::from(*piece)))).collect()
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

    /// From now on so many bytes may be asked of near providers, and of far ones; less than a piece is nothing.
    pub fn allow(&mut self, near: u64, far: u64) {
        self.allowed = [near, far];
    }

    /// Whether a near provider, or a far one, has what is missing and is not asked for it because no more may be.
    #[must_use]
    pub fn is_held_back(&self, near: bool) -> bool {
        let idle = |provider: &Provider| provider.near == near && provider.asked == 0;
        let adds = |provider: &&Provider| idle(provider) && provider.held.adds_to(&self.have);
        self.allowed[usize::from(!near)] < self.piece.min(self.size) && self.providers.values().any(|p| adds(&p))
    }

    /// Whom a request was asked of, and the bytes of it that did not come.
    #[must_use]
    pub fn outstanding(&self, id: RequestId) -> Option<(NodeId, u64)> {
        self.under.get(&id).map(|under| (under.request.node, under.outstanding()))
    }

    /// Bytes that may be asked of a provider now.
    fn room(&self, provider: &Provider, alone: &Alone) -> u64 {
        let allowed = self.allowed[usize::from(!provider.near)];
        let room = alone.run_room(provider, self.piece).unwrap_or_else(|| provider.room());
        if allowed < self.piece.min(self.size) { 0 } else { room.min(allowed) }
    }

    /// What to do now.
    pub fn steps(&mut self, now: Time, next_id: &mut u64, config: &Config) -> Vec<Step> {
        self.checked = now;
        for provider in self.providers.values_mut().filter(|p| p.rests.is_some_and(|until| until <= now)) {
            provider.rests = None;
        }
        self.claim(now);
        self.give_up(now, config);
        self.come_near();
        let mut steps: Vec<Step> = std::mem::take(&mut self.ended).into_iter().map(Step::Cancel).collect();
        if std::mem::take(&mut self.unsure) {
            steps.push(Step::Look);
            return steps;
        }
        let alone = Alone::of(self, config);
        if !self.providers.values().any(|provider| self.room(provider, &alone) > 0) {
            return steps;
        }
        let mut plan = Plan::of(self, alone);
        let mut useful = self.useful(&plan, now);
        while self.under.len() < config.requests_per_job {
            let Some(node) = self.readiest(&useful, &plan) else { break };
            match self.choose(node, &plan, now, config) {
                Some((first, count)) => steps.push(self.ask(node, first, count, false, now, next_id, &mut plan)),
                // What it could bring is asked of others by now.
                None => useful.retain(|other| *other != node),
            }
        }
        if self.under.is_empty() && now.since(self.moved) >= IDLE {
            // Who claims what is left does not come to it: one piece at a time, whoever it is for.
            plan.relaxed = true;
            let useful = self.useful(&plan, now);
            let mut found =
                useful.into_iter().filter_map(|node| Some((node, self.choose(node, &plan, now, config)?.0)));
            if let Some((node, first)) = found.next() {
                steps.push(self.ask(node, first, 1, false, now, next_id, &mut plan));
            }
        }
        self.hedge(now, next_id, &mut plan, config, &mut steps);
        steps
    }

    /// Works out anew who claims what, if others are here now.
    fn claim(&mut self, now: Time) {
        let fellows = self.providers.iter().filter(|(_, provider)| provider.may_claim());
        let live = |provider: &Provider| now.since(provider.heard) < CLAIM_PATIENCE;
        let near = fellows.clone().filter(|(_, provider)| provider.near && live(provider));
        let outward = near.clone().filter(|(_, provider)| provider.outward).map(|(node, _)| node);
        let far = fellows.filter(|(_, provider)| !provider.near).map(|(node, _)| node);
        self.claims.among(near.map(|(node, _)| node), outward, far, self.blob);
    }

    #[allow(clippy::too_many_arguments, reason = "a request is made of all of them, in one place")]
    fn ask(
        &mut self,
        node: NodeId,
        first: usize,
        count: usize,
        second: bool,
        now: Time,
        next_id: &mut u64,
        plan: &mut Plan,
    ) -> Step {
        let id = RequestId(*next_id);
        *next_id += 1;
        let start = first as u64 * self.piece;
        let bytes = self.bytes_of(first, count);
        let request = Request { id, node, blob: self.blob, size: self.size, start, end: start + bytes };
        if let Some(provider) = self.providers.get_mut(&node) {
            provider.ask(bytes, now);
            let allowed = &mut self.allowed[usize::from(!provider.near)];
            *allowed = allowed.saturating_sub(if *allowed == u64::MAX { 0 } else { bytes });
        }
        plan.free.remove_run(first..first + count);
        self.under.insert(id, Under { request, first, count, since: now, moved: now, bytes: 0, done: 0, second });
        Step::Ask(request)
    }

    /// What may be asked of a provider now, 64 pieces a word.
    fn open<'a>(&'a self, provider: &'a Provider, plan: &'a Plan, now: Time) -> impl Iterator<Item = u64> + 'a {
        let source = provider.is_source();
        // A source that others wait for is left to them, until all that it has is somewhere else too; but not for what
        // takes even longer by the uplinks of other sites.
        let spare = plan.relaxed || !source || provider.has_spare(now) || self.afar.is_slower(provider);
        let (mine, alone) = (self.claims.of(provider.near).words(), self.copies.none.words());
        let open = plan.free.words().iter().zip(provider.held.words()).map(|(free, held)| free & held);
        open.enumerate().map(move |(at, mut open)| {
            if !provider.near
                && !plan.relaxed
                && let Some(from_afar) = &plan.from_afar
            {
                open &= from_afar.words()[at];
            }
            if provider.is_struck()
                && let Some(better) = plan.better(provider.near)
            {
                open &= !better.words()[at];
            }
            if !spare {
                open &= (alone[at] & mine[at]) | if plan.scarce { 0 } else { !alone[at] };
            }
            open
        })
    }

    /// Those of whom something may be asked now.
    fn useful(&self, plan: &Plan, now: Time) -> Vec<NodeId> {
        let useful = |provider: &Provider| {
            self.room(provider, &plan.alone) > 0 && self.open(provider, plan, now).any(|open| open != 0)
        };
        let all = self.providers.iter().filter(|_| !plan.free.is_empty());
        all.filter(|(_, provider)| useful(provider)).map(|(node, _)| *node).collect()
    }

    /// The provider to give work to next: near before far, those that are no sources before those that are, the least
    /// busy one.
    fn readiest(&self, useful: &[NodeId], plan: &Plan) -> Option<NodeId> {
        let useful = useful.iter().filter_map(|node| Some((node, self.providers.get(node)?)));
        let ready = useful.filter(|(_, provider)| {
            let may = || !provider.is_pooled() || plan.alone.with(provider) || self.may_pool(provider, plan);
            self.room(provider, &plan.alone) > 0 && may()
        });
        let order =
            |(node, provider): &(&NodeId, &Provider)| (!provider.near, provider.is_source(), provider.load(), **node);
        ready.min_by_key(order).map(|(node, _)| *node)
    }

    /// Whether one of those that share a window may be asked for one more piece.
    fn may_pool(&self, provider: &Provider, plan: &Plan) -> bool {
        let pooled = || self.providers.values().filter(|provider| provider.is_pooled());
        let missing = if plan.sourced { plan.afar } else { usize::MAX };
        provider.asked == 0 && self.afar.is_open(pooled().map(|provider| provider.asked).sum(), missing)
    }

    /// The run of pieces to ask of a provider next.
    fn choose(&self, node: NodeId, plan: &Plan, now: Time, config: &Config) -> Option<(usize, usize)> {
        let provider = self.providers.get(&node)?;
        let source = provider.is_source();
        let open = plan.free.of_words(self.open(provider, plan, now));
        if let Some(bytes) = self.alone_with(provider, plan) {
            return self.choose_alone(&open, bytes);
        }
        let mine = self.claims.of(provider.near);
        let rank = |piece: usize| match (source && self.copies.none.contains(piece), mine.contains(piece)) {
            // Of a source: what nobody else has, this node's own first, then what others are to take.
            (true, true) => (0, self.claims.order(piece), piece as u64),
            (true, false) => (1, self.claims.order(piece), piece as u64),
            // Of all: the rarest.
            (false, _) => (2, u64::from(self.copies.of[piece]), self.claims.taste(piece)),
        };
        let first = open.iter().min_by_key(|piece| (rank(*piece), *piece))?;
        let kind = |piece: usize| rank(piece).0;
        let longest = (config.request_bytes.min(SHARED).min(self.room(provider, &plan.alone)) / self.piece).max(1);
        let longest = usize::try_from(longest).unwrap_or(1).min(RUN - first % RUN);
        let longest = if provider.near || source { longest } else { 1 };
        let end = open.count().min(first + longest);
        let fits = |piece: &usize| open.contains(*piece) && kind(*piece) == kind(first);
        Some((first, (first..end).take_while(fits).count()))
    }

    /// Whether it is time to ask around for providers again; notes that it is done.
    pub fn should_search(&mut self, now: Time, config: &Config) -> bool {
        if self.has_provider() {
            self.in_vain = 0;
            return false;
        }
        let due = self.search_at(config) <= now;
        if due {
            self.searched = now;
            self.in_vain = (self.in_vain + 1).min(LONGEST_SEARCH);
        }
        due
    }

    /// When to ask around again: all were asked when they came, and say what they have from then on, so that this is for
    /// what got lost. It is less and less of use, and of none while pieces come.
    fn search_at(&self, config: &Config) -> Time {
        self.searched.max(self.moved) + config.search_interval * 2u32.pow(self.in_vain)
    }

    /// When to look again.
    #[must_use]
    pub fn wake_at(&self, config: &Config) -> Option<Time> {
        let (look, search) = if self.under.is_empty() && self.is_held_back(true) | self.is_held_back(false) {
            // Whoever says what may be asked says when it may be more.
            (None, None)
        } else if self.has_provider() {
            (Some(self.look_at()), None)
        } else {
            (None, Some(self.search_at(config)))
        };
        let rested = self.providers.values().filter_map(|provider| provider.rests);
        look.into_iter().chain(search).chain(rested).min()
    }
}
