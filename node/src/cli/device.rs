//! `burr device`: what the device says of itself to the node that runs on it, and which channel and version of an app it
//! takes.

use std::{collections::BTreeMap, fmt, process::ExitCode};

use burr_node::{
    Said,
    control::{self, Request},
    error::{Error, Kind},
};
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;

/// Say how the device stands, what it is, and what it takes.
///
/// How it stands holds until something else is said, it is taken back, or the node ends. Channel, pin and attributes count at once and
/// after restarts, before whatever files and flags say.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// It is in use: releases for the background wait.
    Busy,
    /// It is not in use.
    Idle,
    Condition(Condition),
    /// Install an app from this channel from now on.
    SetChannel {
        /// The channel.
        channel: String,
        /// The app.
        #[arg(long)]
        app: String,
    },
    /// Take this version of an app alone.
    Pin {
        /// The version.
        version: String,
        /// The app.
        #[arg(long)]
        app: String,
    },
    /// Take any version of an app again.
    Unpin {
        /// The app.
        #[arg(long)]
        app: String,
    },
    /// Show what the device is, for the rules of releases, and change it.
    Attributes {
        /// Attributes that have another value from now on; those that are not named stay.
        #[arg(value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// An attribute that the device has no longer.
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
    },
}

/// Say where its power comes from and what its link costs, for `download_if` and `activate_if`.
#[derive(Debug, clap::Args)]
pub(super) struct Condition {
    /// power=mains, power=battery, battery=PERCENT, metered=yes, metered=no, busy, idle; what is not named stays.
    #[arg(required_unless_present = "forget", value_name = "NAME=VALUE")]
    said: Vec<Said>,
    /// Take back whatever was said before, also by `busy` and `idle`: what `conditions.command` measures counts again.
    #[arg(long)]
    forget: bool,
}

/// All that is said at once.
fn standing(said: &[Said], forget: bool) -> (Request, Value) {
    let all = said.iter().fold(Said { forget, ..Said::default() }, |all, one| one.or(all));
    (Request::Device(all), json!(all))
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    let (request, said) = match arguments {
        Arguments::Busy => standing(&[Said { busy: Some(true), ..Said::default() }], false),
        Arguments::Idle => standing(&[Said { busy: Some(false), ..Said::default() }], false),
        Arguments::Condition(Condition { said, forget }) => standing(&said, forget),
        Arguments::SetChannel { channel, app } => {
            let said = json!({ "app": app, "channel": channel });
            (Request::SetChannel { app, channel }, said)
        }
        Arguments::Pin { version, app } => {
            let said = json!({ "app": app, "pin": version });
            (Request::Pin { app, version: Some(version) }, said)
        }
        Arguments::Unpin { app } => {
            let said = json!({ "app": app, "pin": null });
            (Request::Pin { app, version: None }, said)
        }
        Arguments::Attributes { set, remove } => {
            let set = set.iter().map(|pair| attribute(pair)).collect::<Result<_, _>>()?;
            let attributes = control::ask(&context.data, &Request::Attributes { set, remove })?;
            context.print(&Attributes(attributes))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    control::ask::<()>(&context.data, &request)?;
    if context.json {
        context.print(&Told(said))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn attribute(pair: &str) -> Result<(String, String), Error> {
    let (name, value) = pair.split_once('=').ok_or_else(|| {
        Error::new(Kind::BadInput, format!("{pair:?} has no =")).with_hint("write attributes as NAME=VALUE")
    })?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Told(Value);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Attributes(BTreeMap<String, String>);

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { f.write_str("no attributes") } else { f.write_str(&pairs.join("\n")) }
    }
}
