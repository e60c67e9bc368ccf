//! Updates of this device: deciding, and carrying out what [`Update`] asks for.

use std::collections::BTreeMap;

use super::{After, Agent, reports::mark};
use crate::{
    Now,
    action::{Action, Ticket, Wish},
    config::{Choice, Tell},
    fact::Fact,
    policy::{self, Conditions, Moment, Skip},
    receipt::{MAX_MEMBER, Receipt, Signer},
    record::Record,
    trust::Verified,
    update::{Refused, Report, Step, Update},
};

impl Agent {
    /// Lets an app's update take something in, and carries out what follows.
    pub(super) fn update(
        &mut self,
        app: &str,
        actions: &mut Vec<Action>,
        input: impl FnOnce(&mut Update) -> Vec<Step>,
    ) {
        let Some(update) = self.apps.get_mut(app) else { return };
        for step in input(update) {
            self.step(app, step, actions);
        }
    }

    fn step(&mut self, app: &str, step: Step, actions: &mut Vec<Action>) {
        let app_name = || app.to_owned();
        match step {
            Step::Fetch => {
                self.plan(actions);
                self.complete_if_here(app, actions);
            }
            Step::Stage(offer) => {
                let release = offer.release();
                actions.push(Action::Stage {
                    app: app_name(),
                    bundle: release.bundle,
                    payload: release.payload.clone(),
                    files: release.files,
                    bytes: release.unpacked,
                    lock: release.lock(offer.repository()).map(Box::new),
                });
            }
            Step::Save => {
                let record = self.record(app);
                self.persist(record.into_iter().collect(), After::App { app: app_name(), own: None }, actions);
            }
            Step::SaveOutcome(report) => self.save_outcome(app, *report, actions),
            Step::Switch(bundle) => actions.push(Action::Switch { app: app_name(), bundle }),
            Step::RunHook { bundle, version, hook, limit } => {
                actions.push(Action::RunHook { app: app_name(), bundle, version, hook, limit });
            }
            Step::CheckHealth { bundle, version, limit } => {
                actions.push(Action::CheckHealth { app: app_name(), bundle, version, limit });
            }
            Step::Clean(keep) => actions.push(Action::Clean { app: app_name(), keep }),
            Step::Over => {
                self.plan(actions);
                self.decide(app, actions);
            }
            Step::Tell { version, step } => {
                actions.push(Action::Tell(Fact::Update { app: app_name(), version, step }));
            }
        }
    }

    fn record(&mut self, app: &str) -> Option<Record> {
        let update = self.apps.get_mut(app)?;
        update.share(&mut self.memory);
        Some(Record::App { app: app.to_owned(), state: update.record().clone() })
    }

    /// What a receipt tells of this device.
    fn own_attributes(&self) -> Option<BTreeMap<String, String>> {
        let attributes = &self.config.attributes;
        (self.tells_of_itself() && Receipt::may_tell(attributes)).then(|| attributes.clone())
    }

    fn tells_of_itself(&self) -> bool {
        match self.config.tell_attributes {
            Tell::Closed => self.config.closed.is_some(),
            Tell::Always => true,
            Tell::Never => false,
        }
    }

    fn save_outcome(&mut self, app: &str, report: Report, actions: &mut Vec<Action>) {
        let Some(update) = self.apps.get(app) else { return };
        let state = update.record();
        let id = report.release;
        // A device counts where a release may halt, and tells in which groups it is where it tells its attributes; elsewhere
        // its certificate is nobody's business.
        let may_halt = self.listed(&id).is_some_and(|release| release.rules.halt.is_some());
        let shows = may_halt || self.tells_of_itself();
        let member = self.certificate_of(id.repository).filter(|member| shows && member.len() <= MAX_MEMBER).cloned();
        let receipt = Receipt {
            repository: id.repository,
            device: self.signer.node(),
            counter: state.counter,
            app: app.to_owned(),
            channel: id.channel,
            version: report.version,
            seq: id.seq,
            bundle: report.bundle,
            active: state.active.as_ref().map(|active| active.version.clone()),
            outcome: report.outcome,
            sources: report.sources,
            took_ms: report.took_ms,
            said: report.said,
            at: self.now.wall,
            issued: report.issued,
            via: None,
            attributes: self.own_attributes(),
            member,
        };
        let signed = self.signer.sign(&receipt);
        if matches!(self.signer, Signer::Key(_)) {
            self.memory.holds(&signed);
        }
        let mut records: Vec<Record> = self.record(app).into_iter().collect();
        records.push(Record::Receipt { mark: mark(&receipt), receipt: Some(signed.clone()) });
        self.persist(records, After::App { app: app.to_owned(), own: Some(Box::new((receipt, signed))) }, actions);
    }

    /// Decides for every app what to take now.
    pub(super) fn decide_all(&mut self, actions: &mut Vec<Action>) {
        let apps: Vec<_> = self.apps.keys().cloned().collect();
        for app in &apps {
            self.decide(app, actions);
        }
    }

    /// Whether time alone may change what was decided for an app: not where it has the newest release, or there is none.
    pub(super) fn may_decide_otherwise(&self, app: &str, update: &Update) -> bool {
        update.is_open()
            && !matches!(update.skip(), Some(Skip::UpToDate | Skip::Nothing))
            && self.followed(app).is_some()
    }

    /// The metadata of an app that is installed here, if it is held.
    fn followed(&self, app: &str) -> Option<&Verified> {
        let follow = self.config.follows.iter().find(|follow| follow.app == app && follow.install.is_some())?;
        self.catalog.verified(follow.repository)
    }

    fn decide(&mut self, app: &str, actions: &mut Vec<Action>) {
        let Some(update) = self.apps.get(app).filter(|update| update.is_open()) else { return };
        let Some(verified) = self.followed(app) else { return };
        let repository = verified.repository();
        let groups = self.groups(repository);
        let device = self.device(repository, update, &groups);
        let locks = policy::locked(verified, app, &device);
        let decision = policy::decide(verified, app, &device);
        self.look_for_keys(locks, actions);
        match decision {
            Ok(offer) => {
                self.update(app, actions, |update| update.take(offer));
                self.switch_or_wait(app, actions);
            }
            Err(skip) => {
                self.update(app, actions, Update::withdrawn);
                self.waits(app, skip, actions);
            }
        }
    }

    /// Switches to what is staged, if its moment has come.
    fn switch_or_wait(&mut self, app: &str, actions: &mut Vec<Action>) {
        let conditions = self.standing();
        let Some(update) = self.apps.get_mut(app) else { return };
        let Some(release) = update.staged_release() else {
            let why = update.install().download.unmet(&conditions);
            match update.fetching().filter(|_| !why.is_empty()).map(|release| release.version.clone()) {
                Some(version) => self.waits(app, Skip::NotNow { version, why }, actions),
                None => drop(update.skips(None)),
            }
            return;
        };
        let moment = Moment {
            conditions: &conditions,
            needs: &update.install().activate,
            wall: self.now.wall,
            starting: update.is_starting(),
            deferred: self.now.wall.and_then(|now| update.deferred(release, now)),
        };
        match policy::moment(&release.rules, &moment) {
            Ok(()) => {
                update.skips(None);
                let now = self.now.time;
                self.update(app, actions, |update| update.apply(now));
            }
            Err((why, again)) => {
                let version = release.version.clone();
                update.wait(again.map(|again| self.now.time + again));
                self.waits(app, Skip::Later { version, why }, actions);
            }
        }
    }

    /// What the device says of itself, and what its settings say of its link where it is silent.
    pub(super) fn standing(&self) -> Conditions {
        let metered = self.conditions.metered.unwrap_or(self.config.budgets.is_metered);
        Conditions { metered: Some(metered), ..self.conditions }
    }

    /// Nothing happens to an app for now, which is told when the reason changes.
    fn waits(&mut self, app: &str, skip: Skip, actions: &mut Vec<Action>) {
        let Some(update) = self.apps.get_mut(app) else { return };
        if update.skips(Some(skip))
            && let Some(skip) = update.skip().filter(|skip| **skip != Skip::UpToDate)
        {
            actions.push(Action::Tell(Fact::Waiting { app: app.to_owned(), why: skip.to_string() }));
        }
    }

    /// Something else was chosen at the device.
    pub(super) fn choose(&mut self, choice: Choice, actions: &mut Vec<Action>) {
        let config = self.config.to_mut();
        let (app, install) = match choice {
            Choice::Attributes(attributes) => {
                config.attributes = attributes;
                return self.decide_all(actions);
            }
            Choice::Channel { app, channel } => {
                let Some(install) = config.install_of(&app) else { return };
                install.to_mut().channel = channel;
                (app, install)
            }
            Choice::Pin { app, version } => {
                let Some(install) = config.install_of(&app) else { return };
                install.to_mut().pin = version;
                (app, install)
            }
        };
        let install = install.clone();
        if let Some(update) = self.apps.get_mut(&app) {
            update.install_as(install);
        }
        self.decide(&app, actions);
    }

    /// Someone at the device wants something of an update. What is granted is on disk first.
    pub(super) fn wished(&mut self, ticket: Ticket, app: &str, wish: Wish, actions: &mut Vec<Action>) {
        let Now { time, wall } = self.now;
        let Some(update) = self.apps.get_mut(app) else {
            actions.push(Action::Grant { ticket, result: Err(Refused::NotInstalled) });
            return;
        };
        let follow = self.config.follows.iter().find(|follow| follow.app == app);
        let verified = follow.and_then(|follow| self.catalog.verified(follow.repository));
        let steps = match wish {
            Wish::Defer(span) => update.defer(span, wall),
            Wish::RollBack => update.roll_back(verified.map(Verified::issued).unwrap_or_default()),
            Wish::Retry => update.retry(time),
        };
        match steps {
            Ok(steps) => {
                // The record as it is now, and what hangs on it after that: persists are written in their order.
                let record = self.record(app);
                self.persist(record.into_iter().collect(), After::Wish { ticket }, actions);
                for step in steps {
                    self.step(app, step, actions);
                }
            }
            Err(why) => actions.push(Action::Grant { ticket, result: Err(why) }),
        }
    }

    /// The device's conditions changed: what is wanted may be fetched now, or not, and what is staged may have its moment.
    pub(super) fn conditions_changed(&mut self, conditions: Conditions, actions: &mut Vec<Action>) {
        if self.conditions != conditions {
            self.conditions = conditions;
            self.refresh_budget(actions);
            self.plan(actions);
            self.decide_all(actions);
        }
    }
}
