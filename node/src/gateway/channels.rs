//! Channels: a device asks which it is on, chooses one, gives its choice up, and asks which there are.

use std::sync::PoisonError;

use burr_protocol::gateway::{Report, Told};
use hyper::{Method, Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared, failure, not_allowed,
    request::{self, Info},
    updates::{app_of, channel_of},
    view::App,
};
use crate::http::answer::{Reply, json as reply};

/// Bytes of a request at most.
const MAX_REQUEST: usize = 64 << 10;

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(flatten)]
    info: Info,
    #[serde(default)]
    channel: Option<String>,
    /// `set` or `unset`, from the Electron plugin.
    #[serde(default)]
    action: Option<String>,
}

/// Answers `/channel_self`: GET lists, PUT says which, POST chooses, DELETE gives the choice up.
pub(super) async fn answer(shared: &Shared, request: Request<Incoming>) -> Reply {
    let method = request.method().clone();
    let query = request::query(&request);
    let choice = match method {
        Method::GET | Method::DELETE => {
            Choice { info: request::info_of(&query), channel: None, action: query.get("action").cloned() }
        }
        Method::POST | Method::PUT => match request::json::<Choice>(request, MAX_REQUEST).await {
            Ok(choice) => choice,
            Err(reply) => return reply,
        },
        _ => return not_allowed("GET, PUT, POST, DELETE"),
    };
    let view = shared.view();
    let app = match app_of(&view.apps, &choice.info) {
        Ok(app) => app,
        Err(reply) => return *reply,
    };
    let (electron, action) = (choice.info.platform.as_deref() == Some("electron"), choice.action.as_deref());
    match (method, action) {
        (Method::GET, None) if electron => current(shared, app, &choice.info),
        (Method::GET, _) => list(shared, app, electron),
        (Method::PUT, _) => current(shared, app, &choice.info),
        (Method::DELETE, _) | (_, Some("unset")) => choose(shared, app, &choice.info, None).await,
        (_, _) => choose(shared, app, &choice.info, choice.channel.as_deref().or(Some(""))).await,
    }
}

/// The channels that there are: a bare list, and for the Electron plugin one with a name.
fn list(shared: &Shared, app: &App, named: bool) -> Reply {
    let channel = |(id, name): (usize, &String)| json!({ "id": id + 1, "name": name, "public": *name == app.usual, "allow_self_set": shared.settings.self_assign });
    let channels: Vec<Value> = app.channels.iter().enumerate().map(channel).collect();
    if named {
        return reply(StatusCode::OK, &json!({ "channels": channels }));
    }
    reply(StatusCode::OK, &channels)
}

fn current(shared: &Shared, app: &App, info: &Info) -> Reply {
    let channel = channel_of(shared, app, info);
    let chosen = shared.assigned.read().unwrap_or_else(PoisonError::into_inner);
    let status = if chosen.of(&app.name, &info.device_id).is_some() { "override" } else { "default" };
    let may = shared.settings.self_assign;
    reply(StatusCode::OK, &json!({ "channel": channel, "status": status, "allowSet": may, "allow_set": may }))
}

/// Notes a choice, and answers once it is on disk. The usual channel is what a device without a choice is on.
async fn choose(shared: &Shared, app: &App, info: &Info, channel: Option<&str>) -> Reply {
    if !shared.settings.self_assign {
        let message = "devices may not choose their channel here";
        return failure(StatusCode::FORBIDDEN, "channel_self_set_not_allowed", message);
    }
    if let Some(channel) = channel
        && !app.channels.iter().any(|known| known == channel)
    {
        return failure(StatusCode::NOT_FOUND, "channel_not_found", "the app has no such channel");
    }
    let chosen = channel.filter(|channel| *channel != app.usual).map(str::to_owned);
    let report = Report { app: app.name.clone(), device: info.device_id.clone(), what: Told::Channel(chosen.clone()) };
    let _in_turn = shared.turn(&info.device_id).await;
    if let Err(reply) = shared.report(report).await {
        return reply;
    }
    let unset = chosen.is_none();
    shared.assigned.write().unwrap_or_else(PoisonError::into_inner).set(&app.name, &info.device_id, chosen);
    match (channel, unset) {
        (Some(_), true) => {
            reply(StatusCode::OK, &json!({ "status": "ok", "unset": true, "message": "this is the usual channel" }))
        }
        _ => reply(StatusCode::OK, &json!({ "status": "ok" })),
    }
}
