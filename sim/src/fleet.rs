//! A fleet: a scenario come to life, run to its end.
//!
//! All that chance decides of the fleet itself is drawn when it is built, each from a stream of its own. What happens at
//! a known time is a script; what each node does by itself is the world's.

mod build;
mod faults;
mod judge;
mod script;

use std::{ops::Range, time::Duration};

use burr_protocol::{Hash, Time, release::Release};

use crate::{
    NodeIndex, Publisher, World,
    random::Stream,
    scenario::{Role, Scenario, ScenarioError},
    trace::Contact,
    world::PlaceIndex,
};
use script::{Act, Script};

/// The nodes of a group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name in the scenario.
    pub name: String,
    /// What they do.
    pub role: Role,
    /// Which they are.
    pub nodes: Range<NodeIndex>,
}

/// The places of a group of sites.
#[derive(Debug, Clone)]
pub struct Places {
    /// Its name in the scenario.
    pub name: String,
    /// Which they are.
    pub places: Range<PlaceIndex>,
    /// The kind of line of their uplinks, and what a gigabyte costs on it; none without uplinks.
    pub line: Option<(String, f64)>,
}

/// A fleet at work.
#[derive(Debug)]
pub struct Fleet {
    /// The world that it is in.
    pub world: World,
    /// What it is a run of.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// Its groups.
    pub groups: Vec<Group>,
    /// Its sites.
    pub places: Vec<Places>,
    /// What was released so far.
    pub released: Vec<Release>,
    publisher: Publisher,
    source: NodeIndex,
    /// The thief's metadata, if keys are stolen.
    forged: Option<std::sync::Arc<[u8]>>,
    script: Script,
    meetings: Stream,
    /// What is left of a wait after whole milliseconds.
    meeting_carry: f64,
    contacts: Vec<Contact>,
    healed: bool,
}

impl Fleet {
    /// Builds the fleet of a scenario. `contacts` are those of the scenario's trace, in the order of time.
    ///
    /// # Errors
    /// [`ScenarioError`] if the scenario names what is not there.
    pub fn new(scenario: &Scenario, seed: u64, contacts: Vec<Contact>) -> Result<Self, ScenarioError> {
        build::fleet(scenario, seed, contacts)
    }

    /// Runs to the end. `progress` is called now and then.
    pub fn run(&mut self, mut progress: impl FnMut(&Self)) {
        let end = self.end();
        let mut next_progress = Time(0);
        while let Some((at, act)) = self.script.pop(end) {
            self.run_to(at, &mut next_progress, &mut progress);
            self.act(act);
        }
        self.run_to(end, &mut next_progress, &mut progress);
        self.finish();
        progress(self);
    }

    fn run_to(&mut self, at: Time, next_progress: &mut Time, progress: &mut impl FnMut(&Self)) {
        let step = Duration::from_millis((self.scenario.duration.0 / 200).max(1000));
        while self.world.time() < at {
            let wait = at.since(self.world.time()).min(step);
            self.world.run(wait);
            if self.world.time() >= *next_progress {
                *next_progress = self.world.time() + step;
                progress(self);
            }
        }
    }

    /// When it ends.
    #[must_use]
    pub fn end(&self) -> Time {
        Time(self.scenario.duration.0)
    }

    /// The group of a node.
    #[must_use]
    pub fn group_of(&self, node: NodeIndex) -> &Group {
        self.groups.iter().find(|group| group.nodes.contains(&node)).expect("every node is of a group")
    }

    /// The nodes that install what is released.
    pub fn devices(&self) -> impl Iterator<Item = NodeIndex> {
        self.groups.iter().filter(|group| group.role == Role::Device).flat_map(|group| group.nodes.clone())
    }

    /// The nodes that collect receipts.
    pub fn collectors(&self) -> impl Iterator<Item = NodeIndex> {
        let collects = |group: &&Group| matches!(group.role, Role::Collector | Role::Publisher);
        self.groups.iter().filter(collects).flat_map(|group| group.nodes.clone())
    }

    /// What the run hashes to: the same for the same scenario and seed.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.world.digest()
    }
}
