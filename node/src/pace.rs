//! Bytes of payloads that go by HTTP keep the budgets like all others: each part is counted, and the next waits for its
//! turn.

use std::{
    fmt,
    time::{Duration, Instant},
};

use burr_protocol::{
    Hash,
    budget::{Direction, Held},
};

use crate::node::WeakNode;

/// How long a transfer stands still until its budget has room, before it is left for later.
const LONGEST: Duration = Duration::from_secs(10);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes of a payload that went by HTTP, and of which more is to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) blob: Hash,
    /// Whether they stayed within this node's site.
    pub(crate) near: bool,
    pub(crate) direction: Direction,
    pub(crate) bytes: u64,
}

/// Why no more may go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The payload is not fetched any more.
    Unwanted,
    Budget(Held),
    /// The node has ended.
    Ended,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unwanted => "it is not needed any more",
            Self::Budget(Held::Soon(why) | Held::Shut(why)) => why,
            Self::Ended => "the node has ended",
        })
    }
}

/// The transfer of a payload, or of files that were made of it.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    node: WeakNode,
    of: Carried,
}

impl Pace {
    /// A payload that comes from a web server.
    pub(crate) fn down(node: WeakNode, blob: Hash) -> Self {
        Self { node, of: Carried { blob, near: false, direction: Direction::Down, bytes: 0 } }
    }

    /// One that goes to a client, which is of this site or not.
    pub(crate) fn up(node: WeakNode, blob: Hash, near: bool) -> Self {
        Self { node, of: Carried { blob, near, direction: Direction::Up, bytes: 0 } }
    }

    /// Counts bytes that went, and returns when more may.
    ///
    /// # Errors
    /// [`Hold`] if none may for a while.
    pub(crate) async fn went(&self, bytes: u64) -> Result<(), Hold> {
        let (mut carried, begun) = (Carried { bytes, ..self.of }, Instant::now());
        loop {
            let node = self.node.upgrade().map_err(|_| Hold::Ended)?;
            match node.carried(carried).await.map_err(|_| Hold::Ended)? {
                Err(Hold::Budget(Held::Soon(_))) if begun.elapsed() < LONGEST => {}
                done => return done,
            }
            drop(node);
            tokio::time::sleep(PAUSE).await;
            carried.bytes = 0;
        }
    }
}
