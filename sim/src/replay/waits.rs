//! How long a driver took for what its agent asked of it: from each action of a recording to the input that answers it. By
//! this the simulator's own waits are set (`README.md`).

use std::{collections::BTreeMap, fmt, time::Duration};

use burr_protocol::{
    Time,
    action::{Action, Input},
};

use super::Step;

/// What an agent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Records are durable.
    Write,
    /// What is in the store of a blob is known.
    Look,
    /// A blob is removed.
    Delete,
    /// A key is found.
    Unlock,
    /// A dialled connection stands, or does not.
    Dial,
    /// A part of a blob is fetched.
    Fetch,
    /// A bundle is unpacked.
    Stage,
    /// A bundle is current.
    Switch,
    /// A hook ended.
    Hook,
    /// The health command ended.
    Health,
}

/// What was waited for, and what still is.
#[derive(Debug, Default)]
pub struct Waits {
    asked: BTreeMap<(Work, String), Time>,
    took: BTreeMap<Work, Vec<Duration>>,
}

impl Waits {
    /// One more step of the recording.
    pub fn take(&mut self, step: &Step<'_>) {
        let now = step.moment.now.time;
        if let Some((work, name)) = answered(&step.moment.input)
            && let Some(asked) = self.asked.remove(&(work, name))
        {
            self.took.entry(work).or_default().push(now.since(asked));
        }
        self.asked.extend(step.actions.iter().filter_map(asked).map(|of| (of, now)));
    }

    /// How long each work of a kind took, in the order in which they ended, in milliseconds' steps.
    #[must_use]
    pub fn of(&self, work: Work) -> &[Duration] {
        self.took.get(&work).map_or(&[], Vec::as_slice)
    }
}

fn asked(action: &Action) -> Option<(Work, String)> {
    Some(match action {
        Action::Persist { token, .. } => (Work::Write, token.0.to_string()),
        Action::Look { blob, .. } => (Work::Look, blob.to_string()),
        Action::Delete { blob } => (Work::Delete, blob.to_string()),
        Action::Unlock { lock, .. } => (Work::Unlock, format!("{:?}", lock.owner.epoch)),
        Action::Dial(address) => (Work::Dial, address.0.clone()),
        Action::Fetch(request) => (Work::Fetch, request.id.0.to_string()),
        Action::Stage { app, .. } => (Work::Stage, app.clone()),
        Action::Switch { app, .. } => (Work::Switch, app.clone()),
        Action::RunHook { app, hook, .. } => (Work::Hook, format!("{app} {hook}")),
        Action::CheckHealth { app, .. } => (Work::Health, app.clone()),
        _ => return None,
    })
}

fn answered(input: &Input) -> Option<(Work, String)> {
    Some(match input {
        Input::Stored(token) | Input::StoreFailed { token, .. } => (Work::Write, token.0.to_string()),
        Input::Held { blob, .. } => (Work::Look, blob.to_string()),
        Input::Deleted { blob, .. } => (Work::Delete, blob.to_string()),
        Input::Unlocked { epoch, .. } => (Work::Unlock, format!("{epoch:?}")),
        Input::Connected { address: Some(address), .. } | Input::DialFailed { address } => {
            (Work::Dial, address.0.clone())
        }
        Input::Fetched { id } | Input::FetchFailed { id, .. } => (Work::Fetch, id.0.to_string()),
        Input::Staged { app, .. } => (Work::Stage, app.clone()),
        Input::Switched { app, .. } => (Work::Switch, app.clone()),
        Input::Hooked { app, hook, .. } => (Work::Hook, format!("{app} {hook}")),
        Input::Health { app, .. } => (Work::Health, app.clone()),
        _ => return None,
    })
}

impl fmt::Display for Waits {
    /// A table: how often, how long half of them took at most, nineteen of twenty, and all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<8}{:>8}{:>12}{:>12}{:>12}", "", "times", "median", "95 %", "longest")?;
        for (work, took) in &self.took {
            let mut sorted = took.clone();
            sorted.sort_unstable();
            let at = |percent: usize| format!("{} ms", sorted[(sorted.len() - 1) * percent / 100].as_millis());
            let name = format!("{work:?}").to_lowercase();
            writeln!(f, "{name:<8}{:>8}{:>12}{:>12}{:>12}", took.len(), at(50), at(95), at(100))?;
        }
        Ok(())
    }
}
