//! The demo's processes: each is this same executable with a data directory, a log and a role of its own.

use std::{
    env,
    fs::OpenOptions,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use burr_node::error::{Error, Kind};
use burr_protocol::{NodeId, fact::Fact};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

/// How long a process may take to say that it runs.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long a process may take to end in good order: it may be removing thousands of files on a disk that others keep busy.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How long a command may take: the longest is a publish of a large bundle.
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);

/// What a process reports.
#[derive(Debug)]
pub(super) enum Event {
    /// A fact of a node.
    Fact { role: &'static str, fact: Fact },
    /// A process closed its output.
    Ended { role: &'static str, process: Option<u32> },
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) role: &'static str,
    /// Who it is on the mesh.
    pub(super) node: NodeId,
    /// Where it listens, if it does.
    pub(super) listener: Option<SocketAddr>,
    child: Child,
}

/// The first line of a node's output.
#[derive(Debug, Deserialize)]
struct Started {
    node: NodeId,
    listeners: Vec<SocketAddr>,
}

impl Process {
    /// Starts a process that runs on, and waits until it says who it is. Everything that it reports from then on goes
    /// to `events`. It is killed when this is dropped.
    ///
    /// # Errors
    /// [`Kind::Ended`] if it can't be started or ends at once; its log says why.
    pub(super) async fn start(
        home: &Path,
        role: &'static str,
        arguments: &[&str],
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::new(Kind::Ended, format!("can't start {role}")).with_source(error);
        let log = OpenOptions::new().create(true).append(true).open(log(home, role)).map_err(failed)?;
        let mut command = burr(home, role, arguments)?;
        // A group of its own: a Ctrl-C at the terminal is for the demo, which ends its processes itself.
        command.stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let Ok(Ok(Some(first))) = timeout(START_PATIENCE, lines.next_line()).await else {
            return Err(Error::new(Kind::Ended, format!("{role} did not start")));
        };
        let Started { node, listeners } = serde_json::from_str(&first).map_err(|error| failed(error.into()))?;
        let process = child.id();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(fact) = serde_json::from_str(&line)
                    && events.send(Event::Fact { role, fact }).await.is_err()
                {
                    return;
                }
            }
            // Fails only when the demo is over.
            let _ = events.send(Event::Ended { role, process }).await;
        });
        Ok(Self { role, node, listener: listeners.first().copied(), child })
    }

    /// The system's name of the process, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it can be dialled.
    ///
    /// # Panics
    /// If it does not listen.
    pub(super) fn address(&self) -> String {
        self.listener.expect("only nodes that listen are dialled").to_string()
    }

    /// Ends the process at once, as a power cut would (SIGKILL).
    ///
    /// # Errors
    /// [`Kind::Ended`] if the system does not let us.
    pub(super) async fn kill(mut self) -> Result<ExitStatus, Error> {
        let ended = match self.child.start_kill() {
            Ok(()) => self.child.wait().await,
            Err(error) => Err(error),
        };
        ended.map_err(|error| Error::new(Kind::Ended, format!("can't kill {}", self.role)).with_source(error))
    }

    /// Asks the process to end, and kills it if it does not; returns whether it ended by itself.
    pub(super) async fn end(mut self) -> bool {
        let process = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // It may have ended before.
        let _ = process.map(|process| kill_process(process, Signal::TERM));
        if timeout(END_PATIENCE, self.child.wait()).await.is_ok() {
            return true;
        }
        let _ = self.kill().await;
        false
    }
}

/// Runs a command of the binary on a role's data directory and returns the JSON that it prints.
///
/// # Errors
/// [`Kind::Ended`] with the command's own words if it fails.
pub(super) async fn ask(home: &Path, role: &'static str, arguments: &[&str]) -> Result<Value, Error> {
    let what = arguments.first().copied().unwrap_or_default();
    let failed = |why: String| Error::new(Kind::Ended, format!("`burr {what}` failed at {role}: {why}"));
    let mut command = burr(home, role, arguments)?;
    let output = timeout(COMMAND_PATIENCE, command.output()).await;
    let output = output.map_err(|_| failed("it did not end in time".to_owned()))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(failed(format!("{} {}", words(&output.stdout), words(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("{error} in {}", words(&output.stdout))))
}

/// A role's data directory.
pub(super) fn data(home: &Path, role: &str) -> PathBuf {
    home.join(role)
}

fn log(home: &Path, role: &str) -> PathBuf {
    home.join(format!("{role}.log"))
}

/// This executable on a role's data directory, with none of the settings that the person's environment may hold.
fn burr(home: &Path, role: &str, arguments: &[&str]) -> Result<Command, Error> {
    let this = env::current_exe()
        .map_err(|error| Error::new(Kind::Ended, "can't find this executable to start it again").with_source(error))?;
    let mut command = Command::new(this);
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"BURR_")) {
        command.env_remove(name);
    }
    command.arg("--json").arg("--data").arg(data(home, role)).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}
