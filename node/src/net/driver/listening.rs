//! Where this node listens: the addresses of its machine, as they come and go, and with the last of them the network.

use std::{net::SocketAddr, sync::PoisonError};

use libp2p::Multiaddr;

use crate::net::{
    Listeners,
    address::{is_one_network, socket_of},
};

pub(super) struct Listening {
    listeners: Listeners,
    /// The machine lost its network.
    away: bool,
}

impl Listening {
    pub(super) fn new(listeners: Listeners) -> Self {
        Self { listeners, away: false }
    }

    /// An address came or went; returns whether the machine has a network, if that changed. It has none once it lost the last
    /// address that is not its own alone. A node that never had another is left to try.
    pub(super) fn note(&mut self, place: &Multiaddr, listening: bool) -> Option<bool> {
        let socket = socket_of(place)?;
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listening {
            tracing::debug!(%place, "listening");
            listeners.insert(socket);
        } else {
            listeners.remove(&socket);
        }
        let of_network = |socket: &SocketAddr| !socket.ip().is_loopback();
        let up = listeners.iter().any(of_network);
        let lost = !listening && of_network(&socket);
        if up != self.away || !(up || lost) {
            return None;
        }
        self.away = !up;
        Some(up)
    }

    /// Whether an address is one of this machine's own networks: no uplink is needed to reach it.
    pub(super) fn is_near(&self, there: SocketAddr) -> bool {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().any(|here| is_one_network(here.ip(), there.ip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_lost_with_the_last_address_and_back_with_the_next() {
        let mut here = Listening::new(Listeners::default());
        let mut note = |address: &str, listening| here.note(&address.parse().unwrap(), listening);
        let [own, cable, radio] = ["127.0.0.1", "192.168.1.5", "10.0.0.7"].map(|ip| format!("/ip4/{ip}/tcp/4400"));
        assert_eq!(note(&own, true), None, "who listens on its own machine alone may dial there");
        assert_eq!(note(&cable, true), None);
        assert_eq!(note(&radio, true), None);
        assert_eq!(note(&cable, false), None, "there is another");
        assert_eq!(note(&radio, false), Some(false));
        assert_eq!(note(&own, false), None);
        assert_eq!(note(&own, true), None);
        assert_eq!(note(&radio, true), Some(true));
        assert_eq!(note(&cable, true), None);
    }
}
