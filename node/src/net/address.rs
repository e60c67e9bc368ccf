//! How nodes and places are written: a node is its Ed25519 key, a place is `host:port` or a multiaddress.
//!
//! A node listens on one port for QUIC (UDP) and TCP alike, so `192.168.1.5:7447` names both ways to it. A multiaddress
//! (`/ip4/192.168.1.5/tcp/7447`, with `/p2p/...` at its end if it must be that very node) names exactly one.

use std::net::{IpAddr, SocketAddr};

use burr_protocol::{NodeId, peers::Address};
use libp2p::{
    Multiaddr, PeerId,
    identity::{PublicKey, ed25519},
    multiaddr::Protocol,
};

/// What there is to dial at an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whom to expect, if that is known.
    pub node: Option<NodeId>,
    /// Where, best first.
    pub places: Vec<Multiaddr>,
}

/// Reads an address; `None` if it is none.
pub(crate) fn parse(address: &Address) -> Option<Target> {
    if let Ok(socket) = address.0.parse::<SocketAddr>() {
        return Some(Target { node: None, places: vec![quic(socket), tcp(socket)] });
    }
    let mut place: Multiaddr = address.0.parse().ok()?;
    let node = match place.iter().last()? {
        Protocol::P2p(peer) => {
            place.pop();
            Some(node_of(&peer)?)
        }
        _ => None,
    };
    socket_of(&place)?;
    Some(Target { node, places: vec![place] })
}

/// The address of the port that a multiaddress of ours names.
pub(crate) fn address_of(place: &Multiaddr) -> Option<Address> {
    socket_of(place).map(|socket| Address(socket.to_string()))
}

/// Where QUIC listens.
pub(crate) fn quic(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

/// Whether a place is reached by TCP.
pub(crate) fn is_tcp(place: &Multiaddr) -> bool {
    place.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

/// Where TCP listens.
pub(crate) fn tcp(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()))
}

/// The IP address and port of a place that this node can dial.
pub(crate) fn socket_of(place: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = place.iter().filter(|part| !matches!(part, Protocol::P2p(_)));
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let ((Protocol::Tcp(port), None) | (Protocol::Udp(port), Some(Protocol::QuicV1))) = (parts.next()?, parts.next())
    else {
        return None;
    };
    parts.next().is_none().then_some(SocketAddr::new(ip, port))
}

/// Whether two private addresses are of one network, as networks are usually cut: 256 addresses of IPv4, a /64 of IPv6.
pub(crate) fn is_one_network(here: IpAddr, there: IpAddr) -> bool {
    match (here, there) {
        (IpAddr::V4(here), IpAddr::V4(there)) => {
            (here.is_private() || here.is_link_local()) && here.octets()[..3] == there.octets()[..3]
        }
        (IpAddr::V6(here), IpAddr::V6(there)) => {
            !here.is_loopback() && !here.is_unspecified() && here.octets()[..8] == there.octets()[..8]
        }
        _ => false,
    }
}

/// The node of a peer; `None` if its key is not an Ed25519 key.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    // The name of an Ed25519 peer is its key itself behind the multihash code 0 ("identity").
    let hash = peer.as_ref();
    if hash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(NodeId(key.to_bytes()))
}

/// The peer of a node; `None` if the bytes are no key.
pub(crate) fn peer_of(node: NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<Target> {
        parse(&Address(text.to_owned()))
    }

    #[test]
    fn a_port_is_two_places_and_a_multiaddress_one() {
        let both = target("10.0.0.7:7447").unwrap();
        assert_eq!(
            both.places,
            ["/ip4/10.0.0.7/udp/7447/quic-v1", "/ip4/10.0.0.7/tcp/7447"].map(|p| p.parse().unwrap())
        );
        assert_eq!(target("[::1]:7447").unwrap().places.len(), 2);
        assert_eq!(target("/ip4/10.0.0.7/tcp/7447").unwrap().places.len(), 1);
        for place in both.places {
            assert_eq!(address_of(&place), Some(Address("10.0.0.7:7447".to_owned())));
        }
    }

    #[test]
    fn one_network_is_a_private_prefix() {
        let one = |a: &str, b: &str| is_one_network(a.parse().unwrap(), b.parse().unwrap());
        assert!(
            one("192.168.1.5", "192.168.1.77") && one("fd00::1:5", "fd00::2:7") && one("169.254.3.1", "169.254.3.9")
        );
        assert!(!one("192.168.1.5", "192.168.2.5") && !one("8.8.8.8", "8.8.8.9") && !one("10.0.0.1", "fd00::1"));
        assert!(!one("127.0.0.1", "127.0.0.1") && !one("::1", "::1"));
    }

    #[test]
    fn a_node_may_be_named() {
        let key = libp2p::identity::Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let node = node_of(&peer).unwrap();
        assert_eq!(peer_of(node), Some(peer));
        assert_eq!(target(&format!("/ip4/10.0.0.7/tcp/7447/p2p/{peer}")).unwrap().node, Some(node));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "host", "10.0.0.7", "10.0.0.7:99999", "/ip4/10.0.0.7", "/ip4/1.2.3.4/tcp/1/ws", "/dns4/a/tcp/1"]
        {
            assert_eq!(target(text), None, "{text}");
        }
    }
}
