//! Where each node is asked for parts of blobs: one stream, on the connection that carries bulk best.

use std::collections::{BTreeSet, VecDeque};

use burr_protocol::{
    Hash, NodeId,
    action::{FetchFailure, Input},
    fetch::{Request, RequestId},
};
use libp2p::{
    Multiaddr, PeerId,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{Driver, Report};
use crate::net::{address::is_tcp, fetch::ask, streams::Protocol};

/// The stream on which one node is asked for parts of blobs.
pub(super) struct Asker {
    requests: mpsc::UnboundedSender<Request>,
    pub(super) task: AbortHandle,
    /// What is awaited.
    pub(super) under: BTreeSet<RequestId>,
}

impl Driver {
    /// Connects to a node by TCP too: much is sent by TCP at half of what QUIC costs in processor time, and in fewer bytes.
    pub(super) fn dial_beside(&mut self, peer: PeerId, places: VecDeque<Multiaddr>) {
        let Some(place) = places.into_iter().find(is_tcp) else { return };
        if self.swarm.behaviour_mut().speech.inner().streams.has_tcp(peer) {
            return;
        }
        let beside = DialOpts::peer_id(peer).addresses(vec![place]).condition(PeerCondition::Always);
        if let Err(error) = self.swarm.dial(beside.allocate_new_port().build()) {
            tracing::debug!(%peer, "can't dial by TCP too: {error}");
        }
    }

    pub(super) fn fetch(&mut self, request: Request) {
        let id = request.id;
        if request.size == 0 {
            // Every store has the empty blob, and there is no other of that size.
            let empty = request.blob == Hash::of(b"");
            let why = FetchFailure::NotFound;
            self.pending.push_back(if empty { Input::Fetched { id } } else { Input::FetchFailed { id, why } });
            return;
        }
        if self.asker(request.node).is_some_and(|asker| {
            asker.under.insert(id);
            asker.requests.send(request).is_ok()
        }) {
            self.fetches.insert(id, request.node);
        } else {
            self.pending.push_back(Input::FetchFailed { id, why: FetchFailure::Lost });
        }
    }

    /// Where a node is asked for parts of blobs; `None` if it is not connected.
    fn asker(&mut self, node: NodeId) -> Option<&mut Asker> {
        let link = self.links.get_mut(&node)?;
        if link.asker.as_ref().is_none_or(|asker| asker.requests.is_closed()) {
            let (_, opening) = self.swarm.behaviour_mut().speech.inner().streams.open(link.peer, Protocol::Blobs)?;
            let (requests, received) = mpsc::unbounded_channel();
            let (report, blobs) = (self.report.clone(), self.blobs.clone());
            let tell = move |id, progress| {
                let report = report.clone();
                async move {
                    let _ = report.send(Report::Progress { id, progress }).await;
                }
            };
            let task = self.tasks.spawn(ask(received, opening, blobs, tell));
            link.asker = Some(Asker { requests, task, under: BTreeSet::new() });
        }
        link.asker.as_mut()
    }

    /// A request is not waited for any more. The stream goes once nothing is awaited on it: what is on its way there
    /// would come in vain.
    pub(super) fn cancel(&mut self, id: RequestId) {
        let Some(link) = self.fetches.remove(&id).and_then(|node| self.links.get_mut(&node)) else { return };
        if link.asker.as_mut().is_some_and(|asker| asker.under.remove(&id) && asker.under.is_empty())
            && let Some(asker) = link.asker.take()
        {
            asker.task.abort();
        }
    }
}
