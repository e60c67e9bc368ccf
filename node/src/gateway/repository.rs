//! The mesh as plain files: payloads by their hash, and each repository as the static TUF repository that it is.
//!
//! ```text
//! /blobs/<blob>                                                       immutable
//! /repositories/<repository>/metadata/<version>.<role>.json           immutable
//!                                    /timestamp.json                  asked for anew each time
//!                           /targets/app/<app>/<channel>/<sha256>.<seq>.burr      immutable
//! ```

use burr_protocol::{Hash, RepositoryId};
use hyper::{Request, StatusCode, body::Incoming};

use super::{Shared, failure, view::View};
use crate::http::answer::{Caching, Content, Reply, Source, json_type, serve};

/// The media type of bytes that mean nothing to a browser.
const BYTES: &str = "application/octet-stream";

fn absent() -> Reply {
    failure(StatusCode::NOT_FOUND, "not_found", "this node does not hold that")
}

/// A payload that a release names, if it is here whole.
pub(super) async fn blob(shared: &Shared, request: &Request<Incoming>, blob: &str, near: bool) -> Reply {
    let Ok(blob) = blob.parse::<Hash>() else { return absent() };
    if !shared.view().payloads.contains(&blob) {
        return absent();
    }
    send(shared, request, blob, near).await
}

/// A document of a repository.
pub(super) fn document(view: &View, request: &Request<Incoming>, repository: &str, name: &str) -> Reply {
    let files = repository.parse::<RepositoryId>().ok().and_then(|id| view.repositories.get(&id));
    let Some(bytes) = files.and_then(|files| files.metadata.get(name)) else { return absent() };
    let caching = if name == "timestamp.json" { Caching::AskAgain } else { Caching::Immutable };
    serve(request, Content::of(bytes.clone(), json_type(), caching))
}

/// A payload under its path as a target.
pub(super) async fn target(
    shared: &Shared,
    request: &Request<Incoming>,
    repository: &str,
    path: &str,
    near: bool,
) -> Reply {
    let view = shared.view();
    let files = repository.parse::<RepositoryId>().ok().and_then(|id| view.repositories.get(&id));
    match files.and_then(|files| files.targets.get(path)) {
        Some(payload) => send(shared, request, payload.blob, near).await,
        None => absent(),
    }
}

async fn send(shared: &Shared, request: &Request<Incoming>, blob: Hash, near: bool) -> Reply {
    let blobs = shared.node.blobs();
    match blobs.whole_size(blob).await {
        Ok(Some(size)) => {
            let pace = match shared.pace(request, blob, near).await {
                Ok(pace) => Some(pace),
                Err(reply) => return reply,
            };
            let content = Content {
                size,
                tag: blob.to_string(),
                kind: BYTES,
                caching: Caching::Immutable,
                source: Source::Blob(blobs.clone(), blob),
                pace,
            };
            serve(request, content)
        }
        Ok(None) => absent(),
        Err(error) => {
            tracing::warn!(%error, "the gateway can't look into the store");
            failure(StatusCode::SERVICE_UNAVAILABLE, "storage_failed", "the store can't be read; try again later")
        }
    }
}
