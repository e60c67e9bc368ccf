//! From a channel's signed targets to its releases (`protocol/README.md` §4.6 and §4.7).

use serde_json::Value;
use sigstore_tuf::{DelegatedRole, TargetFile, Targets};

use super::{
    document::is_hex,
    error::{TrustError, shown},
};
use crate::{label, release::Release, seal::SUITE};

/// The app and channel whose releases a delegated role may sign. A role of any other shape is refused.
pub(super) fn channel(role: &DelegatedRole) -> Result<(&str, &str), TrustError> {
    let refuse = || {
        let name: String = role.name.chars().take(140).collect();
        TrustError::malformed("the targets", format!("the delegation to {name:?} is not that of a channel or fleet"))
    };
    let [path] = role.paths.as_deref().unwrap_or_default() else { return Err(refuse()) };
    let mut parts = path.split('/');
    let (Some("app"), Some(app), Some(channel), Some("*"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse());
    };
    let named = label::check_name("app", app).is_ok()
        && label::check_name("channel", channel).is_ok()
        && role.name == role_name(app, channel);
    if named && role.terminating && role.path_hash_prefixes.is_none() { Ok((app, channel)) } else { Err(refuse()) }
}

/// The role that signs a channel's releases.
pub(super) fn role_name(app: &str, channel: &str) -> String {
    format!("app.{app}.{channel}")
}

/// Every release of a channel's document, in the order of its target paths.
pub(super) fn read(targets: &Targets, app: &str, channel: &str) -> Result<Vec<Release>, TrustError> {
    if targets.delegations.is_some() {
        let name = role_name(app, channel);
        return Err(TrustError::malformed(&name, "a channel's role may not delegate"));
    }
    targets.targets.iter().map(|(path, target)| read_one(path, target, app, channel)).collect()
}

fn read_one(path: &str, target: &TargetFile, app: &str, channel: &str) -> Result<Release, TrustError> {
    let refuse =
        |problem: String| TrustError::Release { path: path.chars().take(200).collect(), problem: shown(&problem) };
    let Some(Value::Object(mut custom)) = target.custom.clone() else {
        return Err(refuse("it says nothing about itself in `custom`".to_owned()));
    };
    match custom.remove("v") {
        Some(version) if version == 1 => {}
        version => {
            let version = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            let path = path.chars().take(200).collect();
            return Err(TrustError::Unsupported { path, version: version.chars().take(40).collect() });
        }
    }
    let custom = Value::Object(custom);
    // Other algorithms come with other fields: they are told from a lie before anything else is read.
    if let Some(suite) = custom["enc"]["suite"].as_str().filter(|suite| *suite != SUITE) {
        let (path, version) = (path.chars().take(200).collect(), suite.chars().take(40).collect());
        return Err(TrustError::Unsupported { path, version });
    }
    let release: Release = serde_json::from_value(custom.clone()).map_err(|error| refuse(error.to_string()))?;
    // A field that this program does not know could be a rule that it does not keep.
    if serde_json::to_value(&release).ok().as_ref() != Some(&custom) {
        return Err(refuse("`custom` has fields that format 1 does not have".to_owned()));
    }
    release.check().map_err(|error| refuse(error.to_string()))?;
    if release.app != app || release.channel != channel || release.target_path() != path {
        return Err(refuse(format!("it is signed by the role of {app}/{channel} but says {}", release.target_path())));
    }
    if target.length != release.payload.size {
        return Err(refuse(format!("its length is {}, its payload's {}", target.length, release.payload.size)));
    }
    let sha256 = target.hashes.get("sha256").filter(|_| target.hashes.len() == 1);
    if !sha256.is_some_and(|hash| is_hex(hash, 32)) {
        return Err(refuse("its hashes are not one SHA-256".to_owned()));
    }
    Ok(release)
}
