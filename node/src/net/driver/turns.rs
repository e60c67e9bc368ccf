//! Questions of other nodes: each waits until the agent says that it is its turn.

use std::{collections::BTreeMap, sync::Arc};

use burr_protocol::{Hash, NodeId, action::Input, serving::QuestionId};
use tokio::sync::{mpsc, oneshot};

use super::{Driver, Report};
use crate::net::{serve::serve, streams::Opened};

/// Questions that wait; the streams on which a node may ask bound them.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<QuestionId, (NodeId, oneshot::Sender<QuestionId>)>,
    next: u64,
}

impl Turns {
    fn add(&mut self, node: NodeId, turn: oneshot::Sender<QuestionId>) -> QuestionId {
        let id = QuestionId(self.next);
        self.next += 1;
        self.waiting.insert(id, (node, turn));
        id
    }

    /// Gives a question its turn; returns whether anyone still waits for the answer.
    fn give(&mut self, id: QuestionId) -> bool {
        self.waiting.remove(&id).is_some_and(|(_, turn)| turn.send(id).is_ok())
    }

    /// A question is not answered: whoever waits sees that nobody can give it its turn.
    pub(super) fn decline(&mut self, id: QuestionId) {
        self.waiting.remove(&id);
    }

    /// A node is gone, or begins anew.
    pub(super) fn without(&mut self, node: NodeId) {
        self.waiting.retain(|_, (asker, _)| *asker != node);
    }
}

/// What a stream on which a node asks needs to get its turns.
#[derive(Debug)]
pub(crate) struct Asking {
    node: NodeId,
    report: mpsc::Sender<Report>,
}

impl Asking {
    /// Waits for the turn of a question for so many bytes of a blob; `None` if it gets none.
    pub(crate) async fn turn(&self, blob: Hash, bytes: u64) -> Option<QuestionId> {
        let (turn, given) = oneshot::channel();
        self.report.send(Report::Asked { node: self.node, blob, bytes, turn }).await.ok()?;
        given.await.ok()
    }

    /// An answer ended after so many bytes.
    pub(crate) async fn over(&self, id: QuestionId, bytes: u64) {
        // Fails only when the loop is over.
        let _ = self.report.send(Report::Served { id, bytes }).await;
    }
}

impl Driver {
    pub(super) fn on_blob_stream(&mut self, node: NodeId, opened: Opened) {
        let Some(link) = self.links.get(&node) else { return };
        // One too many: the stream is dropped, which the other side sees at once.
        let Ok(one) = Arc::clone(&link.asking).try_acquire_owned() else { return };
        let (blobs, asking) = (self.blobs.clone(), Asking { node, report: self.report.clone() });
        self.tasks.spawn(async move {
            if let Err(error) = serve(opened.stream, &blobs, &asking).await {
                tracing::debug!(%node, "a request was not answered: {error}");
            }
            drop(one);
        });
    }

    pub(super) fn on_question(&mut self, node: NodeId, blob: Hash, bytes: u64, turn: oneshot::Sender<QuestionId>) {
        if !self.links.contains_key(&node) {
            return;
        }
        let id = self.turns.add(node, turn);
        if self.rationed {
            self.pending.push_back(Input::Asked { id, node, blob, bytes });
        } else {
            self.turns.give(id);
        }
    }

    pub(super) fn on_served(&mut self, id: QuestionId, bytes: u64) {
        if self.rationed {
            self.pending.push_back(Input::Served { id, bytes });
        }
    }

    pub(super) fn serve(&mut self, id: QuestionId) {
        if !self.turns.give(id) {
            self.on_served(id, 0);
        }
    }
}
