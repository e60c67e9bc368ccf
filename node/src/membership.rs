//! What makes this node a member of fleets: a certificate for each repository that has it in one, and the metadata that it
//! is judged by.
//!
//! ```text
//! <data>/members/<repository>.cert      as the fleet signed it
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use burr_protocol::{
    NodeId, RepositoryId, SealKey,
    admission::{Closed, MAX_FLEETS},
    label,
    member::{Answer, Capability, Certificate, Invitation, Request, Welcome},
};
use ed25519_dalek::SigningKey;

use crate::{
    bundle::sync_dir,
    error::{Error, Kind},
    fleet_keys::FleetKeys,
    identity,
    net::enrol,
    publisher::now,
    store::{
        home::{Home, check_format},
        metadata::Metadata,
    },
};

const CERTIFICATES: &str = "members";

/// A device that asks to become a member: its keys, and the data directory, which nobody else has meanwhile.
pub struct Joining {
    home: Home,
    key: SigningKey,
    seal_key: SealKey,
    invitation: Invitation,
}

impl Joining {
    /// Makes the device's keys, unless it has them.
    ///
    /// # Errors
    /// [`Kind::Busy`] if a node runs on the data directory, [`Kind::BadInput`] if the invitation's time is over,
    /// [`Kind::Key`] and [`Kind::Storage`] for the keys.
    pub fn begin(data: &Path, invitation: Invitation) -> Result<Self, Error> {
        if invitation.expires < now() {
            return Err(Error::new(Kind::BadInput, "the invitation has expired")
                .with_hint("ask for a new one; if this device's clock is wrong, set it"));
        }
        let home = Home::open(data)?;
        let key = identity::load_or_make(home.path())?;
        let seal_key = identity::seal_key(home.path())?.public();
        Ok(Self { home, key, seal_key, invitation })
    }

    /// The request, as it travels.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        Request::seal(&self.invitation, &self.key, self.seal_key)
    }

    /// Asks the enroller over the network. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`enrol::ask`].
    pub async fn ask(&self) -> Result<Vec<u8>, Error> {
        let Invitation { enroller, addresses, .. } = &self.invitation;
        enrol::ask(self.key.to_bytes(), *enroller, addresses, &self.request()).await
    }

    /// Checks an answer, and keeps what it brought.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if it is refused, or not to be believed; [`Kind::Storage`] for the disk.
    pub fn finish(self, answer: &[u8]) -> Result<Certificate, Error> {
        let node = NodeId(self.key.verifying_key().to_bytes());
        let checked =
            Answer::decode(answer).and_then(|answer| answer.check(&self.invitation, node, self.seal_key, now()));
        let (welcome, verified, certificate) =
            checked.map_err(|error| Error::new(Kind::BadInput, "this device was not enrolled").with_source(error))?;
        let metadata = Metadata::open(self.home.path())?;
        let repository = verified.repository();
        // What is here already may be newer: then the node's next sync brings the rest.
        if !metadata.holds(repository) {
            let failed = |error| Error::file("write", self.home.path(), error);
            metadata.write(repository, &welcome.pack).map_err(failed)?;
        }
        keep(self.home.path(), &welcome)?;
        Ok(certificate)
    }
}

/// Keeps a certificate in the place of an earlier one of its repository, and the fleet's keys if it came with some. The
/// certificate is written last: it makes the rest count.
pub(crate) fn keep(data: &Path, welcome: &Welcome) -> Result<(), Error> {
    let unreadable = |error| Error::new(Kind::BadInput, "the certificate that came is none").with_source(error);
    let Certificate { repository, fleet, .. } = Certificate::read(&welcome.certificate).map_err(unreadable)?;
    let others = certificates(data)?.into_iter().filter(|(own, _)| own.repository != repository).count();
    if others >= MAX_FLEETS {
        let words = format!("this node is a member of fleets of {MAX_FLEETS} repositories already");
        return Err(Error::new(Kind::BadInput, words).with_hint(format!(
            "remove the certificate of one that it left from {}",
            data.join(CERTIFICATES).display()
        )));
    }
    if !welcome.wrapped.is_empty() {
        FleetKeys::open(data)?.take_over(&welcome.wrapped, repository, &fleet)?;
    }
    let directory = data.join(CERTIFICATES);
    let made = fs::create_dir_all(&directory).and_then(|()| sync_dir(data));
    made.map_err(|error| Error::file("make", &directory, error))?;
    write_private(&directory.join(format!("{repository}.cert")), &welcome.certificate)
}

/// This node's certificates and their bytes: one for each repository that has it in a fleet.
///
/// # Errors
/// [`Kind::Key`] if one can't be read, or is none.
pub fn certificates(data: &Path) -> Result<Vec<(Certificate, Vec<u8>)>, Error> {
    let directory = data.join(CERTIFICATES);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", &directory, error)),
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "cert"));
    paths.sort_unstable();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).map_err(|error| Error::file("read", &path, error))?;
        match Certificate::read(&bytes) {
            Ok(certificate) => Ok((certificate, bytes)),
            Err(error) => Err(Error::new(Kind::Key, format!("{} is no certificate", path.display()))
                .with_source(error)
                .with_hint("ask for a new invitation, and join again")),
        }
    };
    paths.into_iter().map(read).collect()
}

/// The closed mesh that a node belongs to: that of these fleets (`FLEET@REPOSITORY`), or of its own. The certificate that
/// it shows there comes first in `own` after this.
pub(crate) fn closed(own: &mut [(Certificate, Vec<u8>)], fleets: &str, collects: bool) -> Result<Closed, Error> {
    let mut named: Vec<(RepositoryId, String)> = Vec::new();
    for text in fleets.split_whitespace() {
        let parsed = text.split_once('@').and_then(|(fleet, repository)| Some((fleet, repository.parse().ok()?)));
        let (fleet, repository) = parsed
            .filter(|(fleet, _)| label::check_name("fleet", fleet).is_ok())
            .ok_or_else(|| Error::new(Kind::Config, format!("mesh.fleets has {text:?}; write FLEET@REPOSITORY")))?;
        named.push((repository, fleet.to_owned()));
    }
    let place = |own: &Certificate| {
        named.iter().position(|(repository, fleet)| (*repository, fleet) == (own.repository, &own.fleet))
    };
    own.sort_by_key(|(own, _)| place(own).unwrap_or(usize::MAX));
    let shown = match own {
        [] => {
            return Err(Error::new(Kind::Config, "the mesh is closed, and this node is no member of a fleet")
                .with_hint("ask for an invitation, then: burr join INVITATION"));
        }
        [_, _, ..] if named.is_empty() => {
            let each = own.iter().map(|(own, _)| format!("{}@{}", own.fleet, own.repository));
            let words = "the mesh is closed, and this node is a member of several fleets";
            return Err(Error::new(Kind::Config, words).with_hint(format!(
                "say whose members may speak here: set mesh.fleets to one or more of {}",
                each.collect::<Vec<_>>().join(" ")
            )));
        }
        [(shown, _), ..] => &*shown,
    };
    if collects && !shown.may(Capability::collects) {
        let words = "no member would believe that this node collects receipts: its certificate does not say so";
        return Err(Error::new(Kind::Config, words)
            .with_hint("leave out `collect`, or join again by an invitation made with --capability kiosk"));
    }
    if named.is_empty() {
        named.push((shown.repository, shown.fleet.clone()));
    }
    let mut closed = Closed { fleets: BTreeMap::new() };
    for (repository, fleet) in named {
        closed.fleets.entry(repository).or_default().insert(fleet);
    }
    Ok(closed)
}

/// The node whose data directory this is; it is made if there is none yet.
///
/// # Errors
/// [`Kind::Key`] and [`Kind::Storage`] for its identity.
pub fn node(data: &Path) -> Result<NodeId, Error> {
    check_format(data)?;
    Ok(NodeId(identity::load_or_make(data)?.verifying_key().to_bytes()))
}

/// Writes a file that its owner alone may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    });
    written.map_err(|error| Error::file("write", path, error))
}
