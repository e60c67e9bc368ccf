//! What a run shows: how soon the fleet had each release, what it cost, who carried it.

pub mod compare;
pub mod html;
mod text;

use std::collections::BTreeMap;

use burr_protocol::Time;
use serde::Serialize;

use crate::{fleet::Fleet, ledger::Rollout};

/// Points of a curve at most.
const POINTS: usize = 240;

/// What a run shows.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// What the run hashes to.
    pub digest: String,
    /// Nodes in all.
    pub nodes: usize,
    /// Nodes that install.
    pub devices: usize,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Inputs that agents handled.
    pub events: u64,
    /// Each release.
    pub rollouts: Vec<RolloutReport>,
    /// Bytes.
    pub bytes: Bytes,
    /// Bytes by the kind of line.
    pub lines: Vec<Line>,
    /// Who fed whom, by groups.
    pub fed: Vec<Fed>,
    /// Who fed whom, by nodes, in bytes; of small fleets alone, for the plot.
    #[serde(skip)]
    pub fed_by_node: Vec<(u32, u32, u64)>,
    /// The groups, and which nodes are theirs, for the plot.
    #[serde(skip)]
    pub groups: Vec<(String, std::ops::Range<usize>)>,
    /// How evenly devices share the work of serving: Jain's index, 1 if all serve as much, 1/n if one serves all.
    pub fairness: Option<f64>,
    /// How far behind devices are.
    pub staleness: Staleness,
    /// Mean seconds a device's radio was on at a place.
    pub radio_seconds: f64,
    /// Refusals, by the lie.
    pub refused: BTreeMap<String, u64>,
    /// Rules that were broken, in words.
    pub broken: Vec<String>,
}

/// How a release spread.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutReport {
    /// Its version.
    pub version: String,
    /// Bytes of its payload.
    pub size: u64,
    /// When it was released, in simulated milliseconds.
    pub at_ms: u64,
    /// Devices that had it confirmed by the end.
    pub reached: usize,
    /// Devices that went back from it, or could not install it.
    pub failed: u32,
    /// Milliseconds until half of all devices had it; none if they never did.
    pub t50_ms: Option<u64>,
    /// The same for 95 %.
    pub t95_ms: Option<u64>,
    /// The same for 99 %.
    pub t99_ms: Option<u64>,
    /// The same for all.
    pub t100_ms: Option<u64>,
    /// Through how many hands it went to a node, on average and at most.
    pub hops: (f32, f32),
    /// Devices that had it, over time: milliseconds since its release, and how many.
    pub curve: Vec<(u64, usize)>,
}

/// Bytes in all.
#[derive(Debug, Clone, Serialize)]
pub struct Bytes {
    /// What devices would fetch if each fetched each release that it installed once.
    pub needed: u64,
    /// Payload bytes between sites.
    pub far: u64,
    /// Payload bytes within a site, or between two that met.
    pub near: u64,
    /// Payload bytes that came, per byte that was needed by whoever fetched a payload.
    pub redundancy: f64,
    /// Bytes of messages between sites.
    pub far_said: u64,
    /// Bytes of messages within sites, or between two that met.
    pub near_said: u64,
    /// Messages and announcements.
    pub messages: u64,
    /// Payload bytes by simulated hour: between sites, and within.
    pub hours: Vec<(u64, u64)>,
}

/// Bytes over one kind of line.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its kind.
    pub class: String,
    /// Out of sites.
    pub up: u64,
    /// Into sites.
    pub down: u64,
    /// What that costs.
    pub cost: f64,
}

/// Payload bytes from one group to another.
#[derive(Debug, Clone, Serialize)]
pub struct Fed {
    /// Who gave.
    pub from: String,
    /// Who got.
    pub to: String,
    /// How many bytes.
    pub bytes: u64,
}

/// How far behind the newest good release devices are.
#[derive(Debug, Clone, Serialize)]
pub struct Staleness {
    /// The share of all devices' time in which they had the newest good release, since the first.
    pub current: f64,
    /// Mean milliseconds for which a device was behind a release.
    pub mean_ms: f64,
}

impl Report {
    /// Reads the report off a fleet that ran.
    #[must_use]
    pub fn of(fleet: &Fleet, scenario: &str) -> Self {
        let world = &fleet.world;
        let ledger = world.ledger();
        let devices: Vec<usize> = fleet.devices().collect();
        let first: Vec<Adoption> = ledger.rollouts.iter().map(Adoption::of).collect();
        let rollouts =
            ledger.rollouts.iter().zip(&first).map(|(rollout, adoption)| adoption.report(rollout, devices.len()));
        let name = |group: u16| fleet.groups.get(usize::from(group)).map_or("?", |group| &group.name).to_owned();
        let mut fed: Vec<Fed> = ledger
            .fed
            .iter()
            .map(|((from, to), bytes)| Fed { from: name(*from), to: name(*to), bytes: *bytes })
            .collect();
        fed.sort_by_key(|fed| std::cmp::Reverse(fed.bytes));
        Self {
            scenario: scenario.to_owned(),
            seed: fleet.seed,
            digest: fleet.digest().to_string(),
            nodes: world.len(),
            devices: devices.len(),
            simulated_ms: world.time().0,
            events: world.handled(),
            rollouts: rollouts.collect(),
            bytes: bytes(fleet),
            lines: lines(fleet),
            fed,
            fed_by_node: ledger.fed_by_node.iter().flatten().map(|((from, to), bytes)| (*from, *to, *bytes)).collect(),
            groups: fleet.groups.iter().map(|group| (group.name.clone(), group.nodes.clone())).collect(),
            fairness: jain(devices.iter().map(|node| world.served(*node))),
            staleness: staleness(fleet, &devices, &first),
            radio_seconds: mean(devices.iter().map(|node| world.radio(*node).as_secs_f64())),
            refused: ledger.refused.clone(),
            broken: world
                .violations()
                .iter()
                .map(|broken| {
                    let group = fleet.group_of(broken.node);
                    let who = format!("{}/{}", group.name, broken.node - group.nodes.start);
                    format!("{} ms, {who}: {}: {}", broken.time.0, broken.rule, broken.words)
                })
                .collect(),
        }
    }
}

/// When each device first had a release.
struct Adoption(Vec<(u32, Time)>);

impl Adoption {
    fn of(rollout: &Rollout) -> Self {
        let mut first: Vec<_> = rollout.adopted.iter().map(|(time, node)| (*node, *time)).collect();
        first.sort_unstable();
        first.dedup_by_key(|(node, _)| *node);
        Self(first)
    }

    fn by(&self, node: u32) -> Option<Time> {
        self.0.binary_search_by_key(&node, |(node, _)| *node).ok().map(|at| self.0[at].1)
    }

    fn report(&self, rollout: &Rollout, devices: usize) -> RolloutReport {
        let mut times: Vec<u64> = self.0.iter().map(|(_, time)| time.0 - rollout.at.0).collect();
        times.sort_unstable();
        let after = |percent: usize| {
            let needed = (devices * percent).div_ceil(100).max(1);
            times.get(needed - 1).copied()
        };
        let step = times.len().div_ceil(POINTS).max(1);
        let mut curve: Vec<(u64, usize)> = vec![(0, 0)];
        let points = (0..times.len()).filter(|at| at % step == 0 || at + 1 == times.len());
        curve.extend(points.map(|at| (times[at], at + 1)));
        let hops = || rollout.hops.values().copied();
        RolloutReport {
            version: rollout.release.version.clone(),
            size: rollout.release.payload.size,
            at_ms: rollout.at.0,
            reached: times.len(),
            failed: rollout.failed,
            t50_ms: after(50),
            t95_ms: after(95),
            t99_ms: after(99),
            t100_ms: after(100),
            #[allow(clippy::cast_possible_truncation, reason = "a few hands")]
            hops: (mean(hops().map(f64::from)) as f32, hops().fold(0.0, f32::max)),
            curve,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn bytes(fleet: &Fleet) -> Bytes {
    let ledger = fleet.world.ledger();
    let installed =
        |rollout: &Rollout| rollout.release.payload.size * (rollout.adopted.len() as u64 + u64::from(rollout.failed));
    let fetched: u64 = ledger.rollouts.iter().map(|r| r.release.payload.size * r.hops.len() as u64).sum();
    Bytes {
        needed: ledger.rollouts.iter().map(installed).sum(),
        far: ledger.far,
        near: ledger.near,
        redundancy: (ledger.far + ledger.near) as f64 / fetched.max(1) as f64,
        far_said: ledger.far_said,
        near_said: ledger.near_said,
        messages: ledger.messages,
        hours: ledger.hours.clone(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a price")]
fn lines(fleet: &Fleet) -> Vec<Line> {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for places in &fleet.places {
        let Some((class, cost)) = &places.line else { continue };
        let line =
            lines.entry(class.clone()).or_insert_with(|| Line { class: class.clone(), up: 0, down: 0, cost: 0.0 });
        for place in places.places.clone() {
            let (up, down) = fleet.world.carried(place);
            line.up += up;
            line.down += down;
            line.cost += (up + down) as f64 / 1e9 * cost;
        }
    }
    lines.into_values().collect()
}

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn jain(served: impl Iterator<Item = u64>) -> Option<f64> {
    let (count, sum, squares) = served.fold((0.0, 0.0, 0.0), |(count, sum, squares), bytes| {
        let bytes = bytes as f64;
        (count + 1.0, sum + bytes, squares + bytes * bytes)
    });
    (squares > 0.0).then(|| sum * sum / (count * squares))
}

#[allow(clippy::cast_precision_loss, reason = "a mean")]
fn staleness(fleet: &Fleet, devices: &[usize], first: &[Adoption]) -> Staleness {
    let ledger = fleet.world.ledger();
    let bad = |rollout: &Rollout| fleet.scenario.releases.iter().any(|r| r.bad && r.version == rollout.release.version);
    let good: Vec<usize> = (0..first.len()).filter(|at| !bad(&ledger.rollouts[*at])).collect();
    let end = fleet.world.time();
    let (mut behind, mut all) = (0.0, 0.0);
    for (turn, number) in good.iter().enumerate() {
        let from = ledger.rollouts[*number].at;
        let until = good.get(turn + 1).map_or(end, |next| ledger.rollouts[*next].at);
        let span = (until.0 - from.0) as f64;
        for device in devices {
            let node = u32::try_from(*device).expect("fewer nodes than 2^32");
            let had = good[turn..].iter().filter_map(|later| first[*later].by(node)).min();
            let wait = had.map_or(span, |had| (had.0.saturating_sub(from.0) as f64).min(span));
            behind += wait;
            all += span;
        }
    }
    let releases = (good.len() * devices.len()).max(1) as f64;
    Staleness { current: if all > 0.0 { 1.0 - behind / all } else { 1.0 }, mean_ms: behind / releases }
}

#[allow(clippy::cast_precision_loss, reason = "a mean")]
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_u64, 0.0), |(count, sum), value| (count + 1, sum + value));
    if count == 0 { 0.0 } else { sum / count as f64 }
}
