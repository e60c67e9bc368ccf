//! Statistics: what the plugin says of its updates becomes receipts.
//!
//! The plugin tells very much. Only the end of an update is worth a receipt, and a write; what else it tells (progress,
//! launches, crashes of the app's pages) is taken and passed over.

use burr_protocol::{
    gateway::{Ended, MAX_OUTCOMES, Report, Told},
    receipt::Outcome,
};
use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::json;

use super::{
    Shared, failure,
    request::{self, Info},
    updates::{app_of, channel_of},
};
use crate::http::answer::{Reply, json as reply};

/// Bytes of a batch at most: the plugin keeps 200 events, of 600 bytes and some metadata.
const MAX_REQUEST: usize = 1 << 20;

/// One event.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(flatten)]
    info: Info,
    action: String,
    #[serde(default)]
    old_version_name: Option<String>,
    /// Why, from the Electron plugin.
    #[serde(default)]
    message: Option<String>,
}

/// The plugin sends batches, and single events from where it can't wait.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Events {
    Batch(Vec<Event>),
    One(Box<Event>),
}

/// Answers `POST /stats` once what matters of it is on disk.
pub(super) async fn take(shared: &Shared, request: Request<Incoming>) -> Reply {
    let events = match request::json(request, MAX_REQUEST).await {
        Ok(Events::Batch(events)) => events,
        Ok(Events::One(event)) => vec![*event],
        Err(reply) => return reply,
    };
    if events.len() > MAX_OUTCOMES {
        let message = format!("more than {MAX_OUTCOMES} events at once");
        return failure(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", &message);
    }
    let view = shared.view();
    let mut reports: Vec<Report> = Vec::new();
    for event in &events {
        let app = match app_of(&view.apps, &event.info) {
            Ok(app) => app,
            Err(reply) => return *reply,
        };
        let Some(ended) = ended(event, channel_of(shared, app, &event.info)) else { continue };
        let device = &event.info.device_id;
        match reports.last_mut() {
            Some(Report { app: of, device: by, what: Told::Outcomes(all) }) if *of == app.name && by == device => {
                all.push(ended);
            }
            _ => reports.push(Report {
                app: app.name.clone(),
                device: device.clone(),
                what: Told::Outcomes(vec![ended]),
            }),
        }
    }
    for report in reports {
        if let Err(reply) = shared.report(report).await {
            return reply;
        }
    }
    reply(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The end of an update, if that is what an event tells.
fn ended(event: &Event, channel: String) -> Option<Ended> {
    let said = event.info.version_name.as_deref().unwrap_or_default();
    // Of one file of a bundle it says `version:file`.
    let (version, file) = said.split_once(':').map_or((said, None), |(version, file)| (version, Some(file)));
    let reason = || {
        let why = file.or(event.message.as_deref());
        why.map_or_else(|| event.action.clone(), |why| format!("{}: {why}", event.action))
    };
    let before = || event.old_version_name.clone().filter(|version| !version.is_empty());
    let (outcome, active) = match event.action.as_str() {
        "set" => (Outcome::Active, Some(version.to_owned())),
        // It did not say in time that it works.
        "update_fail" => (Outcome::RolledBack { reason: reason() }, before()),
        "blocked_by_server_url"
        | "canonical_path_fail"
        | "checksum_fail"
        | "checksum_required"
        | "decrypt_fail"
        | "directory_path_fail"
        | "download_fail"
        | "download_manifest_brotli_fail"
        | "download_manifest_checksum_fail"
        | "download_manifest_file_fail"
        | "finish_download_fail"
        | "insufficient_disk_space"
        | "low_mem_fail"
        | "manifest_path_fail"
        | "session_key_required"
        | "set_fail"
        | "unzip_fail"
        | "windows_path_fail" => (Outcome::Failed { reason: reason() }, before()),
        _ => return None,
    };
    Some(Ended { channel, version: version.to_owned(), active, outcome })
}
