//! The schemes that other people's repositories use beside Ed25519: ECDSA on P-256 and RSA-PSS, both over SHA-256.

use p256::ecdsa::signature::Verifier as _;
use rsa::pkcs1::DecodeRsaPublicKey as _;
use sha2::Sha256;

/// Whether a DER signature is this uncompressed SEC1 point's.
pub(super) fn is_signed_ecdsa(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) =
        (p256::ecdsa::VerifyingKey::from_sec1_bytes(key), p256::ecdsa::Signature::from_der(signature))
    else {
        return false;
    };
    key.verify(message, &signature).is_ok()
}

/// Whether a signature is this PKCS #1 key's, with a salt as long as the digest, as TUF's scheme has it.
pub(super) fn is_signed_rsa(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (rsa::PublicKey::from_pkcs1_der(key), rsa::pss::Signature::try_from(signature))
    else {
        return false;
    };
    rsa::pss::VerifyingKey::<Sha256>::new(key).verify(message, &signature).is_ok()
}
