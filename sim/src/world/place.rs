//! Where nodes are, and what lies between them: places with a LAN and perhaps an uplink that all there share, and
//! links between two nodes alone.

use std::time::Duration;

use burr_protocol::{action::Input, peers::Address};

use super::{Event, NodeIndex, World};
use crate::network::{PipeId, Way};

/// A place's number.
pub type PlaceIndex = u32;

/// Multicast tells of a node for so long after it left: as mDNS does, by the lifetime of its records.
const REMEMBERED: Duration = Duration::from_mins(6);
/// Bytes of a packet, for what loss costs.
const PACKET: f64 = 1460.0;
/// A connection over which nothing comes back is given up after this time: QUIC's idle timeout, as the node sets it.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// What a place is like.
#[derive(Debug, Clone, Copy)]
pub struct PlaceModel {
    /// One way, between two nodes here.
    pub delay: Duration,
    /// How many of those present a node that arrives hears of (a bound on what mDNS brings).
    pub neighbours: usize,
    /// The share of what its nodes' links carry that blobs get.
    pub goodput: f64,
    /// What connects it to other places, if anything.
    pub uplink: Option<Uplink>,
}

/// A place's uplink, shared by all there.
#[derive(Debug, Clone, Copy)]
pub struct Uplink {
    /// One way, to the middle of the network.
    pub delay: Duration,
    /// Bytes a second out of the place.
    pub up: u64,
    /// Bytes a second into the place.
    pub down: u64,
    /// The share of packets that are lost.
    pub loss: f64,
    /// The share of what it carries into the place, and out of it, that blobs get.
    pub goodput: f64,
    /// See [`Uplink::goodput`].
    pub goodput_up: f64,
    /// Bytes that stand in front of either direction while it is busy.
    pub queue: u64,
}

#[derive(Debug)]
pub(super) struct Place {
    model: PlaceModel,
    /// Out and in.
    pipes: Option<(PipeId, PipeId)>,
    open: bool,
    here: Vec<u32>,
}

/// One direction of a link between two nodes.
#[derive(Debug)]
pub(super) struct Link {
    delay: Duration,
    pipe: PipeId,
    up: bool,
}

/// How bytes get from one node to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) delay: Duration,
    /// Between two places.
    pub(super) far: bool,
    loss: f64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Link,
    Near,
    Far(PlaceIndex, PlaceIndex),
}

impl Path {
    /// Whether both ends are at one place.
    pub(super) fn is_near(&self) -> bool {
        matches!(self.kind, Kind::Near)
    }

    /// Bytes a second that loss leaves to one flow (Mathis, Semke, Mahdavi and Ott, "The macroscopic behavior of the
    /// TCP congestion avoidance algorithm", CCR 1997).
    pub(super) fn limit(&self) -> f64 {
        let round_trip = (self.delay * 2).as_secs_f64().max(0.001);
        if self.loss > 0.0 { 1.22 * PACKET / (round_trip * self.loss.sqrt()) } else { f64::INFINITY }
    }
}

impl World {
    /// Adds a place.
    pub fn add_place(&mut self, model: PlaceModel) -> PlaceIndex {
        let pipes = model.uplink.map(|uplink| {
            let out = self.network.add_pipe(uplink.up, uplink.goodput_up);
            (out, self.network.add_pipe(uplink.down, uplink.goodput))
        });
        self.places.push(Place { model, pipes, open: true, here: Vec::new() });
        u32::try_from(self.places.len() - 1).expect("fewer places than 2^32")
    }

    /// Bytes a second out of and into a node, wherever it is.
    pub fn set_rate(&mut self, node: NodeIndex, up: u64, down: u64) {
        self.machines[node].rate = (up, down);
        if let Some((out, into)) = self.machines[node].pipes {
            self.network.set_rate(out, up);
            self.network.set_rate(into, down);
            self.share_soon();
        }
    }

    /// From now on all nodes run on one machine, which moves so many bytes a second between them.
    pub fn share_a_host(&mut self, rate: u64) {
        self.host = Some(self.network.add_pipe(rate, 1.0));
    }

    /// A node's rates, in bytes a second out and in.
    #[must_use]
    pub fn rate(&self, node: NodeIndex) -> (u64, u64) {
        self.machines[node].rate
    }

    /// Nodes that a node is configured to know and dials whenever it is somewhere.
    pub fn set_fixed(&mut self, node: NodeIndex, peers: &std::sync::Arc<[u32]>) {
        self.machines[node].fixed = peers.clone();
    }

    /// Bytes that went out of and into a place over its uplink.
    #[must_use]
    pub fn carried(&self, place: PlaceIndex) -> (u64, u64) {
        let pipes = self.places[place as usize].pipes;
        pipes.map_or((0, 0), |(up, down)| (self.network.carried(up), self.network.carried(down)))
    }

    /// A place's uplink goes, or comes back.
    pub fn set_uplink(&mut self, place: PlaceIndex, open: bool) {
        if self.places[place as usize].open == open {
            return;
        }
        self.places[place as usize].open = open;
        for node in self.places[place as usize].here.clone() {
            if open {
                self.find_fixed(node as usize);
            } else {
                self.drop_unreachable(node as usize);
            }
        }
    }

    /// A place's uplink has other rates from now on, in bytes a second.
    pub fn clog(&mut self, place: PlaceIndex, up: u64, down: u64) {
        if let Some((out, into)) = self.places[place as usize].pipes {
            self.network.set_rate(out, up);
            self.network.set_rate(into, down);
            self.share_soon();
        }
    }

    /// What a place is like.
    #[must_use]
    pub fn place_model(&self, place: PlaceIndex) -> &PlaceModel {
        &self.places[place as usize].model
    }

    /// A node is at a place from now on.
    pub(super) fn enter(&mut self, node: NodeIndex, place: PlaceIndex) {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        self.machines[node].presence.arrive(place, self.time);
        self.places[place as usize].here.push(number);
        if self.tell_of_network(node, true) && self.machines[node].introduced {
            // Whom it is configured to know it tries by itself.
            self.discover_neighbours(node);
        } else {
            self.discover_all(node);
        }
    }

    /// A node is nowhere from now on.
    pub(super) fn leave(&mut self, node: NodeIndex) {
        let Some(place) = self.machines[node].presence.depart(self.time) else { return };
        let here = &mut self.places[place as usize].here;
        if let Some(at) = here.iter().position(|other| *other as usize == node) {
            here.swap_remove(at);
        }
        self.tell_of_network(node, false);
        self.drop_unreachable(node);
    }

    /// A machine notices that it has a network, or has none; one with links of its own always has. Returns whether it does.
    fn tell_of_network(&mut self, node: NodeIndex, up: bool) -> bool {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        let notices = self.links.is_empty() || self.links.range((number, 0)..=(number, u32::MAX)).next().is_none();
        if notices {
            self.give(node, Input::Network { up });
        }
        notices
    }

    fn drop_unreachable(&mut self, node: NodeIndex) {
        let peers: Vec<_> = self.machines[node].connected.keys().map(|peer| *peer as usize).collect();
        for peer in peers {
            if self.path(node, peer).is_none() {
                self.disconnect(node, peer);
            }
        }
    }

    /// From now on nothing that a node sends arrives anywhere, though it hears the others, or this is over.
    pub fn set_mute(&mut self, node: NodeIndex, mute: bool) {
        self.machines[node].mute = mute;
        if mute {
            self.cause_anyway(self.time + IDLE, node, Event::Idle);
        } else {
            self.discover_all(node);
        }
    }

    /// Connects two nodes from now on: `delay` one way, `rate` in bytes a second each way.
    pub fn link(&mut self, a: NodeIndex, b: NodeIndex, delay: Duration, rate: u64) {
        assert!(a != b && rate > 0, "a link has two ends and a rate");
        if self.links.contains_key(&ends(a, b)) {
            self.unlink(a, b);
        }
        for (a, b) in [(a, b), (b, a)] {
            let pipe = self.network.add_pipe(rate, 1.0);
            self.links.insert(ends(a, b), Link { delay, pipe, up: true });
        }
        self.find(a, b);
        self.find(b, a);
    }

    /// Whether there is a link between two nodes, up or not.
    #[must_use]
    pub fn is_linked(&self, a: NodeIndex, b: NodeIndex) -> bool {
        self.links.contains_key(&ends(a, b))
    }

    /// Takes a link away for good.
    pub fn unlink(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut(a, b);
        for (a, b) in [(a, b), (b, a)] {
            if let Some(link) = self.links.remove(&ends(a, b)) {
                self.network.remove_pipe(link.pipe);
            }
        }
    }

    /// Cuts a link: connections and everything in flight on it are lost.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        self.set_up(a, b, false);
        self.disconnect(a, b);
    }

    /// Mends a link.
    pub fn mend(&mut self, a: NodeIndex, b: NodeIndex) {
        self.set_up(a, b, true);
        self.find(a, b);
        self.find(b, a);
    }

    fn set_up(&mut self, a: NodeIndex, b: NodeIndex, up: bool) {
        for (a, b) in [(a, b), (b, a)] {
            if let Some(link) = self.links.get_mut(&ends(a, b)) {
                link.up = up;
            }
        }
    }

    /// The way between two nodes, if there is one now.
    pub(super) fn path(&self, a: NodeIndex, b: NodeIndex) -> Option<Path> {
        if !self.links.is_empty()
            && let Some(link) = self.links.get(&ends(a, b)).filter(|link| link.up)
        {
            return Some(Path { delay: link.delay, far: false, loss: 0.0, kind: Kind::Link });
        }
        let (from, to) = (self.machines[a].presence.place()?, self.machines[b].presence.place()?);
        let place = |index: PlaceIndex| &self.places[index as usize];
        if from == to {
            return Some(Path { delay: place(from).model.delay, far: false, loss: 0.0, kind: Kind::Near });
        }
        let out = place(from).model.uplink.filter(|_| place(from).open)?;
        let into = place(to).model.uplink.filter(|_| place(to).open)?;
        let delay = place(from).model.delay + out.delay + into.delay + place(to).model.delay;
        let loss = 1.0 - (1.0 - out.loss) * (1.0 - into.loss);
        Some(Path { delay, far: true, loss, kind: Kind::Far(from, to) })
    }

    /// The pipes from one node to another.
    pub(super) fn way(&mut self, from: NodeIndex, to: NodeIndex, path: &Path) -> Way {
        let mut way = Way::default();
        if let Kind::Link = path.kind {
            way.push(self.links[&ends(from, to)].pipe);
            return way;
        }
        way.push(self.pipes(from).0);
        if let Kind::Far(a, b) = path.kind {
            let (out, into) = self.uplinks(a, b);
            way.push(out);
            way.push(into);
        }
        way.push(self.pipes(to).1);
        if let Some(host) = self.host {
            way.push(host);
        }
        way
    }

    /// The pipe out of one place, and the one into another.
    fn uplinks(&self, from: PlaceIndex, to: PlaceIndex) -> (PipeId, PipeId) {
        let pipes = |place: PlaceIndex| self.places[place as usize].pipes.expect("an uplink has pipes");
        (pipes(from).0, pipes(to).1)
    }

    /// Counts a message, which takes its way beside the flows.
    pub(super) fn count(&mut self, from: NodeIndex, to: NodeIndex, path: &Path, bytes: usize) {
        let mut way = Way::default();
        match path.kind {
            Kind::Link => way.push(self.links[&ends(from, to)].pipe),
            Kind::Near => {}
            Kind::Far(a, b) => {
                let (out, into) = self.uplinks(a, b);
                way.push(out);
                way.push(into);
            }
        }
        self.network.count(&way, bytes);
        self.ledger.said(bytes, path.far);
        self.hear_said(from, bytes);
    }

    fn pipes(&mut self, node: NodeIndex) -> (PipeId, PipeId) {
        let (up, down) = self.machines[node].rate;
        let made = self.machines[node].pipes;
        let place = self.machines[node].presence.place();
        let goodput = place.map_or(1.0, |place| self.places[place as usize].model.goodput);
        let mut pipe = |rate| self.network.add_pipe(rate, goodput);
        let pipes = made.unwrap_or_else(|| (pipe(up), pipe(down)));
        self.machines[node].pipes = Some(pipes);
        pipes
    }

    /// A node's own pipes are there only while something flows: most nodes are idle.
    pub(super) fn free_pipes(&mut self, node: NodeIndex) {
        if let Some((out, into)) = self.machines[node].pipes
            && self.network.is_idle(out)
            && self.network.is_idle(into)
        {
            self.network.remove_pipe(out);
            self.network.remove_pipe(into);
            self.machines[node].pipes = None;
        }
    }

    /// How long what goes this way stands in queues: in front of each uplink that carries all it can.
    pub(super) fn queued(&self, path: &Path) -> Duration {
        let Kind::Far(from, to) = path.kind else { return Duration::ZERO };
        let (out, into) = self.uplinks(from, to);
        let wait = |place: PlaceIndex, pipe: PipeId| {
            let queue = self.places[place as usize].model.uplink.map_or(0, |uplink| uplink.queue);
            #[allow(clippy::cast_precision_loss, reason = "a queue is short")]
            let wait = if self.network.is_full(pipe) { queue as f64 / self.network.rate(pipe) } else { 0.0 };
            Duration::from_secs_f64(wait.min(60.0))
        };
        wait(from, out) + wait(to, into)
    }

    /// How long a message takes from one node to another.
    pub(super) fn message_time(&mut self, from: NodeIndex, to: NodeIndex, path: &Path, bytes: usize) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let own = self.machines[from].rate.0.min(self.machines[to].rate.1) as f64;
        let rate = match path.kind {
            Kind::Link => self.network.rate(self.links[&ends(from, to)].pipe),
            Kind::Near => own,
            Kind::Far(a, b) => {
                let (out, into) = self.uplinks(a, b);
                own.min(self.network.rate(out)).min(self.network.rate(into))
            }
        };
        #[allow(clippy::cast_precision_loss, reason = "a message is short")]
        let length = bytes as f64;
        let mut time = path.delay + self.queued(path) + Duration::from_secs_f64((length / rate.max(1.0)).min(3600.0));
        if path.loss > 0.0 {
            let packets = (length / PACKET).ceil().max(1.0);
            if self.luck(from, "loss").chance(1.0 - (1.0 - path.loss).powf(packets)) {
                // A lost packet is missed and sent again: a round trip and a half.
                time += path.delay * 3;
            }
        }
        self.count(from, to, path, bytes);
        time
    }

    /// A node hears of whom it can reach where it is.
    pub(super) fn discover_all(&mut self, node: NodeIndex) {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        let linked: Vec<_> = self.links.range((number, 0)..=(number, u32::MAX)).map(|((_, b), _)| *b).collect();
        for other in linked {
            self.find(node, other as usize);
            self.find(other as usize, node);
        }
        self.discover_neighbours(node);
        self.find_fixed(node);
    }

    /// A node hears of some of those where it is.
    fn discover_neighbours(&mut self, node: NodeIndex) {
        let number = u32::try_from(node).expect("fewer nodes than 2^32");
        let Some(place) = self.machines[node].presence.place() else { return };
        let here = &self.places[place as usize].here;
        let count = self.places[place as usize].model.neighbours;
        let drawn = self.luck(node, "neighbours").sample(here.len(), count);
        let found: Vec<u32> = drawn.into_iter().map(|at| here[at]).filter(|other| *other != number).collect();
        for other in found {
            self.find(node, other as usize);
        }
    }

    /// A node that has a network at all is told whom it is configured to know, whether they can be reached now or not:
    /// one that starts while they can't be has to go on trying.
    fn find_fixed(&mut self, node: NodeIndex) {
        let somewhere = self.machines[node].presence.place().is_some();
        for peer in self.machines[node].fixed.clone().iter() {
            let peer = *peer as usize;
            if peer != node && (somewhere || self.path(node, peer).is_some()) {
                let address = address(peer);
                self.give(node, Input::Found { address, node: None, fixed: true });
            }
        }
        self.machines[node].introduced |= somewhere;
    }

    /// Whether multicast at a node's place tells no more of another one: it left, and that is a while ago.
    pub(super) fn is_forgotten(&self, node: NodeIndex, other: NodeIndex) -> bool {
        let (here, there) = (&self.machines[node].presence, &self.machines[other].presence);
        here.place() != there.place() && self.time.since(there.since()) >= REMEMBERED
    }

    fn find(&mut self, node: NodeIndex, other: NodeIndex) {
        if self.path(node, other).is_some() {
            let id = self.id(other);
            self.give(node, Input::Found { address: address(other), node: Some(id), fixed: false });
        }
    }
}

/// A node's address.
pub(super) fn address(node: NodeIndex) -> Address {
    Address(format!("node {node}"))
}

fn ends(a: NodeIndex, b: NodeIndex) -> (u32, u32) {
    let number = |node| u32::try_from(node).expect("fewer nodes than 2^32");
    (number(a), number(b))
}
