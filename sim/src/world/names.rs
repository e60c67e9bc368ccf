//! Which node a name belongs to: an open hash table of node numbers, since names are random bits already.

use burr_protocol::NodeId;

const FREE: u32 = u32::MAX;

/// Node numbers by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    slots: Vec<(u32, u32)>,
    used: usize,
}

impl Names {
    /// Adds a node; no name comes twice.
    pub(super) fn insert(&mut self, id: NodeId, node: u32) {
        if self.slots.len() < 2 * (self.used + 1) {
            let bigger = vec![(0, FREE); (self.slots.len() * 2).max(16)];
            for (key, node) in std::mem::replace(&mut self.slots, bigger) {
                if node != FREE {
                    self.place(key, node);
                }
            }
        }
        self.place(key(id), node);
        self.used += 1;
    }

    /// The node of this name, where `named` tells the whole name of a number.
    pub(super) fn find(&self, id: NodeId, named: impl Fn(u32) -> NodeId) -> Option<u32> {
        let wanted = key(id);
        let mut slot = self.slot(wanted)?;
        loop {
            let (key, node) = self.slots[slot];
            if node == FREE {
                return None;
            }
            if key == wanted && named(node) == id {
                return Some(node);
            }
            slot = (slot + 1) % self.slots.len();
        }
    }

    fn place(&mut self, key: u32, node: u32) {
        let mut slot = self.slot(key).expect("there is room");
        while self.slots[slot].1 != FREE {
            slot = (slot + 1) % self.slots.len();
        }
        self.slots[slot] = (key, node);
    }

    fn slot(&self, key: u32) -> Option<usize> {
        Some(key as usize & self.slots.len().checked_sub(1)?)
    }
}

/// A part of a name that few share: the whole is looked at where the node is.
fn key(id: NodeId) -> u32 {
    u32::from_le_bytes(id.0[..4].try_into().expect("four bytes"))
}
