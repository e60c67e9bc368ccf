//! What always holds, looked at from outside the agents at every event.

mod budget;
mod quiet;

use std::collections::BTreeMap;

use burr_protocol::{
    Hash, RepositoryId, Time,
    config::MAX_JOBS,
    fetch::{Pieces, Request},
    record::Record,
    release::Release,
    wire::{MAX_ANNOUNCEMENT, MAX_MESSAGE, Mark, Message},
};

use super::{NodeIndex, World};
use budget::Spent;
use quiet::Said;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub time: Time,
    /// Where.
    pub node: NodeIndex,
    /// Which rule.
    pub rule: Rule,
    /// How.
    pub words: String,
}

/// What always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nothing is applied that the publisher's keys of then did not sign.
    AppliedUnverified,
    /// The active version never goes down.
    VersionDown,
    /// `current` is the whole old version or the whole new one.
    NotWhole,
    /// No byte is served that was not verified here.
    ServedUnverified,
    /// Every declared bound is kept.
    Bound,
    /// No more is asked for or given than the node's budgets permit.
    OverBudget,
    /// What rests on a record is said after the record is durable.
    SpokeTooSoon,
    /// At the end every device that could have the newest version has it.
    NotConverged,
    /// At the end every receipt has reached whoever collects.
    ReceiptMissing,
    /// A fleet with nothing to do says nothing but its digests.
    NotQuiet,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AppliedUnverified => "nothing is applied that was not signed by the keys trusted then",
            Self::VersionDown => "the active version never goes down",
            Self::NotWhole => "`current` is the whole old version or the whole new one",
            Self::ServedUnverified => "no byte is served that was not verified here",
            Self::Bound => "every bound is kept",
            Self::OverBudget => "no more goes than the budgets permit",
            Self::SpokeTooSoon => "nothing is said before what it rests on is durable",
            Self::NotConverged => "every device that can have the newest version has it in the end",
            Self::ReceiptMissing => "every receipt reaches whoever collects in the end",
            Self::NotQuiet => "an idle fleet is quiet",
        })
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Bundles that the publisher released.
    released: BTreeMap<Hash, u64>,
    /// The highest release that was active, by node and app.
    active: BTreeMap<(NodeIndex, String), u64>,
    /// What each node used of its budgets.
    spent: BTreeMap<NodeIndex, Spent>,
    /// The message that was looked at last: of which node, and at which input.
    looked_at: (NodeIndex, u64, Vec<u8>),
    /// What each node says, while they are listened to.
    said: Vec<Said>,
    broken: Vec<Violation>,
}

/// Violations remembered: the first ones tell most.
const MAX_VIOLATIONS: usize = 100;

impl World {
    /// Watches every event from now on.
    pub fn watch_rules(&mut self) {
        self.checks = Some(Box::default());
    }

    /// The publisher released this: it may be applied from now on.
    pub fn released(&mut self, release: &Release) {
        if let Some(checks) = &mut self.checks {
            checks.released.insert(release.bundle, release.seq);
        }
    }

    /// The rules that were broken so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        self.checks.as_ref().map_or(&[], |checks| &checks.broken)
    }

    /// Notes a rule that was broken.
    pub fn broke(&mut self, node: NodeIndex, rule: Rule, words: String) {
        let time = self.time;
        if let Some(checks) = self.checks.as_mut().filter(|checks| checks.broken.len() < MAX_VIOLATIONS) {
            checks.broken.push(Violation { time, node, rule, words });
        }
    }

    /// A message is about to go out.
    pub(super) fn check_sent(&mut self, node: NodeIndex, bytes: &[u8]) {
        let input = self.handled;
        let Some(checks) = &mut self.checks else { return };
        // Most is said to several peers at once, and nothing changes on the disk in between.
        let (of, at, words) = &mut checks.looked_at;
        if (*of, *at) == (node, input) && words == bytes {
            return;
        }
        (*of, *at) = (node, input);
        words.clear();
        words.extend_from_slice(bytes);
        if bytes.len() > MAX_MESSAGE {
            self.broke(node, Rule::Bound, format!("a message of {} bytes", bytes.len()));
        }
        let disk = &self.machines[node].disk;
        let kept = |repository, pack| self.is_pack_kept(node, repository, pack);
        let receipt = |mark: &Mark| disk.has_receipt(mark) || disk.receipts_of(mark) >= 64;
        let too_soon = match Message::decode(bytes) {
            Ok(Message::Pack { repository, bytes }) => {
                (!kept(repository, Hash::of(&bytes))).then(|| "metadata that is not on the disk".to_owned())
            }
            Ok(Message::Digest(digest)) => {
                let holding = digest.holdings.iter().find(|held| !kept(held.repository, held.pack));
                let mark = digest.marks.iter().find(|mark| mark.counter > 0 && !receipt(mark));
                holding
                    .map(|held| format!("a claim of metadata {} that is not on the disk", held.version.timestamp))
                    .or_else(|| mark.map(|mark| format!("a claim of receipt {} that is not on the disk", mark.counter)))
            }
            Ok(Message::Stored(marks)) => marks
                .iter()
                .find(|mark| !receipt(mark))
                .map(|mark| format!("receipt {} is acknowledged and not on the disk", mark.counter)),
            Ok(Message::Receipts(receipts)) => receipts
                .iter()
                .filter_map(burr_protocol::receipt::SignedReceipt::peek)
                .map(|r| Mark { repository: r.repository, device: r.device, counter: r.counter })
                .find(|mark| !receipt(mark))
                .map(|mark| format!("receipt {} is sent and not on the disk", mark.counter)),
            Ok(Message::Holds { blob, size, pieces }) => {
                let claimed = Pieces::of(size, &pieces);
                let held = Pieces::of(size, &disk.pieces(blob, size));
                let more = claimed.adds_to(&held);
                if more {
                    self.broke(node, Rule::ServedUnverified, format!("pieces of {} that are not here", blob.short()));
                }
                None
            }
            Ok(_) => None,
            Err(why) => Some(format!("a message that nobody reads: {why}")),
        };
        if let Some(words) = too_soon {
            self.broke(node, Rule::SpokeTooSoon, words);
        }
    }

    /// An announcement is about to go out.
    pub(super) fn check_announced(&mut self, node: NodeIndex, bytes: &[u8]) {
        if self.checks.is_none() {
            return;
        }
        if bytes.len() > MAX_ANNOUNCEMENT {
            self.broke(node, Rule::Bound, format!("an announcement of {} bytes", bytes.len()));
        }
        let known = burr_protocol::wire::Announcement::decode(bytes)
            .is_ok_and(|announced| self.is_pack_kept(node, announced.repository, announced.pack));
        if !known {
            self.broke(node, Rule::SpokeTooSoon, "metadata is announced and not on the disk".to_owned());
        }
    }

    /// Whether a pack is on a node's disk, or was until one came after it that the agent has not heard of.
    fn is_pack_kept(&self, node: NodeIndex, repository: RepositoryId, pack: Hash) -> bool {
        let machine = &self.machines[node];
        machine.disk.metadata_name(repository) == Some(pack)
            || machine.writes.values().any(|writing| writing.replaced.contains(&(repository, pack)))
    }

    /// A bundle is about to become the current one.
    pub(super) fn check_switch(&mut self, node: NodeIndex, app: &str, bundle: Option<Hash>) {
        let (Some(checks), Some(bundle)) = (&self.checks, bundle) else { return };
        let released = checks.released.contains_key(&bundle);
        let written = self.machines[node].disk.app(app).is_some_and(|state| {
            let trial = state.trial.is_some_and(|trial| trial.release.bundle == bundle);
            trial || state.active.is_some_and(|active| active.bundle == bundle)
        });
        if !released {
            self.broke(node, Rule::AppliedUnverified, format!("bundle {} was never released", bundle.short()));
        }
        if !written {
            self.broke(node, Rule::SpokeTooSoon, format!("a switch to {} is not on the disk", bundle.short()));
        }
    }

    /// Records are durable now.
    pub(super) fn check_durable(&mut self, node: NodeIndex, records: &[Record]) {
        let Some(checks) = &mut self.checks else { return };
        let mut down = None;
        for record in records {
            if let Record::App { app, state } = record
                && let Some(active) = &state.active
            {
                let highest = checks.active.entry((node, app.clone())).or_default();
                if active.id.seq < *highest {
                    down = Some(format!("{app}: from release {highest} to {}", active.id.seq));
                }
                *highest = (*highest).max(active.id.seq);
            }
        }
        if let Some(words) = down {
            self.broke(node, Rule::VersionDown, words);
        }
    }

    /// A node is about to serve a part of a blob.
    pub(super) fn check_served(&mut self, node: NodeIndex, request: &Request) {
        if self.checks.is_some() && !self.machines[node].config.serve {
            let words = format!("{} is served by a node that serves nothing", request.blob.short());
            self.broke(node, Rule::ServedUnverified, words);
        }
    }

    /// A node asks for parts of blobs.
    pub(super) fn check_asked(&mut self, node: NodeIndex) {
        if self.checks.is_none() {
            return;
        }
        let (config, transfers) = (&self.machines[node].config, &self.machines[node].transfers);
        let mut by_blob: BTreeMap<Hash, usize> = BTreeMap::new();
        for transfer in transfers.values() {
            *by_blob.entry(transfer.request.blob).or_default() += 1;
        }
        let most = by_blob.values().max().copied().unwrap_or(0);
        if by_blob.len() > MAX_JOBS || most > config.requests_per_job {
            let words = format!("{} blobs are asked for at once, one of them {most} times", by_blob.len());
            self.broke(node, Rule::Bound, words);
        }
    }

    /// A disk holds more than before.
    pub(super) fn check_disk(&mut self, node: NodeIndex) {
        if self.checks.is_none() {
            return;
        }
        let (held, quota) = (self.machines[node].disk.bytes(), self.machines[node].config.quota);
        if held > quota {
            self.broke(node, Rule::Bound, format!("{held} bytes of blobs are over the quota of {quota}"));
        }
    }

    /// A node starts from its disk.
    pub(super) fn check_start(&mut self, node: NodeIndex) {
        self.check_owes_nothing(node, true);
        if self.checks.is_some() && !self.machines[node].disk.is_whole() {
            self.broke(node, Rule::NotWhole, "`current` names a slot that is not there".to_owned());
        }
    }
}
