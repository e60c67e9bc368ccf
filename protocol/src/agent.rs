//! The agent: all of a node's decisions, without a node.
//!
//! A driver feeds [`Agent::handle`] what happens and carries out the [`Action`]s that come back, in their order; it
//! calls with [`Input::Wake`] at [`Agent::wake_at`]. The agent is a router: each concern has its own module and state,
//! and what is told here is only how a bundle's way leads from one to the next. Nothing that rests on a
//! [`Action::Persist`] is said or done before its [`Input::Stored`]; what waits for one is an `After`.

mod admission;
mod budget;
mod clock;
mod explain;
mod gateway;
mod halting;
mod holdings;
mod install;
mod metadata;
mod reports;
mod sealing;
mod sync;
mod transfer;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use self::{holdings::Untold, reports::Collector, sealing::Sealed};
use crate::{
    Hash, NodeId, Now, RepositoryId, Shared, Time,
    action::{Action, Input, Ticket, Token},
    admission::Door,
    budget::{Budget, Direction, Month},
    cache::Stored,
    catalog::Catalog,
    config::Config,
    fact::Fact,
    fetch::Job,
    gateway::{Assigned, Declined},
    halting::Halting,
    peers::{Lie, Peers},
    policy::Conditions,
    receipt::{Receipt, Receipts, SignedReceipt, Signer},
    record::{AppRecord, Record, ReleaseId},
    rules::Tally,
    serving::Serving,
    status::{self, Status},
    table::Table,
    trust::{Memory, Verified},
    update::{Refused, Update},
    wire::Message,
};

/// What is said and done once a persist is on disk.
#[derive(Debug, Serialize, Deserialize)]
enum After {
    /// Verified metadata may be believed, told and acted on.
    Metadata { verified: Box<Verified>, from: Option<NodeId> },
    /// Receipts of others may be acknowledged and carried on.
    Receipts { from: NodeId, kept: Vec<(Receipt, SignedReceipt)> },
    /// An update may take its next step; with an own receipt, if it ended.
    App { app: String, own: Option<Box<(Receipt, SignedReceipt)>> },
    /// A device behind the gateway may be answered.
    Report { ticket: Ticket, kept: Vec<(Receipt, SignedReceipt)>, assigned: Option<(String, String, Option<String>)> },
    /// More of the month's budget may be used.
    Used(Month),
    /// Someone at the device may be told that it is done.
    Wish { ticket: Ticket },
    /// Nothing hangs on it.
    Nothing,
}

/// Persists under way; above it, receipts of others are not taken, and come again with a later sync. A message of
/// receipts is at most 384 KiB, so what strangers send holds at most 24 MiB while the disk is behind.
const MAX_PENDING: usize = 64;

/// The whole of a node's decisions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Agent {
    /// Who signs for it, and so its name: no part of what is written down of an agent.
    #[serde(skip, default = "Signer::nobody")]
    signer: Signer,
    config: Shared<Config>,
    now: Now,
    catalog: Catalog,
    /// Where the newest second history of a repository parts from what is held.
    forks: Table<RepositoryId, String>,
    /// Verified, but not on disk yet.
    arriving: Table<RepositoryId, Verified>,
    /// Imported, but it could not be written.
    unwritten: Table<RepositoryId, Verified>,
    peers: Peers,
    /// Whether a node of another site is connected: then what is fetched may be brought from there.
    outward: bool,
    /// Who waits to be admitted, and who was.
    door: Door,
    jobs: Table<Hash, Job>,
    /// What may be sent and taken, and what waits to be sent.
    budget: Budget,
    serving: Serving,
    /// What the blob store holds.
    store: Table<Hash, Stored>,
    /// Blobs that are being removed, with their sizes.
    leaving: Table<Hash, u64>,
    /// Blobs that are to be removed once nobody reads them.
    condemned: Table<Hash, ()>,
    /// Jobs that wait for [`Input::Held`] before they ask for anything, so that nothing is fetched twice.
    looking: Table<Hash, ()>,
    /// Wished for, but over the quota: told once.
    no_room: Table<Hash, ()>,
    receipts: Receipts,
    /// The configured peer that collects them which left last.
    collector: Option<Box<Collector>>,
    /// What they say of releases that may halt.
    halting: Halting,
    apps: Table<Shared<String>, Update>,
    /// What the device said last of itself.
    conditions: Conditions,
    /// The way to the keys of sealed releases, where there are any.
    sealed: Option<Box<Sealed>>,
    /// What devices behind the gateway chose.
    assigned: Assigned,
    /// The highest number of a receipt that was signed for one of them.
    last_via: u64,
    pending: Table<Token, After>,
    next_token: u64,
    next_request: u64,
    /// When what is compared and judged now and then is to be again.
    next_sync: Time,
    /// When there is something to do, if nothing happens before.
    wake: Option<Time>,
    /// Of nodes that others fetch from while they fetch themselves.
    untold: Option<Box<Untold>>,
    started: bool,
    /// Lent by the driver while it calls.
    #[serde(skip)]
    memory: Memory,
}

impl Agent {
    /// An agent that goes on where `records` left off, with a blob store that holds `store`. What can't be believed of
    /// the records is left out, and told as facts.
    ///
    /// # Panics
    /// When `config` breaks a bound: the driver checks it with [`Config::check`] first.
    #[must_use]
    pub fn new(
        signer: impl Into<Signer>,
        config: impl Into<Arc<Config>>,
        records: Vec<Record>,
        store: BTreeMap<Hash, Stored>,
        now: Now,
    ) -> (Self, Vec<Fact>) {
        Self::new_with(&mut Memory::default(), signer, config, records, store, now)
    }

    /// The same with a memory of what was verified before, as [`Agent::handle_with`] takes it.
    ///
    /// # Panics
    /// As [`Agent::new`].
    #[must_use]
    pub fn new_with(
        memory: &mut Memory,
        signer: impl Into<Signer>,
        config: impl Into<Arc<Config>>,
        records: Vec<Record>,
        store: BTreeMap<Hash, Stored>,
        now: Now,
    ) -> (Self, Vec<Fact>) {
        let (signer, config) = (signer.into(), Shared::<Config>::from(config.into()));
        assert_eq!(config.check(), Ok(()), "the driver checks its configuration first");
        let mut agent = Self {
            now,
            catalog: Catalog::default(),
            forks: Table::default(),
            arriving: Table::default(),
            unwritten: Table::default(),
            peers: Peers::of_site(config.site.clone()),
            outward: false,
            door: Door::default(),
            jobs: Table::default(),
            budget: Budget::default(),
            serving: Serving::default(),
            store: store.into_iter().collect(),
            leaving: Table::default(),
            condemned: Table::default(),
            looking: Table::default(),
            no_room: Table::default(),
            receipts: Receipts::default(),
            collector: None,
            halting: Halting::default(),
            apps: Table::default(),
            conditions: Conditions::default(),
            sealed: None,
            assigned: Assigned::default(),
            last_via: 0,
            pending: Table::default(),
            next_token: 0,
            next_request: 0,
            next_sync: now.time + config.sync_interval,
            wake: Some(now.time),
            untold: None,
            started: false,
            memory: Memory::default(),
            signer,
            config,
        };
        std::mem::swap(&mut agent.memory, memory);
        let facts = agent.restore(records);
        std::mem::swap(&mut agent.memory, memory);
        (agent, facts)
    }

    fn restore(&mut self, records: Vec<Record>) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut states: BTreeMap<String, AppRecord> = BTreeMap::new();
        for follow in &self.config.follows {
            self.catalog.follow(follow.repository);
        }
        // Members are judged by the metadata of their repository, whether anything else of it is wanted or not.
        for repository in self.config.closed.iter().flat_map(|closed| closed.fleets.keys()) {
            self.catalog.follow(*repository);
        }
        let mut receipts = Vec::new();
        for record in records {
            match record {
                Record::App { app, state } => {
                    states.insert(app, state);
                }
                Record::Receipt { receipt: Some(signed), .. } => match self.memory.verify_receipt(&signed) {
                    Ok(receipt) => {
                        if receipt.via.is_some() && receipt.signer() == self.signer.node() {
                            self.last_via = self.last_via.max(receipt.counter);
                        }
                        receipts.push((receipt, signed));
                    }
                    Err(why) => facts.push(Fact::RecordDropped { why: format!("a kept receipt is {why}") }),
                },
                Record::Metadata { repository, pack } if self.catalog.follows(repository) => {
                    match self.memory.verify(repository, None, &pack) {
                        Ok(verified) => self.catalog.keep(verified),
                        Err(why) => {
                            let why = format!("the kept metadata of {} is no good: {why}", repository.short());
                            facts.push(Fact::RecordDropped { why });
                        }
                    }
                }
                Record::Assigned { app, device, channel: Some(channel) } => {
                    self.assigned.set(&app, &device, Some(channel));
                }
                Record::Used(month) => self.budget = Budget::after(month),
                // Nothing to keep, or no longer followed.
                Record::Assigned { channel: None, .. }
                | Record::Receipt { receipt: None, .. }
                | Record::Metadata { .. } => {}
            }
        }
        // After the metadata, which says whose have room kept for them.
        for (receipt, signed) in receipts {
            let has_a_say = self.has_a_say(&receipt);
            self.receipts.insert(self.me(), &receipt, signed, has_a_say, self.config.max_receipts);
        }
        self.receipts.recall_missed();
        for follow in &self.config.follows {
            if let Some(install) = &follow.install {
                let mut state = states.remove(&follow.app).unwrap_or_default();
                // A lost database must not reuse numbers: what others carried back of this device counts too.
                state.counter = state.counter.max(self.receipts.highest(follow.repository, self.signer.node()));
                let mut update = Update::new(install.clone(), state);
                update.share(&mut self.memory);
                self.apps.insert(self.memory.name(&follow.app), update);
            }
        }
        facts
    }

    /// Takes in what happened at `now` and appends what is to be done.
    ///
    /// # Panics
    /// When the driver's monotonic time goes back.
    pub fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        assert!(now.time >= self.now.time, "monotonic time went back");
        self.now = now;
        if !self.started {
            self.started = true;
            self.start(actions);
        }
        match input {
            Input::Found { address, node, fixed } if node != Some(self.signer.node()) => {
                self.peers.found(self.memory.address(address), node, fixed, now.time);
            }
            Input::Wake | Input::Found { .. } => {}
            Input::Arrived { link, node, from, dialled } => self.arrived(link, node, from, dialled, actions),
            Input::Introduced { link, certificate } => self.introduced(link, certificate, actions),
            Input::TurnedAway { node, why } => self.turned_away(node, &why, actions),
            Input::Departed { link } => drop(self.door.answered(link)),
            Input::Near { node } => self.near(node, actions),
            Input::Connected { node, address, near } => {
                let dialled = address.is_some();
                if let Some(address) = address {
                    self.peers.reached(&address, node);
                }
                if self.connected(node, dialled, near, actions) {
                    actions.push(Action::Tell(Fact::PeerConnected { node }));
                    self.greet(node, actions);
                }
            }
            Input::Disconnected { node } => self.lost(node, actions),
            Input::Lost { address } => self.peers.lost(&address),
            Input::DialFailed { address } => self.peers.dial_failed(&address, now.time, &self.config),
            Input::Message { node, bytes } => self.message(node, &bytes, actions),
            Input::Announcement { node, id, bytes } => self.announced(node, id, &bytes, actions),
            Input::Import { repository, pack } => self.pack(None, repository, &pack, actions),
            Input::Stored(token) => {
                if let Some(after) = self.pending.remove(&token) {
                    self.stored(after, actions);
                }
            }
            Input::StoreFailed { token, why } => {
                actions.push(Action::Tell(Fact::StorageFailed { why: why.clone() }));
                if let Some(after) = self.pending.remove(&token) {
                    self.store_failed(after, why, actions);
                }
            }
            Input::Held { blob, size, pieces } => self.held(blob, size, &pieces, actions),
            Input::Received { id, bytes } => self.received(id, bytes, actions),
            Input::Fetched { id } => self.fetched(id, actions),
            Input::FetchFailed { id, why } => self.fetch_failed(id, why, actions),
            Input::Asked { id, node, blob, bytes } => self.asked(id, node, blob, bytes, actions),
            Input::Deleted { blob, gone } => self.deleted(blob, gone, actions),
            Input::Served { id, bytes } => self.served(id, bytes, actions),
            Input::Staged { app, bundle, result } => {
                let (time, config) = (self.now.time, self.config.clone());
                self.update(&app, actions, |update| update.staged(bundle, result, time, &config));
            }
            Input::Unlocked { epoch, result } => self.unlocked(epoch, result, actions),
            Input::Switched { app, bundle, result } => {
                let (time, config) = (self.now.time, self.config.clone());
                self.update(&app, actions, |update| update.switched(bundle, result, time, &config));
            }
            Input::Health { app, bundle, healthy, words } => {
                self.update(&app, actions, |update| update.health(bundle, healthy, words));
            }
            Input::Carried { near, direction, bytes } => self.carried(near, direction, bytes, actions),
            Input::NotCarried { near, direction, bytes } => self.budget.unspend(near, direction, bytes),
            Input::Check => {
                self.next_sync = now.time;
                self.peers.dial_now(now.time);
            }
            Input::Network { up } => self.peers.network(up, now.time),
            Input::Settings(config) => self.settings_changed(*config, actions),
            Input::Choose(choice) => self.choose(choice, actions),
            Input::Apply { app } => self.update(&app, actions, |update| update.apply(now.time)),
            Input::Hooked { app, bundle, hook, result } => {
                let (time, config) = (self.now.time, self.config.clone());
                self.update(&app, actions, |update| update.hooked(bundle, hook, result, time, &config));
            }
            Input::Wished { ticket, app, wish } => self.wished(ticket, &app, wish, actions),
            Input::Conditions(conditions) => self.conditions_changed(conditions, actions),
            Input::Reported { ticket, report } => self.reported(ticket, report, actions),
            Input::Confirm { app } => self.update(&app, actions, Update::confirm),
        }
        self.wake = self.deadline();
        if self.wake.is_some_and(|at| at <= now.time) {
            self.due(actions);
            self.wake = self.deadline();
        }
    }

    /// The same with a memory of what was verified before, which a driver of many agents lends to each.
    ///
    /// # Panics
    /// When the driver's monotonic time goes back.
    pub fn handle_with(&mut self, memory: &mut Memory, now: Now, input: Input, actions: &mut Vec<Action>) {
        std::mem::swap(&mut self.memory, memory);
        self.handle(now, input, actions);
        std::mem::swap(&mut self.memory, memory);
    }

    /// When to call with [`Input::Wake`] if nothing else happens before; `None` if never.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.wake
    }

    /// When [`Agent::due`] has something to do.
    fn deadline(&self) -> Option<Time> {
        let parts = [
            self.peers.wake_at(),
            self.door.wake_at(),
            self.budget.wake_at(),
            self.serving.wake_at(self.now.time),
            self.catalog.wake_at(),
            self.untold_at(),
            self.sync_at(),
        ];
        let jobs = self.asking().filter_map(|job| job.wake_at(&self.config));
        parts.into_iter().flatten().chain(jobs).chain(self.apps.values().filter_map(Update::wake_at)).min()
    }

    /// Whose decisions these are.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.signer.node()
    }

    /// What its clocks showed last.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// The same agent with another one who signs for it.
    pub(crate) fn signed_by(self, signer: Signer) -> Self {
        Self { signer, ..self }
    }

    /// Who signed for an agent that ends, to sign for the one that goes on after it.
    #[must_use]
    pub fn into_signer(self) -> Signer {
        self.signer
    }

    /// How things stand, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            node: self.signer.node(),
            memberships: self
                .memberships()
                .filter_map(|(certificate, judged)| status::Membership::of(certificate, judged))
                .collect(),
            peers: self
                .peers
                .iter()
                .map(|(node, peer)| status::Peer::of(node, peer.collects, self.door.member(node)))
                .collect(),
            refused: self.peers.refused().collect(),
            repositories: self
                .catalog
                .repositories()
                .map(|repository| {
                    let (verified, forked) = (self.catalog.verified(repository), self.forks.get(&repository));
                    status::Repository::of(repository, verified, forked, self.trusted_now(repository))
                })
                .collect(),
            apps: self.apps.iter().map(|(app, update)| status::App::of(app, update)).collect(),
            blobs: self
                .store
                .iter()
                .map(|(blob, stored)| status::Blob::of(*blob, *stored, self.jobs.get(blob)))
                .collect(),
            attributes: self.config.attributes.clone(),
            halted: self
                .catalog
                .all()
                .flat_map(|verified| status::Halted::of(verified, self.halting.halted()))
                .collect(),
            quota: self.config.quota,
            budget: self.budget_status(),
            conditions: self.standing(),
        }
    }

    /// All receipts that are kept here, own and carried.
    #[must_use]
    pub fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// The newest metadata that is held, for a driver that shows it.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The releases that halt by their own rules, by the receipts that are kept here.
    #[must_use]
    pub fn halted(&self) -> &BTreeMap<ReleaseId, Tally> {
        self.halting.halted()
    }

    /// The channels that devices behind the gateway chose.
    #[must_use]
    pub fn assigned(&self) -> &Assigned {
        &self.assigned
    }

    /// The settings that hold.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn start(&mut self, actions: &mut Vec<Action>) {
        self.refresh_budget(actions);
        actions.extend(self.catalog.repositories().map(Action::Subscribe));
        for repository in self.catalog.repositories().collect::<Vec<_>>() {
            self.count_listed(repository, None, actions);
        }
        let apps: Vec<_> = self.apps.keys().cloned().collect();
        let config = self.config.clone();
        for app in apps {
            self.update(&app, actions, |update| update.resume(&config));
        }
        self.plan(actions);
        self.decide_all(actions);
    }

    fn lost(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        if let Some(gone) = self.peers.disconnected(node, self.now.time, &self.config) {
            if gone.collects && self.peers.is_configured(node) {
                self.collector_left(gone);
            }
            actions.push(Action::Tell(Fact::PeerDisconnected { node }));
        }
        self.without(node, actions);
    }

    /// Forgets what hangs on a peer that is gone, and asks others.
    fn without(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        for repository in self.catalog.lost(node) {
            self.ask_around(repository, actions);
        }
        for job in self.jobs.values_mut() {
            let (near, bytes) = job.without(node);
            self.budget.unspend(near, Direction::Down, bytes);
        }
        self.serving.without(node);
        self.look_outward(actions);
        self.step_jobs(actions);
    }

    /// A peer lied, and that is proven.
    fn refuse(&mut self, node: NodeId, lie: Lie, why: String, actions: &mut Vec<Action>) {
        if self.peers.refuse(node, lie) {
            actions.push(Action::Tell(Fact::PeerRefused { node, lie, why }));
            actions.push(Action::Refuse(node));
            self.without(node, actions);
        }
    }

    fn message(&mut self, node: NodeId, bytes: &[u8], actions: &mut Vec<Action>) {
        if self.peers.get_mut(node).is_none() {
            return;
        }
        match Message::decode(bytes) {
            Ok(message) => self.told(node, message, actions),
            Err(why) => self.refuse(node, Lie::Garbage, why.to_string(), actions),
        }
    }

    fn told(&mut self, node: NodeId, message: Message, actions: &mut Vec<Action>) {
        match message {
            Message::Digest(digest) => self.digested(node, &digest, actions),
            Message::AskPack { repository, .. } => self.give(node, repository, actions),
            Message::Pack { repository, bytes } => {
                if self.catalog.asked(node, repository) {
                    self.catalog.answered(node, repository);
                    self.pack(Some(node), repository, &bytes, actions);
                }
            }
            Message::Want { blobs, outward } => self.wanted(node, &blobs, outward, actions),
            Message::Unwant(blobs) => self.unwanted(node, &blobs),
            Message::Also { blob, pieces } => self.provided_also(node, blob, &pieces, actions),
            Message::Holds { blob, size, pieces } => self.provided(node, blob, size, &pieces, actions),
            Message::Receipts(receipts) => self.receive(node, receipts, actions),
            Message::Stored(marks) => self.acknowledged(node, &marks, actions),
        }
    }

    fn stored(&mut self, after: After, actions: &mut Vec<Action>) {
        match after {
            After::Metadata { verified, from } => self.believe(*verified, from, actions),
            After::Receipts { from, kept } => self.acknowledge(from, kept, actions),
            After::Report { ticket, kept, assigned } => self.report_stored(ticket, kept, assigned, actions),
            After::Used(month) => self.leased(month, true, actions),
            After::Wish { ticket } => actions.push(Action::Grant { ticket, result: Ok(()) }),
            After::Nothing => {}
            After::App { app, own } => {
                if let Some((receipt, signed)) = own.map(|own| *own) {
                    self.keep_receipt(&receipt, signed, actions);
                    self.pass_on(actions);
                }
                self.update(&app, actions, Update::stored);
            }
        }
    }

    fn store_failed(&mut self, after: After, why: String, actions: &mut Vec<Action>) {
        match after {
            // The next sync brings it again; what nobody sent is tried again by then.
            After::Metadata { verified, from } => {
                if self.arriving.get(&verified.repository()) == Some(&verified) {
                    self.arriving.remove(&verified.repository());
                }
                if from.is_none() {
                    self.unwritten.insert(verified.repository(), *verified);
                }
            }
            After::Receipts { kept, .. } => self.missed(&kept),
            After::Report { ticket, kept, .. } => {
                self.missed(&kept);
                actions.push(Action::Answer { ticket, result: Err(Declined::Storage) });
            }
            After::Used(month) => self.leased(month, false, actions),
            After::Wish { ticket } => {
                actions.push(Action::Grant { ticket, result: Err(Refused::Storage(why)) });
            }
            After::Nothing => {}
            After::App { app, .. } => {
                if let Some(update) = self.apps.get_mut(&app) {
                    update.store_failed(self.now.time, &self.config);
                }
            }
        }
    }

    fn persist(&mut self, records: Vec<Record>, after: After, actions: &mut Vec<Action>) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.pending.insert(token, after);
        actions.push(Action::Persist { token, records });
    }

    fn send(node: NodeId, message: &Message, actions: &mut Vec<Action>) {
        actions.push(Action::Send { node, bytes: message.encode() });
    }

    /// Carries out what the time brings.
    fn due(&mut self, actions: &mut Vec<Action>) {
        let now = self.now.time;
        self.close_door(actions);
        actions.extend(self.peers.due(now).into_iter().map(Action::Dial));
        for (node, repository) in self.catalog.overdue(now) {
            self.doubt(node, repository);
            self.ask_around(repository, actions);
        }
        let due = |update: &Update| update.wake_at().is_some_and(|at| at <= now);
        let apps: Vec<_> = self.apps.iter().filter(|(_, update)| due(update)).map(|(app, _)| app.clone()).collect();
        for app in apps {
            let config = self.config.clone();
            self.update(&app, actions, |update| update.wake(now, &config));
        }
        self.budget_due(actions);
        if self.asking().any(|job| job.wake_at(&self.config).is_some_and(|at| at <= now)) {
            self.step_jobs(actions);
        }
        if self.untold_at().is_some_and(|at| at <= now) {
            self.tell_pieces(actions);
        }
        if self.sync_at().is_some_and(|at| at <= now) {
            self.sync(actions);
        }
    }

    /// The jobs that may ask: those that wait for the store have nothing to do until it answers, and while nobody is
    /// there none has.
    fn asking(&self) -> impl Iterator<Item = &Job> {
        let somebody = self.peers.iter().next().is_some();
        let open = self.jobs.iter().filter(move |(blob, _)| somebody && !self.looking.contains_key(*blob));
        open.map(|(_, job)| job)
    }
}
