//! From a fleet's signed targets to what it says: who enrols its members, and who is none any more
//! (`protocol/README.md` §4.6 and §13.4).

use sigstore_tuf::{DelegatedRole, TargetFile, Targets};

use super::{
    document::{is_hex, sha256},
    error::TrustError,
    write::{self, Signers},
};
use crate::{label, member::Revoked};

/// A fleet, as verified metadata has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Whose signatures make members.
    pub signers: Signers,
    /// Who is no member any more.
    pub revoked: Revoked,
}

/// The fleet whose members a delegated role signs, if it has exactly that form.
pub(super) fn name(role: &DelegatedRole) -> Option<&str> {
    let [path] = role.paths.as_deref()? else { return None };
    let fleet = path.strip_prefix("fleet/")?.strip_suffix("/*")?;
    let named = label::check_name("fleet", fleet).is_ok() && role.name == role_name(fleet);
    (named && role.terminating && role.path_hash_prefixes.is_none()).then_some(fleet)
}

/// The role that signs a fleet's members.
pub(super) fn role_name(fleet: &str) -> String {
    format!("fleet.{fleet}")
}

/// The target that holds a fleet's revocations.
pub(super) fn revoked_path(fleet: &str) -> String {
    format!("fleet/{fleet}/revoked.json")
}

/// What a fleet's document says.
pub(super) fn read(targets: &Targets, fleet: &str, signers: Signers) -> Result<Fleet, TrustError> {
    let role = role_name(fleet);
    if targets.delegations.is_some() {
        return Err(TrustError::malformed(&role, "a fleet's role may not delegate"));
    }
    let mut revoked = Revoked::default();
    for (path, target) in &targets.targets {
        if *path != revoked_path(fleet) {
            let path: String = path.chars().take(200).collect();
            return Err(TrustError::malformed(
                &role,
                format!("it has a target {path:?}, which format 1 does not know"),
            ));
        }
        revoked = read_revoked(target, fleet)
            .map_err(|problem| TrustError::malformed(&role, format!("its list of revocations: {problem}")))?;
    }
    Ok(Fleet { signers, revoked })
}

/// The list stands in the target's `custom`, and its file is the canonical JSON of that.
fn read_revoked(target: &TargetFile, fleet: &str) -> Result<Revoked, &'static str> {
    let custom = target.custom.as_ref().ok_or("it says nothing in `custom`")?;
    let revoked = Revoked::read(custom, fleet)?;
    let file = write::canonical(custom);
    let hash = target.hashes.get("sha256").filter(|hash| target.hashes.len() == 1 && is_hex(hash, 32));
    let named = target.length == file.len() as u64 && hash.is_some_and(|hash| *hash == sha256(&file));
    if named { Ok(revoked) } else { Err("its length or SHA-256 is not that of the list") }
}
