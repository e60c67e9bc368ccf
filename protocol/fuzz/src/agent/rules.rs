//! What holds of an agent whatever comes: nothing is believed that the keys did not sign, nothing goes back, nothing is
//! said before it is durable, nobody honest is blamed, and every table keeps its bound.

use std::collections::{BTreeMap, BTreeSet};

use burr_protocol::{
    Agent, NodeId, Wall,
    action::Action,
    config::{Config, MAX_BAD},
    fact::Fact,
    record::{AppRecord, Record},
    trust::{Verified, pack::Pack, verify},
    wire::{Announcement, MetadataVersion},
};

use super::super::shop::{self, history};

#[derive(Default)]
pub(super) struct Rules {
    liars: BTreeSet<NodeId>,
    /// The newest that was ever believed, and ever durable.
    believed: MetadataVersion,
    durable: MetadataVersion,
    /// The newest root that was believed, and the newest signed time under it.
    signed: (u64, Wall),
    /// The highest release that was ever active.
    active: u64,
    app: AppRecord,
    /// The device's own receipts by their numbers.
    own: BTreeMap<u64, Vec<u8>>,
}

impl Rules {
    pub(super) fn lied(&mut self, node: NodeId) {
        self.liars.insert(node);
    }

    pub(super) fn check_action(&self, action: &Action, pack: Option<&[u8]>) {
        match action {
            Action::Announce { bytes, .. } => {
                let announcement = Announcement::decode(bytes).expect("what is announced can be read");
                let held = Pack::decode(pack.expect("what is announced is durable")).expect("a pack");
                assert_eq!(announcement.timestamp, held.timestamp, "what is announced is durable");
            }
            Action::Tell(Fact::MetadataVerified { version, .. }) => {
                assert!(*version <= self.durable.timestamp, "what is told is durable");
            }
            Action::Tell(Fact::PeerRefused { node, why, .. }) => {
                assert!(self.liars.contains(node), "an honest peer is not refused: {why}");
            }
            Action::Persist { records, .. } => records.iter().for_each(|record| self.check_record(record)),
            Action::Stage { bundle, .. } => assert!(is_released(bundle), "only what was released is staged"),
            _ => {}
        }
    }

    fn check_record(&self, record: &Record) {
        match record {
            Record::Metadata { pack, .. } => {
                assert!(shop::documents(pack).iter().all(|document| shop::is_signed(document)), "only what is signed");
                assert!(version(pack) > self.durable, "metadata only goes up");
            }
            Record::App { state, .. } => {
                assert!(state.counter >= self.app.counter && state.bad.len() <= MAX_BAD);
                assert!(state.trial.as_ref().is_none_or(|trial| trial.release.seq > seq(state)), "a trial is newer");
            }
            Record::Receipt { receipt: Some(signed), .. } => assert!(signed.verify().is_ok()),
            Record::Receipt { receipt: None, .. } | Record::Assigned { .. } | Record::Used(_) => {}
        }
    }

    /// A record is on disk.
    pub(super) fn check_durable(&mut self, record: &Record) {
        match record {
            Record::Metadata { pack, .. } => {
                assert!(version(pack) >= self.durable, "metadata only goes up");
                self.durable = version(pack);
            }
            Record::App { state, .. } => {
                assert!(seq(state) >= self.active, "no version is installed that is older than one before");
                self.active = seq(state);
                self.app = state.clone();
            }
            Record::Receipt { mark, receipt: Some(signed) } if mark.device == own() => {
                let before = self.own.insert(mark.counter, signed.bytes().to_vec());
                assert!(before.is_none_or(|before| before == signed.bytes()), "no number is used twice");
            }
            Record::Receipt { .. } | Record::Assigned { .. } | Record::Used(_) => {}
        }
    }

    pub(super) fn check_state(&mut self, agent: &Agent, config: &Config) {
        if let Some(verified) = agent.catalog().verified(shop::id()) {
            // A new root may take a key away that ran ahead; then time starts anew.
            let signed = (verified.root_version(), verified.issued());
            assert!(signed >= self.signed, "signed time only goes up");
            self.signed = signed;
            let version = version_of(verified);
            assert!(version >= self.believed, "what is believed never goes back");
            assert!(version <= self.durable, "what is believed is durable");
            self.believed = version;
        }
        assert!(agent.receipts().iter().count() <= config.max_receipts);
    }

    /// Whether the agent has what the newest state of the repository gives: its metadata, and the newest release, unless
    /// it failed here.
    pub(super) fn is_healed(&self, agent: &Agent) -> bool {
        let newest = shop::newest();
        let release = newest.newest("stable").expect("there are releases");
        let failed = self.app.bad.iter().any(|bad| bad.seq == release.seq);
        let active = self.app.active.as_ref().is_some_and(|active| active.id.seq == release.seq);
        let verified = agent.catalog().verified(shop::id());
        verified.is_some_and(|verified| version_of(verified) == version_of(newest.verified())) && (active || failed)
    }
}

fn own() -> NodeId {
    shop::node(101)
}

fn seq(state: &AppRecord) -> u64 {
    state.active.as_ref().map_or(0, |active| active.id.seq)
}

fn version_of(verified: &Verified) -> MetadataVersion {
    MetadataVersion { root: verified.root_version(), timestamp: verified.timestamp_version() }
}

fn version(pack: &[u8]) -> MetadataVersion {
    let known = history().iter().find(|repository| repository.pack() == pack);
    known.map_or_else(
        || version_of(&verify(shop::id(), None, pack).expect("what is kept verifies")),
        |repository| version_of(repository.verified()),
    )
}

fn is_released(bundle: &burr_protocol::Hash) -> bool {
    shop::newest().verified().releases().any(|release| release.bundle == *bundle)
}
