//! A publisher's fleets: who was invited, and who is a member.
//!
//! ```text
//! <home>/fleets/<fleet>/invitations/<id>.json     what an invitation gives, and who used it; its owner's alone
//!                      /members/<serial>.cert     every certificate, as it was signed
//! ```
//!
//! That an invitation is used is written first, then the enrolment to the log, then the certificate; a crash in between
//! leaves an invitation that works still, for the same device's next try and for nobody else.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use burr_protocol::{
    NodeId, SealKey, Wall, label,
    member::{
        self, Answer, Capability, Certificate, EnrolError, Invitation, InvitationId, InvitationKey, Refusal, Request,
        Welcome,
    },
    trust::{
        audit::{self, Act},
        write::{Repository, Role, WriteError, key_id},
    },
};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::{PUBLISH, Publisher, lock, now, refused};
use crate::{
    error::{Error, Kind},
    identity,
    membership::{self, write_private},
};

const FLEETS: &str = "fleets";
const INVITATIONS: &str = "invitations";
const MEMBERS: &str = "members";
/// Invitations that wait for their use in one fleet; old ones make room.
const MAX_INVITATIONS: usize = 4096;

/// What an invitation gives.
#[derive(Debug, Clone)]
pub struct Invite {
    /// Groups of the new member.
    pub groups: BTreeSet<String>,
    /// What it is there for.
    pub capabilities: BTreeSet<Capability>,
    /// How long the invitation works.
    pub valid: Duration,
    /// How long the certificate counts from its signing.
    pub member_for: Duration,
    /// Who enrols: the node that runs on this data directory.
    pub enroller: NodeId,
    /// Where it may be reached.
    pub addresses: Vec<String>,
}

/// An invitation as its enroller remembers it.
#[derive(Serialize, Deserialize)]
struct Invited {
    key: InvitationKey,
    expires: Wall,
    groups: BTreeSet<String>,
    capabilities: BTreeSet<Capability>,
    /// In seconds.
    member_for: u64,
    used: Option<Used>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Used {
    node: NodeId,
    seal_key: SealKey,
    serial: u64,
}

/// Whether a request to enrol comes with an invitation that was made on this data directory for an app's fleets. It
/// opens and locks nothing, so that strangers who ask keep nobody from publishing.
#[must_use]
pub fn is_invited(data: &Path, app: &str, request: &[u8]) -> bool {
    let Ok(asked) = Request::open(request) else { return false };
    let fleets = fs::read_dir(data.join(PUBLISH).join(app).join(FLEETS)).into_iter().flatten().flatten();
    let is_of = |path: PathBuf| {
        let invited = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Invited>(&bytes).ok());
        invited.is_some_and(|invited| Request::is_invited(request, &invited.key).is_ok())
    };
    fleets.map(|fleet| invitation_file(&fleet.path().join(INVITATIONS), asked.invitation)).any(is_of)
}

impl Publisher {
    /// Makes this machine's own node a member of a fleet, unless it is one.
    ///
    /// # Errors
    /// As [`Publisher::enrol`].
    pub fn enrol_own_node(&mut self, data: &Path, fleet: &str, passphrase: Option<&str>) -> Result<Certificate, Error> {
        let _lock = lock(&self.home)?;
        let key = identity::load_or_make(data)?;
        let node = NodeId(key.verifying_key().to_bytes());
        let invited = Invited {
            key: random_invitation(self, fleet, node)?.key(),
            expires: now(),
            groups: BTreeSet::new(),
            capabilities: [Capability::Operator].into(),
            member_for: DEFAULT_MEMBER_FOR.as_secs(),
            used: None,
        };
        let seal_key = identity::seal_key(data)?.public();
        let serial = self.next_serial(fleet)?;
        let (bytes, certificate) = self.sign_member(fleet, Used { node, seal_key, serial }, &invited, passphrase)?;
        let wrapped = self.hand_over(fleet, seal_key, passphrase)?;
        let welcome = Welcome { certificate: bytes, pack: Vec::new(), wrapped };
        membership::keep(data, &welcome)?;
        Ok(certificate)
    }

    /// Makes an invitation to a fleet. It works once.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if there is no such fleet, or for groups and times that can't be; [`Kind::Key`] if the keys here
    /// can't sign for the fleet; [`Kind::Storage`] for the disk.
    pub fn invite(&mut self, fleet: &str, invite: Invite, passphrase: Option<&str>) -> Result<Invitation, Error> {
        let _lock = lock(&self.home)?;
        for group in &invite.groups {
            label::check_name("group", group).map_err(|error| refused(WriteError::Label(error)))?;
        }
        // Found out here, not by a device in the field.
        self.fleet_keys(&self.files().open()?, fleet, passphrase)?;
        let mut invitation = random_invitation(self, fleet, invite.enroller)?;
        invitation.expires = later(now(), invite.valid);
        invitation.addresses = invite.addresses;
        let text = invitation.to_string();
        if text.parse().as_ref() != Ok(&invitation) {
            return Err(Error::new(Kind::BadInput, "the addresses don't fit into an invitation")
                .with_hint("give at most 8 with --address"));
        }
        let invited = Invited {
            key: invitation.key(),
            expires: invitation.expires,
            groups: invite.groups,
            capabilities: invite.capabilities,
            member_for: invite.member_for.as_secs(),
            used: None,
        };
        let directory = self.fleet_directory(fleet, INVITATIONS)?;
        make_room(&directory)?;
        write(&invitation_file(&directory, invitation.id()), &invited)?;
        Ok(invitation)
    }

    /// Answers a request to be enrolled, from whoever brought it.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for bytes that are no request, [`Kind::Key`] if the keys here can't sign for the fleet or the
    /// log, [`Kind::Storage`] for the disk.
    pub fn enrol(&mut self, request: &[u8], passphrase: Option<&str>) -> Result<Answer, Error> {
        let no_request =
            |error: EnrolError| Error::new(Kind::BadInput, "this is no request to enrol").with_source(error);
        let asked = Request::open(request).map_err(no_request)?;
        let _lock = lock(&self.home)?;
        let Some((fleet, path, mut invited)) = self.invited(asked.invitation)? else {
            return Ok(Answer::Refused(Refusal::Unknown));
        };
        if asked.repository != self.id() || Request::is_invited(request, &invited.key).is_err() {
            return Ok(Answer::Refused(Refusal::Unknown));
        }
        let signed = match &invited.used {
            Some(used) if (used.node, used.seal_key) != (asked.node, asked.seal_key) => {
                return Ok(Answer::Refused(Refusal::Used));
            }
            Some(used) => self.signed(&fleet, used.serial)?,
            None if invited.expires < now() => return Ok(Answer::Refused(Refusal::Expired)),
            None => None,
        };
        let certificate = if let Some(bytes) = signed {
            // The answer may have been lost on its way: the same device gets the same again, while that counts. Who was
            // revoked must not be handed the key of an epoch that began without it.
            let (repository, fleets) = (self.files().open()?, [fleet.clone()].into());
            if member::admit(repository.verified(), &fleets, &bytes, asked.node, now()).is_err() {
                return Ok(Answer::Refused(Refusal::NoMember));
            }
            bytes
        } else {
            self.fleet_keys(&self.files().open()?, &fleet, passphrase)?;
            let used = Used { node: asked.node, seal_key: asked.seal_key, serial: self.next_serial(&fleet)? };
            invited.used = Some(used);
            write(&path, &invited)?;
            self.sign_member(&fleet, used, &invited, passphrase)?.0
        };
        let pack = self.files().open()?.pack().to_vec();
        let reads = invited.capabilities.iter().copied().any(Capability::reads);
        let wrapped = if reads { self.hand_over(&fleet, asked.seal_key, passphrase)? } else { Vec::new() };
        Ok(Answer::Welcome(Welcome { certificate, pack, wrapped }))
    }

    /// The members of a fleet: of each node its newest certificate, without those that are revoked.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if there is no such fleet, [`Kind::Storage`] if a certificate can't be read.
    pub fn members(&self, fleet: &str) -> Result<Vec<Certificate>, Error> {
        let repository = self.files().open()?;
        let known = repository.verified().fleet(fleet).ok_or_else(|| no_fleet(fleet))?;
        let mut newest = std::collections::BTreeMap::new();
        for certificate in self.certificates(fleet)? {
            newest.insert(certificate.node, certificate);
        }
        let is_member = |certificate: &Certificate| !known.revoked.covers(certificate.node, certificate.serial);
        Ok(newest.into_values().filter(is_member).collect())
    }

    /// Revokes a member by its name or the beginning of it. It is cut off wherever the new metadata comes.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if there is no such member, or several; [`Kind::Key`] if the keys here can't sign that.
    pub fn revoke(&mut self, fleet: &str, member: &str, passphrase: Option<&str>) -> Result<Certificate, Error> {
        let members = self.members(fleet)?;
        let named: Vec<_> = members.iter().filter(|known| known.node.to_string().starts_with(member)).collect();
        let certificate = match named[..] {
            [one] if member.len() >= 4 => one.clone(),
            [] => {
                let words = format!("fleet {fleet} has no member {member:?}");
                return Err(Error::new(Kind::BadInput, words).with_hint("`burr fleet members` lists them"));
            }
            _ => {
                let words = format!("{member:?} is not enough to tell one member from another");
                return Err(Error::new(Kind::BadInput, words).with_hint("give more of the node's name"));
            }
        };
        let _lock = lock(&self.home)?;
        let mut repository = self.files().open()?;
        let keys = self.ring(passphrase)?.all()?;
        let (node, serial) = (certificate.node, certificate.serial);
        let draft = repository.propose_revocation(fleet, node, serial, now()).map_err(refused)?;
        self.files().remove_leftovers(&repository)?;
        self.commit(&mut repository, draft, None, &keys)?;
        self.repository = repository;
        Ok(certificate)
    }

    /// Whether this machine can answer requests to be enrolled: it keeps the log, which has every enrolment.
    #[must_use]
    pub fn enrols(&self) -> bool {
        self.has_online_keys().unwrap_or(false)
    }

    /// The certificate of this number, if it was signed.
    fn signed(&self, fleet: &str, serial: u64) -> Result<Option<Vec<u8>>, Error> {
        let at = self.fleet_directory(fleet, MEMBERS)?.join(certificate_name(serial));
        match fs::read(&at) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &at, error)),
        }
    }

    /// A number that no certificate of the fleet has, nor one that was revoked.
    fn next_serial(&self, fleet: &str) -> Result<u64, Error> {
        let repository = self.files().open()?;
        let revoked = repository.verified().fleet(fleet).ok_or_else(|| no_fleet(fleet))?.revoked.iter();
        let used = self.certificates(fleet)?.into_iter().map(|certificate| certificate.serial);
        Ok(used.chain(revoked.map(|(_, serial)| serial)).max().unwrap_or(0) + 1)
    }

    /// Signs a certificate and keeps it, with its entry in the log. The home is locked.
    fn sign_member(
        &self,
        fleet: &str,
        Used { node, seal_key, serial }: Used,
        invited: &Invited,
        passphrase: Option<&str>,
    ) -> Result<(Vec<u8>, Certificate), Error> {
        let repository = self.files().open()?;
        let signers = self.fleet_keys(&repository, fleet, passphrase)?;
        let directory = self.fleet_directory(fleet, MEMBERS)?;
        let certificate = Certificate {
            repository: repository.id(),
            fleet: fleet.to_owned(),
            node,
            seal_key,
            groups: invited.groups.clone(),
            capabilities: invited.capabilities.clone(),
            serial,
            not_after: later(now(), Duration::from_secs(invited.member_for)),
        };
        let failed = |error| Error::new(Kind::BadInput, "that can't be certified").with_source(error);
        let bytes = certificate.sign(&signers.iter().collect::<Vec<_>>()).map_err(failed)?;
        let words = certificate.capabilities.iter().map(ToString::to_string);
        let words: Vec<_> = words.chain(certificate.groups.iter().map(|group| format!("in {group}"))).collect();
        let words = words.join(", ");
        let act = Act {
            kind: "enrol",
            what: vec![format!("{node} is member {serial} of fleet {fleet}: {words}")],
            by: signers.iter().map(|key| key_id(&key.verifying_key())).collect(),
        };
        let lines = self.files().log()?;
        let all = self.ring(passphrase)?.all()?;
        let all: Vec<&SigningKey> = all.iter().collect();
        let entry = audit::next(&repository, lines.last().map(String::as_str), act, &all, now()).map_err(refused)?;
        self.check_log(&repository)?;
        self.files().commit(&repository, None, Some(entry))?;
        write_private(&directory.join(certificate_name(certificate.serial)), &bytes)?;
        Ok((bytes, certificate))
    }

    /// The keys here that sign for a fleet.
    fn fleet_keys(
        &self,
        repository: &Repository,
        fleet: &str,
        passphrase: Option<&str>,
    ) -> Result<Vec<SigningKey>, Error> {
        let signers = repository.signers().remove(&Role::Fleet(fleet.to_owned())).ok_or_else(|| no_fleet(fleet))?;
        let mut keys = self.ring(passphrase)?.all()?;
        keys.retain(|key| signers.keys.contains_key(&key_id(&key.verifying_key())));
        if keys.len() >= signers.threshold {
            return Ok(keys);
        }
        let words = format!("fleet {fleet} enrols with {} keys, here are {}", signers.threshold, keys.len());
        Err(Error::new(Kind::Key, words).with_hint("enrol on the machine that has the keys of the fleet"))
    }

    /// An invitation that was made here, with its fleet and its file.
    fn invited(&self, id: InvitationId) -> Result<Option<(String, PathBuf, Invited)>, Error> {
        let fleets = self.repository.verified().fleets().map(|(fleet, _)| fleet.to_owned());
        for fleet in fleets.collect::<Vec<_>>() {
            let path = invitation_file(&self.fleet_directory(&fleet, INVITATIONS)?, id);
            if let Ok(bytes) = fs::read(&path) {
                let invited = serde_json::from_slice(&bytes).map_err(|error| {
                    Error::new(Kind::Storage, format!("{} is damaged", path.display())).with_source(error)
                })?;
                return Ok(Some((fleet, path, invited)));
            }
        }
        Ok(None)
    }

    /// Every certificate that was signed here for a fleet, by serial.
    fn certificates(&self, fleet: &str) -> Result<Vec<Certificate>, Error> {
        let directory = self.fleet_directory(fleet, MEMBERS)?;
        let entries = fs::read_dir(&directory).map_err(|error| Error::file("read", &directory, error))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "cert")).collect();
        paths.sort_unstable();
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(|error| Error::file("read", &path, error))?;
            Certificate::read(&bytes)
                .map_err(|error| Error::new(Kind::Storage, format!("{} is damaged", path.display())).with_source(error))
        };
        paths.into_iter().map(read).collect()
    }

    fn fleet_directory(&self, fleet: &str, part: &str) -> Result<PathBuf, Error> {
        label::check_name("fleet", fleet).map_err(|error| refused(WriteError::Label(error)))?;
        let directory = self.home.join(FLEETS).join(fleet).join(part);
        fs::create_dir_all(&directory).map_err(|error| Error::file("create", &directory, error))?;
        Ok(directory)
    }
}

/// How long a certificate counts unless its invitation says otherwise.
pub const DEFAULT_MEMBER_FOR: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

fn random_invitation(publisher: &Publisher, fleet: &str, enroller: NodeId) -> Result<Invitation, Error> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)
        .map_err(|error| Error::new(Kind::Key, "the system gives no random numbers").with_source(error))?;
    let (repository, fleet) = (publisher.id(), fleet.to_owned());
    Ok(Invitation { repository, fleet, enroller, addresses: Vec::new(), nonce, expires: Wall::default() })
}

/// Removes the invitations whose time is over, and refuses if that is not enough.
fn make_room(directory: &Path) -> Result<(), Error> {
    let list = || fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    if list().count() < MAX_INVITATIONS {
        return Ok(());
    }
    for path in list().collect::<Vec<_>>() {
        let invited = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Invited>(&bytes).ok());
        if invited.is_none_or(|invited| invited.expires < now()) {
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
        }
    }
    if list().count() < MAX_INVITATIONS {
        return Ok(());
    }
    Err(Error::new(Kind::BadInput, format!("{MAX_INVITATIONS} invitations wait for their use"))
        .with_hint("wait until some have expired, or make them valid for a shorter time"))
}

fn invitation_file(directory: &Path, id: InvitationId) -> PathBuf {
    directory.join(format!("{}.json", id.0))
}

fn certificate_name(serial: u64) -> String {
    format!("{serial:020}.cert")
}

fn write(path: &Path, invited: &Invited) -> Result<(), Error> {
    write_private(path, &serde_json::to_vec(invited).expect("an invitation has plain fields"))
}

fn later(from: Wall, by: Duration) -> Wall {
    Wall(from.0.saturating_add(i64::try_from(by.as_secs()).unwrap_or(i64::MAX)))
}

fn no_fleet(fleet: &str) -> Error {
    let words = format!("there is no fleet {fleet:?}");
    Error::new(Kind::BadInput, words).with_hint(format!("make it: burr fleet create {fleet}"))
}
