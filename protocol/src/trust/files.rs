//! Verified metadata as the static files of a TUF repository with consistent snapshots (`protocol/README.md` §4.9): what
//! a web server has, and what any TUF client reads.

use std::collections::BTreeMap;

use sigstore_tuf::{Metadata, Targets};

use super::{Verified, document, releases};
use crate::release::Release;

impl Verified {
    /// The apps and channels that there are, in the order of their roles.
    #[must_use]
    pub fn channels(&self) -> Vec<(String, String)> {
        let targets = document::read::<Targets>("the targets", self.documents().targets);
        let targets = targets.expect("a verified document is read back").into_signed();
        let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        let names = roles.filter_map(|role| releases::channel(role).ok());
        names.map(|(app, channel)| (app.to_owned(), channel.to_owned())).collect()
    }

    /// The documents by their names: `1.root.json`, `4.snapshot.json`, ... and `timestamp.json`.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let held = self.documents();
        let version = |role: &str| self.0.pinned.get(&format!("{role}.json")).copied().unwrap_or_default();
        let mut files = BTreeMap::new();
        for (root, version) in held.roots.iter().zip(1..) {
            files.insert(format!("{version}.root.json"), root.to_vec());
        }
        files.insert(format!("{}.snapshot.json", self.0.snapshot_version), held.snapshot.to_vec());
        files.insert(format!("{}.targets.json", version("targets")), held.targets.to_vec());
        for (role, document) in &held.delegated {
            files.insert(format!("{}.{role}.json", version(role)), document.to_vec());
        }
        files.insert("timestamp.json".to_owned(), held.timestamp.to_vec());
        files
    }

    /// The payloads among the targets: each release under `app/<app>/<channel>/<sha256>.<seq>.burr`.
    #[must_use]
    pub fn payload_paths(&self) -> BTreeMap<String, &Release> {
        let documents = self.documents();
        let read =
            |document| document::read::<Targets>("a channel", document).expect("a verified document is read back");
        let targets: BTreeMap<&str, Metadata<Targets>> =
            documents.delegated.iter().map(|(role, document)| (*role, read(document))).collect();
        let path = |release: &Release| {
            let role = releases::role_name(&release.app, &release.channel);
            let target = targets.get(role.as_str())?.signed().targets.get(&release.target_path())?;
            let sha256 = target.hashes.get("sha256")?;
            Some(format!("app/{}/{}/{sha256}.{}.burr", release.app, release.channel, release.seq))
        };
        self.releases().filter_map(|release| Some((path(release)?, release))).collect()
    }
}
