//! Bytes in motion: flows as fluids, each through a few pipes, each pipe shared max-min fairly among its flows.
//!
//! Max-min fairness by progressive filling (Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2) is what long
//! TCP and QUIC flows of like round trips come to; a packet is nowhere. Rates are worked out again once a moment, and
//! only for the flows that share a full pipe, over any number of others, with one that came or went: a pipe that is not
//! full holds nobody back. One that becomes full is then looked at with all that goes through it.

use std::{cmp::Reverse, collections::BinaryHeap};

use burr_protocol::Time;

/// Names a pipe.
pub type PipeId = u32;
/// Names a flow, among those that are under way.
pub type FlowId = u32;

/// Pipes on one way at most: out of a node, out of its place, into a place, into a node, and the machine that all are on.
pub const MAX_PIPES: usize = 5;

/// The pipes of a way, in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    pipes: [PipeId; MAX_PIPES],
    count: u8,
}

impl Way {
    /// Adds a pipe.
    pub fn push(&mut self, pipe: PipeId) {
        self.pipes[usize::from(self.count)] = pipe;
        self.count += 1;
    }

    /// Its pipes.
    #[must_use]
    pub fn pipes(&self) -> &[PipeId] {
        &self.pipes[..usize::from(self.count)]
    }
}

#[derive(Debug, Default)]
struct Pipe {
    /// Bytes a millisecond, and the share of them that flows get.
    rate: f64,
    goodput: f64,
    flows: Vec<FlowId>,
    carried: f64,
    /// What flows leave of it.
    left: f64,
    dirty: bool,
    /// The sharing in which it was looked at last, and the one in which all its flows were.
    seen: u64,
    opened: u64,
    /// While sharing: what is left, how many of its flows are looked at, and how many of these have no rate yet.
    room: f64,
    among: u32,
    open: u32,
}

impl Pipe {
    /// What flows get of it.
    fn whole(&self) -> f64 {
        self.rate * self.goodput
    }

    /// Whether so little is left that it holds flows back.
    fn is_full_with(&self, left: f64) -> bool {
        left <= self.whole() * 1e-6
    }
}

#[derive(Debug)]
struct Flow {
    way: Way,
    /// Bytes a millisecond that it does not go over, whatever the pipes give.
    limit: f64,
    size: f64,
    moved: f64,
    rate: f64,
    since: Time,
    /// The sharing in which it was looked at last, and the one in which its next rate was fixed.
    seen: u64,
    fixed: u64,
    next: f64,
}

/// All pipes and flows.
#[derive(Debug, Default)]
pub struct Network {
    pipes: Vec<Pipe>,
    free_pipes: Vec<PipeId>,
    flows: Vec<Option<Flow>>,
    free_flows: Vec<FlowId>,
    /// Pipes that were full before a flow went, or have another rate.
    dirty: Vec<PipeId>,
    /// Flows that have no rate yet.
    fresh: Vec<FlowId>,
    sharing: u64,
}

/// A number that is ordered as numbers are; never a NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share(f64);

impl Eq for Share {}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What holds flows back at a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Pipe(PipeId),
    Flow(FlowId),
}

impl Network {
    /// Adds a pipe of this many bytes a second, of which flows get the share `goodput`: the rest are headers, and what is
    /// sent again.
    #[allow(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
    pub fn add_pipe(&mut self, rate: u64, goodput: f64) -> PipeId {
        assert!(goodput > 0.0 && goodput <= 1.0, "a share of a rate");
        let mut pipe = Pipe { rate: rate as f64 / 1000.0, goodput, ..Pipe::default() };
        pipe.left = pipe.whole();
        if let Some(id) = self.free_pipes.pop() {
            self.pipes[id as usize] = pipe;
            return id;
        }
        self.pipes.push(pipe);
        u32::try_from(self.pipes.len() - 1).expect("fewer pipes than 2^32")
    }

    /// Takes a pipe away that no flow goes through.
    pub fn remove_pipe(&mut self, pipe: PipeId) {
        assert!(self.pipes[pipe as usize].flows.is_empty(), "flows go through the pipe");
        self.dirty.retain(|dirty| *dirty != pipe);
        self.free_pipes.push(pipe);
    }

    /// Gives a pipe another rate, in bytes a second.
    #[allow(clippy::cast_precision_loss, reason = "rates are far below 2^53")]
    pub fn set_rate(&mut self, pipe: PipeId, rate: u64) {
        self.pipes[pipe as usize].rate = rate as f64 / 1000.0;
        self.touch(pipe);
    }

    /// A pipe's rate in bytes a second.
    #[must_use]
    pub fn rate(&self, pipe: PipeId) -> f64 {
        self.pipes[pipe as usize].rate * 1000.0
    }

    /// Whether no flow goes through a pipe.
    #[must_use]
    pub fn is_idle(&self, pipe: PipeId) -> bool {
        self.pipes[pipe as usize].flows.is_empty()
    }

    /// Whether flows take all that a pipe gives, so that something stands in front of it.
    #[must_use]
    pub fn is_full(&self, pipe: PipeId) -> bool {
        let held = &self.pipes[pipe as usize];
        !held.flows.is_empty() && held.is_full_with(held.left)
    }

    /// Bytes that went through a pipe, as far as flows were settled.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
    pub fn carried(&self, pipe: PipeId) -> u64 {
        self.pipes[pipe as usize].carried.round() as u64
    }

    /// Counts bytes that went through a way without a flow: a message.
    #[allow(clippy::cast_precision_loss, reason = "a message is short")]
    pub fn count(&mut self, way: &Way, bytes: usize) {
        for pipe in way.pipes() {
            self.pipes[*pipe as usize].carried += bytes as f64;
        }
    }

    /// Starts a flow of `size` bytes, of which it moves nothing before the next [`Network::share`]. `limit`, in bytes a
    /// second, holds it back whatever the pipes give.
    #[allow(clippy::cast_precision_loss, reason = "a blob is far below 2^53 bytes")]
    pub fn start(&mut self, way: Way, size: u64, limit: f64, now: Time) -> FlowId {
        let flow = Flow {
            way,
            limit: limit / 1000.0,
            size: size as f64,
            moved: 0.0,
            rate: 0.0,
            since: now,
            seen: 0,
            fixed: 0,
            next: 0.0,
        };
        let id = if let Some(id) = self.free_flows.pop() {
            self.flows[id as usize] = Some(flow);
            id
        } else {
            self.flows.push(Some(flow));
            u32::try_from(self.flows.len() - 1).expect("fewer flows than 2^32")
        };
        for pipe in way.pipes() {
            self.pipes[*pipe as usize].flows.push(id);
        }
        self.fresh.push(id);
        id
    }

    /// Ends a flow; returns the bytes that it moved.
    pub fn stop(&mut self, id: FlowId, now: Time) -> u64 {
        let moved = self.settle(id, now);
        let flow = self.flows[id as usize].take().expect("a flow that is under way");
        self.free_flows.push(id);
        self.fresh.retain(|fresh| *fresh != id);
        for pipe in flow.way.pipes() {
            let held = &mut self.pipes[*pipe as usize];
            let place = held.flows.iter().position(|other| *other == id).expect("it goes through its pipes");
            held.flows.swap_remove(place);
            let was_full = held.is_full_with(held.left);
            held.left = if held.flows.is_empty() { held.whole() } else { held.left + flow.rate };
            if was_full {
                self.touch(*pipe);
            }
        }
        moved
    }

    /// Bytes that a flow has moved by now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes")]
    pub fn settle(&mut self, id: FlowId, now: Time) -> u64 {
        let flow = self.flows[id as usize].as_mut().expect("a flow that is under way");
        let step = (flow.rate * millis(now, flow.since)).min(flow.size - flow.moved);
        flow.moved += step;
        flow.since = now;
        // What a rounding leaves is less than a byte.
        if flow.size - flow.moved < 0.5 {
            flow.moved = flow.size;
        }
        let (moved, way) = (flow.moved, flow.way);
        for pipe in way.pipes() {
            let held = &mut self.pipes[*pipe as usize];
            held.carried += step / held.goodput;
        }
        moved as u64
    }

    /// When a flow ends if its rate stays; `None` while it has none.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a wait in milliseconds, at least 0")]
    pub fn ends_at(&self, id: FlowId) -> Option<Time> {
        let flow = self.flows[id as usize].as_ref().expect("a flow that is under way");
        let wait = ((flow.size - flow.moved) / flow.rate).ceil();
        (flow.rate > 0.0 && wait < 1e15).then(|| Time(flow.since.0 + wait as u64))
    }

    /// Whether rates must be worked out again.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.fresh.is_empty()
    }

    /// Shares the pipes that something changed on, and whatever hangs on them; returns the flows with another rate.
    pub fn share(&mut self, now: Time) -> Vec<FlowId> {
        let mut opened = std::mem::take(&mut self.dirty);
        let fresh = std::mem::take(&mut self.fresh);
        for pipe in &opened {
            self.pipes[*pipe as usize].dirty = false;
        }
        loop {
            self.sharing += 1;
            let (pipes, flows) = self.affected(&opened, &fresh);
            self.fill(&pipes, &flows);
            let before = opened.len();
            // One that would be full, and was not, holds back all that goes through it.
            opened.extend(pipes.iter().filter(|pipe| {
                let held = &self.pipes[**pipe as usize];
                held.opened != self.sharing && held.among as usize != held.flows.len() && held.is_full_with(held.room)
            }));
            if opened.len() == before {
                return self.put_in_force(&pipes, &flows, now);
            }
        }
    }

    /// The flows through these pipes, these flows, and those that share a full pipe with one of them; and all pipes that
    /// any of them goes through, with what the others leave.
    fn affected(&mut self, opened: &[PipeId], fresh: &[FlowId]) -> (Vec<PipeId>, Vec<FlowId>) {
        let (mut pipes, mut flows) = (Vec::new(), Vec::new());
        let mut to_open: Vec<PipeId> = Vec::new();
        for pipe in opened {
            self.look_at(*pipe, &mut pipes);
            self.open(*pipe, &mut to_open);
        }
        for flow in fresh {
            self.include(*flow, &mut pipes, &mut flows, &mut to_open);
        }
        while let Some(pipe) = to_open.pop() {
            for place in 0..self.pipes[pipe as usize].flows.len() {
                let flow = self.pipes[pipe as usize].flows[place];
                self.include(flow, &mut pipes, &mut flows, &mut to_open);
            }
        }
        (pipes, flows)
    }

    fn look_at(&mut self, pipe: PipeId, pipes: &mut Vec<PipeId>) {
        let held = &mut self.pipes[pipe as usize];
        if held.seen != self.sharing {
            (held.seen, held.room, held.among) = (self.sharing, held.left, 0);
            pipes.push(pipe);
        }
    }

    fn open(&mut self, pipe: PipeId, to_open: &mut Vec<PipeId>) {
        let held = &mut self.pipes[pipe as usize];
        if held.opened != self.sharing {
            held.opened = self.sharing;
            to_open.push(pipe);
        }
    }

    fn include(&mut self, id: FlowId, pipes: &mut Vec<PipeId>, flows: &mut Vec<FlowId>, to_open: &mut Vec<PipeId>) {
        let flow = self.flows[id as usize].as_mut().expect("a flow that is under way");
        if flow.seen == self.sharing {
            return;
        }
        flow.seen = self.sharing;
        flows.push(id);
        let (way, rate) = (flow.way, flow.rate);
        for pipe in way.pipes() {
            self.look_at(*pipe, pipes);
            let held = &mut self.pipes[*pipe as usize];
            held.room += rate;
            held.among += 1;
            if held.is_full_with(held.left) {
                self.open(*pipe, to_open);
            }
        }
    }

    /// Works out the next rates of these flows, by filling what room there is in these pipes.
    fn fill(&mut self, pipes: &[PipeId], flows: &[FlowId]) {
        let mut bounds: BinaryHeap<Reverse<(Share, Bound)>> = BinaryHeap::with_capacity(pipes.len() + flows.len());
        for pipe in pipes {
            let held = &mut self.pipes[*pipe as usize];
            if held.opened == self.sharing {
                // Exactly, as nobody else goes through it.
                held.room = held.whole();
            }
            held.open = held.among;
            if held.open > 0 {
                bounds.push(Reverse((Share(held.room / f64::from(held.open)), Bound::Pipe(*pipe))));
            }
        }
        for id in flows {
            let flow = self.flows[*id as usize].as_mut().expect("a flow that is under way");
            // What no pipe and no limit holds back has no rate in this model.
            flow.next = 0.0;
            if flow.limit.is_finite() {
                bounds.push(Reverse((Share(flow.limit), Bound::Flow(*id))));
            }
        }
        while let Some(Reverse((Share(share), bound))) = bounds.pop() {
            match bound {
                Bound::Flow(id) => self.fix(id, share),
                Bound::Pipe(pipe) => {
                    let held = &self.pipes[pipe as usize];
                    if held.open == 0 {
                        continue;
                    }
                    // Others took less than their share since: there is more for the rest. Shares only grow.
                    let fair = held.room / f64::from(held.open);
                    if fair > share * (1.0 + 1e-12) {
                        bounds.push(Reverse((Share(fair), bound)));
                        continue;
                    }
                    for place in 0..held.flows.len() {
                        let id = self.pipes[pipe as usize].flows[place];
                        self.fix(id, share);
                    }
                }
            }
        }
    }

    /// Fixes the next rate of a flow that is looked at, once a sharing.
    fn fix(&mut self, id: FlowId, rate: f64) {
        let flow = self.flows[id as usize].as_mut().expect("a flow that is under way");
        if flow.seen != self.sharing || flow.fixed == self.sharing {
            return;
        }
        (flow.next, flow.fixed) = (rate, self.sharing);
        let way = flow.way;
        for pipe in way.pipes() {
            let held = &mut self.pipes[*pipe as usize];
            held.room = (held.room - rate).max(0.0);
            held.open -= 1;
        }
    }

    /// From now on the rates hold that were worked out; returns the flows whose rate is another one.
    fn put_in_force(&mut self, pipes: &[PipeId], flows: &[FlowId], now: Time) -> Vec<FlowId> {
        for pipe in pipes {
            let held = &mut self.pipes[*pipe as usize];
            held.left = held.room;
        }
        let mut changed = Vec::new();
        for id in flows {
            let flow = self.flow(*id);
            #[allow(clippy::float_cmp, reason = "the same sum again, or another")]
            if flow.rate != flow.next {
                self.settle(*id, now);
                let flow = self.flows[*id as usize].as_mut().expect("a flow that is under way");
                flow.rate = flow.next;
                changed.push(*id);
            }
        }
        changed
    }

    fn flow(&self, id: FlowId) -> &Flow {
        self.flows[id as usize].as_ref().expect("a flow that is under way")
    }

    fn touch(&mut self, pipe: PipeId) {
        let held = &mut self.pipes[pipe as usize];
        if !held.dirty {
            held.dirty = true;
            self.dirty.push(pipe);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a simulated span is far below 2^53 ms")]
fn millis(now: Time, since: Time) -> f64 {
    (now.0 - since.0) as f64
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn way(pipes: &[PipeId]) -> Way {
        let mut way = Way::default();
        for pipe in pipes {
            way.push(*pipe);
        }
        way
    }

    fn rate_of(network: &Network, flow: FlowId) -> f64 {
        network.flow(flow).rate * 1000.0
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 * b.abs().max(1.0)
    }

    #[test]
    fn shares_are_max_min_fair() {
        // Two flows over a thin pipe, one of them and a third over a thick one: Bertsekas and Gallager's example.
        let mut network = Network::default();
        let (thin, thick) = (network.add_pipe(1000, 1.0), network.add_pipe(5000, 1.0));
        let a = network.start(way(&[thin]), 1 << 20, f64::INFINITY, Time(0));
        let b = network.start(way(&[thin, thick]), 1 << 20, f64::INFINITY, Time(0));
        let c = network.start(way(&[thick]), 1 << 20, f64::INFINITY, Time(0));
        network.share(Time(0));
        assert!(
            near(rate_of(&network, a), 500.0)
                && near(rate_of(&network, b), 500.0)
                && near(rate_of(&network, c), 4500.0)
        );
        // One that is held back leaves its share to the others.
        let d = network.start(way(&[thick]), 1 << 20, 100.0, Time(0));
        network.share(Time(0));
        assert!(near(rate_of(&network, d), 100.0) && near(rate_of(&network, c), 4400.0));
        network.stop(a, Time(1000));
        network.share(Time(1000));
        assert!(near(rate_of(&network, b), 1000.0) && near(rate_of(&network, c), 3900.0));
    }

    proptest! {
        /// Whatever comes and goes, rates are those that are found when all is looked at anew.
        #[test]
        fn what_is_shared_in_parts_is_shared_as_a_whole(
            rates in vec(1u64..50, 2..9),
            steps in vec((0u8..4, 0usize..100, 0usize..100, 0usize..100, 1u32..60), 1..40),
        ) {
            let mut network = Network::default();
            let pipes: Vec<PipeId> = rates.iter().map(|rate| network.add_pipe(rate * 1000, 1.0)).collect();
            let mut rates: Vec<u64> = rates.iter().map(|rate| rate * 1000).collect();
            let mut flows: Vec<(FlowId, Way, f64)> = Vec::new();
            for (what, a, b, c, rate) in steps {
                match what {
                    0 if !flows.is_empty() => {
                        let (gone, ..) = flows.swap_remove(a % flows.len());
                        network.stop(gone, Time(0));
                    }
                    1 => {
                        rates[a % pipes.len()] = u64::from(rate) * 1000;
                        network.set_rate(pipes[a % pipes.len()], u64::from(rate) * 1000);
                    }
                    _ => {
                        let mut through = [a, b, c].map(|pipe| pipes[pipe % pipes.len()]).to_vec();
                        through.sort_unstable();
                        through.dedup();
                        let limit = if c % 3 == 0 { f64::from(rate) * 100.0 } else { f64::INFINITY };
                        let way = way(&through);
                        flows.push((network.start(way, 1 << 40, limit, Time(0)), way, limit));
                    }
                }
                network.share(Time(0));
                let mut anew = Network::default();
                for rate in &rates {
                    anew.add_pipe(*rate, 1.0);
                }
                let same: Vec<FlowId> =
                    flows.iter().map(|(_, way, limit)| anew.start(*way, 1 << 40, *limit, Time(0))).collect();
                anew.share(Time(0));
                for ((flow, ..), same) in flows.iter().zip(same) {
                    prop_assert!(near(rate_of(&network, *flow), rate_of(&anew, same)));
                }
                for pipe in &pipes {
                    prop_assert_eq!(network.is_full(*pipe), anew.is_full(*pipe));
                }
            }
        }
    }

    #[test]
    fn bytes_are_counted_where_they_went() {
        let mut network = Network::default();
        let (a, b) = (network.add_pipe(1000, 1.0), network.add_pipe(2000, 1.0));
        let flow = network.start(way(&[a, b]), 10_000, f64::INFINITY, Time(0));
        assert_eq!(network.ends_at(flow), None);
        network.share(Time(0));
        assert_eq!(network.ends_at(flow), Some(Time(10_000)));
        assert_eq!(network.settle(flow, Time(2500)), 2500);
        network.set_rate(a, 500);
        network.share(Time(2500));
        assert_eq!(network.ends_at(flow), Some(Time(17_500)));
        assert_eq!(network.stop(flow, Time(20_000)), 10_000);
        assert_eq!((network.carried(a), network.carried(b)), (10_000, 10_000));
    }

    #[test]
    fn a_pipe_carries_more_than_flows_get_of_it() {
        let mut network = Network::default();
        let pipe = network.add_pipe(1000, 0.8);
        let flow = network.start(way(&[pipe]), 8000, f64::INFINITY, Time(0));
        network.share(Time(0));
        assert_eq!(network.ends_at(flow), Some(Time(10_000)));
        assert_eq!((network.stop(flow, Time(10_000)), network.carried(pipe)), (8000, 10_000));
    }
}
