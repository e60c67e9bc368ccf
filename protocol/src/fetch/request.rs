//! A request to one provider, and how far it is.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::claims::RUN;
use crate::{Hash, NodeId, Time};

/// Names a request of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// What to ask of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// Whom to ask.
    pub node: NodeId,
    /// Which blob.
    pub blob: Hash,
    /// The blob's size in bytes, from the signed release.
    pub size: u64,
    /// First byte, a multiple of the piece.
    pub start: u64,
    /// One past the last byte; at most `size`.
    pub end: u64,
}

/// A request under way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Under {
    pub(super) request: Request,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) since: Time,
    /// When it was asked, or last brought a piece, or a long run that it stood behind was through.
    pub(super) moved: Time,
    pub(super) bytes: u64,
    /// Pieces that are here.
    pub(super) done: usize,
    /// Another provider holds this up, and this one is asked as well.
    pub(super) second: bool,
}

impl Under {
    /// The pieces that are not here yet.
    pub(super) fn rest(&self) -> Range<usize> {
        self.first + self.done..self.first + self.count
    }

    /// Bytes that did not come yet.
    pub(super) fn outstanding(&self) -> u64 {
        (self.request.end - self.request.start).saturating_sub(self.bytes)
    }

    /// Whether it is a run that only one who fetches alone asks for (`fetch/alone.rs`).
    pub(super) fn is_long(&self) -> bool {
        self.count > RUN
    }

    /// When its pieces were asked for, if that says how long a piece takes: those of a long run wait for each other.
    pub(super) fn asked_for(&self) -> Option<Time> {
        (!self.is_long()).then_some(self.since)
    }
}
