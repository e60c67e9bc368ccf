//! The door of a closed mesh: connections that arrive, show a certificate or something else, and are admitted only if the
//! fleet signed for that very node and did not take it back.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use burr_protocol::{
    NodeId,
    action::{Input, LinkId},
    admission::Closed,
    peers::Address,
    trust::write::Repository,
};

use super::{
    super::{
        program::Program,
        shop::{self, history, key},
    },
    PEERS, peer,
    world::World,
};

/// A connection that waits to be admitted.
pub(super) struct Link {
    node: NodeId,
    address: Option<Address>,
    shown: Vec<u8>,
}

/// The closed mesh that the agent was enrolled in.
pub(super) fn closed() -> Closed {
    Closed { fleets: [(shop::id(), ["stores".to_owned()].into())].into() }
}

/// Signed once for each node.
pub(super) fn certificate(node: NodeId) -> Vec<u8> {
    static SIGNED: LazyLock<BTreeMap<NodeId, Vec<u8>>> = LazyLock::new(|| {
        let own = shop::node(101);
        let nodes = (0..=PEERS).map(peer).chain([own]);
        let sign = |node| shop::certificate(node, 3).sign(&[&key(9)]).expect("within its bounds");
        nodes.map(|node| (node, sign(node))).collect()
    });
    SIGNED[&node].clone()
}

impl World {
    /// A connection of a node with its true certificate.
    pub(super) fn arrive(&mut self, node: NodeId, address: Option<Address>) {
        if self.config.closed.is_some() {
            let link = self.link(node, None, address);
            self.show(link, certificate(node));
        } else {
            self.connected.insert(node);
            self.handle(Input::Connected { node, address, near: false });
        }
    }

    /// A connection of a node that may show anything, or nothing.
    pub(super) fn knock(&mut self, node: NodeId, program: &mut Program<'_>) {
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, program.byte() % 4));
        let link = self.link(node, Some(from), None);
        match program.below(6) {
            0 => self.show(link, certificate(node)),
            1 => self.show(link, certificate(peer(PEERS))),
            2 => self.show(link, program.take().to_vec()),
            3 => {
                let mut bytes = certificate(node);
                program.alter(&mut bytes);
                self.show(link, bytes);
            }
            4 => {
                self.links.remove(&link);
                self.handle(Input::Departed { link });
            }
            _ => self.handle(Input::TurnedAway { node, why: program.text() }),
        }
    }

    fn link(&mut self, node: NodeId, from: Option<IpAddr>, address: Option<Address>) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let dialled = address.is_some();
        self.links.insert(link, Link { node, address, shown: Vec::new() });
        self.handle(Input::Arrived { link, node, from, dialled });
        link
    }

    fn show(&mut self, link: LinkId, certificate: Vec<u8>) {
        // It may have been dismissed for another already.
        let Some(waiting) = self.links.get_mut(&link) else { return };
        waiting.shown.clone_from(&certificate);
        self.handle(Input::Introduced { link, certificate });
    }

    pub(super) fn admitted(&mut self, link: LinkId) {
        let Link { node, address, shown } = self.links.remove(&link).expect("what is admitted waits");
        assert_eq!(shown, certificate(node), "who is admitted showed what the fleet signed for that node");
        let believed = self.agent.catalog().verified(shop::id()).expect("members are judged by metadata");
        let version = |repository: &Repository| repository.verified().timestamp_version();
        let taken_back = believed.timestamp_version() >= version(&history()[shop::REVOCATION]);
        assert!(node != shop::revoked() || !taken_back, "who was taken back is not admitted");
        self.connected.insert(node);
        self.handle(Input::Connected { node, address, near: false });
    }
}
