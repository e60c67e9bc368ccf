//! Requests under way: from the question over its turn at the provider and the flow of its bytes to the answer.

use std::time::Duration;

use burr_protocol::{
    Time,
    action::{FetchFailure, Input},
    budget::Direction,
    fetch::{Request, RequestId},
    serving::QuestionId,
};

use super::{Event, NodeIndex, World, machine::Answers};
use crate::network::FlowId;

/// What is in flight of a fetch is reported this often.
const PROGRESS: Duration = Duration::from_millis(1000);
/// How long a provider may be silent, as the node has it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes a second of one that trickles.
const TRICKLE: f64 = 1.0;

/// What a node is doing with one request.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) request: Request,
    /// Whom it asks.
    provider: u32,
    /// The provider's name for it, once it is answered.
    question: Option<QuestionId>,
    /// Once the question is answered.
    flow: Option<FlowId>,
    /// It is at the provider, behind another one of the same node: their stream is answered in order.
    behind: bool,
    /// Bytes that the agent and the disk know of.
    reported: u64,
    /// The earliest of its events that are in the queue.
    due: Option<Time>,
    /// Bytes pass between places, and not within one.
    far: bool,
    /// Both ends are of one site, as budgets see it.
    near: bool,
}

impl World {
    /// A request goes out: a round trip later, with the queues of both ways, its bytes begin to flow.
    pub(super) fn ask(&mut self, node: NodeIndex, request: Request) {
        let provider = self.index(request.node).filter(|provider| self.is_connected(node, *provider));
        let path = provider.and_then(|provider| self.path(node, provider));
        let (Some(provider), Some(path)) = (provider, path) else {
            return self.later(Duration::from_millis(1), node, Event::Failed(request.id, FetchFailure::Lost));
        };
        let queued = self.queued(&path) + self.path(provider, node).map_or(Duration::ZERO, |back| self.queued(&back));
        let (far, near) = (path.far, self.is_one_site(node, provider, path.is_near()));
        self.check_spends(node, near, Direction::Down, &request);
        let provider = u32::try_from(provider).expect("fewer nodes than 2^32");
        let (question, flow, behind, reported, due) = (None, None, false, 0, None);
        let transfer = Transfer { request, provider, question, flow, behind, reported, due, far, near };
        self.machines[node].transfers.insert(request.id, transfer);
        let wait = (path.delay * 2 + queued).max(Duration::from_millis(1));
        self.later(wait, node, Event::Flow(request.id));
    }

    /// A request has something to report: its first byte, some more, or the last.
    pub(super) fn flow(&mut self, node: NodeIndex, id: RequestId) {
        let Some(transfer) = self.machines[node].transfers.get_mut(&id) else { return };
        if transfer.due.is_some_and(|due| due > self.time) {
            return;
        }
        transfer.due = None;
        if transfer.flow.is_none() {
            return self.begin(node, id);
        }
        self.settle(node, id);
        self.report(node, id);
    }

    /// The question has arrived at the provider, and waits for its turn.
    fn begin(&mut self, node: NodeIndex, id: RequestId) {
        let transfers = &mut self.machines[node].transfers;
        let Some((request, provider)) = transfers.get(&id).map(|t| (t.request, t.provider)) else { return };
        let behind = transfers.iter().take_while(|(other, _)| **other < id).any(|(_, t)| t.provider == provider);
        if let Some(transfer) = transfers.get_mut(&id) {
            transfer.behind = behind;
        }
        if behind {
            return;
        }
        let provider = provider as usize;
        if self.path(provider, node).is_none() || !self.is_connected(node, provider) {
            return self.fail(node, id, FetchFailure::Lost);
        }
        if self.machines[node].full {
            return self.fail(node, id, FetchFailure::Store);
        }
        let answers = self.answers(provider);
        self.ledger.lies += u64::from(answers != Answers::Honest);
        match answers {
            Answers::Honest => {
                if !self.machines[provider].disk.holds(request.blob, request.start, request.end) {
                    return self.fail(node, id, FetchFailure::NotFound);
                }
                self.check_served(provider, &request);
            }
            Answers::Altered => return self.fail(node, id, FetchFailure::Corrupt),
            Answers::Missing => return self.fail(node, id, FetchFailure::NotFound),
            Answers::Silence => return self.later(PATIENCE, node, Event::Silent(id)),
            Answers::Trickle => {}
        }
        let question = QuestionId(self.questions);
        self.questions += 1;
        self.machines[provider].questions.insert(question, (u32::try_from(node).expect("fewer nodes than 2^32"), id));
        let (asker, bytes) = (self.id(node), request.end - request.start);
        self.give(provider, Input::Asked { id: question, node: asker, blob: request.blob, bytes });
    }

    /// A provider answers a question: its bytes begin to flow.
    pub(super) fn serve(&mut self, provider: NodeIndex, question: QuestionId) {
        let asked = self.machines[provider].questions.remove(&question);
        let waits = asked.and_then(|(node, id)| {
            let node = node as usize;
            let transfer = self.machines[node].transfers.get(&id)?;
            Some((node, id, transfer.request, transfer.near, self.path(provider, node)?))
        });
        let Some((node, id, request, near, path)) = waits else {
            // It was asked in vain.
            return self.later(
                Duration::ZERO,
                provider,
                Event::Give(Box::new(Input::Served { id: question, bytes: 0 })),
            );
        };
        self.check_spends(provider, near, Direction::Up, &request);
        let way = self.way(provider, node, &path);
        let trickles = self.answers(provider) == Answers::Trickle;
        let limit = if trickles { TRICKLE } else { path.limit() };
        let flow = self.network.start(way, request.end - request.start, limit, self.time);
        self.flows.resize(self.flows.len().max(flow as usize + 1), None);
        self.flows[flow as usize] = Some((u32::try_from(node).expect("fewer nodes than 2^32"), id));
        if let Some(transfer) = self.machines[node].transfers.get_mut(&id) {
            (transfer.flow, transfer.question) = (Some(flow), Some(question));
        }
        self.share_soon();
        if request.start == request.end {
            self.later(Duration::ZERO, node, Event::Flow(id));
        }
    }

    /// A provider never answered: the node gives its stream up, and what else was asked on it is lost.
    pub(super) fn fall_silent(&mut self, node: NodeIndex, id: RequestId) {
        let Some(provider) = self.machines[node].transfers.get(&id).map(|transfer| transfer.provider) else { return };
        self.drop_transfer(node, id);
        self.give(node, Input::FetchFailed { id, why: FetchFailure::TimedOut });
        self.lose_transfers(node, provider as usize);
    }

    /// A provider does not answer a question: it ends the stream, and what else was asked on it is lost.
    pub(super) fn decline(&mut self, provider: NodeIndex, question: QuestionId) {
        let Some((node, id)) = self.machines[provider].questions.remove(&question) else { return };
        let node = node as usize;
        if self.machines[node].transfers.contains_key(&id) {
            self.drop_transfer(node, id);
            self.later(Duration::from_millis(1), node, Event::Failed(id, FetchFailure::Refused));
            self.lose_transfers(node, provider);
        }
    }

    /// Takes in what arrived of a request since it was looked at last.
    fn settle(&mut self, node: NodeIndex, id: RequestId) {
        let Some(transfer) = self.machines[node].transfers.get(&id) else { return };
        let Some(flow) = transfer.flow else { return };
        let moved = self.network.settle(flow, self.time);
        let (request, provider, far) = (transfer.request, transfer.provider as usize, transfer.far);
        let new = moved - transfer.reported;
        if new == 0 {
            return;
        }
        self.machines[provider].served += new;
        let machine = &mut self.machines[node];
        machine.received += new;
        machine.disk.add(request.blob, request.size, request.start, request.start + moved);
        self.ledger.moved(self.time, node, provider, new, far);
        self.check_disk(node);
    }

    /// Tells the agent how far a request is, and looks again when there will be more to tell.
    fn report(&mut self, node: NodeIndex, id: RequestId) {
        let Some(transfer) = self.machines[node].transfers.get_mut(&id) else { return };
        let Some(flow) = transfer.flow else { return };
        let (request, length) = (transfer.request, transfer.request.end - transfer.request.start);
        let moved = self.network.settle(flow, self.time);
        let bytes = moved - transfer.reported;
        transfer.reported = moved;
        let whole = moved == length;
        if whole {
            self.machines[node].disk.add(request.blob, request.size, request.start, request.end);
            self.drop_transfer(node, id);
        } else {
            self.watch(node, id);
        }
        if whole {
            self.give(node, Input::Fetched { id });
        } else if bytes > 0 {
            self.give(node, Input::Received { id, bytes });
        }
    }

    /// What came of a request that is about to be lost, if it was not told yet.
    pub(super) fn arrived(&mut self, node: NodeIndex, id: RequestId) -> Option<Input> {
        self.settle(node, id);
        let transfer = self.machines[node].transfers.get_mut(&id)?;
        let moved = self.network.settle(transfer.flow?, self.time);
        let bytes = moved - std::mem::replace(&mut transfer.reported, moved);
        (bytes > 0).then_some(Input::Received { id, bytes })
    }

    /// The requests of a node to a provider.
    pub(super) fn asked_of(&self, node: NodeIndex, provider: NodeIndex) -> Vec<RequestId> {
        let of = |transfer: &Transfer| transfer.provider as usize == provider;
        self.machines[node].transfers.iter().filter(|(_, transfer)| of(transfer)).map(|(id, _)| *id).collect()
    }

    /// Sees to it that the queue has an event when a request has something to tell.
    fn watch(&mut self, node: NodeIndex, id: RequestId) {
        let Some(transfer) = self.machines[node].transfers.get_mut(&id) else { return };
        let Some(flow) = transfer.flow else { return };
        let soon = self.time + PROGRESS;
        let at = self.network.ends_at(flow).unwrap_or(soon).min(soon).max(self.time);
        if transfer.due.is_none_or(|due| at < due) {
            transfer.due = Some(at);
            self.cause(at, node, Event::Flow(id));
        }
    }

    /// Works rates out again at the end of this moment, once for all that changed in it.
    pub(super) fn share_soon(&mut self) {
        if self.network.is_dirty() && !self.sharing {
            self.sharing = true;
            self.cause(self.time, 0, Event::Share);
        }
    }

    /// The pipes are shared anew.
    pub(super) fn share(&mut self) {
        self.sharing = false;
        for flow in self.network.share(self.time) {
            if let Some((node, id)) = self.flows.get(flow as usize).copied().flatten() {
                self.watch(node as usize, id);
            }
        }
    }

    /// A request came to nothing.
    fn fail(&mut self, node: NodeIndex, id: RequestId, why: FetchFailure) {
        self.drop_transfer(node, id);
        self.give(node, Input::FetchFailed { id, why });
    }

    /// Ends a request; what came of it is on the disk.
    pub(super) fn drop_transfer(&mut self, node: NodeIndex, id: RequestId) {
        self.settle(node, id);
        let transfers = &mut self.machines[node].transfers;
        let Some(transfer) = transfers.remove(&id) else { return };
        let next = transfers.iter().find(|(_, next)| next.provider == transfer.provider);
        if let Some((next, _)) = next.filter(|(_, next)| next.behind) {
            let next = *next;
            self.later(Duration::ZERO, node, Event::Flow(next));
        }
        let bytes = transfer.flow.map_or(0, |flow| self.network.stop(flow, self.time));
        let unmoved = transfer.request.end - transfer.request.start - bytes;
        self.check_unspends(node, transfer.near, Direction::Down, unmoved);
        let Some(flow) = transfer.flow else { return };
        self.check_unspends(transfer.provider as usize, transfer.near, Direction::Up, unmoved);
        let served = transfer.question.map(|id| Event::Give(Box::new(Input::Served { id, bytes })));
        if let Some(served) = served {
            self.later(Duration::ZERO, transfer.provider as usize, served);
        }
        self.flows[flow as usize] = None;
        for end in [node, transfer.provider as usize] {
            self.free_pipes(end);
        }
        self.share_soon();
    }

    /// Ends all requests of a node.
    pub(super) fn end_transfers(&mut self, node: NodeIndex) {
        let all: Vec<_> = self.machines[node].transfers.keys().copied().collect();
        for id in all {
            self.drop_transfer(node, id);
        }
    }

    /// Ends the requests of a node to a provider that is gone.
    pub(super) fn lose_transfers(&mut self, node: NodeIndex, provider: NodeIndex) {
        for id in self.asked_of(node, provider) {
            if let Some(received) = self.arrived(node, id) {
                self.later(Duration::ZERO, node, Event::Give(Box::new(received)));
            }
            self.drop_transfer(node, id);
            self.later(Duration::from_millis(1), node, Event::Failed(id, FetchFailure::Lost));
        }
    }
}
