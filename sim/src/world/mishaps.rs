//! What goes wrong in a world when it is told to: bundles that are no good, nodes that lie, clocks, disks and databases.

use burr_protocol::Hash;

use super::{Clock, Lies, NodeIndex, World};

impl World {
    /// From now on this bundle does not come out of its payload.
    pub fn break_bundle(&mut self, bundle: Hash) {
        self.broken.insert(bundle);
    }

    /// From now on the health command says no to this bundle.
    pub fn make_unhealthy(&mut self, bundle: Hash) {
        self.unhealthy.insert(bundle);
    }

    /// From now on hooks say no to this bundle, or yes again.
    pub fn refuse_in_hooks(&mut self, bundle: Hash, refused: bool) {
        if refused {
            self.unhooked.insert(bundle)
        } else {
            self.unhooked.remove(&bundle)
        };
    }

    /// From now on this node lies.
    pub fn lie(&mut self, node: NodeIndex, lies: Lies) {
        self.machines[node].lies = (lies != Lies::default()).then(|| Box::new(lies));
        // What it was answering is answered as it was begun, if at all.
        let peers: Vec<u32> = self.machines[node].connected.keys().copied().collect();
        for peer in peers {
            self.lose_transfers(peer as usize, node);
        }
    }

    /// From now on a node's wall clock shows this.
    pub fn set_clock(&mut self, node: NodeIndex, clock: Clock) {
        self.machines[node].clock = (clock != Clock::Right).then(|| Box::new(clock));
        self.check_month(node);
    }

    /// From now on nothing can be written on a node, or it can again.
    pub fn set_full(&mut self, node: NodeIndex, full: bool) {
        self.machines[node].full = full;
    }

    /// Damages a piece of a blob on a node that is off: its store finds out when it is started.
    pub fn corrupt(&mut self, node: NodeIndex, blob: Hash, piece: usize) {
        assert!(self.machines[node].agent.is_none(), "node {node} is on");
        self.machines[node].disk.lose_piece(blob, piece);
    }

    /// Damages the database of a node that is off: its records are gone, its metadata files and blobs are not.
    pub fn lose_records(&mut self, node: NodeIndex) {
        assert!(self.machines[node].agent.is_none(), "node {node} is on");
        self.machines[node].disk.lose_records();
        self.check_owes_nothing(node, false);
    }

    /// A defect of the driver, for tests of the rules alone: what is asked to be written is reported at once, and
    /// durable later.
    pub fn speak_too_soon(&mut self) {
        self.speaks_too_soon = true;
    }

    /// From now on an agent goes on as a snapshot of it before each `every`-th input, as one that is replayed from the middle
    /// of a run: nothing may come of that.
    pub fn go_on_from_snapshots(&mut self, every: u64) {
        self.snapshots = Some(every);
    }
}
