//! The swarm: fleets in which chance decides, a seed at a time, what goes wrong at all and then how much; and a failure
//! made small enough to read.
//!
//! After the faults the world heals, and what must then come true is judged (`fleet/judge.rs`). Faults are drawn before
//! the run, as data, so that a run with fewer of them is the same run with fewer of them.

use crate::{
    fleet::Fleet,
    random::Stream,
    scenario::{Fault, FaultKind, Scenario, ScenarioError, Who, quantity::Span},
    world::{Rule, Violation},
};

/// Kinds of faults that are drawn, each with one of two chances; `true` for those of a site.
const KINDS: [(&str, bool); 18] = [
    ("crash", false),
    ("reboot_without_clock", false),
    ("clock_step", false),
    ("power_cycle", true),
    ("partition", true),
    ("one_way", false),
    ("clog", true),
    ("disk_full", false),
    ("corrupt_range", false),
    ("lost_records", false),
    ("alters_bytes", false),
    ("boasts", false),
    ("trickles", false),
    ("stalls", false),
    ("alters_metadata", false),
    ("replays_metadata", false),
    ("slow_peer", false),
    ("stolen_keys", false),
];

/// Runs of one failure while it is made smaller, at most.
const MAX_SHRINKS: usize = 400;

/// A scenario with the faults of a seed in it; `base` has none of its own.
#[must_use]
pub fn draw(base: &Scenario, seed: u64) -> Scenario {
    let mut scenario = base.clone();
    scenario.seed = seed;
    scenario.check = true;
    let heal = scenario.heal.unwrap_or(Span(scenario.duration.0 / 2));
    scenario.heal = Some(heal);
    let mut luck = Stream::of(seed, 0, "faults");
    for (kind, of_site) in KINDS {
        // First whether it exists at all, then how strong it is.
        if !luck.chance(0.4) {
            continue;
        }
        let count = luck.between(1, if of_site { 3 } else { 12 });
        for _ in 0..count {
            let at = Span(luck.below(heal.0.max(1)));
            let lasting = Span(luck.between(1000, (heal.0 / 4).max(2000)));
            if let Some(kind) = named(kind, &scenario, &mut luck) {
                scenario.faults.push(Fault { at, lasting, kind });
            }
        }
    }
    scenario.faults.sort_by_key(|fault| fault.at);
    scenario
}

fn named(kind: &str, scenario: &Scenario, luck: &mut Stream) -> Option<FaultKind> {
    let site = |luck: &mut Stream| {
        let sites: Vec<_> = scenario.sites.iter().filter(|site| site.uplink.is_some()).collect();
        let drawn = *sites.get(luck.index(sites.len().max(1)))?;
        Some(Who { group: drawn.name.clone(), number: luck.index(usize::try_from(drawn.count.least.0).ok()?.max(1)) })
    };
    let node = |luck: &mut Stream, liar: bool| {
        // The publisher and who alone collects must not lie: nobody could converge or report around them.
        let may = |role: crate::scenario::Role| !liar || matches!(role, crate::scenario::Role::Device);
        let groups: Vec<_> = scenario.nodes.iter().filter(|nodes| may(nodes.role)).collect();
        let drawn = *groups.get(luck.index(groups.len().max(1)))?;
        let sites = drawn.site.as_ref().filter(|_| drawn.each_site);
        let sites = sites.and_then(|name| scenario.sites.iter().find(|site| site.name == *name));
        let count = drawn.count.least.0 * sites.map_or(1, |site| site.count.least.0);
        Some(Who { group: drawn.name.clone(), number: luck.index(usize::try_from(count).ok()?.max(1)) })
    };
    let percent = |luck: &mut Stream| luck.between(1, 30);
    Some(match kind {
        "crash" => FaultKind::Crash { node: node(luck, false)? },
        "reboot_without_clock" => FaultKind::RebootWithoutClock { node: node(luck, false)? },
        "clock_step" => {
            let node = node(luck, false)?;
            let hours = i64::try_from(luck.between(1, 24 * 1000)).unwrap_or(1);
            FaultKind::ClockStep { node, hours: if luck.chance(0.5) { hours } else { -hours } }
        }
        "power_cycle" => FaultKind::PowerCycle { site: site(luck)? },
        "partition" => FaultKind::Partition { site: site(luck)? },
        "one_way" => FaultKind::OneWay { node: node(luck, false)? },
        "clog" => FaultKind::Clog { site: site(luck)?, percent: percent(luck) },
        "disk_full" => FaultKind::DiskFull { node: node(luck, false)? },
        "corrupt_range" => {
            FaultKind::CorruptRange { node: node(luck, false)?, piece: usize::try_from(luck.below(1 << 16)).ok()? }
        }
        "lost_records" => FaultKind::LostRecords { node: node(luck, false)? },
        "alters_bytes" => FaultKind::AltersBytes { node: node(luck, true)? },
        "boasts" => FaultKind::Boasts { node: node(luck, true)? },
        "trickles" => FaultKind::Trickles { node: node(luck, true)? },
        "stalls" => FaultKind::Stalls { node: node(luck, true)? },
        "alters_metadata" => FaultKind::AltersMetadata { node: node(luck, true)? },
        "replays_metadata" => FaultKind::ReplaysMetadata { node: node(luck, true)? },
        "slow_peer" => FaultKind::SlowPeer { node: node(luck, false)?, percent: percent(luck) },
        _ => FaultKind::StolenKeys { node: node(luck, true)? },
    })
}

/// Runs a scenario and returns the rules that it broke, the first ones first.
///
/// # Errors
/// [`ScenarioError`] if the scenario names what is not there.
pub fn run(scenario: &Scenario) -> Result<Vec<Violation>, ScenarioError> {
    let mut fleet = Fleet::new(scenario, scenario.seed, Vec::new())?;
    // Nobody reads what each node did and told.
    fleet.world.keep_little();
    fleet.run(|_| ());
    Ok(fleet.world.violations().to_vec())
}

/// A smaller scenario that breaks the same rule: fewer faults, shorter ones, fewer nodes.
///
/// # Errors
/// [`ScenarioError`] if the scenario names what is not there.
pub fn shrink(scenario: &Scenario, rule: Rule) -> Result<Scenario, ScenarioError> {
    let mut smallest = scenario.clone();
    let mut left = MAX_SHRINKS;
    let mut still_breaks = |candidate: &Scenario| {
        left = left.saturating_sub(1);
        // One that names what it no longer has breaks nothing.
        left > 0 && run(candidate).is_ok_and(|broken| broken.iter().any(|violation| violation.rule == rule))
    };
    loop {
        let before = smallest.clone();
        drop_faults(&mut smallest, &mut still_breaks);
        drop_nodes(&mut smallest, &mut still_breaks);
        shorten(&mut smallest, &mut still_breaks);
        if smallest == before {
            return Ok(smallest);
        }
    }
}

/// Takes faults out, in halves, then quarters, and so on (Zeller and Hildebrandt, "Simplifying and isolating
/// failure-inducing input", TSE 2002).
fn drop_faults(smallest: &mut Scenario, still_breaks: &mut impl FnMut(&Scenario) -> bool) {
    let mut size = smallest.faults.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < smallest.faults.len() {
            let mut candidate = smallest.clone();
            candidate.faults.drain(at..(at + size).min(smallest.faults.len()));
            if still_breaks(&candidate) {
                *smallest = candidate;
            } else {
                at += size;
            }
        }
        if size == 1 {
            return;
        }
        size = size.div_ceil(2).min(size - 1).max(1);
    }
}

/// Halves groups of nodes and of sites as long as what is left still breaks the rule.
fn drop_nodes(smallest: &mut Scenario, still_breaks: &mut impl FnMut(&Scenario) -> bool) {
    let groups = smallest.nodes.len();
    for at in 0..groups + smallest.sites.len() {
        loop {
            let mut candidate = smallest.clone();
            let count = match at.checked_sub(groups) {
                None => &mut candidate.nodes[at].count,
                Some(site) => &mut candidate.sites[site].count,
            };
            if count.most.0 <= 1 {
                break;
            }
            count.most.0 = count.most.0.div_ceil(2);
            count.least.0 = count.least.0.min(count.most.0);
            if !still_breaks(&candidate) {
                break;
            }
            *smallest = candidate;
        }
    }
}

/// Leaves out releases, from the last one on.
fn shorten(smallest: &mut Scenario, still_breaks: &mut impl FnMut(&Scenario) -> bool) {
    while smallest.releases.len() > 1 {
        let mut candidate = smallest.clone();
        candidate.releases.pop();
        if !still_breaks(&candidate) {
            return;
        }
        *smallest = candidate;
    }
}
