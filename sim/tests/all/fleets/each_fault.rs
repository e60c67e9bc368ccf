//! Every kind of fault alone: it is seen to happen, no rule is broken by it, and all converge after it.

use burr_protocol::{NodeId, Time, fact::Fact, record::Record};
use burr_sim::{
    fleet::Fleet,
    scenario::{Role, SHIPPED, Scenario},
    swarm,
    world::NodeIndex,
};

/// How a fault shows, as long as it lasts or after it. Without the fault it never does.
type Sign = fn(&Fleet) -> bool;

/// When faults begin that last 40 min: the third release comes while they do. Liars lie from the start.
const AT: u64 = 5 * HOUR + 50 * MINUTE;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

const FAULTS: [(&str, &str, Sign); 18] = [
    ("crash", "node = 'gateway/0'", |fleet| !fleet.world.is_on(gateway(fleet))),
    ("reboot_without_clock", "node = 'gateway/0'", |fleet| {
        let gateway = gateway(fleet);
        fleet.world.is_on(gateway) && fleet.world.shown(gateway).wall.is_none()
    }),
    ("clock_step", "node = 'gateway/0'\nhours = 300", |fleet| {
        fleet.world.shown(gateway(fleet)).wall > fleet.world.now().wall
    }),
    ("power_cycle", "site = 'store/0'", |fleet| {
        let place = fleet.places[1].places.start;
        let mut devices = fleet.devices().filter(|device| fleet.world.place(*device) == Some(place));
        devices.all(|device| !fleet.world.is_on(device))
    }),
    ("partition", "site = 'store/0'", |fleet| lost(fleet, gateway(fleet), fleet.groups[0].nodes.start)),
    ("one_way", "node = 'gateway/0'", |fleet| lost(fleet, fleet.groups[0].nodes.start, gateway(fleet))),
    // A hundredth of 20 Mbit/s.
    ("clog", "site = 'store/0'\npercent = 1", |fleet| {
        let Some(rollout) = fleet.world.ledger().rollouts.get(2) else { return false };
        let fetched = told(
            fleet,
            gateway(fleet),
            |fact| matches!(fact, Fact::FetchCompleted { blob, .. } if *blob == rollout.release.payload.blob),
        );
        fetched.is_some_and(|at| at.0 - rollout.at.0 >= rollout.release.payload.size / 25)
    }),
    ("disk_full", "node = 'gateway/0'", |fleet| {
        told(fleet, gateway(fleet), |fact| matches!(fact, Fact::StorageFailed { .. })).is_some()
    }),
    // What it had, it fetches again.
    ("corrupt_range", "node = 'gateway/0'\npiece = 1", |fleet| {
        let Some(rollout) = fleet.world.ledger().rollouts.get(1) else { return false };
        let again = |(at, fact): &(Time, Fact)| {
            at.0 > AT && matches!(fact, Fact::FetchCompleted { blob, .. } if *blob == rollout.release.payload.blob)
        };
        fleet.world.facts(gateway(fleet)).iter().any(again)
    }),
    ("lost_records", "node = 'device/0'", |fleet| {
        let device = fleet.devices().next().expect("there are devices");
        let records = fleet.world.disk(device).records();
        fleet.world.time().0 > AT && !records.iter().any(|record| matches!(record, Record::App { .. }))
    }),
    ("alters_bytes", "node = 'gateway/1'", |fleet| fleet.world.ledger().refused.contains_key("altered bytes")),
    ("boasts", "node = 'gateway/1'", |fleet| failed(fleet, "it does not have what it said")),
    ("trickles", "node = 'gateway/1'", |fleet| failed(fleet, "it stood still")),
    ("stalls", "node = 'gateway/1'", |fleet| failed(fleet, "it stood still")),
    ("alters_metadata", "node = 'gateway/1'", |fleet| fleet.world.ledger().refused.contains_key("forged metadata")),
    // Whoever gets it knows it to be old, and asks others; so with what the old keys signed.
    ("replays_metadata", "node = 'gateway/1'", |fleet| fleet.world.ledger().lies > 0),
    ("slow_peer", "node = 'gateway/0'\npercent = 1", |fleet| {
        let rate = |node| fleet.world.rate(node).0;
        rate(gateway(fleet)) < rate(gateway(fleet) + 1)
    }),
    ("stolen_keys", "node = 'gateway/1'", |fleet| fleet.world.ledger().lies > 0),
];

fn gateway(fleet: &Fleet) -> NodeIndex {
    let group = fleet.groups.iter().find(|group| group.role == Role::Collector);
    group.expect("there are gateways").nodes.start
}

/// When a node first told something of the kind after faults may begin.
fn told(fleet: &Fleet, node: NodeIndex, what: impl Fn(&Fact) -> bool) -> Option<Time> {
    let facts = fleet.world.facts(node).iter();
    facts.filter(|(at, _)| at.0 >= AT).find(|(_, fact)| what(fact)).map(|(at, _)| *at)
}

/// Whether a node told that a connection with another one is lost.
fn lost(fleet: &Fleet, node: NodeIndex, other: NodeIndex) -> bool {
    let other: NodeId = fleet.world.id(other);
    told(fleet, node, |fact| matches!(fact, Fact::PeerDisconnected { node } if *node == other)).is_some()
}

/// Whether somebody told of a gateway that it failed it like this.
fn failed(fleet: &Fleet, how: &str) -> bool {
    let gateways = &fleet.groups.iter().find(|group| group.role == Role::Collector).expect("there are gateways").nodes;
    let ids: Vec<NodeId> = gateways.clone().map(|gateway| fleet.world.id(gateway)).collect();
    let tells = |fact: &Fact| match fact {
        Fact::ProviderFailed { node, why, .. } => ids.contains(node) && why.starts_with(how),
        _ => false,
    };
    (0..fleet.world.len()).any(|node| fleet.world.facts(node).iter().any(|(_, fact)| tells(fact)))
}

/// Two stores with a gateway and two devices each, which pass on what comes slowly from the gateway; returns which signs were
/// ever seen.
fn seen(fault: &str, changes: &[(&str, &str)]) -> Vec<bool> {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == "swarm").unwrap().1;
    let few = [
        ("sites.1.count", "2"),
        ("nodes.1.up", "2 Mbit/s"),
        ("nodes.2.count", "2"),
        ("duration", "10h"),
        ("heal", "7h"),
    ];
    let changes = few.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let scenario = Scenario::read_with(&format!("{text}{fault}"), &changes.collect::<Vec<_>>()).unwrap();
    let mut fleet = Fleet::new(&scenario, 1, Vec::new()).unwrap();
    let mut seen = vec![false; FAULTS.len()];
    fleet.run(|fleet| seen.iter_mut().zip(FAULTS).for_each(|(seen, (.., sign))| *seen |= sign(fleet)));
    assert_eq!(fleet.world.violations(), [], "{fault}");
    seen
}

#[test]
fn each_fault_alone_happens_and_is_got_over() {
    assert_eq!(seen("", &[]), [false; FAULTS.len()], "there are signs of what did not happen");
    // Liars lie from the start, as the second gateway of one store, which devices ask as often as the first.
    let beside = [("sites.1.count", "1"), ("nodes.1.count", "2"), ("nodes.2.count", "4")];
    assert_eq!(seen("", &beside), [false; FAULTS.len()], "there are signs of what did not happen");
    for (number, (kind, about, _)) in FAULTS.into_iter().enumerate() {
        let liars =
            ["alters_bytes", "boasts", "trickles", "stalls", "alters_metadata", "replays_metadata", "stolen_keys"];
        let lies = liars.contains(&kind);
        let when = if lies { "at = '0s'\nfor = '7h'" } else { "at = '5h 50min'\nfor = '40min'" };
        let changes = if lies { beside.as_slice() } else { &[] };
        let seen = seen(&format!("\n[[faults]]\nkind = '{kind}'\n{about}\n{when}\n"), changes);
        assert!(seen[number], "{kind} did not happen");
    }
}

#[test]
fn the_swarm_draws_these_and_no_others() {
    let text = SHIPPED.iter().find(|(shipped, _)| *shipped == "swarm").unwrap().1;
    let base = Scenario::read(text).unwrap();
    let drawn = (1..100).flat_map(|seed| swarm::draw(&base, seed).faults);
    let drawn: std::collections::BTreeSet<_> = drawn.map(|fault| fault.kind.name()).collect();
    assert_eq!(drawn, FAULTS.iter().map(|(kind, ..)| *kind).collect());
}
