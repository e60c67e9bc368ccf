//! The update check: which bundle a device is to have, and where it gets it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::PoisonError,
    time::{SystemTime, UNIX_EPOCH},
};

use burr_protocol::{
    Hash, Wall,
    gateway::{self, Check, Declined, Refusal},
    policy::Skip,
    record::ReleaseId,
    rules::Tally,
};
use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared,
    bundles::MAX_LISTED,
    failure,
    request::{self, Info},
    view::{App, Offer},
};
use crate::http::answer::{Caching, Content, Reply, Source, json as reply, json_bytes, serve};

/// Bytes of a request at most: the plugin's has 600.
const MAX_REQUEST: usize = 64 << 10;
/// Bytes of a question for sizes at most: it repeats a bundle's whole list of files.
const MAX_SIZES: usize = 4 << 20;

/// Answers `POST /updates`.
pub(super) async fn check(shared: &Shared, request: Request<Incoming>) -> Reply {
    let base = shared.base(&request);
    let info: Info = match request::json(request, MAX_REQUEST).await {
        Ok(info) => info,
        Err(reply) => return reply,
    };
    let Some(base) = base else {
        return failure(StatusCode::BAD_REQUEST, "invalid_host", "the request does not say which host it is for");
    };
    let view = shared.view();
    let app = match app_of(&view.apps, &info) {
        Ok(app) => app,
        Err(reply) => return *reply,
    };
    match offered(shared, app, &view.halted, &info) {
        Ok(offer) => json_bytes(StatusCode::OK, offer.body(&base)),
        Err(refusal) => reply(StatusCode::OK, &words(&refusal)),
    }
}

/// The app that a request is about.
///
/// # Errors
/// The answer: a device or an app that can't be known here.
pub(super) fn app_of<'a>(apps: &'a BTreeMap<String, App>, info: &Info) -> Result<&'a App, Box<Reply>> {
    if !gateway::is_device(&info.device_id) {
        let message = Declined::BadDevice.to_string();
        return Err(failure(StatusCode::BAD_REQUEST, "invalid_device_id", &message).into());
    }
    apps.get(&info.app_id)
        .ok_or_else(|| failure(StatusCode::NOT_FOUND, "app_not_found", "this gateway does not serve the app").into())
}

/// The channel that a device is on.
pub(super) fn channel_of(shared: &Shared, app: &App, info: &Info) -> String {
    let assigned = shared.assigned.read().unwrap_or_else(PoisonError::into_inner);
    let named = info.default_channel.as_deref().unwrap_or_default();
    gateway::channel(assigned.of(&app.name, &info.device_id), named, &app.usual).to_owned()
}

fn offered<'a>(
    shared: &Shared,
    app: &'a App,
    halted: &BTreeMap<ReleaseId, Tally>,
    info: &Info,
) -> Result<&'a Offer, Refusal> {
    let verified = app.verified.as_ref().ok_or(Refusal::Skip(Skip::Nothing))?;
    let channel = channel_of(shared, app, info);
    let check = Check {
        device: &info.device_id,
        version: info.version_name.as_deref().unwrap_or_default(),
        native: info.version_build.as_deref().unwrap_or_default(),
        platform: info.platform.as_deref().unwrap_or_default(),
    };
    let offer = gateway::decide(verified, &app.name, &channel, check, halted, now().max(verified.issued()))?;
    app.offers.get(&(channel, offer.release().seq)).ok_or(Refusal::NotHere)
}

/// Trusted time, as far as this machine's clock goes.
fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_secs()).unwrap_or_default())
}

/// A refusal as the plugin takes it: `blocked` and `up_to_date` are no failures to it.
fn words(refusal: &Refusal) -> Value {
    let (kind, error) = match refusal {
        Refusal::Newer { .. } | Refusal::Skip(Skip::UpToDate) => ("up_to_date", "no_new_version_available"),
        Refusal::Skip(Skip::Nothing) => ("blocked", "no_channel"),
        Refusal::Skip(Skip::Refused { .. }) if refusal.needs_native() => ("blocked", "disable_auto_update_to_metadata"),
        Refusal::Skip(Skip::Refused { .. }) => ("blocked", "not_for_this_device"),
        Refusal::Skip(Skip::Later { .. } | Skip::NotNow { .. }) => ("blocked", "not_now"),
        Refusal::Skip(Skip::Stale { .. }) => ("blocked", "metadata_expired"),
        Refusal::NotHere => ("blocked", "not_here_yet"),
    };
    // Tells the app that its users need a newer one from the store.
    let breaking = refusal.needs_native();
    let mut words = json!({ "kind": kind, "error": error, "message": refusal.to_string(), "breaking": breaking });
    if let Refusal::Skip(Skip::Refused { version, .. }) = refusal {
        words["version"] = json!(version);
    }
    words
}

/// Answers `GET /bundles/<bundle>.zip`.
pub(super) async fn zip(shared: &Shared, request: &Request<Incoming>, name: &str, near: bool) -> Reply {
    let bundle = name.strip_suffix(".zip").and_then(|name| name.parse::<Hash>().ok());
    let Some((bundle, prepared)) = bundle.and_then(|bundle| Some((bundle, shared.bundles.get(bundle)?))) else {
        return absent();
    };
    let content = Content {
        size: prepared.size,
        tag: prepared.checksum.clone(),
        kind: "application/zip",
        caching: Caching::Immutable,
        source: Source::File { path: shared.bundles.zip(bundle), offset: 0 },
        pace: None,
    };
    send(shared, request, bundle, content, near).await
}

/// Answers `GET /bundles/<bundle>/<sha256>`: one file of it.
pub(super) async fn file(
    shared: &Shared,
    request: &Request<Incoming>,
    bundle: &str,
    sha256: &str,
    near: bool,
) -> Reply {
    let bundle = bundle.parse::<Hash>().ok();
    let found = bundle.and_then(|bundle| Some((bundle, shared.bundles.get(bundle)?)));
    let found = found.as_ref().and_then(|(bundle, prepared)| Some((*bundle, prepared.file(sha256)?)));
    let Some((bundle, file)) = found else { return absent() };
    let content = Content {
        size: file.size,
        tag: file.sha256.clone(),
        kind: "application/octet-stream",
        caching: Caching::Immutable,
        source: Source::File { path: shared.bundles.contents(bundle), offset: file.offset },
        pace: None,
    };
    send(shared, request, bundle, content, near).await
}

async fn send(shared: &Shared, request: &Request<Incoming>, bundle: Hash, content: Content, near: bool) -> Reply {
    match shared.pace(request, bundle, near).await {
        Ok(pace) => serve(request, Content { pace: Some(pace), ..content }),
        Err(reply) => reply,
    }
}

fn absent() -> Reply {
    failure(StatusCode::NOT_FOUND, "not_found", "this gateway does not have that")
}

/// A question for the sizes of files that the device lacks.
#[derive(Debug, Deserialize)]
struct Sizes {
    #[serde(flatten)]
    info: Info,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    manifest: Vec<Value>,
}

/// Answers `POST /updates/manifest_size`.
pub(super) async fn sizes(shared: &Shared, request: Request<Incoming>) -> Reply {
    let sizes: Sizes = match request::json(request, MAX_SIZES).await {
        Ok(sizes) => sizes,
        Err(reply) => return reply,
    };
    if sizes.manifest.len() > MAX_LISTED {
        let message = format!("more than {MAX_LISTED} files at once");
        return failure(StatusCode::PAYLOAD_TOO_LARGE, "too_many_files", &message);
    }
    let view = shared.view();
    let app = match app_of(&view.apps, &sizes.info) {
        Ok(app) => app,
        Err(reply) => return *reply,
    };
    let offer = app.offers.values().find(|offer| Some(&offer.version) == sizes.version.as_ref());
    let prepared = offer.and_then(|offer| shared.bundles.get(offer.bundle));
    let files = prepared.iter().flat_map(|prepared| &prepared.files);
    let known_sizes: HashMap<&str, u64> = files.map(|file| (file.sha256.as_str(), file.size)).collect();
    let size_of = |entry: &Value| known_sizes.get(entry["file_hash"].as_str()?).copied();
    let (mut total, mut known, mut files) = (0, 0, Vec::new());
    for mut entry in sizes.manifest {
        let size = size_of(&entry);
        if let Some(entry) = entry.as_object_mut() {
            match size {
                Some(size) => entry.insert("size".to_owned(), json!(size)),
                None => entry.insert("error".to_owned(), json!("unknown_file")),
            };
        }
        total += size.unwrap_or_default();
        known += usize::from(size.is_some());
        files.push(entry);
    }
    let unknown = files.len() - known;
    reply(StatusCode::OK, &json!({ "totalSize": total, "knownFiles": known, "unknownFiles": unknown, "files": files }))
}
