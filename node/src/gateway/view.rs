//! What the gateway answers from: the node's verified catalog and what is ready of it, laid out for looking up. Made
//! anew when either changes, never changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use burr_protocol::{
    Hash, RepositoryId,
    record::ReleaseId,
    release::{Payload, Release},
    rules::Tally,
    trust::Verified,
};
use hyper::body::Bytes;
use serde_json::json;

use super::{
    Serves,
    bundles::{Bundles, Listed, Prepared},
};

/// Stands in an offer where the gateway's address comes; no address or name has it.
const BASE: &str = "\u{1}";

/// The catalog at one moment.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) repositories: BTreeMap<RepositoryId, Files>,
    /// Payloads that a release names.
    pub(super) payloads: BTreeSet<Hash>,
    /// Releases that halt by their own rules.
    pub(super) halted: BTreeMap<ReleaseId, Tally>,
    /// Apps by their ids.
    pub(super) apps: BTreeMap<String, App>,
}

/// A repository as static files.
#[derive(Debug)]
pub(super) struct Files {
    /// Documents by name.
    pub(super) metadata: BTreeMap<String, Bytes>,
    /// Payloads by target path.
    pub(super) targets: BTreeMap<String, Payload>,
}

/// An app whose devices ask here.
#[derive(Debug)]
pub(super) struct App {
    pub(super) name: String,
    /// The channel of a device that neither chose one nor was configured with one.
    pub(super) usual: String,
    pub(super) channels: Vec<String>,
    pub(super) verified: Option<Verified>,
    /// What is ready, by channel and release number.
    pub(super) offers: BTreeMap<(String, u64), Offer>,
}

/// A release that is ready to be sent.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) bundle: Hash,
    pub(super) version: String,
    /// The answer to a device that is to have it, cut where this gateway's address comes.
    body: Vec<String>,
}

impl Offer {
    fn of(release: &Release, prepared: &Prepared) -> Self {
        let checksum = release.capacitor.as_ref().map_or(&prepared.checksum, |capacitor| &capacitor.checksum);
        let session_key = release.capacitor.as_ref().and_then(|capacitor| capacitor.session_key.as_ref());
        let bundle = format!("{BASE}/bundles/{}", release.bundle);
        let mut body = json!({ "version": release.version, "url": format!("{bundle}.zip"), "checksum": checksum });
        // The plugin takes this ending for a compression, and the files of an encrypted bundle for encrypted ones.
        let is_listed =
            session_key.is_none() && prepared.files.iter().all(|file| file.path.strip_suffix(".br").is_none());
        if let Some(key) = session_key {
            body["session_key"] = json!(key);
            // What the Electron plugin reads.
            body["sessionKey"] = json!(key);
        }
        if is_listed && !prepared.files.is_empty() {
            let entry = |file: &Listed| {
                let url = format!("{bundle}/{}", file.sha256);
                json!({ "file_name": file.path, "file_hash": file.sha256, "download_url": url })
            };
            body["manifest"] = prepared.files.iter().map(entry).collect();
        }
        // As JSON writes it.
        let body = body.to_string().split("\\u0001").map(str::to_owned).collect();
        Self { bundle: release.bundle, version: release.version.clone(), body }
    }

    /// The answer, as JSON, with this gateway's address in its place.
    pub(super) fn body(&self, base: &str) -> Bytes {
        let mut out = String::with_capacity(self.body.iter().map(|part| part.len() + base.len()).sum());
        for (at, part) in self.body.iter().enumerate() {
            let _ = write!(out, "{}{part}", if at == 0 { "" } else { base });
        }
        out.into()
    }
}

impl View {
    pub(super) fn of(catalog: &[Verified], serves: &[Serves], usual: &str, bundles: &Bundles) -> Self {
        let releases = catalog.iter().flat_map(Verified::releases);
        let app = |served: &Serves| {
            let verified = catalog.iter().find(|verified| verified.repository() == served.repository).cloned();
            let channels = verified.iter().flat_map(Verified::channels).filter(|(app, _)| *app == served.app);
            let channels = channels.map(|(_, channel)| channel).collect();
            let releases = verified.iter().flat_map(Verified::releases).filter(|release| release.app == served.app);
            let offer = |release: &Release| {
                let prepared = bundles.get(release.bundle)?;
                Some(((release.channel.clone(), release.seq), Offer::of(release, &prepared)))
            };
            let offers = releases.filter_map(offer).collect();
            (served.id.clone(), App { name: served.app.clone(), usual: usual.to_owned(), channels, verified, offers })
        };
        Self {
            repositories: catalog.iter().map(|verified| (verified.repository(), Files::of(verified))).collect(),
            payloads: releases.map(|release| release.payload.blob).collect(),
            halted: BTreeMap::new(),
            apps: serves.iter().map(app).collect(),
        }
    }
}

impl Files {
    fn of(verified: &Verified) -> Self {
        let payloads = verified.payload_paths().into_iter();
        Self {
            metadata: verified.files().into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect(),
            targets: payloads.map(|(path, release)| (path, release.payload.clone())).collect(),
        }
    }
}
