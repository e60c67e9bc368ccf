//! A node's state and what happened since its start, as Prometheus metrics.
//!
//! [`METRICS`] is the one list of them, and each entry says how it is read from a [`Status`] and a [`Tally`]; the text is
//! written from it, and `METRICS.md` shows it to people. `burr status --metrics` and `/metrics` (`metrics/http.rs`) give
//! the same text.

pub mod http;
mod tally;

use std::{fmt::Write as _, time::Duration};

use burr_protocol::{
    budget::Traffic,
    status::{Repository, Status},
};

pub use tally::{Beside, Tally};

/// The media type of [`text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a metric can fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It can.
    Gauge,
    /// It counts from the node's start on.
    Counter,
}

impl Kind {
    /// As the text format and `METRICS.md` call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, with its unit and, of a counter, `total` at its end.
    pub name: &'static str,
    /// Whether it can fall.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    read: fn(&Status, &Tally) -> Vec<Sample>,
}

/// The values of a metric's labels, and its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    labels: Vec<String>,
    value: String,
}

impl Sample {
    fn new(labels: impl IntoIterator<Item = impl Into<String>>, value: impl TryInto<i64>) -> Self {
        let labels = labels.into_iter().map(Into::into).collect();
        Self { labels, value: value.try_into().unwrap_or(i64::MAX).to_string() }
    }

    fn seconds(labels: impl IntoIterator<Item = impl Into<String>>, time: Duration) -> Self {
        let labels = labels.into_iter().map(Into::into).collect();
        Self { labels, value: format!("{}.{:03}", time.as_secs(), time.subsec_millis()) }
    }

    /// Seconds of what may take less than a millisecond.
    fn fine(labels: impl IntoIterator<Item = impl Into<String>>, time: Duration) -> Self {
        let labels = labels.into_iter().map(Into::into).collect();
        Self { labels, value: format!("{}.{:06}", time.as_secs(), time.subsec_micros()) }
    }
}

fn of_apps(status: &Status, time: impl Fn(&str) -> Duration) -> Vec<Sample> {
    status.apps.iter().map(|app| Sample::seconds([&app.app], time(&app.app))).collect()
}

fn one(value: impl TryInto<i64>) -> Vec<Sample> {
    vec![Sample::new([] as [&str; 0], value)]
}

fn of_repositories(status: &Status, value: impl Fn(&Repository) -> Option<i64>) -> Vec<Sample> {
    let repositories = status.repositories.iter();
    repositories.filter_map(|it| Some(Sample::new([it.repository.to_string()], value(it)?))).collect()
}

/// All metrics, in the order of the text.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "burr_build_info",
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; its label says which Burr this is.",
        read: |_, _| vec![Sample::new([env!("CARGO_PKG_VERSION")], 1)],
    },
    Metric {
        name: "burr_peers_connected",
        kind: Kind::Gauge,
        labels: &[],
        help: "Nodes that are connected.",
        read: |status, _| one(status.peers.len()),
    },
    Metric {
        name: "burr_peers_refused",
        kind: Kind::Gauge,
        labels: &[],
        help: "Nodes that lied and are not dealt with.",
        read: |status, _| one(status.refused.len()),
    },
    Metric {
        name: "burr_metadata_age_seconds",
        kind: Kind::Gauge,
        labels: &["repository"],
        help: "Time since the newest verified metadata was signed.",
        read: |status, _| of_repositories(status, |repository| repository.age_s),
    },
    Metric {
        name: "burr_metadata_expires_in_seconds",
        kind: Kind::Gauge,
        labels: &["repository"],
        help: "Time until it expires; negative if it has.",
        read: |status, _| of_repositories(status, |repository| repository.expires_in_s),
    },
    Metric {
        name: "burr_metadata_version",
        kind: Kind::Gauge,
        labels: &["repository"],
        help: "Version of its timestamp.",
        read: |status, _| {
            of_repositories(status, |repository| repository.version.map(|it| i64::try_from(it).unwrap_or(i64::MAX)))
        },
    },
    Metric {
        name: "burr_metadata_forked",
        kind: Kind::Gauge,
        labels: &["repository"],
        help: "1 if a second history of the repository was met.",
        read: |status, _| of_repositories(status, |repository| Some(i64::from(repository.forked.is_some()))),
    },
    Metric {
        name: "burr_app_release",
        kind: Kind::Gauge,
        labels: &["app", "channel", "version"],
        help: "Number, in its channel, of the active release of an app.",
        read: |status, _| {
            let active = |app: &burr_protocol::status::App| {
                let active = app.active.as_ref()?;
                Some(Sample::new([&app.app, &app.channel, &active.version], active.id.seq))
            };
            status.apps.iter().filter_map(active).collect()
        },
    },
    Metric {
        name: "burr_store_held_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of payloads that are held.",
        read: |status, _| one(status.blobs.iter().map(|blob| blob.held).sum::<u64>()),
    },
    Metric {
        name: "burr_store_quota_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of payloads that are kept at most.",
        read: |status, _| one(status.quota),
    },
    Metric {
        name: "burr_gateway_held_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of disk that the gateway's zips and files of bundles take.",
        read: |_, tally| one(tally.gateway_held),
    },
    Metric {
        name: "burr_upstream_held_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of disk that parts of payloads from web servers take, until they are whole: one a server at most.",
        read: |_, tally| one(tally.upstream_held),
    },
    Metric {
        name: "burr_traffic_bytes_total",
        kind: Kind::Counter,
        labels: &["link", "direction"],
        help: "Bytes of payloads on the wire, with nodes of this site (lan) or of others (wan), down or up.",
        read: |status, _| {
            let Traffic { lan_down, lan_up, wan_down, wan_up } = status.budget.traffic;
            let links =
                [("lan", "down", lan_down), ("lan", "up", lan_up), ("wan", "down", wan_down), ("wan", "up", wan_up)];
            links.into_iter().map(|(link, direction, bytes)| Sample::new([link, direction], bytes)).collect()
        },
    },
    Metric {
        name: "burr_month_used_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes that were exchanged with other sites in this calendar month, counted while there is a cap.",
        read: |status, _| one(status.budget.used),
    },
    Metric {
        name: "burr_turns_waiting",
        kind: Kind::Gauge,
        labels: &[],
        help: "Nodes that wait here for what they asked for.",
        read: |status, _| one(status.budget.waiting),
    },
    Metric {
        name: "burr_fetches_started_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Payloads whose fetch began.",
        read: |_, tally| one(tally.fetches_started),
    },
    Metric {
        name: "burr_fetches_completed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Payloads that came whole and verified.",
        read: |_, tally| one(tally.fetches_completed),
    },
    Metric {
        name: "burr_fetches_left_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Fetches that were left before their end, as what they brought was not wanted any more, or not then.",
        read: |_, tally| one(tally.fetches_left),
    },
    Metric {
        name: "burr_fetch_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Time that fetches took which completed, over all.",
        read: |_, tally| vec![Sample::seconds([] as [&str; 0], tally.fetching)],
    },
    Metric {
        name: "burr_provider_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Providers that failed in a fetch: too slow, or without what they said they had.",
        read: |_, tally| one(tally.provider_failures),
    },
    Metric {
        name: "burr_upstream_payloads_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Payloads that came whole from a web server, since no peer had them.",
        read: |_, tally| one(tally.upstreams_took),
    },
    Metric {
        name: "burr_upstream_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that a web server could not be reached, broke off, or gave what it should not.",
        read: |_, tally| one(tally.upstream_failures),
    },
    Metric {
        name: "burr_conditions_unknown_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that the command which measures the device's condition began to fail.",
        read: |_, tally| one(tally.conditions_unknown),
    },
    Metric {
        name: "burr_no_room_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Payloads that did not fit under the quota.",
        read: |_, tally| one(tally.no_room),
    },
    Metric {
        name: "burr_budgets_used_up_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that the bytes of a month were used up.",
        read: |_, tally| one(tally.budgets_used_up),
    },
    Metric {
        name: "burr_update_steps_total",
        kind: Kind::Counter,
        labels: &["app", "step"],
        help: "Steps of updates on this device: chosen, withdrawn, staged, on_trial, active, rolled_back, failed.",
        read: |status, tally| {
            let apps = status.apps.iter().map(|app| app.app.as_str());
            apps.flat_map(|app| tally.steps(app).map(move |(step, count)| Sample::new([app, step], count))).collect()
        },
    },
    Metric {
        name: "burr_stage_seconds_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "Time that unpacking and verifying took of what was staged, over all.",
        read: |status, tally| of_apps(status, |app| tally.times(app).staging),
    },
    Metric {
        name: "burr_trial_seconds_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "Time on trial of what came to be active, over all.",
        read: |status, tally| of_apps(status, |app| tally.times(app).trials),
    },
    Metric {
        name: "burr_update_seconds_total",
        kind: Kind::Counter,
        labels: &["app"],
        help: "Time from the choice of a release to its being active, with all that it waited for, over all.",
        read: |status, tally| of_apps(status, |app| tally.times(app).updates),
    },
    Metric {
        name: "burr_waits_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Reasons to take no release for now, or to switch later, that came up.",
        read: |_, tally| one(tally.waits),
    },
    Metric {
        name: "burr_receipts_kept_total",
        kind: Kind::Counter,
        labels: &["outcome"],
        help: "Receipts that came to be kept here, of this device and of others: active, rolled_back, failed.",
        read: |_, tally| tally.receipts().map(|(outcome, count)| Sample::new([outcome], count)).collect(),
    },
    Metric {
        name: "burr_metadata_verified_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that newer metadata was verified.",
        read: |_, tally| one(tally.metadata_verified),
    },
    Metric {
        name: "burr_metadata_verify_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Time that the verification of newer metadata took, with what is noted of it, over all.",
        read: |_, tally| vec![Sample::fine([] as [&str; 0], tally.verifying)],
    },
    Metric {
        name: "burr_metadata_delay_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Time from the signing of newer metadata to its being verified here, by this machine's clock, over all.",
        read: |_, tally| vec![Sample::seconds([] as [&str; 0], tally.metadata_delay)],
    },
    Metric {
        name: "burr_announcements_received_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Announcements that gossip brought, each as often as it came.",
        read: |_, tally| one(tally.announcements.0),
    },
    Metric {
        name: "burr_announcements_new_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Announcements that gossip brought, each once.",
        read: |_, tally| one(tally.announcements.1),
    },
    Metric {
        name: "burr_imports_refused_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Imports of metadata on this machine that were refused.",
        read: |_, tally| one(tally.imports_refused),
    },
    Metric {
        name: "burr_histories_forked_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that a second history of a repository was met.",
        read: |_, tally| one(tally.histories_forked),
    },
    Metric {
        name: "burr_halts_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Releases that halted by their own rules, by what is known here.",
        read: |_, tally| one(tally.halts),
    },
    Metric {
        name: "burr_connections_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Nodes that came to be connected.",
        read: |_, tally| one(tally.connections),
    },
    Metric {
        name: "burr_disconnections_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Nodes that were connected and are gone.",
        read: |_, tally| one(tally.disconnections),
    },
    Metric {
        name: "burr_lies_total",
        kind: Kind::Counter,
        labels: &["lie"],
        help: "Nodes refused for a proven lie: altered_bytes, forged_metadata, forged_receipt, garbage.",
        read: |_, tally| tally.lies().map(|(lie, count)| Sample::new([lie], count)).collect(),
    },
    Metric {
        name: "burr_no_place_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Nodes for which there was no place.",
        read: |_, tally| one(tally.no_place),
    },
    Metric {
        name: "burr_peers_dismissed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Nodes that were not admitted to this closed mesh.",
        read: |_, tally| one(tally.dismissed),
    },
    Metric {
        name: "burr_turned_away_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that another node did not admit this one to its closed mesh.",
        read: |_, tally| one(tally.turned_away),
    },
    Metric {
        name: "burr_members_expelled_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connected members that were cut off, as they are none any more.",
        read: |_, tally| one(tally.expelled),
    },
    Metric {
        name: "burr_storage_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that the store failed.",
        read: |_, tally| one(tally.storage_failures),
    },
    Metric {
        name: "burr_store_rebuilt_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Damaged parts of the store that were set aside and made anew.",
        read: |_, tally| one(tally.store_rebuilt),
    },
    Metric {
        name: "burr_records_dropped_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Records from before the start that were of no use.",
        read: |_, tally| one(tally.records_dropped),
    },
];

/// Everything in Prometheus' text format 0.0.4.
#[must_use]
pub fn text(status: &Status, tally: &Tally) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric { name, kind, help, .. } = metric;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        for Sample { labels, value } in (metric.read)(status, tally) {
            // Labels are names, versions and hex digits: nothing in them needs an escape.
            let labels: Vec<_> =
                metric.labels.iter().zip(labels).map(|(label, it)| format!("{label}=\"{it}\"")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}
