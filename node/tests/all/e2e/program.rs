//! Running `burr` as people do: commands that end, and nodes that run until they are stopped, killed or dropped.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::scratch;

/// Long past anything that should happen, on a slow and busy machine too: only a test that fails waits for it.
pub(super) const DEADLINE: Duration = Duration::from_secs(180);

/// `burr` on a data directory, with no setting from outside.
pub(super) fn burr(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burr"));
    alone(&mut command, data);
    command
}

fn alone(command: &mut Command, data: &Path) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BURR_")) {
        command.env_remove(name);
    }
    command.arg("--data").arg(data).stdin(Stdio::null());
}

/// What a command that ended said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    #[track_caller]
    pub(super) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(super) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }
}

/// Runs a command to its end, or kills it at the deadline.
#[track_caller]
pub(super) fn run(mut command: Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("burr starts");
    let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (out, err) = (thread::spawn(move || read(out)), thread::spawn(move || read(err)));
    let status = wait(&mut child, DEADLINE);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (out, err) = (out.join().expect("read"), err.join().expect("read"));
    let status = status.unwrap_or_else(|| panic!("{command:?} did not end: {out}{err}"));
    Said { code: status.code(), out, err }
}

/// Runs `burr` with these arguments.
#[track_caller]
pub(super) fn say(data: &Path, arguments: &[&str]) -> Said {
    let mut command = burr(data);
    command.args(arguments);
    run(command)
}

fn read(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a child's end.
pub(super) fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        match child.try_wait().expect("our own child") {
            None if begun.elapsed() < patience => thread::sleep(Duration::from_millis(2)),
            ended => return ended,
        }
    }
}

/// Sets up an app `shop` and returns what a device puts behind `--install`.
#[track_caller]
pub(super) fn set_up(data: &Path) -> String {
    let made = say(data, &["init", "--app", "shop", "--json"]).json();
    made["links"][0].as_str().expect("a link").to_owned()
}

/// Publishes a version of the app `shop` and returns the release.
#[track_caller]
pub(super) fn publish(data: &Path, source: &Path, version: &str) -> Value {
    say(data, &["publish", &source.display().to_string(), "--app", "shop", "--version", version, "--json"]).json()
}

/// A node that runs: `burr run --json`, whose facts are heard.
pub(super) struct Node {
    child: Child,
    data: PathBuf,
    facts: mpsc::Receiver<Value>,
    /// Every fact that was heard, oldest first.
    pub(super) heard: Vec<Value>,
    log: Arc<Mutex<String>>,
    started: Value,
}

impl Node {
    /// Starts a node on loopback, without multicast.
    #[track_caller]
    pub(super) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = burr(data);
        command.args(["run", "--json", "--listen", "127.0.0.1", "--no-mdns"]).args(arguments);
        Self::spawn(command, data)
    }

    /// Starts a node inside a network namespace, with its defaults.
    #[track_caller]
    pub(super) fn start_in(namespace: &str, data: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_burr")]);
        alone(&mut command, data);
        command.args(["run", "--json"]).args(arguments);
        Self::spawn(command, data)
    }

    /// Starts what a command says.
    #[track_caller]
    pub(super) fn spawn(mut command: Command, data: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("burr starts");
        let (sender, facts) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            // A line that a kill cut short is none.
            let facts = out.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            facts.take_while(|fact: &Value| sender.send(fact.clone()).is_ok()).for_each(drop);
        });
        let log = Arc::new(Mutex::new(String::new()));
        let (err, writer) = (BufReader::new(child.stderr.take().expect("piped")), Arc::clone(&log));
        thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                let _ = writeln!(writer.lock().expect("no thread panics with it"), "{line}");
            }
        });
        let mut node = Self { child, data: data.to_owned(), facts, heard: Vec::new(), log, started: Value::Null };
        node.started = node.hear("a start", |fact| (fact["fact"] == "started").then(|| fact.clone()));
        node
    }

    /// Waits for a fact that is wanted; others are passed over, and remembered in [`Node::heard`].
    #[track_caller]
    pub(super) fn hear<T>(&mut self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            match self.facts.recv_timeout(DEADLINE.saturating_sub(begun.elapsed())) {
                Ok(fact) => {
                    let found = wanted(&fact);
                    self.heard.push(fact);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(why) => panic!("{what} was not heard ({why}): {}", self.story()),
            }
        }
    }

    /// Waits for an update of `shop` to come to a step.
    #[track_caller]
    pub(super) fn hear_step(&mut self, version: &str, step: &str) -> Value {
        self.hear(&format!("{version} {step}"), |fact| {
            let found = fact["fact"] == "update" && fact["version"] == version && fact["step"]["step"] == step;
            found.then(|| fact.clone())
        })
    }

    /// Waits for a fact of this kind.
    #[track_caller]
    pub(super) fn hear_fact(&mut self, kind: &str) -> Value {
        self.hear(kind, |fact| (fact["fact"] == kind).then(|| fact.clone()))
    }

    /// What was told and is not heard yet is heard now, for so long at most; returns whether the node still talks.
    pub(super) fn listen(&mut self, patience: Duration) {
        let begun = Instant::now();
        while let Ok(fact) = self.facts.recv_timeout(patience.saturating_sub(begun.elapsed())) {
            self.heard.push(fact);
        }
    }

    /// Who it is.
    pub(super) fn id(&self) -> String {
        self.started["node"].as_str().expect("a name").to_owned()
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.started["listeners"][0].as_str().expect("an address").parse().expect("an address")
    }

    /// Where its gateway listens.
    pub(super) fn gateway(&self) -> SocketAddr {
        self.started["gateway"].as_str().expect("an address").parse().expect("an address")
    }

    /// Where its local control listens over HTTP.
    pub(super) fn control(&self) -> SocketAddr {
        self.started["control"].as_str().expect("an address").parse().expect("an address")
    }

    /// Where its metrics are.
    pub(super) fn metrics(&self) -> SocketAddr {
        self.started["metrics"].as_str().expect("an address").parse().expect("an address")
    }

    /// Asks it with another `burr`.
    #[track_caller]
    pub(super) fn ask(&self, what: &str) -> Value {
        say(&self.data, &[what, "--json"]).json()
    }

    /// Waits until its log says this.
    #[track_caller]
    pub(super) fn hear_log(&self, words: &str) {
        let begun = Instant::now();
        while !self.log.lock().expect("no thread panics with it").contains(words) {
            assert!(begun.elapsed() < DEADLINE, "{words:?} was not logged: {}", self.story());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn story(&self) -> String {
        let mut story = self.log.lock().expect("no thread panics with it").clone();
        for fact in self.heard.iter().rev().take(20).rev() {
            let _ = writeln!(story, "{fact}");
        }
        story
    }

    /// Stops it as a service manager does, and waits for its end.
    #[track_caller]
    pub(super) fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::TERM).expect("it runs");
        let status = wait(&mut self.child, DEADLINE).unwrap_or_else(|| panic!("did not stop: {}", self.story()));
        assert!(status.success(), "{status}: {}", self.story());
    }

    /// SIGKILL. Returns all that it ever told.
    pub(super) fn kill(mut self) -> Vec<Value> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Ends when the pipe does.
        self.listen(DEADLINE);
        std::mem::take(&mut self.heard)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything below a directory with its contents, to see that nothing was changed. Sockets and lock files, which say
/// nothing, don't count.
pub(super) fn snapshot(at: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![at.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, metadata) = (entry.path(), entry.metadata().expect("it is there"));
            let mut what = format!("{:o}", metadata.mode());
            if metadata.is_dir() {
                open.push(path.clone());
            } else if metadata.is_file() && !path.ends_with("lock") {
                what = format!("{what} {}", blake3::hash(&fs::read(&path).expect("readable")));
            } else if metadata.is_symlink() {
                what = format!("{what} {}", fs::read_link(&path).expect("a link").display());
            } else {
                continue;
            }
            found.insert(path, what);
        }
    }
    found
}

/// The bundle that is current on a device, read whole and compared with its manifest by `burr verify`; none before the
/// first install.
#[track_caller]
pub(super) fn current(data: &Path) -> Option<String> {
    let current = data.join("apps/shop/current");
    fs::symlink_metadata(&current).ok()?;
    let verdict = say(data, &["verify", &current.display().to_string(), "--json"]).json();
    assert_eq!(verdict["whole"], true, "{verdict}");
    Some(verdict["bundle"].as_str().expect("a name").to_owned())
}

/// A publisher that runs, with version 1.0.0 of `shop` published, and what a device needs to install it.
pub(super) struct Shop {
    pub(super) dir: tempfile::TempDir,
    pub(super) publisher: PathBuf,
    pub(super) link: String,
}

impl Shop {
    /// Sets up `shop` and publishes 1.0.0 from `source`.
    #[track_caller]
    pub(super) fn open(source: impl Fn(&Path)) -> Self {
        let dir = scratch();
        let publisher = dir.path().join("publisher");
        let link = set_up(&publisher);
        let shop = Self { dir, publisher, link };
        source(&shop.source());
        publish(&shop.publisher, &shop.source(), "1.0.0");
        shop
    }

    /// The build that is published.
    pub(super) fn source(&self) -> PathBuf {
        self.dir.path().join("build")
    }

    /// Where a node of this name keeps its data.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
