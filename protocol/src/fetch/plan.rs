//! What is to be had of a blob at one moment, as sets of pieces: worked out once for all providers, 64 pieces at a time.

use serde::{Deserialize, Serialize};

use super::{Job, Under, alone::Alone, pieces::Pieces, provider::Provider};

/// How many have each piece that are no sources, and have brought something.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Copies {
    pub(super) of: Vec<u16>,
    /// Those that none has.
    pub(super) none: Pieces,
}

impl Copies {
    /// Nobody has any.
    pub(super) fn none(size: u64) -> Self {
        let none = Pieces::all(size);
        Self { of: vec![0; none.count()], none }
    }

    pub(super) fn more(&mut self, piece: usize) {
        self.of[piece] += 1;
        self.none.remove(piece);
    }

    pub(super) fn fewer(&mut self, piece: usize) {
        self.of[piece] -= 1;
        if self.of[piece] == 0 {
            self.none.insert(piece);
        }
    }
}

/// What is to be had, at one moment.
pub(super) struct Plan {
    /// Missing, and not asked of anyone.
    pub(super) free: Pieces,
    /// How many of these this node is to bring to its site.
    pub(super) afar: usize,
    /// Whether something that is missing is with sources alone.
    pub(super) scarce: bool,
    /// What this node may take from afar: its own share of what no near provider has; worked out if anybody is far.
    pub(super) from_afar: Option<Pieces>,
    /// What near providers, and all, have that did not fail when they were asked last; worked out if any failed.
    sure: Option<[Pieces; 2]>,
    /// Whether a source can be asked.
    pub(super) sourced: bool,
    /// Of whom long runs may be asked.
    pub(super) alone: Alone,
    /// Claims are not heeded.
    pub(super) relaxed: bool,
}

impl Plan {
    pub(super) fn of(job: &Job, alone: Alone) -> Self {
        let mut free = Pieces::all(job.size);
        free.subtract(&job.have);
        let scarce = free.common(&job.copies.none).next().is_some();
        job.under.values().map(Under::rest).for_each(|run| free.remove_run(run));
        let union = |wanted: &dyn Fn(&Provider) -> bool| {
            let mut union = Pieces::none(job.size);
            let those = job.providers.values().filter(|provider| provider.rests.is_none() && wanted(provider));
            those.for_each(|provider| union.merge(&provider.held));
            union
        };
        let from_afar = job.providers.values().any(|provider| !provider.near).then(|| {
            let mut from_afar = job.claims.mine_here.clone();
            from_afar.subtract(&union(&|provider| provider.near && !provider.is_struck()));
            from_afar
        });
        let afar = from_afar.as_ref().map_or(0, |from_afar| free.common(from_afar).count());
        let struck = job.providers.values().any(Provider::is_struck);
        let sure = |near: bool| union(&|provider| (provider.near || !near) && !provider.is_struck());
        let sure = struck.then(|| [sure(true), sure(false)]);
        let sourced = job.providers.values().any(|provider| provider.is_source() && provider.rests.is_none());
        Self { free, afar, scarce, from_afar, sure, sourced, alone, relaxed: false }
    }

    /// What is to be had of others than one that failed, no farther away than that.
    pub(super) fn better(&self, near: bool) -> Option<&Pieces> {
        self.sure.as_ref().map(|sure| &sure[usize::from(!near)])
    }
}
