//! Bytes of payloads that go by HTTP keep the budgets like all others: they are taken from the budget before they go, and
//! wait for their turn.

use std::{
    fmt,
    time::{Duration, Instant},
};

use burr_protocol::{
    Hash,
    budget::{Direction, Held},
    fetch::MIN_PIECE,
};

use crate::node::WeakNode;

/// How long a transfer stands still until its budget has room, before it is left for later.
const LONGEST: Duration = Duration::from_secs(10);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What of a payload goes by HTTP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) blob: Hash,
    /// Whether it stays within this node's site.
    pub(crate) near: bool,
    pub(crate) direction: Direction,
}

/// Why no more may go now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The payload is not fetched any more.
    Unwanted,
    /// The payload is to be fetched, but not now.
    NotNow,
    Budget(Held),
    /// The node has ended.
    Ended,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unwanted => "it is not needed any more",
            Self::NotNow => "the device's conditions do not let it be fetched now",
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
        Self { node, of: Carried { blob, near: false, direction: Direction::Down } }
    }

    /// One that goes to a client, which is of this site or not.
    pub(crate) fn up(node: WeakNode, blob: Hash, near: bool) -> Self {
        Self { node, of: Carried { blob, near, direction: Direction::Up } }
    }

    /// Returns when a transfer may begin.
    ///
    /// # Errors
    /// [`Hold`] if none may for a while.
    pub(crate) async fn begin(&self) -> Result<(), Hold> {
        self.wait(MIN_PIECE, 0).await.map(drop)
    }

    /// Takes bytes that are about to go: `least`, and more than that up to `most` if there is room. Returns how many.
    ///
    /// # Errors
    /// [`Hold`] if so many may not go for a while.
    pub(crate) async fn take(&self, least: u64, most: u64) -> Result<u64, Hold> {
        self.wait(least, most.max(least)).await
    }

    /// Gives back what was taken and did not go.
    pub(crate) async fn give_back(&self, bytes: u64) {
        if bytes > 0
            && let Ok(node) = self.node.upgrade()
        {
            node.not_carried(self.of, bytes).await;
        }
    }

    async fn wait(&self, least: u64, most: u64) -> Result<u64, Hold> {
        let begun = Instant::now();
        loop {
            let node = self.node.upgrade().map_err(|_| Hold::Ended)?;
            match node.carry(self.of, least, most).await.map_err(|_| Hold::Ended)? {
                Err(Hold::Budget(Held::Soon(_))) if begun.elapsed() < LONGEST => {}
                done => return done,
            }
            drop(node);
            tokio::time::sleep(PAUSE).await;
        }
    }
}
