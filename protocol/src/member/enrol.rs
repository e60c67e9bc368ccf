//! What a new device and its enroller say to each other: one request, one answer, over the mesh or as files
//! (`protocol/README.md` §13.6). A request proves that its sender has the invitation and the node's key; whoever carries
//! it can do nothing else with it.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{Certificate, Invitation, InvitationId, InvitationKey, MAX_CERTIFICATE, MemberError, admit};
use crate::{
    NodeId, RepositoryId, SealKey, Wall,
    trust::{self, TrustError, Verified, pack::MAX_PACK},
    wire,
};

/// Bytes of a request at most.
pub const MAX_REQUEST: usize = 1024;
/// Bytes of an answer at most: a trust pack and its company.
pub const MAX_ANSWER: usize = MAX_PACK + MAX_CERTIFICATE + MAX_WRAPPED + 1024;
/// Bytes of the fleet's wrapped keys at most.
pub const MAX_WRAPPED: usize = 4 << 10;

/// What the node's signature covers besides the request, so that it can't be taken for anything else.
const CONTEXT: &[u8] = b"burr enrolment v1\0";

/// A device asks to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// By which invitation.
    pub invitation: InvitationId,
    /// The repository that the invitation names.
    pub repository: RepositoryId,
    /// Who asks.
    pub node: NodeId,
    /// Its key for what is sealed to it.
    pub seal_key: SealKey,
}

/// A request as it travels.
#[derive(Serialize, Deserialize)]
struct Sealed {
    request: Vec<u8>,
    /// BLAKE3 of the request, keyed by the invitation.
    invited: [u8; 32],
    /// By the node's own key, in two halves.
    signature: ([u8; 32], [u8; 32]),
}

/// What the enroller says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The device is a member.
    Welcome(Welcome),
    /// It is not.
    Refused(Refusal),
}

/// All that a member begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// The newest metadata of the repository, which the certificate is judged by.
    pub pack: Vec<u8>,
    /// The fleet's keys, sealed to the device; empty for a fleet without.
    pub wrapped: Vec<u8>,
}

/// Why a device is not enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No such invitation was made there, or it was not shown.
    #[error("the enroller knows no such invitation; ask for a new one")]
    Unknown,
    /// Another device came first.
    #[error("the invitation was used already, by another device; ask for a new one")]
    Used,
    /// It is too late.
    #[error("the invitation has expired; ask for a new one")]
    Expired,
    /// The enroller can't sign for the fleet now.
    #[error("the enroller can't sign for the fleet now; its log says why")]
    Unable,
    /// It was enrolled by this invitation, and is no member any more.
    #[error("this device was a member by this invitation, and is no member any more; ask for a new invitation")]
    NoMember,
}

/// A request or an answer that is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// Bytes that are none.
    #[error("not within the form and bounds of an enrolment")]
    Malformed,
    /// It does not prove that its sender has the invitation.
    #[error("whoever asks does not have the invitation")]
    NotInvited,
    /// It is not signed by the node that it names.
    #[error("not signed by the node that it names")]
    Signature,
    /// Refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The metadata is not that of the repository that the invitation names.
    #[error("the metadata that came is not that of the invitation's repository: {0}")]
    Metadata(#[from] TrustError),
    /// The certificate is not good.
    #[error(transparent)]
    Certificate(#[from] MemberError),
    /// The certificate is good, and not what was asked for.
    #[error("the certificate is for another key or fleet than was asked for")]
    OtherCertificate,
}

impl Request {
    /// A request of the device with this key, by an invitation, as it travels.
    #[must_use]
    pub fn seal(invitation: &Invitation, key: &SigningKey, seal_key: SealKey) -> Vec<u8> {
        let request = wire::encode(&Self {
            invitation: invitation.id(),
            repository: invitation.repository,
            node: NodeId(key.verifying_key().to_bytes()),
            seal_key,
        });
        let signature = key.sign(&[CONTEXT, &request].concat()).to_bytes();
        let (left, right) = signature.split_at(32);
        let signature = (left.try_into().expect("32"), right.try_into().expect("32"));
        wire::encode(&Sealed { invited: invited(&invitation.key(), &request), request, signature })
    }

    /// Reads a request and checks that the node that it names made it. Whether it is invited is asked of
    /// [`Request::is_invited`], once its invitation is found.
    ///
    /// # Errors
    /// [`EnrolError::Malformed`] or [`EnrolError::Signature`].
    pub fn open(bytes: &[u8]) -> Result<Self, EnrolError> {
        let sealed: Sealed = wire::decode(bytes, MAX_REQUEST).map_err(|_| EnrolError::Malformed)?;
        let request: Self = wire::decode(&sealed.request, MAX_REQUEST).map_err(|_| EnrolError::Malformed)?;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&sealed.signature.0);
        signature[32..].copy_from_slice(&sealed.signature.1);
        let message = [CONTEXT, &sealed.request].concat();
        let signed = VerifyingKey::from_bytes(&request.node.0)
            .is_ok_and(|key| key.verify_strict(&message, &signature.into()).is_ok());
        if signed { Ok(request) } else { Err(EnrolError::Signature) }
    }

    /// Checks that whoever made these bytes has the invitation of this key.
    ///
    /// # Errors
    /// [`EnrolError::NotInvited`].
    pub fn is_invited(bytes: &[u8], key: &InvitationKey) -> Result<(), EnrolError> {
        let sealed: Sealed = wire::decode(bytes, MAX_REQUEST).map_err(|_| EnrolError::Malformed)?;
        // Compared in constant time, as BLAKE3's own hashes are.
        let same = blake3::Hash::from(invited(key, &sealed.request)) == blake3::Hash::from(sealed.invited);
        if same { Ok(()) } else { Err(EnrolError::NotInvited) }
    }
}

impl Answer {
    /// The answer's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads an answer; nothing in it is believed yet.
    ///
    /// # Errors
    /// [`EnrolError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolError> {
        let answer = wire::decode(bytes, MAX_ANSWER).map_err(|_| EnrolError::Malformed)?;
        match &answer {
            Self::Welcome(Welcome { certificate, wrapped, .. })
                if certificate.len() > MAX_CERTIFICATE || wrapped.len() > MAX_WRAPPED =>
            {
                Err(EnrolError::Malformed)
            }
            _ => Ok(answer),
        }
    }

    /// Checks an answer as the device that asked: the metadata from the root that the invitation pins, and the
    /// certificate by that metadata, for this node and key.
    ///
    /// # Errors
    /// [`EnrolError`] for what does not hold, or the refusal itself.
    pub fn check(
        self,
        invitation: &Invitation,
        node: NodeId,
        seal_key: SealKey,
        now: Wall,
    ) -> Result<(Welcome, Verified, Certificate), EnrolError> {
        let welcome = match self {
            Self::Welcome(welcome) => welcome,
            Self::Refused(refusal) => return Err(refusal.into()),
        };
        let verified = trust::verify(invitation.repository, None, &welcome.pack)?;
        let fleets = [invitation.fleet.clone()].into();
        let certificate = admit(&verified, &fleets, &welcome.certificate, node, now)?;
        if certificate.seal_key == seal_key {
            Ok((welcome, verified, certificate))
        } else {
            Err(EnrolError::OtherCertificate)
        }
    }
}

fn invited(key: &InvitationKey, request: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&key.0, request).as_bytes()
}
