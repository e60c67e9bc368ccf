//! Releases that halt by themselves, as the agent sees it: what is counted when, and what follows.

use super::Agent;
use crate::{
    RepositoryId, action::Action, fact::Fact, halting, receipt::Receipt, record::ReleaseId, release::Release,
    trust::Verified,
};

impl Agent {
    /// Whether what came with a receipt makes its device a member of a fleet of its repository.
    pub(super) fn has_a_say(&self, receipt: &Receipt) -> bool {
        let verified = self.catalog.verified(receipt.repository);
        verified.is_some_and(|verified| halting::has_a_say(receipt, verified, self.trusted_now(receipt.repository)))
    }

    /// The receipt of one who has a say is kept from now on: if its release halts by it, nobody here begins to take it any
    /// more.
    pub(super) fn count(&mut self, receipt: &Receipt, actions: &mut Vec<Action>) {
        if self.halting.count(receipt) {
            let id = ReleaseId { repository: receipt.repository, channel: receipt.channel.clone(), seq: receipt.seq };
            self.tell_halted(&id, actions);
            self.decide_all(actions);
        }
    }

    /// Counts what the metadata of a repository lists, which is others than `before`. The caller decides anew.
    pub(super) fn count_listed(
        &mut self,
        repository: RepositoryId,
        before: Option<&Verified>,
        actions: &mut Vec<Action>,
    ) {
        let now = self.trusted_now(repository);
        let Some(verified) = self.catalog.verified(repository) else { return };
        if !before.is_some_and(|before| halting::same_members(before, verified)) {
            self.receipts.judge_members(repository, |receipt| halting::has_a_say(receipt, verified, now));
            self.peers.iter_mut().for_each(|(_, peer)| peer.sent.look_again());
        }
        let concerned = self.halting.concerns(repository);
        for id in self.halting.listed(before, verified, &self.receipts, now) {
            self.tell_halted(&id, actions);
        }
        if !concerned && self.halting.concerns(repository) {
            // What was carried no further is of use to all from now on.
            self.peers.iter_mut().for_each(|(_, peer)| peer.sent.look_again());
        }
    }

    fn tell_halted(&self, id: &ReleaseId, actions: &mut Vec<Action>) {
        if let (Some(release), Some(tally)) = (self.listed(id), self.halting.halted().get(id)) {
            actions.push(Action::Tell(Fact::Halted {
                repository: id.repository,
                app: release.app.clone(),
                channel: release.channel.clone(),
                version: release.version.clone(),
                tally: *tally,
            }));
        }
    }

    /// A release, if it is listed still.
    pub(super) fn listed(&self, id: &ReleaseId) -> Option<&Release> {
        let mut releases = self.catalog.verified(id.repository)?.releases();
        releases.find(|release| release.channel == id.channel && release.seq == id.seq)
    }
}
