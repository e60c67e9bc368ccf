//! Who signs a node's receipts.

use std::{collections::BTreeMap, fmt};

use ed25519_dalek::SigningKey;

use super::{Receipt, SignedReceipt};
use crate::{NodeId, wire};

/// Signs in a node's name.
pub enum Signer {
    /// The node's identity key.
    Key(Box<SigningKey>),
    /// What the node signed when it was recorded, by what it signed: a recording holds no key (`crate::flight`).
    Recorded {
        /// The node.
        me: NodeId,
        /// Its signatures, by the bytes of the receipt.
        signed: BTreeMap<Vec<u8>, SignedReceipt>,
    },
}

impl Signer {
    /// In whose name it signs.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Key(key) => NodeId(key.verifying_key().to_bytes()),
            Self::Recorded { me, .. } => *me,
        }
    }

    /// Signs a receipt. One that was not recorded gets a signature that does not hold.
    #[must_use]
    pub fn sign(&self, receipt: &Receipt) -> SignedReceipt {
        match self {
            Self::Key(key) => SignedReceipt::sign(receipt, key),
            Self::Recorded { signed, .. } => {
                let receipt = wire::encode(receipt);
                signed.get(&receipt).cloned().unwrap_or(SignedReceipt { receipt, signature: ([0; 32], [0; 32]) })
            }
        }
    }
}

impl From<SigningKey> for Signer {
    fn from(key: SigningKey) -> Self {
        Self::Key(Box::new(key))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.node())
    }
}
