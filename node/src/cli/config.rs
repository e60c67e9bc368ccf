//! `burr config`: every setting, its value and where that came from.

use std::process::ExitCode;

use burr_node::{
    error::Error,
    settings::keys::{APP_KEYS, KEYS},
};
use serde_json::json;

use super::{Context, print, print_json};

/// Show every setting, its value and where it came from: default, burr.toml, BURR_* or flag.
///
/// Settings stand in `burr.toml` in the data directory; `[apps.NAME]` holds those of an app.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Explain each setting.
    #[arg(long)]
    explain: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let resolved = context.resolved()?;
    resolved.settings()?;
    let mut rows = Vec::new();
    for (name, value) in resolved.list() {
        let help = KEYS.iter().find(|key| key.name == name).or_else(|| {
            let key = name.rsplit_once('.').map_or("", |(_, key)| key);
            APP_KEYS.iter().find(|app_key| app_key.name == key)
        });
        rows.push((name, value, help.map_or("", |key| key.help)));
    }
    if context.json {
        let row = |(name, value, help): &(String, &burr_node::settings::Value, &str)| json!({ "name": name, "value": value.text, "source": value.source.to_string(), "help": help });
        return print_json(&rows.iter().map(row).collect::<Vec<_>>()).map(|()| ExitCode::SUCCESS);
    }
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    for (name, value, help) in rows {
        print(&format!("{name:<width$}  {:?}  ({})", value.text, value.source))?;
        if arguments.explain {
            print(&format!("{:<width$}  {help}", ""))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
