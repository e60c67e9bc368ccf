//! `burr config`: every setting, its value and where that came from; and how one is set.

use std::process::ExitCode;

use burr_node::{
    control::{self, Request},
    error::Error,
    settings::{
        Resolved,
        keys::{APP_KEYS, KEYS},
    },
};
use clap::Subcommand;
use serde_json::json;

use super::{Context, print, print_json};

/// Show every setting, its value and where it came from (default, burr.toml, what was set here, BURR_*, flag, or what was
/// chosen with `burr device`), or set one.
///
/// Settings stand in `burr.toml` in the data directory; `[apps.NAME]` holds those of an app.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// Explain each setting.
    #[arg(long)]
    explain: bool,
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Set one, and tell the node that runs. It comes before what burr.toml says.
    Set {
        /// Its name, as `burr config` shows it.
        name: String,
        /// Its new value.
        value: String,
    },
    /// Forget what was set here.
    Unset {
        /// Its name.
        name: String,
    },
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    match &arguments.change {
        Some(Change::Set { name, value }) => return choose(context, name, Some(value)),
        Some(Change::Unset { name }) => return choose(context, name, None),
        None => {}
    }
    let mut resolved = context.resolved()?;
    resolved.take_device()?;
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

/// Sets a value, or forgets what was set.
fn choose(context: &Context, name: &str, value: Option<&str>) -> Result<ExitCode, Error> {
    let resolved = Resolved::choose(&context.data, name, value)?;
    let (text, source) = resolved.find(name).expect("it was just set");
    let live = if control::is_running(&context.data) {
        control::ask(&context.data, &Request::Set { name: name.to_owned(), text: text.to_owned() })?
    } else {
        false
    };
    if context.json {
        let row = json!({ "name": name, "value": text, "source": source.to_string(), "live": live });
        return print_json(&row).map(|()| ExitCode::SUCCESS);
    }
    let when = if live { "from now on" } else { "from the node's next start on" };
    print(&format!("{name} is {text:?} {when}  ({source})"))?;
    Ok(ExitCode::SUCCESS)
}
