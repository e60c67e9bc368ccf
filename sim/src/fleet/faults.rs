//! What goes wrong, done to a fleet.

use super::Fleet;
use crate::{
    Answers, Clock, Lies,
    scenario::{FaultKind, ScenarioError, Who},
    world::{NodeIndex, PlaceIndex},
};

impl Fleet {
    /// The node that a fault is about.
    pub(super) fn node(&self, who: &Who) -> Result<NodeIndex, ScenarioError> {
        let group = self.groups.iter().find(|group| group.name == who.group);
        let node = group.and_then(|group| group.nodes.clone().nth(who.number));
        node.ok_or_else(|| ScenarioError::Wrong(format!("there is no node {who}")))
    }

    /// The site that a fault is about.
    pub(super) fn place(&self, who: &Who) -> Result<PlaceIndex, ScenarioError> {
        let places = self.places.iter().find(|places| places.name == who.group);
        let place = places.and_then(|places| places.places.clone().nth(who.number));
        place.ok_or_else(|| ScenarioError::Wrong(format!("there is no site {who}")))
    }

    fn node_of(&self, fault: usize) -> Option<NodeIndex> {
        self.scenario.faults[fault].kind.node().and_then(|who| self.node(who).ok())
    }

    fn place_of(&self, fault: usize) -> Option<PlaceIndex> {
        self.scenario.faults[fault].kind.site().and_then(|who| self.place(who).ok())
    }

    /// A fault begins.
    pub(super) fn begin(&mut self, number: usize) {
        let kind = self.scenario.faults[number].kind.clone();
        if let Some(node) = self.node_of(number) {
            self.begin_at(node, &kind);
        }
        if let Some(place) = self.place_of(number) {
            match kind {
                FaultKind::PowerCycle { .. } => {
                    for node in self.nodes_at(place) {
                        self.switch_off(node);
                    }
                }
                FaultKind::Partition { .. } => self.world.set_uplink(place, false),
                FaultKind::Clog { percent, .. } => self.clog(place, percent),
                _ => {}
            }
        }
    }

    fn begin_at(&mut self, node: NodeIndex, kind: &FaultKind) {
        match kind {
            FaultKind::Crash { .. } => self.switch_off(node),
            FaultKind::RebootWithoutClock { .. } => {
                self.switch_off(node);
                self.world.set_clock(node, Clock::Unset);
            }
            FaultKind::ClockStep { hours, .. } => self.world.set_clock(node, Clock::Off(hours * 3600)),
            FaultKind::OneWay { .. } => self.world.set_mute(node, true),
            FaultKind::DiskFull { .. } => self.world.set_full(node, true),
            FaultKind::CorruptRange { piece, .. } => {
                self.switch_off(node);
                if let Some(release) = self.released.last() {
                    let pieces = release.payload.size.div_ceil(burr_protocol::fetch::piece_size(release.payload.size));
                    let piece = *piece % usize::try_from(pieces.max(1)).expect("at most MAX_PIECES");
                    self.world.corrupt(node, release.payload.blob, piece);
                }
            }
            FaultKind::LostRecords { .. } => {
                self.switch_off(node);
                self.world.lose_records(node);
            }
            FaultKind::AltersBytes { .. } => {
                self.world.lie(node, Lies { answers: Answers::Altered, ..Lies::default() });
            }
            FaultKind::Boasts { .. } => {
                self.world.lie(node, Lies { answers: Answers::Missing, ..Lies::default() });
            }
            FaultKind::Trickles { .. } => {
                self.world.lie(node, Lies { answers: Answers::Trickle, ..Lies::default() });
            }
            FaultKind::Stalls { .. } => {
                self.world.lie(node, Lies { answers: Answers::Silence, ..Lies::default() });
            }
            FaultKind::AltersMetadata { .. } => {
                self.world.lie(node, Lies { altered_metadata: true, ..Lies::default() });
            }
            FaultKind::ReplaysMetadata { .. } => {
                self.world.lie(node, Lies { old_metadata: true, ..Lies::default() });
            }
            FaultKind::SlowPeer { percent, .. } => {
                let (up, down) = self.world.rate(node);
                let part = |rate: u64| (rate / 100 * percent).max(1);
                self.world.set_rate(node, part(up), part(down));
            }
            FaultKind::StolenKeys { .. } => {
                self.world.lie(node, Lies { forged: self.forged.clone(), ..Lies::default() });
            }
            FaultKind::PowerCycle { .. } | FaultKind::Partition { .. } | FaultKind::Clog { .. } => {}
        }
    }

    /// A fault is over.
    pub(super) fn end_fault(&mut self, number: usize) {
        let kind = self.scenario.faults[number].kind.clone();
        if let Some(node) = self.node_of(number) {
            match kind {
                FaultKind::Crash { .. }
                | FaultKind::RebootWithoutClock { .. }
                | FaultKind::CorruptRange { .. }
                | FaultKind::LostRecords { .. } => self.switch_on(node),
                FaultKind::ClockStep { .. } => self.reset_clock(node),
                FaultKind::OneWay { .. } => self.world.set_mute(node, false),
                FaultKind::DiskFull { .. } => self.world.set_full(node, false),
                FaultKind::AltersBytes { .. }
                | FaultKind::Boasts { .. }
                | FaultKind::Trickles { .. }
                | FaultKind::Stalls { .. }
                | FaultKind::AltersMetadata { .. }
                | FaultKind::ReplaysMetadata { .. }
                | FaultKind::StolenKeys { .. } => self.world.lie(node, Lies::default()),
                FaultKind::SlowPeer { percent, .. } => {
                    let (up, down) = self.world.rate(node);
                    let whole = |rate: u64| (rate / percent.max(1)).saturating_mul(100);
                    self.world.set_rate(node, whole(up), whole(down));
                }
                FaultKind::PowerCycle { .. } | FaultKind::Partition { .. } | FaultKind::Clog { .. } => {}
            }
        }
        if let Some(place) = self.place_of(number) {
            match kind {
                FaultKind::PowerCycle { .. } => {
                    for node in self.nodes_at(place) {
                        self.switch_on(node);
                    }
                }
                FaultKind::Partition { .. } => self.world.set_uplink(place, true),
                FaultKind::Clog { .. } => self.clog(place, 100),
                _ => {}
            }
        }
    }

    /// What a fault left behind is over.
    pub(super) fn after_fault(&mut self, number: usize) {
        if let (FaultKind::RebootWithoutClock { .. }, Some(node)) =
            (&self.scenario.faults[number].kind, self.node_of(number))
        {
            self.reset_clock(node);
        }
    }

    fn reset_clock(&mut self, node: NodeIndex) {
        let group = self.groups.iter().position(|group| group.nodes.contains(&node));
        let unset = group.is_some_and(|group| self.scenario.nodes[group].no_clock);
        self.world.set_clock(node, if unset { Clock::Unset } else { Clock::Right });
    }

    fn nodes_at(&self, place: PlaceIndex) -> Vec<NodeIndex> {
        (0..self.world.len()).filter(|node| self.world.place(*node) == Some(place)).collect()
    }

    fn switch_off(&mut self, node: NodeIndex) {
        if self.world.is_on(node) {
            self.world.crash(node);
        }
    }

    fn switch_on(&mut self, node: NodeIndex) {
        if !self.world.is_on(node) {
            self.world.start(node);
            if node == self.source {
                self.offer();
            }
        }
    }

    fn clog(&mut self, place: PlaceIndex, percent: u64) {
        if let Some(uplink) = self.world.place_model(place).uplink {
            let part = |rate: u64| (rate / 100 * percent).max(1);
            self.world.clog(place, part(uplink.up), part(uplink.down));
        }
    }
}
