//! The driver: one loop, one match over [`Action`], and no decision.
//!
//! ```text
//!   net ─┐                        ┌─▶ net        (streams, gossip, dials)
//!   asks ┼─ Input ─▶ Agent ─ Action ─▶ writer     (records: a thread, in order, flushed)
//!   jobs ┤                        ├─▶ slots, health, store (a task each)
//!   time ┘                        └─▶ facts
//! ```

mod writer;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use burr_protocol::{
    Agent, Hash, NodeId, Now, RepositoryId, Time,
    action::{Action, Input, NoKey, StageFailure, Ticket, Wish},
    budget::Direction,
    cache::Stored,
    config::{BadSetting, Choice},
    fact::Fact,
    fetch::PieceMap,
    flight::Start,
    gateway::{Declined, Report},
    peers::Address,
    policy::{
        Conditions,
        explain::{Explanation, NoAnswer, Question},
    },
    receipt::{Receipt, SignedReceipt, last_words},
    record::{Record, ReleaseId},
    rules,
    status::Status,
    trust::Verified,
    update::{Hook, Refused},
};
use ed25519_dalek::SigningKey;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use self::writer::Writer;
use crate::{
    clock::{self, Clock},
    condition::Said,
    error::{Error, Kind},
    fleet_keys::FleetKeys,
    flight::Recorder,
    health::{self, HealthCommand, Subject},
    metrics::{self, Beside, Tally},
    net::{self, Net},
    pace::{Carried, Hold},
    settings::{Commands, Settings},
    slots::Slots,
    store::{blobs::Blobs, home::Home, records::Records},
};

/// How long work on slots that can't be cut short, such as the removal of thousands of files, is waited for at the end.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);

/// What the node's handle asks.
#[derive(Debug)]
pub(crate) enum Ask {
    Status(oneshot::Sender<Status>),
    Metrics(oneshot::Sender<String>),
    Explain { question: Question, done: oneshot::Sender<Result<Explanation, NoAnswer>> },
    Choose { choice: Choice, done: oneshot::Sender<()> },
    Receipts(oneshot::Sender<Vec<Receipt>>),
    Catalog(oneshot::Sender<Vec<Verified>>),
    Halted(oneshot::Sender<BTreeMap<ReleaseId, rules::Tally>>),
    Assigned(oneshot::Sender<Vec<(String, String, String)>>),
    Report { report: Report, done: oneshot::Sender<Result<(), Declined>> },
    Confirm { app: String, done: oneshot::Sender<()> },
    Apply { app: String, done: oneshot::Sender<()> },
    Set { name: String, text: String, done: oneshot::Sender<Result<bool, Error>> },
    Wish { app: String, wish: Wish, done: oneshot::Sender<Result<(), Refused>> },
    Condition { said: Said, done: oneshot::Sender<()> },
    Measured(Result<Said, String>),
    Check(oneshot::Sender<()>),
    Held { blob: Hash, size: u64, done: oneshot::Sender<()> },
    Carry { carried: Carried, least: u64, most: u64, done: oneshot::Sender<Result<u64, Hold>> },
    NotCarried { carried: Carried, bytes: u64 },
    Holds(Beside, u64),
    Tell(Fact),
    Import { repository: RepositoryId, pack: Vec<u8>, done: oneshot::Sender<()> },
    Shutdown(oneshot::Sender<()>),
}

/// A node's parts and the agent that tells them what to do.
pub(crate) struct Driver {
    agent: Agent,
    started: Instant,
    clock: Clock,
    net: Net,
    from_net: mpsc::Receiver<Input>,
    blobs: Blobs,
    slots: Slots,
    fleets: FleetKeys,
    /// The end of each app's last work on its slots.
    slot_work: BTreeMap<String, oneshot::Receiver<()>>,
    commands: BTreeMap<String, Commands>,
    /// What the device said of itself, and what was measured last, or that nothing could be.
    said: Said,
    measured: Result<Said, String>,
    /// What the agent was told last.
    conditions: Conditions,
    writer: Writer,
    /// Who waits for the answer to a report; the agent bounds them.
    reports: BTreeMap<Ticket, oneshot::Sender<Result<(), Declined>>>,
    /// Who waits for a wish to be granted.
    wishes: BTreeMap<Ticket, oneshot::Sender<Result<(), Refused>>>,
    next_ticket: u64,
    /// Own tasks and what comes of them. Each was caused by one action, so the agent's bounds are theirs.
    jobs: JoinSet<Input>,
    asks: mpsc::Receiver<Ask>,
    facts: broadcast::Sender<Fact>,
    tally: Tally,
    /// What the agent is told is recorded, if it is to be.
    recorder: Option<Recorder>,
    /// Known before anyone could listen: told when the loop begins.
    first: Vec<Fact>,
    _home: Home,
}

impl Driver {
    /// Opens everything that is in the data directory, and the network.
    pub(crate) async fn open(
        home: Home,
        key: SigningKey,
        settings: Settings,
        clock: Clock,
        facts: broadcast::Sender<Fact>,
        asks: mpsc::Receiver<Ask>,
    ) -> Result<Self, Error> {
        let data = home.path().to_owned();
        let (records, found) = Records::open(&data)?;
        let (blobs, rebuilt) = Blobs::open_or_rebuild(data.join("blobs")).await?;
        let slots = Slots::open(&data)?;
        let fleets = FleetKeys::open(&data)?;
        let net_settings = net::Settings {
            identity: key.to_bytes(),
            listen: vec![SocketAddr::new(settings.listen, settings.port)],
            peers: settings.peers.iter().map(|peer| Address(peer.clone())).collect(),
            mdns: settings.mdns,
            max_connections: u32::try_from(settings.agent.max_peers).unwrap_or(u32::MAX),
            closed: settings.agent.closed.is_some(),
            enroller: settings.enroller,
            rationed: true,
        };
        let (net, from_net) = Net::start(net_settings, blobs.clone()).await?;
        let started = Instant::now();
        let mut store = BTreeMap::new();
        for blob in blobs.list().await? {
            // One without a size is of no use: nothing of it came, or it can't be read.
            if let Some(size) = blob.size {
                store.insert(blob.hash, Stored { size, whole: blob.complete });
            }
        }
        let start = Start {
            me: NodeId(key.verifying_key().to_bytes()),
            config: settings.agent,
            records: found.records,
            store,
            now: now(started, &clock),
        };
        let recorder =
            settings.flight_recorder.as_ref().map(|path| Recorder::begin(path, start.clone())).transpose()?;
        let (agent, mut first) = Agent::new(key, start.config, start.records, start.store, start.now);
        first.extend(found.rebuilt.into_iter().chain(rebuilt).map(|why| Fact::StoreRebuilt { why }));
        first.extend(found.dropped.into_iter().map(|why| Fact::RecordDropped { why }));
        let writer = Writer::start(records)?;
        let commands = settings.commands;
        Ok(Self {
            agent,
            started,
            clock,
            net,
            from_net,
            blobs,
            slots,
            fleets,
            slot_work: BTreeMap::new(),
            commands,
            said: Said::default(),
            measured: Ok(Said::default()),
            conditions: Conditions::default(),
            writer,
            reports: BTreeMap::new(),
            wishes: BTreeMap::new(),
            next_ticket: 0,
            jobs: JoinSet::new(),
            asks,
            facts,
            tally: Tally::default(),
            recorder,
            first,
            _home: home,
        })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.agent.me()
    }

    pub(crate) fn blobs(&self) -> Blobs {
        self.blobs.clone()
    }

    pub(crate) fn listeners(&self) -> Vec<SocketAddr> {
        self.net.listeners()
    }

    /// Runs until it is told to end, or can't go on.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        for fact in std::mem::take(&mut self.first) {
            self.tell(fact);
        }
        self.handle(Input::Wake).await;
        loop {
            let wake = self.agent.wake_at().map(|at| self.started + Duration::from_millis(at.0));
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = self.jobs.join_next() => match done {
                    Ok(input) => self.handle(input).await,
                    // The agent would wait for it for ever: a broken invariant must not look like slow work.
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(error) => return Err(Error::new(Kind::Ended, "own work was cut short").with_source(error)),
                    },
                },
                written = self.writer.report() => match written {
                    Some(report) => self.handle(report).await,
                    None => return Err(Error::new(Kind::Storage, "the writer of records stopped")),
                },
                input = self.from_net.recv() => match input {
                    Some(input) => self.handle(input).await,
                    None => return Err(Error::new(Kind::Network, "the network stopped")),
                },
                ask = self.asks.recv() => match ask {
                    Some(Ask::Shutdown(done)) => {
                        self.end().await;
                        let _ = done.send(());
                        return Ok(());
                    }
                    Some(ask) => self.answer(ask).await,
                    // Every handle was dropped.
                    None => {
                        self.end().await;
                        return Ok(());
                    }
                },
                () = sleep => self.handle(Input::Wake).await,
            }
        }
    }

    /// When it returns, nothing of this node uses the data directory any more, unless the disk is very slow.
    async fn end(mut self) {
        self.net.shutdown().await;
        if let Err(error) = self.blobs.shutdown().await {
            tracing::warn!(%error, "the blob store did not close well");
        }
        self.jobs.shutdown().await;
        let slot_work = std::mem::take(&mut self.slot_work);
        let slot_work = async {
            for ended in slot_work.into_values() {
                // Says nothing: it ends when the work does.
                let _ = ended.await;
            }
        };
        if timeout(SLOT_PATIENCE, slot_work).await.is_err() {
            tracing::warn!("the disk is slow: what is left of work on slots is removed at the next start");
        }
        self.writer.end().await;
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            // Ages are those of now, not of when something happened last.
            Ask::Status(done) => {
                self.handle(Input::Wake).await;
                let _ = done.send(self.agent.status());
            }
            Ask::Metrics(done) => {
                self.handle(Input::Wake).await;
                self.tally.announcements = self.net.announcements();
                let _ = done.send(metrics::text(&self.agent.status(), &self.tally));
            }
            Ask::Explain { question, done } => {
                let _ = done.send(self.agent.explain(&question));
            }
            Ask::Choose { choice, done } => {
                self.handle(Input::Choose(choice)).await;
                let _ = done.send(());
            }
            Ask::Receipts(done) => {
                let receipts = self.agent.receipts().iter().filter_map(SignedReceipt::peek).collect();
                let _ = done.send(receipts);
            }
            Ask::Catalog(done) => {
                let _ = done.send(self.agent.catalog().all().cloned().collect());
            }
            Ask::Halted(done) => {
                let _ = done.send(self.agent.halted().clone());
            }
            Ask::Assigned(done) => {
                let all = self.agent.assigned().iter();
                let all = all.map(|(app, device, channel)| (app.to_owned(), device.to_owned(), channel.to_owned()));
                let _ = done.send(all.collect());
            }
            Ask::Report { report, done } => {
                let ticket = self.ticket();
                self.reports.insert(ticket, done);
                self.handle(Input::Reported { ticket, report }).await;
            }
            Ask::Confirm { app, done } => {
                self.handle(Input::Confirm { app }).await;
                let _ = done.send(());
            }
            Ask::Apply { app, done } => {
                self.handle(Input::Apply { app }).await;
                let _ = done.send(());
            }
            Ask::Check(done) => {
                self.handle(Input::Check).await;
                let _ = done.send(());
            }
            Ask::Wish { app, wish, done } => {
                let ticket = self.ticket();
                self.wishes.insert(ticket, done);
                self.handle(Input::Wished { ticket, app, wish }).await;
            }
            Ask::Condition { said, done } => {
                self.said = said.after(self.said);
                self.handle(Input::Wake).await;
                let _ = done.send(());
            }
            Ask::Measured(measured) => {
                // What fails each time is told once.
                if let (Err(why), Ok(_)) = (&measured, &self.measured) {
                    self.tell(Fact::ConditionsUnknown { why: last_words(why) });
                }
                self.measured = measured;
                self.handle(Input::Wake).await;
            }
            Ask::Set { name, text, done } => {
                let _ = done.send(self.set(&name, &text).await);
            }
            Ask::Held { blob, size, done } => {
                self.handle(Input::Held { blob, size, pieces: PieceMap::All }).await;
                let _ = done.send(());
            }
            Ask::Carry { carried, least, most, done } => {
                let may = self.may_carry(carried, least, most);
                if let Ok(bytes @ 1..) = may {
                    let Carried { near, direction, .. } = carried;
                    self.handle(Input::Carried { near, direction, bytes }).await;
                }
                let _ = done.send(may);
            }
            Ask::NotCarried { carried: Carried { near, direction, .. }, bytes } => {
                self.handle(Input::NotCarried { near, direction, bytes }).await;
            }
            Ask::Holds(which, bytes) => self.tally.holds(which, bytes),
            Ask::Tell(fact) => self.tell(fact),
            Ask::Import { repository, pack, done } => {
                self.handle(Input::Import { repository, pack }).await;
                let _ = done.send(());
            }
            Ask::Shutdown(_) => unreachable!("the loop ends there"),
        }
    }

    /// How many bytes of a payload may go by HTTP now, as the agent says; `most` at most, which may be less than `least`.
    fn may_carry(&self, carried: Carried, least: u64, most: u64) -> Result<u64, Hold> {
        let Carried { blob, near, direction } = carried;
        if direction == Direction::Down && !self.agent.fetches(blob) {
            return Err(if self.agent.keeps_place(blob) { Hold::NotNow } else { Hold::Unwanted });
        }
        let now = now(self.started, &self.clock).time;
        let may = self.agent.may_carry(near, direction, least, most.max(least), now);
        may.map(|bytes| bytes.min(most)).map_err(Hold::Budget)
    }

    /// Sets one of the agent's settings; returns false if it holds from the next start on only.
    async fn set(&mut self, name: &str, text: &str) -> Result<bool, Error> {
        let mut config = self.agent.config().clone();
        match config.set(name, text) {
            Ok(()) => {}
            Err(BadSetting::Unknown(_)) => return Ok(false),
            Err(error) => return Err(Error::new(Kind::Config, error.to_string())),
        }
        config.check().map_err(|error| Error::new(Kind::Config, error.to_string()))?;
        // Others know this node by its site from the moment that they meet it.
        if config.site != self.agent.config().site {
            return Ok(false);
        }
        self.handle(Input::Settings(Box::new(config))).await;
        Ok(true)
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    async fn handle(&mut self, input: Input) {
        let mut actions = Vec::new();
        let now = now(self.started, &self.clock);
        // Local time changes twice a year, and with a device that travels.
        let measured = self.measured.as_ref().copied().unwrap_or_default();
        let conditions = self.said.or(measured).conditions(clock::utc_offset(now.wall));
        if self.conditions != conditions {
            self.conditions = conditions;
            actions = self.decide(now, Input::Conditions(conditions));
        }
        actions.append(&mut self.decide(now, input));
        for action in actions {
            self.carry_out(action).await;
        }
    }

    fn decide(&mut self, now: Now, input: Input) -> Vec<Action> {
        let recorded = self.recorder.as_ref().map(|_| input.clone());
        let mut actions = Vec::new();
        let begun = Instant::now();
        self.agent.handle(now, input, &mut actions);
        if actions.iter().any(notes_metadata) {
            self.tally.verified(begun.elapsed());
        }
        if let (Some(recorder), Some(input)) = (&mut self.recorder, recorded) {
            recorder.record(now, input, &actions, &self.agent);
        }
        actions
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            action @ (Action::Dial(_)
            | Action::Refuse(_)
            | Action::Drop(_)
            | Action::Introduce { .. }
            | Action::Admit { .. }
            | Action::Dismiss { .. }
            | Action::Send { .. }
            | Action::Subscribe(_)
            | Action::Announce { .. }
            | Action::Verdict { .. }
            | Action::Fetch(_)
            | Action::Cancel(_)
            | Action::Serve(_)
            | Action::Decline(_)) => self.net.act(action).await,
            Action::Persist { token, records } => {
                self.writer.write(token, records);
            }
            Action::Look { blob, size } => {
                let blobs = self.blobs.clone();
                self.task(async move {
                    let pieces = blobs.held(blob, size).await;
                    // A part that can't be read counts as not held: it is fetched anew.
                    let pieces = pieces.unwrap_or_else(|_| PieceMap::Some(Vec::new()));
                    Input::Held { blob, size, pieces }
                });
            }
            Action::Delete { blob } => {
                let blobs = self.blobs.clone();
                self.task(async move {
                    let result = blobs.delete(blob).await;
                    if let Err(error) = &result {
                        tracing::warn!(%error, "a blob could not be removed; it is tried again");
                    }
                    Input::Deleted { blob, gone: result.is_ok() }
                });
            }
            Action::Unlock { lock, keys } => {
                let fleets = self.fleets.clone();
                let list = keys.map(|keys| (keys.blob, self.blobs.reader(keys.blob)));
                self.task(async move {
                    let epoch = lock.owner.epoch.clone();
                    let unlocking = tokio::task::spawn_blocking(move || fleets.unlock(&lock, list));
                    let result = unlocking.await.unwrap_or_else(|error| Err(NoKey::Failed(error.to_string())));
                    Input::Unlocked { epoch, result }
                });
            }
            Action::Stage { app, bundle, payload, files, bytes, lock } => {
                self.tally.stages(&app, Instant::now());
                let name = app.clone();
                let reader = self.blobs.reader(payload.blob);
                let fleets = self.fleets.clone();
                let staging = self.on_slots(&app, move |slots| {
                    let key = lock.map(|lock| fleets.release_key(&lock)).transpose();
                    let key = key.map_err(|error| StageFailure::Other(error.to_string()))?;
                    let sealed = key.as_ref().map(|key| (key, payload.size));
                    slots.stage(&name, bundle, reader, files, bytes, sealed)
                });
                self.task(async move {
                    let result = staging.await.unwrap_or_else(|error| Err(StageFailure::Other(error.to_string())));
                    Input::Staged { app, bundle, result }
                });
            }
            Action::Switch { app, bundle } => {
                let name = app.clone();
                let switching = self.on_slots(&app, move |slots| slots.switch(&name, bundle));
                self.task(async move {
                    let result = match switching.await {
                        Ok(result) => result.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    Input::Switched { app, bundle, result }
                });
            }
            Action::RunHook { app, bundle, version, hook, limit } => {
                let commands = self.commands.get(&app).cloned().unwrap_or_default();
                let command = match hook {
                    Hook::Before => commands.before,
                    Hook::After => commands.after,
                };
                let tree = self.slots.tree(&app, bundle);
                let subject = Subject { app: app.clone(), version, bundle, tree, hook: Some(hook) };
                self.task(async move {
                    let result = health::hook(&command, hook, &subject, limit).await;
                    Input::Hooked { app, bundle, hook, result }
                });
            }
            Action::CheckHealth { app, bundle, version, limit } => {
                let command = self.commands.get(&app).cloned().unwrap_or_default().health;
                let tree = self.slots.tree(&app, bundle);
                let subject = Subject { app: app.clone(), version, bundle, tree, hook: None };
                self.task(async move {
                    let health = health::check(&HealthCommand::Shell(command), &subject, limit).await;
                    Input::Health { app, bundle, healthy: health.healthy, words: health.words }
                });
            }
            Action::Clean { app, keep } => {
                let name = app.clone();
                self.on_slots(&app, move |slots| {
                    if let Err(error) = slots.clean(&name, &keep) {
                        tracing::warn!(%error, "an old slot could not be removed; the next update tries again");
                    }
                });
            }
            Action::Answer { ticket, result } => {
                if let Some(done) = self.reports.remove(&ticket) {
                    let _ = done.send(result);
                }
            }
            Action::Grant { ticket, result } => {
                if let Some(done) = self.wishes.remove(&ticket) {
                    let _ = done.send(result);
                }
            }
            Action::Tell(fact) => self.tell(fact),
        }
    }

    /// Works on an app's slots, in the order in which it is asked for: a cleaning that is late would meet, and remove,
    /// what was staged after it.
    fn on_slots<T: Send + 'static>(
        &mut self,
        app: &str,
        work: impl FnOnce(&Slots) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (done, ended) = oneshot::channel::<()>();
        let before = self.slot_work.insert(app.to_owned(), ended);
        let slots = self.slots.clone();
        tokio::spawn(async move {
            if let Some(before) = before {
                // Nothing is ever said: it ends when the work does, however that went.
                let _ = before.await;
            }
            let worked = tokio::task::spawn_blocking(move || work(&slots)).await;
            drop(done);
            worked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        })
    }

    fn task(&mut self, work: impl Future<Output = Input> + Send + 'static) {
        self.jobs.spawn(work);
    }

    fn tell(&mut self, fact: Fact) {
        self.tally.add(&fact, Instant::now(), self.clock.wall());
        match &fact {
            Fact::PeerRefused { .. }
            | Fact::TurnedAway { .. }
            | Fact::MemberExpelled { .. }
            | Fact::HistoryForked { .. }
            | Fact::Halted { .. }
            | Fact::StorageFailed { .. }
            | Fact::StoreRebuilt { .. }
            | Fact::RecordDropped { .. }
            | Fact::UpstreamFailed { .. }
            | Fact::ConditionsUnknown { .. }
            | Fact::NoRoom { .. }
            | Fact::BudgetUsedUp { .. } => {
                tracing::warn!(target: "burr", "{fact}");
            }
            Fact::FetchProgress { .. } => tracing::debug!(target: "burr", "{fact}"),
            _ => tracing::info!(target: "burr", "{fact}"),
        }
        // Nobody may be listening.
        let _ = self.facts.send(fact);
    }
}

/// Whether metadata that was just verified is to be written down.
fn notes_metadata(action: &Action) -> bool {
    let of = |record: &Record| matches!(record, Record::Metadata { .. });
    matches!(action, Action::Persist { records, .. } if records.iter().any(of))
}

fn now(started: Instant, clock: &Clock) -> Now {
    let time = Time(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    Now { time, wall: clock.wall() }
}
