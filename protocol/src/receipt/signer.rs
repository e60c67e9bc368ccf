//! Who signs a node's receipts.

use std::{collections::BTreeMap, fmt};

use ed25519_dalek::{
    SecretKey, Signer as _, SigningKey, VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{Receipt, SignedReceipt, signed_bytes};
use crate::{NodeId, wire};

/// Signs in a node's name.
pub enum Signer {
    /// The node's identity key.
    Key(KeyPair),
    /// What the node signed when it was recorded: a recording holds no key (`crate::flight`).
    Recorded(Box<Recorded>),
}

/// A node's identity key. Its public half is worked out once: that costs as much as a signature. Each signature is of a hash
/// of that half too, and one of the same bytes with another half would give the secret away; so a pair is made of a whole
/// key alone, and stays as it was made.
///
/// ```
/// use burr_protocol::receipt::{KeyPair, Signer};
/// let pair = KeyPair::from(ed25519_dalek::SigningKey::from_bytes(&[1; 32]));
/// ```
///
/// ```compile_fail,E0451
/// use burr_protocol::receipt::{KeyPair, Signer};
/// let pair = KeyPair::from(ed25519_dalek::SigningKey::from_bytes(&[1; 32]));
/// let pair = KeyPair { node: burr_protocol::NodeId([2; 32]), ..pair };
/// ```
pub struct KeyPair {
    secret: Zeroizing<SecretKey>,
    node: NodeId,
}

impl KeyPair {
    /// What RFC 8032 has the key sign these bytes with.
    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let public = VerifyingKey::from_bytes(&self.node.0).expect("it is the public half of a key");
        raw_sign::<Sha512>(&ExpandedSecretKey::from(&*self.secret), bytes, &public).to_bytes()
    }
}

impl From<SigningKey> for KeyPair {
    fn from(key: SigningKey) -> Self {
        Self { secret: Zeroizing::new(key.to_bytes()), node: NodeId(key.verifying_key().to_bytes()) }
    }
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
            Self::Key(pair) => pair.node,
            Self::Recorded(recorded) => recorded.me,
        }
    }

    /// Signs a receipt. One that was not recorded gets a signature that does not hold.
    #[must_use]
    pub fn sign(&self, receipt: &Receipt) -> SignedReceipt {
        match self {
            Self::Key(pair) => SignedReceipt::sign_as(pair.node, receipt, |bytes| pair.sign(bytes)),
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
        Self::Key(key.into())
    }
}

impl SignedReceipt {
    /// Signs a receipt with the device's identity key, or its gateway's.
    #[must_use]
    pub fn sign(receipt: &Receipt, key: &SigningKey) -> Self {
        Self::sign_as(NodeId(key.verifying_key().to_bytes()), receipt, |bytes| key.sign(bytes).to_bytes())
    }

    fn sign_as(node: NodeId, receipt: &Receipt, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Self {
        assert_eq!(receipt.signer(), node, "a node signs for itself and for what is behind it");
        let receipt = wire::encode(receipt);
        let signature = sign(&signed_bytes(&receipt));
        Self::of(receipt, signature)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.node())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pair_signs_as_its_key_does(secret: [u8; 32], bytes: Vec<u8>) {
            let key = SigningKey::from_bytes(&secret);
            let pair = KeyPair::from(key.clone());
            prop_assert_eq!(pair.node.0, key.verifying_key().to_bytes());
            prop_assert_eq!(pair.sign(&bytes), key.sign(&bytes).to_bytes());
        }
    }
}
