//! Long runs: what is asked of a provider at a time while nobody else takes the same of it.
//!
//! Requests are short so that a node that fetches the same can be left its share, and so that what one provider holds up
//! can be had of another. With nobody to share with, and nothing to be had elsewhere, each costs a question, a turn and a
//! proof for nothing: what comes of a long one is verified, told of and kept as it comes, too. It takes no longer than
//! [`LASTS`], so that what else is asked of the same provider waits no longer for its turn, and it grows with what was
//! brought, so that a node that has merely not heard of the others yet has asked for little. When one comes, what is under
//! way goes on, as to end it would cost a new stream, and a month's budget what is on its way; from then on runs are short.

use std::time::Duration;

use super::{
    CHECK_INTERVAL, Job,
    claims::RUN,
    pieces::Pieces,
    plan::Plan,
    provider::{FIRST_WINDOW, Provider},
};
use crate::{Time, config::Config};

/// A run takes about this long at the rate so far.
pub(super) const LASTS: Duration = Duration::from_secs(2);
/// A run has at most so many times what its provider brought before.
pub(super) const GROWS: u64 = 4;

/// Of whom this node may ask long runs, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    /// How many fetch the blob and may take the same of near ones, and of far ones.
    takers: [usize; 2],
    /// No more than one provider has anything of what is missing.
    one_has: bool,
    /// Bytes of a run at most.
    longest: u64,
}

impl Alone {
    pub(super) fn of(job: &Job, config: &Config) -> Self {
        // With several sources, guided self-scheduling (Polychronopoulos and Kuck, 1987): all come to their end together.
        let sources = job.providers.values().filter(|provider| provider.is_source()).count() as u64;
        let share = if sources > 1 { (job.size - job.held_bytes()) / (2 * sources) } else { u64::MAX };
        // One is behind the one under way.
        let longest = config.request_bytes.min(config.provider_bytes / 2).min(share);
        let one_has = job.having().nth(1).is_none();
        Self { takers: [true, false].map(|near| job.takers(near)), one_has, longest }
    }

    /// Whether nobody else takes what a provider has, and pieces of it are not to be had of another sooner.
    pub(super) fn with(&self, provider: &Provider) -> bool {
        // It takes nothing of itself.
        let unshared = self.takers[usize::from(!provider.near)] == usize::from(provider.fetches);
        unshared && (provider.is_source() || self.one_has)
    }

    /// Bytes of a run that may be asked of a provider now, if its window is not to say so: one is behind the one under way.
    pub(super) fn run_room(&self, provider: &Provider, piece: u64) -> Option<u64> {
        let run = provider.run().min(self.longest);
        let counts = self.with(provider) && run / piece >= FIRST_WINDOW;
        counts.then(|| if provider.rests.is_none() && provider.asked <= run { run } else { 0 })
    }
}

impl Job {
    /// Those that have something of what is missing.
    fn having(&self) -> impl Iterator<Item = &Provider> {
        let has = |provider: &&Provider| provider.rests.is_none() && provider.held.adds_to(&self.have);
        self.providers.values().filter(has)
    }

    /// How many fetch the blob and may take what near ones have, or far ones. Those of this site that know nobody elsewhere
    /// wait for what this node brings.
    fn takers(&self, near: bool) -> usize {
        let takes = |provider: &&Provider| provider.fetches && (near || !provider.near || provider.outward);
        self.providers.values().filter(takes).count()
    }

    /// Bytes that a run of a provider may have, where this node is alone with it; none where it is not.
    pub(super) fn alone_with(&self, provider: &Provider, plan: &Plan) -> Option<u64> {
        let long = plan.alone.run_room(provider, self.piece).is_some();
        let most = if long { u64::MAX } else { RUN as u64 * self.piece };
        plan.alone.with(provider).then(|| self.room(provider, &plan.alone).min(most))
    }

    /// A run of what a provider may be asked for: from this node's own place on, so that two that fetch alone and meet
    /// later have different parts.
    pub(super) fn choose_alone(&self, open: &Pieces, bytes: u64) -> Option<(usize, usize)> {
        let own = self.claims.place();
        let first = open.next_from(own).or_else(|| open.next_from(0))?;
        let most = usize::try_from(bytes / self.piece).unwrap_or(usize::MAX).max(1);
        let run = (first..open.count()).take(most).take_while(|piece| open.contains(*piece));
        Some((first, run.count()))
    }

    /// When to look whether something is held up. What one alone can bring, nobody else is asked for.
    pub(super) fn look_at(&self) -> Time {
        let soon = self.checked + CHECK_INTERVAL;
        let mut having = self.having();
        let (Some(one), None) = (having.next(), having.next()) else { return soon };
        let unshared = self.takers(one.near) == usize::from(one.fetches);
        let stalls = if unshared { one.stalls_at() } else { None };
        stalls.map_or(soon, |stalls| stalls.max(soon))
    }
}
