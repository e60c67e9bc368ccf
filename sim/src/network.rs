//! Bytes in motion: flows as fluids, each through a few pipes, each pipe shared max-min fairly among its flows.
//!
//! Max-min fairness by progressive filling (Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2) is what long
//! TCP and QUIC flows of like round trips come to; a packet is nowhere. Rates are worked out again once a moment, and
//! only for the flows that share a pipe, over any number of others, with one that came or went.

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
    /// The sharing in which it was looked at last.
    seen: u64,
    /// While sharing: what is left, and among how many.
    left: f64,
    open: u32,
    dirty: bool,
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
    /// The sharing in which its rate was fixed last.
    fixed: u64,
    seen: u64,
}

/// All pipes and flows.
#[derive(Debug, Default)]
pub struct Network {
    pipes: Vec<Pipe>,
    free_pipes: Vec<PipeId>,
    flows: Vec<Option<Flow>>,
    free_flows: Vec<FlowId>,
    dirty: Vec<PipeId>,
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
        let pipe = Pipe { rate: rate as f64 / 1000.0, goodput, ..Pipe::default() };
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
        !held.flows.is_empty() && held.left <= held.rate * 1e-6
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
            fixed: 0,
            seen: 0,
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
            self.touch(*pipe);
        }
        id
    }

    /// Ends a flow; returns the bytes that it moved.
    pub fn stop(&mut self, id: FlowId, now: Time) -> u64 {
        let moved = self.settle(id, now);
        let flow = self.flows[id as usize].take().expect("a flow that is under way");
        self.free_flows.push(id);
        for pipe in flow.way.pipes() {
            let flows = &mut self.pipes[*pipe as usize].flows;
            let place = flows.iter().position(|other| *other == id).expect("it goes through its pipes");
            flows.swap_remove(place);
            self.touch(*pipe);
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
        !self.dirty.is_empty()
    }

    /// Shares the pipes that something changed on, and whatever hangs on them; returns the flows with another rate.
    pub fn share(&mut self, now: Time) -> Vec<FlowId> {
        self.sharing += 1;
        let (pipes, flows) = self.component();
        let mut changed = Vec::new();
        let mut bounds: BinaryHeap<Reverse<(Share, Bound)>> = BinaryHeap::with_capacity(pipes.len());
        for pipe in &pipes {
            let held = &mut self.pipes[*pipe as usize];
            held.left = held.rate * held.goodput;
            held.open = u32::try_from(held.flows.len()).expect("fewer flows than 2^32");
            if held.open > 0 {
                bounds.push(Reverse((Share(held.left / f64::from(held.open)), Bound::Pipe(*pipe))));
            }
        }
        for id in &flows {
            let limit = self.flow(*id).limit;
            if limit.is_finite() {
                bounds.push(Reverse((Share(limit), Bound::Flow(*id))));
            }
        }
        while let Some(Reverse((Share(share), bound))) = bounds.pop() {
            match bound {
                Bound::Flow(id) => self.fix(id, share, now, &mut changed),
                Bound::Pipe(pipe) => {
                    let held = &self.pipes[pipe as usize];
                    if held.open == 0 {
                        continue;
                    }
                    // Others took less than their share since: there is more for the rest. Shares only grow.
                    let fair = held.left / f64::from(held.open);
                    if fair > share * (1.0 + 1e-12) {
                        bounds.push(Reverse((Share(fair), bound)));
                        continue;
                    }
                    for id in held.flows.clone() {
                        self.fix(id, share, now, &mut changed);
                    }
                }
            }
        }
        // What no pipe and no limit holds back has no rate in this model.
        changed
    }

    /// The pipes and flows that hang together with what changed.
    fn component(&mut self) -> (Vec<PipeId>, Vec<FlowId>) {
        let mut pipes = Vec::new();
        let mut flows = Vec::new();
        for pipe in std::mem::take(&mut self.dirty) {
            let held = &mut self.pipes[pipe as usize];
            held.dirty = false;
            if held.seen != self.sharing {
                held.seen = self.sharing;
                pipes.push(pipe);
            }
        }
        let mut next = 0;
        while let Some(pipe) = pipes.get(next).copied() {
            next += 1;
            for place in 0..self.pipes[pipe as usize].flows.len() {
                let id = self.pipes[pipe as usize].flows[place];
                let flow = self.flows[id as usize].as_mut().expect("a flow that is under way");
                if flow.seen == self.sharing {
                    continue;
                }
                flow.seen = self.sharing;
                flows.push(id);
                for other in flow.way.pipes() {
                    let held = &mut self.pipes[*other as usize];
                    if held.seen != self.sharing {
                        held.seen = self.sharing;
                        pipes.push(*other);
                    }
                }
            }
        }
        (pipes, flows)
    }

    /// Fixes a flow's rate, once a sharing.
    fn fix(&mut self, id: FlowId, rate: f64, now: Time, changed: &mut Vec<FlowId>) {
        let flow = self.flow(id);
        if flow.fixed == self.sharing {
            return;
        }
        let (before, way) = (flow.rate, flow.way);
        #[allow(clippy::float_cmp, reason = "the same sum again, or another")]
        if before != rate {
            self.settle(id, now);
            changed.push(id);
        }
        let sharing = self.sharing;
        let flow = self.flows[id as usize].as_mut().expect("a flow that is under way");
        flow.rate = rate;
        flow.fixed = sharing;
        for pipe in way.pipes() {
            let held = &mut self.pipes[*pipe as usize];
            held.left = (held.left - rate).max(0.0);
            held.open -= 1;
        }
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
    use super::*;

    fn way(pipes: &[PipeId]) -> Way {
        let mut way = Way::default();
        for pipe in pipes {
            way.push(*pipe);
        }
        way
    }

    fn rate(network: &Network, flow: FlowId) -> f64 {
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
        assert!(near(rate(&network, a), 500.0) && near(rate(&network, b), 500.0) && near(rate(&network, c), 4500.0));
        // One that is held back leaves its share to the others.
        let d = network.start(way(&[thick]), 1 << 20, 100.0, Time(0));
        network.share(Time(0));
        assert!(near(rate(&network, d), 100.0) && near(rate(&network, c), 4400.0));
        network.stop(a, Time(1000));
        network.share(Time(1000));
        assert!(near(rate(&network, b), 1000.0) && near(rate(&network, c), 3900.0));
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
