//! The cryptography under the TUF reader: Ed25519 as `verify_strict` has it, and SHA-2. It can verify, never sign.
//! With the feature `tuf-interop` it also knows the schemes of other people's repositories; a trust pack still may not
//! use them (`document::check_keys`).

#[cfg(feature = "tuf-interop")]
mod interop;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_crypto::{CryptoProvider, Error, HashContext, Result, SigningScheme};
use sigstore_types::HashAlgorithm;

/// Makes sure that the TUF reader has a provider. The first one installed stays for the whole process: a program that
/// also uses another sigstore library keeps its own, and our strict check of each signature (`document`) holds anyway.
pub(super) fn install() {
    // An error says that one is installed already.
    let _ = sigstore_crypto::install_default_provider(&Provider);
}

/// Whether `signature` is this key's signature of `message`, without the malleable or small-order cases.
pub(super) fn is_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = <&[u8; 32]>::try_from(key) else { return false };
    match (VerifyingKey::from_bytes(key), Signature::from_slice(signature)) {
        (Ok(key), Ok(signature)) => key.verify_strict(message, &signature).is_ok(),
        _ => false,
    }
}

#[derive(Debug)]
struct Provider;

impl CryptoProvider for Provider {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        match algorithm {
            HashAlgorithm::Sha2256 => Ok(Box::new(Sha256Context(Sha256::new()))),
            HashAlgorithm::Sha2384 => Ok(Box::new(Sha384Context(Sha384::new()))),
            HashAlgorithm::Sha2512 => Ok(Box::new(Sha512Context(Sha512::new()))),
            other => Err(Error::UnsupportedAlgorithm(format!("{other:?}"))),
        }
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        let is_signed = match scheme {
            SigningScheme::Ed25519 => is_signed(key, data, signature),
            #[cfg(feature = "tuf-interop")]
            SigningScheme::EcdsaP256Sha256 => interop::is_signed_ecdsa(key, data, signature),
            #[cfg(feature = "tuf-interop")]
            SigningScheme::RsaPssSha256 => interop::is_signed_rsa(key, data, signature),
            _ => return Err(Error::UnsupportedAlgorithm(scheme.name().to_owned())),
        };
        if is_signed { Ok(()) } else { Err(Error::Verification("not this key's signature".to_owned())) }
    }

    fn verify_prehashed(&self, scheme: SigningScheme, _key: &[u8], _digest: &[u8], _signature: &[u8]) -> Result<()> {
        Err(Error::UnsupportedAlgorithm(scheme.name().to_owned()))
    }
}

macro_rules! context {
    ($name:ident, $hash:ty) => {
        struct $name($hash);

        impl HashContext for $name {
            fn update(&mut self, data: &[u8]) {
                self.0.update(data);
            }

            fn finalize(self: Box<Self>) -> Vec<u8> {
                self.0.finalize().to_vec()
            }
        }
    };
}

context!(Sha256Context, Sha256);
context!(Sha384Context, Sha384);
context!(Sha512Context, Sha512);
