//! From a scenario to a fleet: places, nodes and their habits, each drawn from a stream of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use burr_protocol::config::{Config, Confirm, Install};

use super::{Act, Fleet, Group, Places, Script};
use crate::{
    Clock, Publisher, World,
    random::Stream,
    scenario::{Nodes, Presence, Role, Scenario, ScenarioError, Site, quantity::Span},
    story::EPOCH,
    trace::Contact,
    world::{Habit, NodeIndex, PlaceIndex, PlaceModel, Route, Uplink},
};

/// A world of more nodes than this keeps no facts and hashes only what is told.
const MANY: usize = 1000;
/// Of fleets of up to so many nodes it is noted who fed whom, node by node.
const FEW: usize = 300;

pub(super) fn fleet(scenario: &Scenario, seed: u64, contacts: Vec<Contact>) -> Result<Fleet, ScenarioError> {
    let mut world = World::of_seed(seed, EPOCH);
    if scenario.check {
        world.watch_rules();
    }
    if scenario.speaks_too_soon {
        world.speak_too_soon();
    }
    if let Some(host) = scenario.host {
        world.share_a_host(host.0);
    }
    let places = scenario.sites.iter().enumerate().map(|(number, site)| add_site(&mut world, site, number, seed));
    let places: Vec<Places> = places.collect();
    let counts: Vec<usize> = scenario.nodes.iter().map(|nodes| count(nodes, &places, seed)).collect();
    if counts.iter().sum::<usize>() > MANY {
        world.keep_little();
    }
    if counts.iter().sum::<usize>() <= FEW {
        world.ledger_mut().fed_by_node = Some(BTreeMap::new());
    }
    let mut publisher = Publisher::new("shop", &format!("seed {seed}"), EPOCH);
    let stolen = scenario.faults.iter().any(|fault| fault.kind.name() == "stolen_keys");
    let forged = stolen.then(|| publisher.be_robbed(EPOCH));
    let mut fleet = Fleet {
        world,
        scenario: scenario.clone(),
        seed,
        groups: Vec::new(),
        places,
        released: Vec::new(),
        publisher,
        source: 0,
        forged,
        script: Script::default(),
        meetings: Stream::of(seed, 0, "meetings"),
        meeting_carry: 0.0,
        contacts,
        healed: false,
    };
    for (nodes, count) in scenario.nodes.iter().zip(counts) {
        fleet.add_group(nodes, count)?;
    }
    fleet.introduce();
    for (number, nodes) in scenario.nodes.iter().enumerate() {
        fleet.settle(number, nodes);
    }
    fleet.write_script()?;
    Ok(fleet)
}

fn add_site(world: &mut World, site: &Site, number: usize, seed: u64) -> Places {
    let mut stream = Stream::of(seed, number as u64, "sites");
    let count = site.count.draw(&mut stream).0;
    let mut places = Vec::new();
    for _ in 0..count {
        let uplink = site.uplink.as_ref().map(|uplink| Uplink {
            delay: uplink.latency.draw(&mut stream).duration(),
            up: uplink.up.draw(&mut stream).0,
            down: uplink.down.draw(&mut stream).0,
            loss: uplink.loss,
            goodput: uplink.goodput,
            goodput_up: uplink.goodput_up,
            queue: uplink.queue.0,
        });
        let delay = site.latency.draw(&mut stream).duration();
        places.push(world.add_place(PlaceModel { delay, neighbours: site.neighbours, goodput: site.goodput, uplink }));
    }
    let first = places.first().copied().unwrap_or_default();
    let line = site.uplink.as_ref().map(|uplink| (uplink.class.clone(), uplink.cost));
    Places { name: site.name.clone(), places: first..first + u32::try_from(count).unwrap_or(0), line }
}

fn count(nodes: &Nodes, places: &[Places], seed: u64) -> usize {
    let name: u64 = nodes.name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
    let drawn = nodes.count.draw(&mut Stream::of(seed, name, "count")).0;
    let of = |name: &String| places.iter().find(|places| places.name == *name).map(|places| places.places.len());
    let sites = nodes.site.as_ref().filter(|_| nodes.each_site).and_then(of).unwrap_or(1);
    usize::try_from(drawn).unwrap_or(usize::MAX).saturating_mul(sites)
}

/// A group that others are configured to know.
struct Known {
    all: Arc<[u32]>,
    by_place: BTreeMap<PlaceIndex, Arc<[u32]>>,
}

impl Known {
    fn of(group: &Group, homes: &[Option<PlaceIndex>]) -> Self {
        let number = |node| u32::try_from(node).expect("fewer nodes than 2^32");
        let mut by_place: BTreeMap<PlaceIndex, Vec<u32>> = BTreeMap::new();
        for node in group.nodes.clone() {
            if let Some(place) = homes[node] {
                by_place.entry(place).or_default().push(number(node));
            }
        }
        let by_place = by_place.into_iter().map(|(place, nodes)| (place, nodes.into())).collect();
        Self { all: group.nodes.clone().map(number).collect(), by_place }
    }

    /// Those that a node with this home knows.
    fn to(&self, home: Option<PlaceIndex>, some: usize, luck: &mut Stream) -> Arc<[u32]> {
        match home.and_then(|place| self.by_place.get(&place)) {
            Some(here) => here.clone(),
            None if self.all.len() <= some => self.all.clone(),
            None => luck.sample(self.all.len(), some).into_iter().map(|at| self.all[at]).collect(),
        }
    }
}

impl Fleet {
    fn add_group(&mut self, nodes: &Nodes, count: usize) -> Result<(), ScenarioError> {
        let first = self.world.len();
        let mut config = self.scenario.agent_config(nodes)?;
        let install = Install { confirm: Confirm::Command(Duration::from_secs(10)), ..Install::of("stable") };
        config.follows = vec![match nodes.role {
            Role::Device => self.publisher.installed(install),
            Role::Cache | Role::Collector | Role::Publisher => self.publisher.cached(),
        }];
        config.collect |= matches!(nodes.role, Role::Collector | Role::Publisher);
        let config: Arc<Config> = Arc::new(config);
        for number in 0..count {
            let node = self.world.add_dark(config.clone());
            let mut stream = Stream::of(self.seed, node as u64, "rate");
            let (up, down) = (nodes.up.draw(&mut stream), nodes.down.draw(&mut stream));
            self.world.set_rate(node, up.0, down.0);
            if nodes.no_clock {
                self.world.set_clock(node, Clock::Unset);
            }
            if nodes.role == Role::Publisher && number == 0 {
                self.source = node;
            }
        }
        let group = u16::try_from(self.groups.len()).map_err(|_| ScenarioError::Wrong("too many groups".to_owned()))?;
        self.world.ledger_mut().groups.extend(std::iter::repeat_n(group, count));
        self.groups.push(Group { name: nodes.name.clone(), role: nodes.role, nodes: first..first + count });
        Ok(())
    }

    /// Tells each node whom it is configured to know.
    fn introduce(&mut self) {
        let mut homes: Vec<Option<PlaceIndex>> = vec![None; self.world.len()];
        for (number, nodes) in self.scenario.nodes.iter().enumerate() {
            for node in self.groups[number].nodes.clone() {
                homes[node] = self.home(number, nodes, node);
            }
        }
        for number in 0..self.groups.len() {
            let some = self.scenario.nodes[number].knows_at_most;
            let names = &self.scenario.nodes[number].knows;
            let groups = names.iter().filter_map(|name| self.groups.iter().find(|group| group.name == *name));
            let known: Vec<Known> = groups.map(|group| Known::of(group, &homes)).collect();
            for node in self.groups[number].nodes.clone() {
                let mut luck = Stream::of(self.seed, node as u64, "knows");
                let mut parts: Vec<_> = known.iter().map(|known| known.to(homes[node], some, &mut luck)).collect();
                // Most know one group, and share the list.
                let peers = if parts.len() == 1 { parts.remove(0) } else { parts.concat().into() };
                self.world.set_fixed(node, &peers);
            }
        }
    }

    /// The place where a node is at home.
    fn home(&self, group: usize, nodes: &Nodes, node: NodeIndex) -> Option<PlaceIndex> {
        self.nth_place(nodes.site.as_ref()?, node - self.groups[group].nodes.start)
    }

    /// The place of this number among those of a name, begun anew at their end.
    fn nth_place(&self, name: &str, number: usize) -> Option<PlaceIndex> {
        let places =
            || self.places.iter().filter(|places| places.name == name).flat_map(|places| places.places.clone());
        places().nth(number % places().count().max(1))
    }

    /// Switches the nodes of a group on and lets them live as they do.
    fn settle(&mut self, number: usize, nodes: &Nodes) {
        for node in self.groups[number].nodes.clone() {
            let mut stream = Stream::of(self.seed, node as u64, "presence");
            self.world.start(node);
            let home = self.home(number, nodes, node);
            let phase = |stream: &mut Stream, every: u64| Duration::from_millis(stream.below(every.max(1)));
            let habit = match (&nodes.presence, home) {
                (Presence::Always, Some(place)) => Habit::Always(place),
                (Presence::Duty { on, every }, Some(place)) => {
                    let (on, every) = (on.draw(&mut stream).0, every.draw(&mut stream).0);
                    let phase = phase(&mut stream, every);
                    Habit::Duty { place, on: Span(on.min(every)).duration(), every: Span(every).duration(), phase }
                }
                (Presence::Route { stops, stay, travel }, _) => {
                    let at = node - self.groups[number].nodes.start;
                    let stops = stops.iter().filter_map(|name| self.nth_place(name, at));
                    let stops: Vec<_> = stops.map(|stop| (stop, stay.draw(&mut stream).duration())).collect();
                    if stops.is_empty() {
                        continue;
                    }
                    let travel = travel.draw(&mut stream).duration();
                    let round: Duration = stops.iter().map(|(_, stay)| *stay + travel).sum();
                    let phase = phase(&mut stream, u64::try_from(round.as_millis()).unwrap_or(u64::MAX));
                    Habit::Route { route: Arc::new(Route { stops, travel }), phase }
                }
                (_, None) => continue,
            };
            self.world.settle_down(node, habit);
        }
        if self.forged.is_some() {
            // Whoever is of this fleet was provisioned after the theft.
            let pack = self.publisher.pack();
            for node in self.groups[number].nodes.clone() {
                self.world.import(node, self.publisher.id(), None, pack.clone());
            }
        }
    }

    fn write_script(&mut self) -> Result<(), ScenarioError> {
        for (number, release) in self.scenario.releases.iter().enumerate() {
            self.script.push(release.at, Act::Release(number));
        }
        if let Some(renew) = self.scenario.renew {
            self.script.push(renew, Act::Renew);
        }
        if self.scenario.meetings.is_some() && self.world.len() > 1 {
            self.script.push(Span(0), Act::Meet);
        }
        let count = self.world.len();
        if let Some(gone) = self.contacts.iter().find(|contact| contact.a.max(contact.b) as usize >= count) {
            let words = format!("the trace has a node {}, and the fleet has {count}", gone.a.max(gone.b));
            return Err(ScenarioError::Wrong(words));
        }
        if let Some(first) = self.contacts.first() {
            self.script.push(Span(first.at), Act::Contact(0));
        }
        let heal = self.scenario.heal.unwrap_or(self.scenario.duration);
        for (number, fault) in self.scenario.faults.clone().iter().enumerate() {
            if let Some(who) = fault.kind.node() {
                self.node(who)?;
            }
            if let Some(who) = fault.kind.site() {
                self.place(who)?;
            }
            if fault.at < heal {
                let over = Span((fault.at.0 + fault.lasting.0).min(heal.0));
                self.script.push(fault.at, Act::Begin(number));
                self.script.push(over, Act::End(number));
                self.script.push(Span((over.0 + fault.lasting.0).min(heal.0)), Act::After(number));
            }
        }
        if let Some(heal) = self.scenario.heal {
            self.script.push(heal, Act::Heal);
        }
        Ok(())
    }
}
