//! Blobs on their way: what to fetch and keep, and whom to ask.

use std::collections::{BTreeMap, BTreeSet};

use super::Agent;
use crate::{
    Hash, NodeId, RepositoryId,
    action::{Action, FetchFailure},
    budget::Direction,
    cache::{self, Disk, Stored},
    config::{Follow, MAX_JOBS},
    fact::Fact,
    fetch::{Complete, Job, PieceMap, Pieces, RequestId, Step, piece_size},
    peers::{Lie, Peer},
    policy,
    release::Release,
    table::Table,
    trust::Verified,
    wire::{MAX_WANTS, Message},
};

impl Agent {
    /// Brings the store and the fetches in line with what is wished for.
    pub(super) fn plan(&mut self, actions: &mut Vec<Action>) {
        let wishes = self.wishes();
        let order: Vec<(Hash, u64)> = wishes.iter().map(|(_, blob, size)| (*blob, *size)).collect();
        let pinned = self.apps.values().filter_map(|update| update.needs());
        let pinned: BTreeSet<Hash> =
            pinned.map(|offer| offer.release().payload.blob).filter(|blob| self.store.contains_key(blob)).collect();
        let read: BTreeSet<Hash> = self.store.keys().filter(|blob| self.serving.reads(**blob)).copied().collect();
        let disk = Disk { store: &self.store, pinned: &pinned, read: &read, leaving: &self.leaving };
        let plan = cache::plan(&order, disk, self.config.quota);
        self.condemned = plan.condemned;
        for blob in plan.delete {
            self.drop_job(blob, actions);
            if let Some(stored) = self.store.remove(&blob) {
                self.leaving.insert(blob, stored.size);
            }
            actions.push(Action::Delete { blob });
        }
        let no_room: Table<Hash, ()> = plan.no_room.iter().map(|(blob, _)| (*blob, ())).collect();
        for (blob, size) in plan.no_room {
            if !self.no_room.contains_key(&blob) {
                actions.push(Action::Tell(Fact::NoRoom { blob, size, quota: self.config.quota }));
            }
        }
        self.no_room = no_room;
        // What is here of something stays, when the device's owner would not fetch the rest now.
        let not_now: BTreeSet<RepositoryId> = self.not_now().collect();
        let of = |blob: &Hash| wishes.iter().find(|(_, wished, _)| wished == blob).map(|(repository, ..)| *repository);
        let may_be = |blob: &Hash| of(blob).is_none_or(|repository| !not_now.contains(&repository));
        let fetch = plan.fetch.iter().map(|(blob, _)| *blob).filter(|blob| not_now.is_empty() || may_be(blob));
        let fetch: BTreeSet<Hash> = fetch.take(MAX_JOBS).collect();
        let dropped: Vec<Hash> = self.jobs.keys().filter(|blob| !fetch.contains(blob)).copied().collect();
        for blob in dropped {
            self.drop_job(blob, actions);
        }
        for (blob, size) in plan.fetch.into_iter().filter(|(blob, _)| fetch.contains(blob)) {
            if !self.jobs.contains_key(&blob)
                && let Some((repository, ..)) = wishes.iter().find(|(_, wished, _)| *wished == blob)
            {
                self.start_job(*repository, blob, size, actions);
            }
        }
    }

    /// A blob's files are gone, and their space is free; or they are not.
    pub(super) fn deleted(&mut self, blob: Hash, gone: bool, actions: &mut Vec<Action>) {
        if let Some(size) = self.leaving.remove(&blob)
            && !gone
        {
            // It takes its space, and goes with the next thing that changes.
            self.store.get_or_insert_with(blob, || Stored { size, whole: false });
            return;
        }
        self.plan(actions);
    }

    /// Repositories of apps for which nothing is fetched, as the device is now.
    fn not_now(&self) -> impl Iterator<Item = RepositoryId> {
        let conditions = self.standing();
        let asks = move |follow: &&Follow| {
            let needs = follow.install.as_ref().map(|install| install.download);
            needs.is_some_and(|needs| !needs.unmet(&conditions).is_empty())
        };
        self.config.follows.iter().filter(asks).map(|follow| follow.repository)
    }

    /// Blobs that are of use here, most useful first: what installs need, what others will ask for, and what is here
    /// already and still listed. Where not all fits, each app keeps its newest before any keeps an older one.
    fn wishes(&self) -> Vec<(RepositoryId, Hash, u64)> {
        let wish = |repository, release: &Release| (repository, release.payload.blob, release.payload.size);
        let needs = self.apps.values().filter_map(|update| update.needs());
        let needs = needs.map(|offer| wish(offer.repository(), offer.release()));
        let wishes: Vec<_> = self.wanted_keys().into_iter().chain(needs).collect();
        // With how many releases of its channel come before it.
        let mut cached: Vec<(usize, _)> = Vec::new();
        for follow in &self.config.follows {
            let Some(channels) = &follow.cache else { continue };
            let Some(verified) = self.newest_verified(follow.repository) else { continue };
            // Whoever keeps sealed releases for others keeps what opens them too.
            cached.extend(verified.keys().map(|(_, keys)| (0, (follow.repository, keys.blob, keys.size))));
            let pin = follow.install.as_ref().and_then(|install| install.pin.as_ref());
            let listed = verified.releases().filter(|release| release.app == follow.app);
            let listed = listed.filter(|release| channels.as_ref().is_none_or(|channel| *channel == release.channel));
            let mut by_channel: BTreeMap<&str, Vec<&Release>> = BTreeMap::new();
            for release in listed {
                by_channel.entry(release.channel.as_str()).or_default().push(release);
            }
            for (channel, releases) in by_channel {
                // Once a channel: who may sign for one channel can list thousands of releases there.
                let current = policy::current(verified, &follow.app, channel);
                let rank = |release: &Release| current.iter().position(|current| current.seq == release.seq);
                for (behind, release) in releases.into_iter().rev().enumerate() {
                    let here = self.store.get(&release.payload.blob).is_some_and(|stored| stored.whole);
                    if let Some(rank) = rank(release) {
                        cached.push((rank, wish(follow.repository, release)));
                    } else if here && pin.is_some_and(|pin| *pin == release.version) {
                        cached.push((0, wish(follow.repository, release)));
                    } else if here {
                        cached.push((current.len() + behind, wish(follow.repository, release)));
                    }
                }
            }
        }
        cached.sort_by_key(|(rank, _)| *rank);
        wishes.into_iter().chain(cached.into_iter().map(|(_, wish)| wish)).collect()
    }

    /// The newest metadata that was verified, written down or not: enough to keep a blob, not enough to act.
    fn newest_verified(&self, repository: RepositoryId) -> Option<&Verified> {
        self.arriving.get(&repository).or_else(|| self.catalog.verified(repository))
    }

    fn start_job(&mut self, repository: RepositoryId, blob: Hash, size: u64, actions: &mut Vec<Action>) {
        let mut job = Job::new(self.signer.node(), repository, blob, size, self.now.time);
        for (node, peer) in self.peers.iter().filter(|(_, peer)| peer.interests.contains(&blob)) {
            job.fetches(node, true, self.now.time);
            job.is_near(node, self.peers.is_near(node));
            job.is_outward(node, peer.outward);
        }
        let known = self.store.insert(blob, Stored { size, whole: false }).is_some();
        if !known {
            job.begins();
        }
        self.jobs.insert(blob, job);
        if known {
            self.look(blob, size, actions);
        } else {
            actions.push(Action::Tell(Fact::FetchStarted { blob, size, held: 0 }));
        }
        self.want_all(blob, actions);
    }

    fn drop_job(&mut self, blob: Hash, actions: &mut Vec<Action>) {
        self.looking.remove(&blob);
        if let Some(job) = self.jobs.remove(&blob) {
            actions.extend(job.requests().into_iter().map(Action::Cancel));
            actions.push(Action::Tell(Fact::FetchLeft { blob }));
            self.to_followers(job.repository(), &Message::Unwant(vec![blob]), actions);
        }
    }

    pub(super) fn look(&mut self, blob: Hash, size: u64, actions: &mut Vec<Action>) {
        self.looking.insert(blob, ());
        actions.push(Action::Look { blob, size });
    }

    /// The store says what it holds of a blob.
    pub(super) fn held(&mut self, blob: Hash, size: u64, pieces: &PieceMap, actions: &mut Vec<Action>) {
        let looked = self.looking.remove(&blob).is_some();
        let Some(job) = self.jobs.get_mut(&blob) else {
            let whole = Pieces::of(size, pieces).is_all();
            let was = self.store.insert(blob, Stored { size, whole });
            self.look_into_keys(blob, actions);
            if !whole && was.is_some_and(|was| was.whole) {
                // An answer that an import overtook, or a loss: what is wanted of it is looked at again.
                self.plan(actions);
            }
            return;
        };
        if job.size() != size {
            return;
        }
        job.holds(pieces);
        let held = job.held_bytes();
        if looked && job.begins() {
            actions.push(Action::Tell(Fact::FetchStarted { blob, size, held }));
        }
        self.finish_if_complete(blob, actions);
        self.step_jobs(actions);
    }

    /// Verified bytes of a request were stored.
    pub(super) fn received(&mut self, id: RequestId, bytes: u64, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.values_mut().find(|job| job.owns(id)) else { return };
        let before = job.have().len();
        job.received(id, bytes, self.now.time, &self.config);
        if job.have().len() > before {
            let blob = job.blob();
            self.came(blob, actions);
        }
    }

    /// A request was answered in full.
    pub(super) fn fetched(&mut self, id: RequestId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.values_mut().find(|job| job.owns(id)) else { return };
        job.fetched(id, self.now.time, &self.config);
        let (blob, size, held) = (job.blob(), job.size(), job.held_bytes());
        actions.push(Action::Tell(Fact::FetchProgress { blob, held, size }));
        self.came(blob, actions);
    }

    /// Pieces came: others hear of them, and there is room for the next.
    fn came(&mut self, blob: Hash, actions: &mut Vec<Action>) {
        let fresh = self.jobs.get_mut(&blob).map(Job::take_fresh).unwrap_or_default();
        self.has_new(blob, &fresh, actions);
        self.finish_if_complete(blob, actions);
        self.step_jobs(actions);
    }

    /// A request came to nothing: the rest of it is asked of others.
    pub(super) fn fetch_failed(&mut self, id: RequestId, why: FetchFailure, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.values_mut().find(|job| job.owns(id)) else { return };
        let (blob, size) = (job.blob(), job.size());
        if let Some((node, bytes)) = job.outstanding(id) {
            self.budget.unspend(self.peers.is_near(node), Direction::Down, bytes);
        }
        let node = job.failed(id, self.now.time, &self.config);
        match (why, node) {
            (FetchFailure::Corrupt, Some(node)) => {
                let why = format!("bytes that are not those of {}", blob.short());
                self.refuse(node, Lie::AlteredBytes, why, actions);
            }
            (FetchFailure::NotFound, Some(node)) => {
                job.lacks(node, self.now.time);
                if job.is_news(node) {
                    let why = "it does not have what it said".to_owned();
                    actions.push(Action::Tell(Fact::ProviderFailed { node, blob, why }));
                }
            }
            (FetchFailure::TimedOut, Some(node)) if job.is_news(node) => {
                let why = "it brought nothing for too long".to_owned();
                actions.push(Action::Tell(Fact::ProviderFailed { node, blob, why }));
            }
            (FetchFailure::Store, _) => {
                // What is there now is not what was there before.
                self.look(blob, size, actions);
                let why = format!("could not store a part of {}", blob.short());
                actions.push(Action::Tell(Fact::StorageFailed { why }));
            }
            _ => {}
        }
        self.step_jobs(actions);
    }

    fn finish_if_complete(&mut self, blob: Hash, actions: &mut Vec<Action>) {
        let Some(complete) = self.jobs.get(&blob).and_then(Job::complete) else { return };
        let Some(job) = self.jobs.remove(&blob) else { return };
        self.looking.remove(&blob);
        self.store.insert(blob, Stored { size: complete.size, whole: true });
        let (sources, took) = (job.sources(), job.took(self.now.time));
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let fact = Fact::FetchCompleted { blob, size: complete.size, sources: sources.clone(), took_ms };
        actions.push(Action::Tell(fact));
        actions.extend(job.requests().into_iter().map(Action::Cancel));
        self.to_followers(job.repository(), &Message::Unwant(vec![blob]), actions);
        self.tell_whole(blob, actions);
        self.look_into_keys(blob, actions);
        let apps: Vec<_> = self.apps.keys().cloned().collect();
        for app in apps {
            let sources = sources.clone();
            self.update(&app, actions, |update| update.complete(complete, sources, took));
        }
        // One that waited for a place may begin.
        self.plan(actions);
    }

    /// A payload that an update needs may be here already.
    pub(super) fn complete_if_here(&mut self, app: &str, actions: &mut Vec<Action>) {
        let Some(offer) = self.apps.get(app).and_then(|update| update.needs()) else { return };
        let payload = &offer.release().payload;
        if self.store.get(&payload.blob).is_some_and(|stored| stored.whole) {
            let complete = Complete { blob: payload.blob, size: payload.size };
            self.update(app, actions, |update| update.complete(complete, Vec::new(), std::time::Duration::ZERO));
        }
    }

    /// Lets every job ask for what it can.
    pub(super) fn step_jobs(&mut self, actions: &mut Vec<Action>) {
        if self.jobs.is_empty() {
            return self.lease_more(actions);
        }
        let now = self.now.time;
        let (mut searching, mut unsure) = (Vec::new(), Vec::new());
        let asking = self.jobs.iter_mut().filter(|(blob, _)| !self.looking.contains_key(blob));
        let mut asking: Vec<(&Hash, &mut Job)> = asking.collect();
        // Where a budget is short, what is installed here comes before what is kept for others.
        let apps = &self.apps;
        let is_needed = |blob: Hash| {
            apps.values().filter_map(|update| update.needs()).any(|offer| offer.release().payload.blob == blob)
        };
        asking.sort_by_key(|(blob, _)| !is_needed(**blob));
        for (blob, job) in asking {
            let least = piece_size(job.size()).min(job.size());
            let [near, far] =
                [true, false].map(|near| self.budget.room(&self.config.budgets, near, Direction::Down, least, now));
            job.allow(near, far);
            for step in job.steps(now, &mut self.next_request, &self.config) {
                actions.push(match step {
                    Step::Ask(request) => {
                        let near = self.peers.is_near(request.node);
                        self.budget.spend(near, Direction::Down, request.end - request.start);
                        Action::Fetch(request)
                    }
                    Step::Cancel(id) => Action::Cancel(id),
                    Step::Look => {
                        unsure.push((*blob, job.size()));
                        continue;
                    }
                });
            }
            for node in job.take_slow() {
                let why = "it stood still, and others are asked for what it held up".to_owned();
                actions.push(Action::Tell(Fact::ProviderFailed { node, blob: *blob, why }));
            }
            if job.should_search(now, &self.config) {
                searching.push(*blob);
            }
        }
        for (blob, size) in unsure {
            self.look(blob, size, actions);
        }
        for blob in searching {
            self.want_all(blob, actions);
        }
        self.lease_more(actions);
    }

    fn want_all(&mut self, blob: Hash, actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get(&blob) {
            let want = Message::Want { blobs: vec![blob], outward: self.outward };
            self.to_followers(job.repository(), &want, actions);
        }
    }

    /// Asks a peer for everything that is being fetched.
    pub(super) fn want_from(&self, node: NodeId, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get(node) else { return };
        let wanted = self.jobs.values().filter(|job| peer.repositories.contains(&job.repository()));
        let wanted: Vec<Hash> = wanted.map(Job::blob).take(MAX_WANTS).collect();
        if !wanted.is_empty() {
            Self::send(node, &Message::Want { blobs: wanted, outward: self.outward }, actions);
        }
    }

    /// Also to those that have not said what they follow: one that never saw the connection break says it at the next
    /// sync only.
    fn to_followers(&self, repository: RepositoryId, message: &Message, actions: &mut Vec<Action>) {
        let may_follow = |peer: &Peer| peer.repositories.is_empty() || peer.repositories.contains(&repository);
        for (node, _) in self.peers.iter().filter(|(_, peer)| may_follow(peer)) {
            Self::send(node, message, actions);
        }
    }
}
