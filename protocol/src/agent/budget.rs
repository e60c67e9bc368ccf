//! What may be sent and taken: rates and the month's cap, settings that change, and the questions of others.

use super::{After, Agent};
use crate::{
    Hash, NodeId, Shared, Time,
    action::Action,
    budget::{Direction, Held, Month},
    config::Config,
    fact::Fact,
    record::Record,
    serving::{QuestionId, Turn},
    status,
};

impl Agent {
    /// Brings the rates in line with settings, hours and conditions.
    pub(super) fn refresh_budget(&mut self, actions: &mut Vec<Action>) {
        let (now, trusted) = (self.now, self.trusted_by_all());
        self.budget.refresh(&self.config.budgets, self.standing(), now.wall, trusted, now.time);
        self.lease_more(actions);
    }

    /// Goes on with what found no room, once there may be some.
    pub(super) fn budget_due(&mut self, actions: &mut Vec<Action>) {
        let now = self.now.time;
        let changed = self.budget.is_due(now);
        if changed {
            self.refresh_budget(actions);
        }
        if self.budget.may_go_on(now) || changed {
            self.step_jobs(actions);
            self.serve_next(actions);
        } else if self.serving.wake_at(now).is_some_and(|at| at <= now) {
            self.serve_next(actions);
        }
    }

    /// Has more of the month's cap written down as used before it is, and says when there is no more.
    pub(super) fn lease_more(&mut self, actions: &mut Vec<Action>) {
        if let Some(month) = self.budget.lease(&self.config.budgets, self.now.time) {
            self.persist(vec![Record::Used(month)], After::Used(month), actions);
        }
        if let Some(month) = self.budget.newly_used_up(&self.config.budgets) {
            let cap = self.config.budgets.month.unwrap_or_default();
            actions.push(Action::Tell(Fact::BudgetUsedUp { month: month.to_string(), cap }));
        }
    }

    /// More of the month's cap is written down, or could not be.
    pub(super) fn leased(&mut self, month: Month, written: bool, actions: &mut Vec<Action>) {
        self.budget.leased(month, written, self.now.time);
        self.step_jobs(actions);
        self.serve_next(actions);
    }

    /// Other settings hold from now on.
    pub(super) fn settings_changed(&mut self, config: Config, actions: &mut Vec<Action>) {
        assert_eq!(config.check(), Ok(()), "the driver checks its configuration first");
        let same = config.follows == self.config.follows && config.closed == self.config.closed;
        assert!(same, "what is followed changes with a restart");
        self.config = Shared::from(config);
        self.refresh_budget(actions);
        self.plan(actions);
        self.decide_all(actions);
        self.step_jobs(actions);
        self.serve_next(actions);
    }

    /// A node asks for a part of a blob.
    pub(super) fn asked(&mut self, id: QuestionId, node: NodeId, blob: Hash, bytes: u64, actions: &mut Vec<Action>) {
        // What is to go is not begun to be read again.
        let goes = self.condemned.contains_key(&blob) || self.leaving.contains_key(&blob);
        if !self.config.serve || self.peers.get(node).is_none() || goes {
            actions.push(Action::Decline(id));
            return;
        }
        match self.serving.asked(id, node, blob, bytes, self.now.time) {
            Some(turn) => actions.push(of(turn)),
            None => self.serve_next(actions),
        }
    }

    /// An answer ended.
    pub(super) fn served(&mut self, id: QuestionId, bytes: u64, actions: &mut Vec<Action>) {
        if let Some((near, unsent)) = self.serving.answered(id, bytes) {
            self.budget.unspend(near, Direction::Up, unsent);
        }
        if self.condemned.keys().any(|blob| !self.serving.reads(*blob)) {
            self.plan(actions);
        }
        self.serve_next(actions);
    }

    /// Bytes of blobs are about to go by HTTP.
    pub(super) fn carried(&mut self, near: bool, direction: Direction, bytes: u64, actions: &mut Vec<Action>) {
        self.budget.carried(near, direction, bytes, self.now.time);
        self.lease_more(actions);
    }

    /// How many bytes of blobs may go by HTTP now: `least`, and more than that up to `most` if there is room.
    ///
    /// # Errors
    /// [`Held`] if not so many may.
    pub fn may_carry(&self, near: bool, direction: Direction, least: u64, most: u64, now: Time) -> Result<u64, Held> {
        self.budget.may_carry(&self.config.budgets, near, direction, least..=most, now)
    }

    /// Whether there is a place in the store for a blob that is not whole, though it may not be fetched now.
    #[must_use]
    pub fn keeps_place(&self, blob: Hash) -> bool {
        self.store.get(&blob).is_some_and(|stored| !stored.whole)
    }

    /// Whether a blob is being fetched.
    #[must_use]
    pub fn fetches(&self, blob: Hash) -> bool {
        self.jobs.contains_key(&blob)
    }

    fn serve_next(&mut self, actions: &mut Vec<Action>) {
        let (now, budgets) = (self.now.time, &self.config.budgets);
        let (budget, peers) = (&mut self.budget, &self.peers);
        let is_near = |node| peers.is_near(node);
        let turns = self.serving.turns(now, is_near, |near, bytes| {
            let room = budget.room(budgets, near, Direction::Up, bytes, now) > 0;
            if room {
                budget.spend(near, Direction::Up, bytes);
            }
            room
        });
        actions.extend(turns.into_iter().map(of));
        self.lease_more(actions);
    }

    /// What may be sent and taken, for people.
    pub(super) fn budget_status(&self) -> status::Budget {
        let (budget, budgets) = (&self.budget, &self.config.budgets);
        let limits = [true, false].into_iter().flat_map(|near| {
            [Direction::Down, Direction::Up].map(|direction| {
                let held_back = match direction {
                    Direction::Down => self.jobs.values().any(|job| job.is_held_back(near)),
                    Direction::Up => self.serving.waits(|node| self.peers.is_near(node) == near),
                };
                let what = match direction {
                    Direction::Down => "what is fetched",
                    Direction::Up => "what others ask for",
                };
                let why = budget.why(budgets, near, direction).filter(|_| held_back);
                status::Limit {
                    link: budget.link(near),
                    direction,
                    rate: budget.rate(near, direction).to_string(),
                    waits: why.map(|why| format!("{what} waits: {why}")),
                }
            })
        });
        status::Budget {
            limits: limits.collect(),
            month: budget.month().to_string(),
            used: budget.month().bytes,
            cap: budgets.month,
            traffic: budget.traffic(),
            waiting: self.serving.waiting() as u64,
        }
    }
}

fn of(turn: Turn) -> Action {
    match turn {
        Turn::Now(id) => Action::Serve(id),
        Turn::Never(id) => Action::Decline(id),
    }
}
