//! Membership: who may speak in a closed mesh, and how a device comes to belong (`protocol/README.md` section 13).
//!
//! ```text
//!   invitation ─ carried by a person ─▶ device makes its keys ─ request ─▶ enroller signs ─ certificate ─▶ device
//!   certificate ─ shown on each connection ─▶ judged by the fleet's keys and its revocations in verified metadata
//! ```
//!
//! A fleet is a role that the repository's targets delegate to, so who may enrol is decided by signature alone. A
//! certificate names a node by its key, which the transport proves on every connection: a stolen one is of no use.

mod enrol;
mod invitation;
mod revocation;

use std::{collections::BTreeSet, fmt, str::FromStr};

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use enrol::{Answer, EnrolError, MAX_ANSWER, MAX_REQUEST, MAX_WRAPPED, Refusal, Request, Welcome};
pub use invitation::{Invitation, InvitationError, InvitationId, InvitationKey, MAX_INVITATION};
pub use revocation::{MAX_REVOKED, Revoked};

use crate::{
    NodeId, RepositoryId, SealKey, Wall, label,
    trust::{Verified, certificate, write},
};

/// Bytes of a certificate at most.
pub const MAX_CERTIFICATE: usize = 8 << 10;
/// Groups of a member at most.
pub const MAX_GROUPS: usize = 16;
/// Serial numbers stay below this, so that every JSON reader holds them exactly.
pub const MAX_SERIAL: u64 = 1 << 53;

/// What a member is there for, and so what others leave to it (`protocol/README.md` §13.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Installs what is released.
    Device,
    /// Serves devices that are no nodes, and speaks for them.
    Gateway,
    /// Keeps and serves at one place.
    Kiosk,
    /// Publishes, or enrols others.
    Operator,
    /// Passes on what others ask for.
    Relay,
}

impl Capability {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Device, "device"),
        (Self::Gateway, "gateway"),
        (Self::Kiosk, "kiosk"),
        (Self::Operator, "operator"),
        (Self::Relay, "relay"),
    ];

    /// Whether it is given the keys of what is sealed for its fleet.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Device | Self::Operator)
    }

    /// Whether it is believed that it collects receipts, so that others need not carry them.
    #[must_use]
    pub fn collects(self) -> bool {
        matches!(self, Self::Gateway | Self::Kiosk | Self::Operator)
    }

    /// Whether it signs receipts for devices that have no key.
    #[must_use]
    pub fn speaks_for_others(self) -> bool {
        self == Self::Gateway
    }

    /// Whether a place is kept for it where many devices are: it is there for them.
    #[must_use]
    pub fn serves(self) -> bool {
        self != Self::Device
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = Self::ALL.iter().find(|(capability, _)| capability == self).expect("all are listed");
        f.write_str(name)
    }
}

impl FromStr for Capability {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(capability, _)| *capability);
        found.ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            malformed(format!("{text:?} is no capability; there are device, gateway, kiosk, operator and relay"))
        })
    }
}

/// What a fleet says of one of its members. Made from outside bytes by [`admit`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The repository whose targets delegate to the fleet.
    pub repository: RepositoryId,
    /// The fleet: a label.
    pub fleet: String,
    /// The member: its Ed25519 key, which its connections prove.
    pub node: NodeId,
    /// Its key for what is sealed to it.
    pub seal_key: SealKey,
    /// Groups that it is in: labels, at most [`MAX_GROUPS`].
    pub groups: BTreeSet<String>,
    /// What it is there for; not empty.
    pub capabilities: BTreeSet<Capability>,
    /// Its number in the fleet, from 1; a later certificate of the same member has a higher one.
    pub serial: u64,
    /// It counts up to this time.
    pub not_after: Wall,
}

/// Why somebody is no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Bytes that are no certificate.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// It is another node's.
    #[error("the certificate is that of node {}, shown by {}", named.short(), shown_by.short())]
    Stolen {
        /// Whose it is.
        named: NodeId,
        /// Who showed it.
        shown_by: NodeId,
    },
    /// It is of a fleet, or of a repository, whose members may not speak here.
    #[error("fleet {fleet} of repository {} has no say here", repository.short())]
    Foreign {
        /// Its fleet.
        fleet: String,
        /// Its repository.
        repository: RepositoryId,
    },
    /// There is no metadata to judge it by.
    #[error("there is no metadata of repository {} here to judge the certificate by", .0.short())]
    NotHeld(RepositoryId),
    /// The fleet's keys did not sign it.
    #[error("the certificate is not signed as fleet {fleet} signs: {problem}")]
    Forged {
        /// The fleet.
        fleet: String,
        /// What is missing or false.
        problem: String,
    },
    /// Its time is over.
    #[error("the certificate was good until {}", words(*.0))]
    Expired(Wall),
    /// The fleet took it back.
    #[error("the member was revoked")]
    Revoked,
}

impl Certificate {
    /// Whether one of its capabilities gives the member this right, such as [`Capability::reads`].
    #[must_use]
    pub fn may(&self, right: fn(Capability) -> bool) -> bool {
        self.capabilities.iter().copied().any(right)
    }

    /// Signs it, in its one spelling.
    ///
    /// # Errors
    /// [`MemberError::Malformed`] if it breaks a bound.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Vec<u8>, MemberError> {
        self.check()?;
        let bytes = write::sign(&self.signed()?, keys);
        if bytes.len() > MAX_CERTIFICATE { Err(malformed("it is over 8 KiB".to_owned())) } else { Ok(bytes) }
    }

    /// Reads a certificate, whoever signed it: what [`admit`] has to judge, or what was judged before.
    ///
    /// # Errors
    /// [`MemberError::Malformed`] if it is not the one spelling of a certificate within its bounds.
    pub fn read(bytes: &[u8]) -> Result<Self, MemberError> {
        let (signed, _) = certificate::open(bytes).map_err(malformed)?;
        let field = |name: &str| signed.get(name).cloned().unwrap_or_default();
        let not_after = field("not_after").as_str().and_then(certificate::time);
        let read = || -> serde_json::Result<Self> {
            Ok(Self {
                repository: serde_json::from_value(field("repository"))?,
                fleet: serde_json::from_value(field("fleet"))?,
                node: serde_json::from_value(field("node"))?,
                seal_key: serde_json::from_value(field("seal_key"))?,
                groups: serde_json::from_value(field("groups"))?,
                capabilities: serde_json::from_value(field("capabilities"))?,
                serial: serde_json::from_value(field("serial"))?,
                not_after: not_after.unwrap_or_default(),
            })
        };
        let certificate = read().map_err(|error| malformed(error.to_string()))?;
        certificate.check()?;
        // Whatever else stands in it, or stands there in another way, could be a rule that this program does not keep.
        if certificate.signed()? == signed {
            Ok(certificate)
        } else {
            Err(malformed("it has other fields than format 1, or writes one in another way".to_owned()))
        }
    }

    /// What is signed.
    fn signed(&self) -> Result<Value, MemberError> {
        let not_after = certificate::time_text(self.not_after);
        Ok(json!({
            "_type": "member",
            "v": 1,
            "repository": self.repository,
            "fleet": self.fleet,
            "node": self.node,
            "seal_key": self.seal_key,
            "groups": self.groups,
            "capabilities": self.capabilities,
            "serial": self.serial,
            "not_after": not_after.ok_or_else(|| malformed("its time is out of range".to_owned()))?,
        }))
    }

    fn check(&self) -> Result<(), MemberError> {
        let labels = self.groups.iter().map(|group| ("group", group)).chain([("fleet", &self.fleet)]);
        for (what, label) in labels {
            label::check_name(what, label).map_err(|error| malformed(error.to_string()))?;
        }
        if self.groups.len() > MAX_GROUPS || self.capabilities.is_empty() {
            return Err(malformed(format!("it has over {MAX_GROUPS} groups, or no capability")));
        }
        if self.serial == 0 || self.serial >= MAX_SERIAL {
            return Err(malformed("its serial is not between 1 and 2^53 - 1".to_owned()));
        }
        Ok(())
    }
}

/// Judges a certificate that a node showed, by the metadata of the repository that it names: it is of one of these
/// fleets, names that very node, is signed to the fleet's threshold, not past its time at `now`, and not revoked.
///
/// # Errors
/// [`MemberError`] for the first that does not hold.
pub fn admit(
    verified: &Verified,
    fleets: &BTreeSet<String>,
    bytes: &[u8],
    node: NodeId,
    now: Wall,
) -> Result<Certificate, MemberError> {
    let certificate = Certificate::read(bytes)?;
    if certificate.node != node {
        return Err(MemberError::Stolen { named: certificate.node, shown_by: node });
    }
    let fleet = Some(&certificate.fleet).filter(|fleet| fleets.contains(*fleet));
    let fleet = fleet.filter(|_| certificate.repository == verified.repository()).and_then(|name| verified.fleet(name));
    let Some(fleet) = fleet else {
        return Err(MemberError::Foreign { fleet: certificate.fleet, repository: certificate.repository });
    };
    if let Err(problem) = certificate::check_signatures(bytes, &fleet.signers) {
        return Err(MemberError::Forged { fleet: certificate.fleet, problem });
    }
    if certificate.not_after < now {
        return Err(MemberError::Expired(certificate.not_after));
    }
    if fleet.revoked.covers(certificate.node, certificate.serial) {
        return Err(MemberError::Revoked);
    }
    Ok(certificate)
}

fn malformed(problem: impl Into<String>) -> MemberError {
    MemberError::Malformed(problem.into())
}

fn words(time: Wall) -> String {
    certificate::time_text(time).unwrap_or_else(|| format!("{} s after 1970", time.0))
}
