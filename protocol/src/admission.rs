//! Who may speak: in a closed mesh those that show the certificate of a member, and in any mesh as many as there is room
//! for (`protocol/README.md` §13.7 and §13.8).
//!
//! A connection of a closed mesh arrives, shows a certificate, and is admitted or dismissed; until then the driver lets
//! nothing else be spoken on it. Those that wait for that are bounded in number and time, so strangers can't fill the
//! door. What was admitted is judged again when metadata changes and as time passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{NodeId, RepositoryId, Time, action::LinkId, config::MAX_PEERS, member::Certificate, table::Table};

/// Connections that may wait for their proof at a time; the oldest of the most crowded origin makes room.
pub const MAX_UNPROVEN: usize = 32;
/// How long a connection may take to show a certificate.
pub const PROOF_PATIENCE: Duration = Duration::from_secs(10);
/// Strangers that people are told of in such a time.
const MAX_TOLD: u32 = 32;
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// Certificates remembered of those that were admitted.
const MAX_ADMITTED: usize = 2 * MAX_PEERS;

/// A closed mesh, as one of its members sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The fleets whose members may speak, by repository; at most [`MAX_FLEETS`] repositories.
    pub fleets: BTreeMap<RepositoryId, BTreeSet<String>>,
}

/// Repositories whose fleets make up a mesh at most.
pub const MAX_FLEETS: usize = 16;

/// Where connections come from, as far as one machine can make them up: an IPv4 address, or the 64 bits in front of an
/// IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin(IpAddr);

impl Origin {
    /// The origin of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

/// What a node was admitted by.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Admitted {
    /// What it showed.
    pub(crate) bytes: Vec<u8>,
    /// The same, judged.
    pub(crate) certificate: Certificate,
}

#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    node: NodeId,
    origin: Option<Origin>,
    dialled: bool,
    since: Time,
}

/// The connections that wait for their proof, and what those that gave it showed. Nobody comes to most nodes' door: a pointer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Door(Option<Box<Comers>>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Comers {
    waiting: Table<LinkId, Waiting>,
    admitted: Table<NodeId, Admitted>,
    /// Since when, and how often, people were told of strangers.
    told: (Time, u32),
}

impl Door {
    /// A connection arrived; returns one that has to go for it.
    pub(crate) fn arrived(
        &mut self,
        link: LinkId,
        node: NodeId,
        from: Option<IpAddr>,
        dialled: bool,
        now: Time,
    ) -> Option<(LinkId, NodeId)> {
        let Comers { waiting: all, .. } = &mut **self.0.get_or_insert_default();
        all.insert(link, Waiting { node, origin: from.map(Origin::of), dialled, since: now });
        if all.len() <= MAX_UNPROVEN {
            return None;
        }
        let mut crowds: BTreeMap<Option<Origin>, usize> = BTreeMap::new();
        for waiting in all.values() {
            *crowds.entry(waiting.origin).or_default() += 1;
        }
        // A member shows its certificate at once, so the oldest of a crowd is the least likely to be one.
        let crowd = |waiting: &Waiting| crowds.get(&waiting.origin).copied().unwrap_or_default();
        let worst =
            all.iter().max_by_key(|(link, waiting)| (crowd(waiting), std::cmp::Reverse((waiting.since, **link))));
        let (link, node) = worst.map(|(link, waiting)| (*link, waiting.node))?;
        all.remove(&link);
        Some((link, node))
    }

    /// A connection showed something, or is gone: it waits no longer. Returns whose it is, if it did, and whether this
    /// side dialled.
    pub(crate) fn answered(&mut self, link: LinkId) -> Option<(NodeId, bool)> {
        self.0.as_mut()?.waiting.remove(&link).map(|waiting| (waiting.node, waiting.dialled))
    }

    /// The connections that took too long, which wait no longer.
    pub(crate) fn overdue(&mut self, now: Time) -> Vec<(LinkId, NodeId)> {
        let Some(comers) = &mut self.0 else { return Vec::new() };
        let due = |waiting: &Waiting| now.since(waiting.since) >= PROOF_PATIENCE;
        let due: Vec<_> =
            comers.waiting.iter().filter(|(_, waiting)| due(waiting)).map(|(l, w)| (*l, w.node)).collect();
        for (link, _) in &due {
            comers.waiting.remove(link);
        }
        due
    }

    /// When [`Door::overdue`] has something to say next.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.0.as_ref()?.waiting.values().map(|waiting| waiting.since + PROOF_PATIENCE).min()
    }

    /// Remembers what a node was admitted by. Beyond the bound, one that is not connected makes room.
    pub(crate) fn admit(&mut self, node: NodeId, by: Admitted, connected: impl Fn(NodeId) -> bool) {
        let Comers { admitted, .. } = &mut **self.0.get_or_insert_default();
        if admitted.len() >= MAX_ADMITTED && !admitted.contains_key(&node) {
            let gone = admitted.keys().copied().find(|node| !connected(*node));
            gone.map(|node| admitted.remove(&node));
        }
        admitted.insert(node, by);
    }

    /// Those that were admitted, and by what.
    pub(crate) fn admitted(&self) -> impl Iterator<Item = (NodeId, &Admitted)> {
        self.0.iter().flat_map(|comers| comers.admitted.iter()).map(|(node, by)| (*node, by))
    }

    /// What a node was admitted by; nothing of one that never showed a certificate, as in an open mesh.
    pub(crate) fn member(&self, node: NodeId) -> Option<&Certificate> {
        self.0.as_ref()?.admitted.get(&node).map(|by| &by.certificate)
    }

    /// Whether people are told of one more stranger: a crowd at the door must not drown the rest.
    pub(crate) fn may_tell(&mut self, now: Time) -> bool {
        let Comers { told, .. } = &mut **self.0.get_or_insert_default();
        if now.since(told.0) >= TELL_INTERVAL {
            *told = (now, 0);
        }
        told.1 += 1;
        told.1 <= MAX_TOLD
    }

    /// Forgets one that is no member any more.
    pub(crate) fn expel(&mut self, node: NodeId) {
        self.0.as_mut().map(|comers| comers.admitted.remove(&node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    #[test]
    fn a_crowd_makes_room_for_others_and_its_oldest_goes_first() {
        let mut door = Door::default();
        let crowd: IpAddr = "10.0.0.9".parse().unwrap();
        for number in 0..MAX_UNPROVEN as u64 {
            assert_eq!(door.arrived(LinkId(number), node(1), Some(crowd), false, Time(number)), None);
        }
        let member: IpAddr = "10.0.0.7".parse().unwrap();
        assert_eq!(door.arrived(LinkId(100), node(2), Some(member), true, Time(100)), Some((LinkId(0), node(1))));
        for number in 101..200 {
            let gone = door.arrived(LinkId(number), node(1), Some(crowd), false, Time(number)).unwrap();
            assert_ne!(gone.0, LinkId(100), "whoever comes alone stays");
        }
        assert_eq!(door.wake_at(), Some(Time(100) + PROOF_PATIENCE));
        assert_eq!(door.answered(LinkId(100)), Some((node(2), true)));
        assert_eq!(door.overdue(Time(1_000_000)).len(), MAX_UNPROVEN - 1);
        assert_eq!((door.wake_at(), door.answered(LinkId(100))), (None, None));
    }

    #[test]
    fn an_origin_is_what_one_machine_can_make_up() {
        let origin = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
    }
}
