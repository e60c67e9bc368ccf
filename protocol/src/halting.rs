//! Releases that halt by themselves: how each fared on the devices that count, by the receipts that are kept here
//! (`protocol/README.md` §9.8).
//!
//! A device counts once, with the newest that it said of the release, and only if a certificate that came with its
//! receipt makes it a member of a fleet of the repository: whoever can't enrol devices has no say. What halts is always
//! what the kept receipts say, in whatever order they came, so a restart changes nothing, and nodes that hold the same
//! receipts agree.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    NodeId, RepositoryId, Wall, member,
    receipt::{Receipt, Receipts, SignedReceipt},
    record::ReleaseId,
    rules::{Halt, Tally},
    table::Table,
    trust::Verified,
    wire::Mark,
};

/// The releases that may halt, of all repositories; while there is none, a pointer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Halting(Option<Box<Counts>>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    by_repository: Table<RepositoryId, BTreeMap<ReleaseId, Count>>,
    halted: BTreeMap<ReleaseId, Tally>,
}

/// One release that may halt, with the newest that each device said of it: the receipt's number, and whether it failed.
/// As many devices as receipts are kept, at most.
#[derive(Debug, Serialize, Deserialize)]
struct Count {
    threshold: Halt,
    devices: BTreeMap<NodeId, (u64, bool)>,
}

impl Count {
    fn add(&mut self, receipt: &Receipt) {
        let said = (receipt.counter, receipt.is_failure());
        let held = self.devices.entry(receipt.device).or_insert(said);
        *held = said.max(*held);
    }

    fn tally(&self) -> Tally {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let failed = self.devices.values().filter(|(_, failed)| *failed).count();
        Tally { failed: bounded(failed), outcomes: bounded(self.devices.len()) }
    }
}

impl Halting {
    /// The releases that failed too often.
    pub(crate) fn halted(&self) -> &BTreeMap<ReleaseId, Tally> {
        static NONE: BTreeMap<ReleaseId, Tally> = BTreeMap::new();
        self.0.as_ref().map_or(&NONE, |counts| &counts.halted)
    }

    /// Whether a repository lists a release that may halt.
    pub(crate) fn concerns(&self, repository: RepositoryId) -> bool {
        self.0.as_ref().is_some_and(|counts| counts.by_repository.contains_key(&repository))
    }

    /// Counts a receipt that is kept now, of a device that has a say; returns whether its release halts by it.
    pub(crate) fn count(&mut self, receipt: &Receipt) -> bool {
        let id = release_of(receipt);
        let Some(counts) = &mut self.0 else { return false };
        let Some(count) = counts.by_repository.get_mut(&id.repository).and_then(|counts| counts.get_mut(&id)) else {
            return false;
        };
        count.add(receipt);
        counts.judge(&id)
    }

    /// A receipt is not kept any more.
    pub(crate) fn forget(&mut self, gone: &Mark) {
        let Some(counts) = &mut self.0 else { return };
        let mut concerned = Vec::new();
        for (id, count) in counts.by_repository.get_mut(&gone.repository).into_iter().flatten() {
            if count.devices.get(&gone.device).is_some_and(|(counter, _)| *counter == gone.counter) {
                count.devices.remove(&gone.device);
                concerned.push(id.clone());
            }
        }
        for id in concerned {
            counts.judge(&id);
        }
    }

    /// Metadata came in the place of `before`: what it lists is counted, from all `receipts` where the release could not
    /// halt before, or other devices have a say now. Returns what halts by it.
    pub(crate) fn listed(
        &mut self,
        before: Option<&Verified>,
        verified: &Verified,
        receipts: &Receipts,
        now: Wall,
    ) -> Vec<ReleaseId> {
        let repository = verified.repository();
        let same_members = before.is_some_and(|before| same_members(before, verified));
        let held = self.0.as_mut().and_then(|counts| counts.by_repository.remove(&repository));
        let mut held = held.filter(|_| same_members).unwrap_or_default();
        let (mut counts, mut anew) = (BTreeMap::new(), false);
        for release in verified.releases() {
            let Some(threshold) = release.rules.halt else { continue };
            let id = ReleaseId::of(repository, release);
            let devices = held.remove(&id).map(|count| count.devices);
            anew |= devices.is_none();
            counts.insert(id, Count { threshold, devices: devices.unwrap_or_default() });
        }
        for receipt in receipts.iter().filter(|_| anew).filter_map(SignedReceipt::peek) {
            if let Some(count) = counts.get_mut(&release_of(&receipt))
                && has_a_say(&receipt, verified, now)
            {
                count.add(&receipt);
            }
        }
        let ids: BTreeSet<ReleaseId> = counts.keys().cloned().collect();
        let all = match &mut self.0 {
            None if counts.is_empty() => return Vec::new(),
            all => all.get_or_insert_default(),
        };
        if !counts.is_empty() {
            all.by_repository.insert(repository, counts);
        }
        all.halted.retain(|id, _| id.repository != repository || ids.contains(id));
        let halt = ids.into_iter().filter(|id| all.judge(id)).collect();
        if all.by_repository.is_empty() {
            self.0 = None;
        }
        halt
    }
}

impl Counts {
    /// Looks whether a release halts; returns whether it does, and did not before.
    fn judge(&mut self, id: &ReleaseId) -> bool {
        let count = self.by_repository.get(&id.repository).and_then(|counts| counts.get(id));
        match count.map(|count| (count.threshold, count.tally())) {
            Some((threshold, tally)) if threshold.is_passed(tally) => self.halted.insert(id.clone(), tally).is_none(),
            _ => {
                self.halted.remove(id);
                false
            }
        }
    }
}

fn release_of(receipt: &Receipt) -> ReleaseId {
    ReleaseId { repository: receipt.repository, channel: receipt.channel.clone(), seq: receipt.seq }
}

/// Whether the device is a member of a fleet of its repository, by what came with the receipt.
pub(crate) fn has_a_say(receipt: &Receipt, verified: &Verified, now: Wall) -> bool {
    let fleets = || verified.fleets().map(|(name, _)| name.to_owned()).collect();
    let is_member = |bytes: &Vec<u8>| member::admit(verified, &fleets(), bytes, receipt.device, now).is_ok();
    receipt.member.as_ref().is_some_and(is_member)
}

/// Whether two states of metadata decide in the same way who is a member.
pub(crate) fn same_members(before: &Verified, verified: &Verified) -> bool {
    fn members(verified: &Verified) -> impl Iterator<Item = impl PartialEq> {
        verified.fleets().map(|(name, fleet)| (name, &fleet.signers, &fleet.revoked))
    }
    members(before).eq(members(verified))
}
