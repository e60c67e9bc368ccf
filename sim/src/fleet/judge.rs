//! At the end of a run that healed: what must have come true.

use super::Fleet;
use crate::{
    scenario::FaultKind,
    world::{NodeIndex, Rule},
};

impl Fleet {
    /// Looks at what must be so in the end, of a scenario that heals.
    pub(super) fn finish(&mut self) {
        if self.scenario.heal.is_none() || !self.scenario.check {
            return;
        }
        let liars: Vec<NodeIndex> = self.liars();
        let goal = self.goal();
        let honest: Vec<NodeIndex> = self.devices().filter(|node| !liars.contains(node)).collect();
        for node in &honest {
            let active = self.world.active(*node, "shop");
            if active != goal {
                let words = format!("it has {active:?} and not {goal:?}");
                self.world.broke(*node, Rule::NotConverged, words);
            }
        }
        for node in honest {
            self.check_receipts(node);
        }
        self.world.must_be_quiet();
    }

    /// The newest version that is good.
    #[must_use]
    pub fn goal(&self) -> Option<String> {
        let end = self.scenario.duration;
        self.scenario.releases.iter().rfind(|release| !release.bad && release.at <= end).map(|r| r.version.clone())
    }

    /// Nodes that lie at any time: whoever met them while they did does not deal with them again.
    fn liars(&self) -> Vec<NodeIndex> {
        let lies = |kind: &FaultKind| {
            matches!(
                kind,
                FaultKind::AltersBytes { .. } | FaultKind::AltersMetadata { .. } | FaultKind::StolenKeys { .. }
            )
        };
        let faults = self.scenario.faults.iter().filter(|fault| lies(&fault.kind));
        faults.filter_map(|fault| self.node(fault.kind.node()?).ok()).collect()
    }

    /// Every receipt that a device has is with someone who collects.
    fn check_receipts(&mut self, node: NodeIndex) {
        let id = self.world.id(node);
        let repository = self.publisher.id();
        let Some(agent) = self.world.agent(node) else { return };
        let own = agent.receipts().highest(repository, id);
        let at = |collector: NodeIndex| {
            self.world.agent(collector).map_or(0, |agent| agent.receipts().highest(repository, id))
        };
        let collected = self.collectors().map(at).max().unwrap_or(0);
        if collected < own {
            let words = format!("of its {own} receipts, {collected} reached a collector");
            self.world.broke(node, Rule::ReceiptMissing, words);
        }
    }
}
