//! Members that a fleet took back. The list is signed by the fleet's role, travels in the trust pack, and its sequence
//! only goes up (`protocol/README.md` §13.4).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::MAX_SERIAL;
use crate::NodeId;

/// Revoked members of a fleet at most.
pub const MAX_REVOKED: usize = 4096;

/// The revocations of one fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    seq: u64,
    /// The highest serial that does not count any more, by node.
    members: BTreeMap<NodeId, u64>,
}

impl Revoked {
    /// How often the list was changed; 0 for none.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether the certificate of this number no longer counts.
    #[must_use]
    pub fn covers(&self, node: NodeId, serial: u64) -> bool {
        self.members.get(&node).is_some_and(|highest| serial <= *highest)
    }

    /// The revoked members, each with the highest serial that does not count.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.members.iter().map(|(node, serial)| (*node, *serial))
    }

    /// The list with one more; `None` if it says so already, has no room, or the serial is out of range.
    #[must_use]
    pub fn with(&self, node: NodeId, serial: u64) -> Option<Self> {
        let mut members = self.members.clone();
        let grown = members.insert(node, serial).is_none_or(|before| before < serial);
        let fits = members.len() <= MAX_REVOKED && (1..MAX_SERIAL).contains(&serial) && self.seq + 1 < MAX_SERIAL;
        (grown && fits).then_some(Self { seq: self.seq + 1, members })
    }

    /// Its form in signed metadata.
    pub(crate) fn value(&self, fleet: &str) -> Value {
        let revoked = self.members.iter().map(|(node, serial)| json!({ "node": node, "serial": serial }));
        json!({ "v": 1, "fleet": fleet, "seq": self.seq, "revoked": revoked.collect::<Vec<_>>() })
    }

    /// Reads it back from its one form.
    pub(crate) fn read(value: &Value, fleet: &str) -> Result<Self, &'static str> {
        let entries = value["revoked"].as_array().ok_or("it lists nothing")?;
        if entries.is_empty() || entries.len() > MAX_REVOKED {
            return Err("it has no entry, or over 4096");
        }
        let entry = |entry: &Value| {
            let serial = entry["serial"].as_u64().filter(|serial| (1..MAX_SERIAL).contains(serial))?;
            Some((entry["node"].as_str()?.parse().ok()?, serial))
        };
        let members = entries.iter().map(entry).collect::<Option<_>>().ok_or("an entry is no node and serial")?;
        let seq = value["seq"].as_u64().filter(|seq| (1..MAX_SERIAL).contains(seq)).ok_or("its seq is out of range")?;
        let read = Self { seq, members };
        if read.value(fleet) == *value { Ok(read) } else { Err("it is not written as format 1 is") }
    }
}
