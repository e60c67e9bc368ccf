//! Health commands, the device's own word on whether a new version works, hooks, which say whether a switch may be, and
//! the owner's command that measures the device's [condition](crate::condition).
//!
//! The first two run in the files of the version that they are about; each in a process group of its own. A command says yes if it
//! exits with 0 in time; what it started in its group is ended with it. What left the group by itself (`setsid`) is a
//! service that the command began on purpose: it stays if the command said yes, and is ended if it did not
//! (`health/strays.rs`, on Linux).

mod strays;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use burr_protocol::{Hash, receipt::MAX_WORDS, update::Hook};
use rustix::process::{Pid, Signal, kill_process_group};
use strays::Mark;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, Command},
    time::timeout,
};

/// Bytes of a command's last output that are kept: with why it failed before them, they are the words of a receipt.
pub const MAX_OUTPUT: usize = MAX_WORDS - 256;
/// How long a command that ran out of time may tidy up before it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// How long output that is in the pipe already is waited for after the command's end.
const DRAIN: Duration = Duration::from_millis(200);

/// How a device asks whether a version works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCommand {
    /// A program and its arguments; a relative path is one in the version's files.
    Program(Vec<String>),
    /// A text for `sh -c`.
    Shell(String),
}

/// The version that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `BURR_APP`.
    pub app: String,
    /// `BURR_VERSION`.
    pub version: String,
    /// `BURR_BUNDLE`.
    pub bundle: Hash,
    /// `BURR_SLOT`: the version's files, where the command runs.
    pub tree: PathBuf,
    /// `BURR_HOOK`, if the command is one.
    pub hook: Option<Hook>,
}

/// A command's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether all is well.
    pub healthy: bool,
    /// Why, and the end of what it wrote, at most [`MAX_OUTPUT`] bytes and a line.
    pub words: String,
}

/// Runs a health command, for `limit` at most. Dropping the future ends the command too.
pub async fn check(command: &HealthCommand, subject: &Subject, limit: Duration) -> Health {
    let (ended, output) = run(about(command, subject), &subject.tree, limit).await;
    let (healthy, reason) = match ended {
        Ok(()) => (true, "the health command succeeded".to_owned()),
        Err(why) => (false, format!("the health command {why}")),
    };
    Health { healthy, words: joined(reason, &output) }
}

/// Runs a hook, for `limit` at most: what it wrote, or why it says no.
///
/// # Errors
/// Its end in words, and what it wrote.
pub async fn hook(command: &str, hook: Hook, subject: &Subject, limit: Duration) -> Result<String, String> {
    let command = about(&HealthCommand::Shell(command.to_owned()), subject);
    let (ended, output) = run(command, &subject.tree, limit).await;
    match ended {
        Ok(()) => Ok(output),
        Err(why) => Err(joined(format!("the hook `{hook}` {why}"), &output)),
    }
}

/// Runs a command of the device's own in a directory, for `limit` at most: what it wrote, at most [`MAX_OUTPUT`] bytes.
///
/// # Errors
/// Its end in words, and what it wrote.
pub(crate) async fn output(command: &str, directory: &Path, limit: Duration) -> Result<String, String> {
    let (ended, output) = run(Ok(shell(command)), directory, limit).await;
    match ended {
        Ok(()) => Ok(output),
        Err(why) => Err(joined(format!("it {why}"), &output)),
    }
}

fn joined(reason: String, output: &str) -> String {
    if output.is_empty() { reason } else { format!("{reason}: {output}") }
}

/// Runs a command to its end or its limit: how it ended, and the end of what it wrote.
async fn run(command: io::Result<Command>, directory: &Path, limit: Duration) -> (Result<(), String>, String) {
    let mark = Mark::new();
    let (mut child, output) = match command.and_then(|command| spawn(command, directory, &mark)) {
        Ok(started) => started,
        Err(error) => return (Err(format!("can't be run: {error}")), String::new()),
    };
    let mut group = Group::of(&child);
    let mut tail = Tail::default();
    let ended = {
        let mut read = pin!(tail.fill(output));
        let mut reading = true;
        let ended = {
            let mut wait = pin!(timeout(limit, child.wait()));
            loop {
                tokio::select! {
                    ended = &mut wait => break ended,
                    () = &mut read, if reading => reading = false,
                }
            }
        };
        if ended.is_err() {
            group.signal(Signal::TERM);
            // The group is killed next, whether its leader went by itself or not.
            let _ = timeout(GRACE, child.wait()).await;
        }
        group.kill();
        if reading {
            // A grandchild that left the group may hold the pipe open for ever.
            let _ = timeout(DRAIN, read).await;
        }
        ended
    };
    if !matches!(&ended, Ok(Ok(status)) if status.success()) {
        mark.end_all().await;
    }
    let ended = match ended {
        Err(_) => Err(format!("did not end within {} s", limit.as_secs_f64())),
        Ok(Err(error)) => Err(format!("was lost: {error}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("failed ({})", in_words(status))),
    };
    (ended, tail.text())
}

fn shell(text: &str) -> Command {
    let mut run = Command::new("/bin/sh");
    run.arg("-c").arg(text);
    run
}

/// A command that is told which version it is about.
fn about(command: &HealthCommand, subject: &Subject) -> io::Result<Command> {
    let mut run = match command {
        HealthCommand::Shell(text) => shell(text),
        HealthCommand::Program(words) => {
            let (program, arguments) = words.split_first().ok_or_else(|| io::Error::other("it is empty"))?;
            let inside = Path::new(program).components().count() > 1;
            let program = if inside { subject.tree.join(program) } else { PathBuf::from(program) };
            let mut run = Command::new(program);
            run.args(arguments);
            run
        }
    };
    run.env("BURR_APP", &subject.app)
        .env("BURR_VERSION", &subject.version)
        .env("BURR_BUNDLE", subject.bundle.to_string())
        .env("BURR_SLOT", &subject.tree)
        .envs(subject.hook.map(|hook| ("BURR_HOOK", hook.to_string())));
    Ok(run)
}

fn spawn(mut run: Command, directory: &Path, mark: &Mark) -> io::Result<(Child, pipe::Receiver)> {
    // One pipe for both keeps what was written in its order.
    let (output, writer) = io::pipe()?;
    run.current_dir(directory)
        // What opens a publisher's keys is nothing for code that was downloaded.
        .env_remove("BURR_PASSPHRASE")
        .env(strays::VARIABLE, mark.value())
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let child = run.spawn()?;
    // `run` holds our writing ends of the pipe; they go with it here, or its end would never be seen.
    drop(run);
    Ok((child, pipe::Receiver::from_owned_fd(output.into())?))
}

/// The command's process group; killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        // There may be nobody left to get it.
        let _ = self.0.map(|group| kill_process_group(group, signal));
    }

    /// Once only: the number may be somebody else's later.
    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of what a command wrote.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    async fn fill(&mut self, mut output: pipe::Receiver) {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut buffer).await {
            self.0.extend(&buffer[..read]);
            let over = self.0.len().saturating_sub(MAX_OUTPUT);
            self.0.drain(..over);
        }
    }

    fn text(self) -> String {
        let bytes: Vec<u8> = self.0.into();
        let text = String::from_utf8_lossy(&bytes);
        let odd = |c: &char| *c == char::REPLACEMENT_CHARACTER || c.is_control() && *c != '\n';
        let clean: String = text.chars().filter(|c| !odd(c)).collect();
        clean.trim().to_owned()
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
