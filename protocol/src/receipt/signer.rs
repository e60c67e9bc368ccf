//! Who signs a node's receipts.

use std::{collections::BTreeMap, fmt};

use ed25519_dalek::{SecretKey, SigningKey};
use zeroize::Zeroizing;

use super::{Receipt, SignedReceipt};
use crate::{NodeId, wire};

/// Signs in a node's name.
pub enum Signer {
    /// The node's identity key. What else signing takes is worked out when it signs, which is seldom.
    Key {
        /// Its secret half.
        secret: Zeroizing<SecretKey>,
        /// Its public half.
        node: NodeId,
    },
    /// What the node signed when it was recorded: a recording holds no key (`crate::flight`).
    Recorded(Box<Recorded>),
}

/// The signatures of a recording.
#[derive(Debug)]
pub struct Recorded {
    /// The node.
    pub me: NodeId,
    /// Its signatures, by the bytes of the receipt.
    pub signed: BTreeMap<Vec<u8>, SignedReceipt>,
}

impl Signer {
    /// Whoever signs for an agent that was read back, until somebody does.
    pub(crate) fn nobody() -> Self {
        Self::Recorded(Box::new(Recorded { me: NodeId([0; 32]), signed: BTreeMap::new() }))
    }

    /// In whose name it signs.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Key { node, .. } => *node,
            Self::Recorded(recorded) => recorded.me,
        }
    }

    /// Signs a receipt. One that was not recorded gets a signature that does not hold.
    #[must_use]
    pub fn sign(&self, receipt: &Receipt) -> SignedReceipt {
        match self {
            Self::Key { secret, .. } => SignedReceipt::sign(receipt, &SigningKey::from_bytes(secret)),
            Self::Recorded(recorded) => {
                let receipt = wire::encode(receipt);
                let signed = recorded.signed.get(&receipt).cloned();
                signed.unwrap_or_else(|| SignedReceipt::of(receipt, [0; 64]))
            }
        }
    }
}

impl From<SigningKey> for Signer {
    fn from(key: SigningKey) -> Self {
        let node = NodeId(key.verifying_key().to_bytes());
        Self::Key { secret: Zeroizing::new(key.to_bytes()), node }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.node())
    }
}
