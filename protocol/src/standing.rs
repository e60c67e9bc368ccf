//! How releases stand with the devices: counted from the receipts that a node holds, so as old as they are.
//!
//! A device is known by its receipts alone. What they do not tell (a pin, whether it has a key, attributes and groups that
//! its owner keeps to himself) is not known here, so a release with rules about that may or may not be for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    NodeId, RepositoryId, Wall,
    config::Install,
    gateway, member,
    policy::{
        Access, Device,
        explain::{Told, Verdict, is_for},
    },
    receipt::{Outcome, Receipt},
    record::{AppRecord, Installed, ReleaseId},
    release::Release,
    rules::{Expression, Tally},
    seal::Epoch,
    trust::Verified,
};

/// Releases of a channel that are counted, the newest.
pub const MAX_STANDINGS: usize = 16;

/// How one release stands. A device that counts as active, failed, rolled back or unknown counts as eligible too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The app.
    pub app: String,
    /// Its channel.
    pub channel: String,
    /// Its number there.
    pub seq: u64,
    /// Its version.
    pub version: String,
    /// Devices that it is for, or that took it.
    pub eligible: u64,
    /// Devices that had all of it, whatever became of it.
    pub downloaded: u64,
    /// Devices on which it is active.
    pub active: u64,
    /// Devices that could not install it, at their last word about it.
    pub failed: u64,
    /// Devices that went back from it, at their last word about it.
    pub rolled_back: u64,
    /// Devices that it is for and that said nothing about it yet.
    pub unknown: u64,
    /// Devices that it may be for: its rules ask for what is not known here. Not among the eligible.
    pub perhaps: u64,
    /// Seconds since the newest of these words was said; `None` if none was.
    pub newest_s: Option<i64>,
    /// Seconds since the device that was silent for longest, of those counted, said something.
    pub oldest_s: Option<i64>,
}

/// A device, as far as its receipts about an app tell.
#[derive(Debug, Clone)]
pub struct Reported {
    /// Its place in rollouts: by its own name, or by its id of a device behind a gateway.
    drawn: NodeId,
    /// The channel that it follows.
    pub channel: String,
    /// How the app stands on it.
    pub record: AppRecord,
    /// When it was last heard of: by its own clock, or if it had none, by the metadata that it went by.
    pub heard: Wall,
    /// Its attributes, if it tells them.
    pub attributes: Option<BTreeMap<String, String>>,
    /// What makes it a member of a fleet, as it showed that last.
    member: Option<Vec<u8>>,
    /// Its last word about each release, by channel and number.
    last: BTreeMap<(String, u64), Receipt>,
}

/// All devices that reported about a repository's apps, by app.
#[must_use]
pub fn reported(repository: RepositoryId, receipts: &[Receipt]) -> BTreeMap<String, BTreeMap<NodeId, Reported>> {
    let mut sorted: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.repository == repository).collect();
    sorted.sort_by_key(|receipt| (receipt.device, receipt.counter));
    let mut apps: BTreeMap<String, BTreeMap<NodeId, Reported>> = BTreeMap::new();
    for receipt in sorted {
        let devices = apps.entry(receipt.app.clone()).or_default();
        let drawn = receipt.via.as_ref().map_or(receipt.device, |via| gateway::drawn_as(&via.device));
        devices.entry(receipt.device).or_insert_with(|| Reported::unheard(drawn)).take(receipt);
    }
    apps
}

impl Reported {
    /// A device of which nothing is known.
    #[must_use]
    pub fn unheard(drawn: NodeId) -> Self {
        let (channel, record) = (String::new(), AppRecord::default());
        Self { drawn, channel, record, heard: Wall::default(), attributes: None, member: None, last: BTreeMap::new() }
    }

    fn take(&mut self, receipt: &Receipt) {
        let id = ReleaseId { repository: receipt.repository, channel: receipt.channel.clone(), seq: receipt.seq };
        self.channel.clone_from(&receipt.channel);
        self.heard = self.heard.max(receipt.at.unwrap_or(receipt.issued));
        self.record.counter = receipt.counter;
        self.record.bad.retain(|bad| *bad != id);
        if receipt.outcome == Outcome::Active {
            let (version, bundle) = (receipt.version.clone(), receipt.bundle);
            self.record.active = Some(Installed { id: id.clone(), version, bundle, bytes: 0 }.into());
        } else {
            self.record.bad.push(id.clone());
            self.record.active = self.record.active.take().filter(|_| receipt.active.is_some());
        }
        // Who tells them no more has taken them back.
        self.attributes.clone_from(&receipt.attributes);
        if receipt.member.is_some() {
            self.member.clone_from(&receipt.member);
        }
        self.last.insert((id.channel, id.seq), receipt.clone());
    }

    /// The groups that the device is in by the certificate that it showed, if that holds at this time.
    #[must_use]
    pub fn groups(&self, verified: &Verified, now: Wall) -> Option<BTreeSet<String>> {
        let fleets = verified.fleets().map(|(name, _)| name.to_owned()).collect();
        let admitted = member::admit(verified, &fleets, self.member.as_ref()?, self.drawn, now);
        admitted.ok().map(|certificate| certificate.groups)
    }

    /// The device as the rules see it, in these groups, if they are known.
    #[must_use]
    pub fn subject<'a>(
        &'a self,
        install: &'a Install,
        now: Wall,
        nothing: &'a Nothing,
        groups: Option<&'a BTreeSet<String>>,
    ) -> Device<'a> {
        let Nothing { attributes, groups: none, keys, halted } = nothing;
        let (attributes, record) = (self.attributes.as_ref().unwrap_or(attributes), &self.record);
        let groups = groups.unwrap_or(none);
        Device { node: self.drawn, attributes, groups, install, record, keys, halted, now }
    }
}

/// What receipts don't tell of a device.
#[derive(Debug, Default)]
pub struct Nothing {
    attributes: BTreeMap<String, String>,
    groups: BTreeSet<String>,
    keys: BTreeMap<Epoch, Access>,
    /// The releases that halt, which a node may know of itself.
    pub(crate) halted: BTreeMap<ReleaseId, Tally>,
}

/// How the newest releases of a repository stand, at most [`MAX_STANDINGS`] of each app and channel, by app, channel, and
/// then the newest first.
#[must_use]
pub fn standings(verified: &Verified, receipts: &[Receipt], now: Wall) -> Vec<Standing> {
    let apps = reported(verified.repository(), receipts);
    let mut channels: BTreeMap<(&str, &str), Vec<&Release>> = BTreeMap::new();
    for release in verified.releases() {
        channels.entry((&release.app, &release.channel)).or_default().push(release);
    }
    let (mut standings, nobody) = (Vec::new(), BTreeMap::new());
    for ((app, _), mut releases) in channels {
        let devices = apps.get(app).unwrap_or(&nobody);
        releases.sort_by_key(|release| std::cmp::Reverse(release.seq));
        standings.extend(releases.into_iter().take(MAX_STANDINGS).map(|it| standing(verified, it, devices, now)));
    }
    standings
}

fn standing(verified: &Verified, release: &Release, devices: &BTreeMap<NodeId, Reported>, now: Wall) -> Standing {
    let mut standing = Standing {
        app: release.app.clone(),
        channel: release.channel.clone(),
        seq: release.seq,
        version: release.version.clone(),
        eligible: 0,
        downloaded: 0,
        active: 0,
        failed: 0,
        rolled_back: 0,
        unknown: 0,
        perhaps: 0,
        newest_s: None,
        oldest_s: None,
    };
    let (install, nothing) = (Install::of(&release.channel), Nothing::default());
    let id = ReleaseId::of(verified.repository(), release);
    let asks_for_groups = release.rules.audience.as_ref().is_some_and(Expression::asks_for_groups);
    for device in devices.values() {
        let age = |heard: Wall| Some(now.0.saturating_sub(heard.0).max(0));
        if let Some(last) = device.last.get(&(release.channel.clone(), release.seq)) {
            standing.eligible += 1;
            let had_it = match last.outcome {
                Outcome::Active | Outcome::RolledBack { .. } => true,
                Outcome::Failed { .. } => !last.sources.is_empty(),
            };
            standing.downloaded += u64::from(had_it);
            standing.active += u64::from(device.record.active.as_ref().is_some_and(|active| active.id == id));
            standing.failed += u64::from(matches!(last.outcome, Outcome::Failed { .. }));
            standing.rolled_back += u64::from(matches!(last.outcome, Outcome::RolledBack { .. }));
            let said = age(last.at.unwrap_or(last.issued));
            standing.newest_s = standing.newest_s.map_or(said, |newest| said.map(|said| said.min(newest)));
        } else if device.channel == release.channel {
            // A signature is checked for that: not where nobody asks.
            let groups = asks_for_groups.then(|| device.groups(verified, now)).flatten();
            let told = Told { attributes: device.attributes.is_some(), groups: groups.is_some() };
            let subject = device.subject(&install, now, &nothing, groups.as_ref());
            match is_for(verified, release, &subject, told) {
                Verdict::Against => continue,
                Verdict::Unknown => standing.perhaps += 1,
                Verdict::Holds | Verdict::Later => {
                    standing.eligible += 1;
                    standing.unknown += 1;
                }
            }
        } else {
            continue;
        }
        standing.oldest_s = standing.oldest_s.max(age(device.heard));
    }
    standing
}
