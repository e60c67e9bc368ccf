//! A node's state as Prometheus metrics, in its text format 0.0.4.

use std::fmt::{self, Write as _};

use burr_node::control::Overview;

/// An overview, written as metrics.
pub(super) struct Metrics<'a>(pub(super) &'a Overview);

/// A metric's samples: labels and value.
type Samples = Vec<(Vec<(&'static str, String)>, i64)>;

impl fmt::Display for Metrics<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.0.status;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let one = |value: i64| vec![(Vec::new(), value)];
        gauge(f, "burr_peers_connected", "Nodes that are connected.", &one(count(status.peers.len())))?;
        gauge(f, "burr_peers_refused", "Nodes that lied.", &one(count(status.refused.len())))?;

        let of = |value: fn(&burr_protocol::status::Repository) -> Option<i64>| -> Samples {
            let repositories = status.repositories.iter();
            let labelled = repositories.map(|it| (vec![("repository", it.repository.to_string())], value(it)));
            labelled.filter_map(|(labels, value)| Some((labels, value?))).collect()
        };
        let age = of(|repository| repository.age_s);
        gauge(f, "burr_metadata_age_seconds", "Time since the newest verified metadata was signed.", &age)?;
        let left = of(|repository| repository.expires_in_s);
        gauge(f, "burr_metadata_expires_in_seconds", "Time until it expires; negative if it has.", &left)?;
        let version = of(|repository| repository.version.map(|version| i64::try_from(version).unwrap_or(i64::MAX)));
        gauge(f, "burr_metadata_version", "Version of its timestamp.", &version)?;
        let forked = of(|repository| Some(i64::from(repository.forked.is_some())));
        gauge(f, "burr_metadata_forked", "1 if a second history of the repository was met.", &forked)?;

        let apps = status.apps.iter().filter_map(|app| {
            let active = app.active.as_ref()?;
            let labels = [("app", &app.app), ("channel", &app.channel), ("version", &active.version)];
            Some((labels.map(|(name, value)| (name, value.clone())).to_vec(), size(active.id.seq)))
        });
        gauge(f, "burr_app_release", "Number of the active release of an app.", &apps.collect::<Vec<_>>())?;

        let held = status.blobs.iter().map(|blob| blob.held).sum();
        gauge(f, "burr_store_held_bytes", "Bytes of payloads that are held.", &one(size(held)))?;
        gauge(f, "burr_store_quota_bytes", "Bytes of payloads that are kept at most.", &one(size(status.quota)))
    }
}

fn gauge(f: &mut fmt::Formatter<'_>, name: &str, help: &str, samples: &Samples) -> fmt::Result {
    if samples.is_empty() {
        return Ok(());
    }
    writeln!(f, "# HELP {name} {help}\n# TYPE {name} gauge")?;
    for (labels, value) in samples {
        let mut text = String::new();
        for (label, value) in labels {
            // Labels are names, versions and hex digits: nothing in them needs an escape.
            write!(text, "{}{label}=\"{value}\"", if text.is_empty() { "" } else { "," })?;
        }
        let text = if text.is_empty() { text } else { format!("{{{text}}}") };
        writeln!(f, "{name}{text} {value}")?;
    }
    Ok(())
}
