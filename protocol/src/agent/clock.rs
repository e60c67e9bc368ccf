//! What time it is, as far as that can be trusted: by the device's clock, and by what publishers signed.

use super::Agent;
use crate::{RepositoryId, Wall, trust::Verified};

/// Seconds that a clock may be behind what was just signed elsewhere, and still be right.
const CLOCK_SLACK: i64 = 24 * 3600;

impl Agent {
    /// Now, as far as it can be trusted, for what is of a repository: no clock undercuts its newest signed time. It goes
    /// with the metadata, so a time that a stolen key ran ahead ends when the repository takes the key away. What others
    /// sign counts only where the device's clock is wrong or none, and then up to where two of them agree: else each
    /// publisher could let all others' metadata expire.
    pub(super) fn trusted_now(&self, repository: RepositoryId) -> Wall {
        let held = self.catalog.verified(repository).map(Verified::issued);
        let own = held.max(self.config.since.get(&repository).copied());
        match (self.now.wall, own) {
            (Some(wall), None) => wall,
            (Some(wall), Some(own)) if wall.0.saturating_add(CLOCK_SLACK) >= own.0 => wall.max(own),
            (wall, own) => {
                let mut signed: Vec<Wall> = self.catalog.all().map(Verified::issued).collect();
                signed.sort_unstable();
                let agreed = signed.iter().rev().nth(1);
                let told = self.config.since.values().chain(agreed).chain(own.as_ref());
                told.copied().fold(wall.unwrap_or_default(), Wall::max)
            }
        }
    }

    /// The same for what is of no repository: the earliest of all, so that no publisher runs it ahead alone.
    pub(super) fn trusted_by_all(&self) -> Wall {
        let times = self.catalog.all().map(|verified| self.trusted_now(verified.repository()));
        times.min().or(self.now.wall).unwrap_or_default()
    }
}
