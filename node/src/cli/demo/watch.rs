//! Who takes part in the demo, what they reported so far, and the waiting for what they should report next.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burr_node::error::{Error, Kind};
use burr_protocol::{
    Hash, NodeId,
    fact::{Fact, UpdateStep},
    peers::Lie,
    receipt::Outcome,
    release::Release,
};
use bytesize::ByteSize;
use serde::Serialize;
use tokio::{sync::mpsc, time::timeout};

use super::process::{self, Event, Process};
use crate::cli::print;

/// Reports that wait for the demo; then the processes wait.
const MAX_EVENTS: usize = 1024;
/// A wait is over when nobody reported anything for so long, or after all this time.
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(600);

/// Something that the demo says is so, and whether it was.
#[derive(Debug, Serialize)]
pub(super) struct Claim {
    #[serde(rename = "claim")]
    words: String,
    pub(super) held: bool,
    seen: String,
}

/// A fact, who reported it, and when (since the demo began).
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) role: &'static str,
    pub(super) fact: Fact,
}

/// All of the demo that runs and that was seen.
#[derive(Debug)]
pub(super) struct Watch {
    home: PathBuf,
    /// Whether nobody reads along.
    quiet: bool,
    begun: Instant,
    running: Vec<Process>,
    events: mpsc::Receiver<Event>,
    report: mpsc::Sender<Event>,
    pub(super) seen: Vec<Seen>,
    pub(super) releases: Vec<Release>,
    pub(super) claims: Vec<Claim>,
    names: BTreeMap<NodeId, &'static str>,
}

impl Watch {
    /// A demo in which nothing has happened; `home` is where its processes keep their data.
    pub(super) fn new(home: PathBuf, quiet: bool) -> Self {
        let (report, events) = mpsc::channel(MAX_EVENTS);
        Self {
            home,
            quiet,
            begun: Instant::now(),
            running: Vec::new(),
            events,
            report,
            seen: Vec::new(),
            releases: Vec::new(),
            claims: Vec::new(),
            names: BTreeMap::new(),
        }
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Time since the demo began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A node's role, or its short name if it has none here.
    pub(super) fn name(&self, node: NodeId) -> String {
        self.names.get(&node).map_or_else(|| node.short(), |role| (*role).to_owned())
    }

    /// The version whose payload a blob is.
    pub(super) fn version_of(&self, blob: Hash) -> Option<&str> {
        self.releases.iter().find(|release| release.payload.blob == blob).map(|release| release.version.as_str())
    }

    /// Starts `burr` in a role that runs on.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(super) async fn start(&mut self, role: &'static str, arguments: &[&str]) -> Result<&Process, Error> {
        let process = Process::start(&self.home, role, arguments, self.report.clone()).await?;
        self.names.insert(process.node, role);
        self.running.push(process);
        Ok(self.running.last().expect("it was put there"))
    }

    /// Starts a node on the loopback interface, at a port of the system's choice, that knows these other nodes.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub(super) async fn start_node(
        &mut self,
        role: &'static str,
        arguments: &[&str],
        peers: &[&str],
    ) -> Result<&Process, Error> {
        let peers: Vec<String> = peers.iter().map(|peer| self.running(peer).address()).collect();
        let mut all = vec!["run", "--listen", "127.0.0.1", "--port", "0", "--no-mdns"];
        all.extend(arguments);
        for peer in &peers {
            all.extend(["--peer", peer]);
        }
        self.start(role, &all).await
    }

    /// A running process.
    ///
    /// # Panics
    /// If nobody runs in that role: the story is told in the wrong order.
    pub(super) fn running(&self, role: &str) -> &Process {
        let found = self.running.iter().find(|process| process.role == role);
        found.unwrap_or_else(|| panic!("{role} does not run"))
    }

    /// Runs a command on a role's data directory.
    ///
    /// # Errors
    /// As [`process::ask`].
    pub(super) async fn ask(&self, role: &'static str, arguments: &[&str]) -> Result<serde_json::Value, Error> {
        process::ask(&self.home, role, arguments).await
    }

    /// Kills a process (SIGKILL) and says by what it ended.
    ///
    /// # Errors
    /// As [`Process::kill`].
    pub(super) async fn kill(&mut self, role: &str) -> Result<std::process::ExitStatus, Error> {
        let at = self.running.iter().position(|process| process.role == role);
        let process = self.running.swap_remove(at.unwrap_or_else(|| panic!("{role} does not run")));
        process.kill().await
    }

    /// Ends everything, each in good order or, in haste, at once; returns who did not end by themselves.
    pub(super) async fn end(&mut self, haste: bool) -> Vec<&'static str> {
        let mut ending = tokio::task::JoinSet::new();
        for process in self.running.drain(..) {
            ending.spawn(async move {
                let role = process.role;
                let well = if haste { process.kill().await.is_ok() } else { process.end().await };
                (!well).then_some(role)
            });
        }
        ending.join_all().await.into_iter().flatten().collect()
    }

    /// Waits until what was reported satisfies `done`.
    ///
    /// # Errors
    /// [`Kind::Ended`] if that does not happen in time, or if a node ends meanwhile.
    pub(super) async fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let begun = Instant::now();
        while !done(self) {
            let left = PATIENCE.saturating_sub(begun.elapsed()).min(SILENCE);
            let Ok(event) = timeout(left, self.events.recv()).await else {
                let waited = begun.elapsed().as_secs();
                return Err(Error::new(Kind::Ended, format!("waited {waited} s in vain until {what}")));
            };
            match event.expect("a sender is kept here") {
                Event::Fact { role, fact } => self.take(role, fact),
                Event::Ended { role, process } => {
                    // Liars leave when they are refused; who was killed is no longer listed.
                    let node = self.running.iter().find(|running| running.role == role);
                    if node.is_some_and(|node| node.id() == process && node.listener.is_some()) {
                        return Err(Error::new(Kind::Ended, format!("{role} ended before {what}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes whether something was as it should be.
    pub(super) fn claim(&mut self, claim: impl Into<String>, held: bool, seen: impl Into<String>) {
        let claim = Claim { words: claim.into(), held, seen: seen.into() };
        self.say(&format!("  {} {}\n      {}", if claim.held { "✓" } else { "✗" }, claim.words, claim.seen));
        self.claims.push(claim);
    }

    /// Tells what comes next.
    pub(super) fn title(&self, words: &str) {
        self.say(&format!("\n{words}"));
    }

    /// Tells what a role does.
    pub(super) fn act(&self, role: &str, words: &str) {
        self.say(&format!("{:>7.2} s  {role:<9}  {words}", self.elapsed().as_secs_f64()));
    }

    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            // The demo goes on if nobody reads along any more.
            let _ = print(text);
        }
    }

    fn take(&mut self, role: &'static str, fact: Fact) {
        if let Some(words) = self.words(role, &fact) {
            self.act(role, &words);
        }
        self.seen.push(Seen { at: self.elapsed(), role, fact });
    }

    /// A fact with roles and versions for names; nothing for what would only fill the screen.
    fn words(&self, role: &str, fact: &Fact) -> Option<String> {
        Some(match fact {
            Fact::PeerConnected { .. }
            | Fact::FetchStarted { .. }
            | Fact::FetchProgress { .. }
            | Fact::Update { step: UpdateStep::Chosen | UpdateStep::Staged, .. } => return None,
            // The kiosk collects; the others carry.
            Fact::ReceiptKept { .. } if role != "kiosk" => return None,
            Fact::PeerDisconnected { node } => format!("lost {}", self.name(*node)),
            Fact::PeerRefused { node, lie, why } => format!("refused {} for {lie}: {why}", self.name(*node)),
            Fact::MetadataVerified { version, from: Some(from), .. } => {
                format!("verified signed metadata {version} from {}", self.name(*from))
            }
            Fact::MetadataVerified { version, from: None, .. } => format!("offers signed metadata {version}"),
            Fact::FetchCompleted { blob, size, sources, took_ms } => {
                let version = self.version_of(*blob).unwrap_or("a payload");
                let from: Vec<String> = sources.iter().map(|(node, _)| self.name(*node)).collect();
                format!("fetched {version}, {}, from {} in {took_ms} ms", ByteSize::b(*size), from.join(" and "))
            }
            Fact::Update { version, step: UpdateStep::OnTrial, .. } => {
                format!("switched to {version}, which is on trial until its health check succeeds")
            }
            Fact::Update { version, step: UpdateStep::Active, .. } => format!("{version} is active"),
            Fact::Update { version, step: UpdateStep::RolledBack { to, why }, .. } => {
                format!("took {version} back and runs {}: {why}", to.as_deref().unwrap_or("nothing"))
            }
            Fact::ReceiptKept { device, version, outcome, .. } => {
                format!("keeps a receipt of {}: {version} {}", self.name(*device), in_a_word(outcome))
            }
            other => other.to_string(),
        })
    }

    pub(super) fn facts(&self, role: &str) -> impl Iterator<Item = &Fact> {
        self.seen.iter().filter(move |seen| seen.role == role).map(|seen| &seen.fact)
    }

    /// How far an update of a device to a version got.
    pub(super) fn reached(&self, role: &str, wanted: &str, how: impl Fn(&UpdateStep) -> bool) -> bool {
        self.facts(role)
            .any(|fact| matches!(fact, Fact::Update { version, step, .. } if version == wanted && how(step)))
    }

    pub(super) fn is_active(&self, role: &str, wanted: &str) -> bool {
        self.reached(role, wanted, |step| *step == UpdateStep::Active)
    }

    /// Who provided a payload to a role, once that has all of it.
    pub(super) fn sources(&self, role: &str, wanted: Hash) -> Option<Vec<String>> {
        self.facts(role).find_map(|fact| match fact {
            Fact::FetchCompleted { blob, sources, .. } if *blob == wanted => {
                Some(sources.iter().map(|(node, _)| self.name(*node)).collect())
            }
            _ => None,
        })
    }

    /// The lie for which a role refused another, and why.
    pub(super) fn refusal(&self, role: &str, liar: &str) -> Option<(Lie, &str)> {
        self.facts(role).find_map(|fact| match fact {
            Fact::PeerRefused { node, lie, why } if self.name(*node) == liar => Some((*lie, why.as_str())),
            _ => None,
        })
    }

    /// Whether a role keeps a receipt of a device for a version.
    pub(super) fn has_receipt(&self, role: &str, of: &str, wanted: &str) -> bool {
        self.facts(role).any(|fact| {
            matches!(fact, Fact::ReceiptKept { device, version, .. } if self.name(*device) == of && version == wanted)
        })
    }
}

/// An outcome without its reason.
pub(super) fn in_a_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Active => "active",
        Outcome::RolledBack { .. } => "rolled back",
        Outcome::Failed { .. } => "failed",
    }
}
