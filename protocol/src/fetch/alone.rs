//! Long runs: what is asked of a source at a time while nobody else fetches the blob.
//!
//! Requests are short so that pieces can be passed on soon, and a source be shared. With nobody to pass them on to, each
//! costs a question, a turn and a proof for nothing. A long run is at most half of what the source brought in one go, so that
//! a node that has merely not heard of the others yet has asked for little; when one comes, runs that are long end, and
//! what is missing of them is asked for in short ones. What came of them is here: they are verified as they come.

use std::time::Duration;

use super::{CHECK_INTERVAL, Job, RequestId, claims::RUN, pieces::Pieces, provider::Provider};
use crate::{Time, config::Config};

/// A run takes about this long at the rate so far: what others ask of the source waits no longer for it.
pub(super) const LASTS: Duration = Duration::from_secs(2);

impl Job {
    /// Sees whether others fetch the blob too; then long runs end.
    pub(super) fn look_around(&mut self, config: &Config) {
        let fellows = self.providers.values().any(|provider| provider.fetches);
        let before = self.longest;
        // With several sources, guided self-scheduling (Polychronopoulos and Kuck, 1987): all come to their end together.
        let sources = self.providers.values().filter(|provider| provider.is_source()).count() as u64;
        let share = if sources > 1 { (self.size - self.held_bytes()) / (2 * sources) } else { u64::MAX };
        // One is behind the one under way.
        let longest = config.request_bytes.min(config.provider_bytes / 2);
        self.longest = if fellows { 0 } else { longest.min(share) };
        if fellows && before > 0 {
            let long = self.under.iter().filter(|(_, under)| under.is_long());
            let long: Vec<RequestId> = long.map(|(id, _)| *id).collect();
            self.unsure |= !long.is_empty();
            for id in long {
                self.end(id);
            }
        }
    }

    /// Bytes of a long run that may be asked of a provider now, if such a run is of use: one is behind the one under way.
    pub(super) fn long_room(&self, provider: &Provider) -> Option<u64> {
        let run = provider.run().min(self.longest);
        let is_long = provider.is_source() && run / self.piece > RUN as u64;
        is_long.then(|| if provider.rests.is_none() && provider.asked <= run { run } else { 0 })
    }

    /// Bytes that a run of a source may have, while nobody else fetches the blob; none where others do.
    pub(super) fn alone_with(&self, provider: &Provider) -> Option<u64> {
        let most = if self.long_room(provider).is_some() { u64::MAX } else { RUN as u64 * self.piece };
        (self.longest > 0 && provider.is_source()).then(|| self.room(provider).min(most))
    }

    /// A run of what a source may be asked for: from this node's own place on, so that two that fetch alone and meet
    /// later have different parts.
    pub(super) fn choose_alone(&self, open: &Pieces, bytes: u64) -> Option<(usize, usize)> {
        let own = self.claims.place();
        let first = open.next_from(own).or_else(|| open.next_from(0))?;
        let most = usize::try_from(bytes / self.piece).unwrap_or(usize::MAX).max(1);
        let run = (first..open.count()).take(most).take_while(|piece| open.contains(*piece));
        Some((first, run.count()))
    }

    /// When to look whether something is held up. With one source and no fellow, only the source can do that.
    pub(super) fn look_at(&self) -> Time {
        let soon = self.checked + CHECK_INTERVAL;
        if self.longest > 0
            && self.providers.len() == 1
            && let Some(stalls) = self.providers.values().find_map(Provider::stalls_at)
        {
            return stalls.max(soon);
        }
        soon
    }
}
