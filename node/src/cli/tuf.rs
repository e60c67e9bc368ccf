//! `burr tuf`: a client of any TUF repository, for those who check one from outside.

use std::{fmt, fs, path::PathBuf, process::ExitCode};

use burr_node::{
    error::{Error, Kind},
    tuf::{self, Refreshed},
};
use clap::Subcommand;
use serde::Serialize;

use super::{print, report};

/// Check and download from any TUF repository over HTTP, Burr's or another.
///
/// What is trusted lies in --metadata-dir as ROLE.json, byte for byte as it was served. Exit code 0 or 1.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where trusted metadata lies.
    #[arg(long, global = true, value_name = "DIR")]
    metadata_dir: Option<PathBuf>,
    /// Where the repository serves its metadata.
    #[arg(long, global = true, value_name = "URL")]
    metadata_url: Option<String>,
    /// The path of a target; may be given several times.
    #[arg(long, global = true, value_name = "NAME")]
    target_name: Vec<String>,
    /// Where the repository serves its targets.
    #[arg(long, global = true, value_name = "URL")]
    target_base_url: Option<String>,
    /// Where to put targets.
    #[arg(long, global = true, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trust a repository from this root on. Nothing is asked for over the network.
    Init {
        /// The root, from someone you believe.
        root: PathBuf,
    },
    /// Bring the metadata up to what the repository serves.
    Refresh,
    /// Refresh, then download targets that are not there yet.
    Download,
}

#[derive(Serialize)]
struct Trusted {
    root: Option<u64>,
    timestamp: Option<u64>,
    snapshot: Option<u64>,
    targets: Option<u64>,
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = [
            ("root", self.root),
            ("timestamp", self.timestamp),
            ("snapshot", self.snapshot),
            ("targets", self.targets),
        ];
        let versions = roles.iter().filter_map(|(role, version)| Some(format!("{role} {}", (*version)?)));
        write!(f, "trusted: {}", versions.collect::<Vec<_>>().join(", "))
    }
}

#[derive(Serialize)]
struct Target {
    #[serde(rename = "target")]
    name: String,
    path: PathBuf,
    length: u64,
    was_there: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.was_there { "is there" } else { "downloaded" };
        write!(f, "{} {verb}: {} ({} bytes)", self.name, self.path.display(), self.length)
    }
}

/// Whatever goes wrong, the exit code is 1: scripts for TUF clients know no other.
pub(super) fn run(arguments: &Arguments, json: bool) -> ExitCode {
    match carry_out(arguments, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, json);
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: &Arguments, json: bool) -> Result<(), Error> {
    let metadata = needed(arguments.metadata_dir.as_ref(), "--metadata-dir")?;
    let refresh = || tuf::refresh(metadata, needed(arguments.metadata_url.as_ref(), "--metadata-url")?);
    match &arguments.command {
        Command::Init { root } => {
            let bytes = fs::read(root).map_err(|error| {
                Error::new(Kind::BadInput, format!("can't read {}", root.display())).with_source(error)
            })?;
            let version = tuf::init(metadata, &bytes)?;
            show(&Trusted { root: Some(version), timestamp: None, snapshot: None, targets: None }, json)
        }
        Command::Refresh => show(&trusted(&refresh()?), json),
        Command::Download => {
            let base = needed(arguments.target_base_url.as_ref(), "--target-base-url")?;
            let directory = needed(arguments.target_dir.as_ref(), "--target-dir")?;
            if arguments.target_name.is_empty() {
                return needed(None::<&String>, "--target-name").map(drop);
            }
            let mut refreshed = refresh()?;
            for name in &arguments.target_name {
                let tuf::Downloaded { path, length, was_there } = refreshed.download(name, base, directory)?;
                show(&Target { name: name.clone(), path, length, was_there }, json)?;
            }
            Ok(())
        }
    }
}

fn trusted(refreshed: &Refreshed) -> Trusted {
    let [root, timestamp, snapshot, targets] =
        ["root", "timestamp", "snapshot", "targets"].map(|role| refreshed.version(role));
    Trusted { root, timestamp, snapshot, targets }
}

fn needed<'a, T>(value: Option<&'a T>, flag: &str) -> Result<&'a T, Error> {
    value.ok_or_else(|| Error::new(Kind::BadInput, format!("{flag} is missing")))
}

fn show(value: &(impl Serialize + fmt::Display), json: bool) -> Result<(), Error> {
    if json { print(&serde_json::to_string(value).expect("our own types are JSON")) } else { print(&value.to_string()) }
}
