//! The command line: what is asked for, and what is shown of it.

mod replay;
mod swarm;
mod sweep;

use std::{
    fmt::{self, Display},
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
};

use burr_sim::{
    fleet::Fleet,
    report::{Report, compare::Comparison, html},
    scenario::{SHIPPED, Scenario, ScenarioError},
    trace::{self, Contact, TraceError},
};
use clap::{Args, Parser, Subcommand};

/// Shows what a fleet does before there is one: the same decisions as in the field, on a simulated clock.
///
/// A SCENARIO is a TOML file, or the name of one that is built in (`burr-sim list`). `burr-sim show NAME` prints a
/// built-in one, to start from. The table [config] of a scenario is the agent's part of a node's burr.toml, as it is.
#[derive(Parser)]
#[command(name = "burr-sim", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the built-in scenarios and what each teaches
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a built-in scenario
    Show {
        /// Its name
        name: String,
    },
    /// Run a scenario and report: how soon, at what cost, by whom
    Run {
        #[command(flatten)]
        what: What,
        /// Write the report as one HTML page with plots
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Run two scenarios, or one with and without changes, and show what differs
    Compare {
        /// The first scenario
        a: String,
        /// The second scenario; the first one again, if left out, with the changes of --set
        b: Option<String>,
        /// The seed of both
        #[arg(long)]
        seed: Option<u64>,
        /// Change a value of the second one, such as `config.tuning.sync_interval=1h` (may be given again)
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = change)]
        changes: Vec<(String, String)>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Write one HTML page with plots
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Vary one or two values over many seeds and show how the outcome is distributed
    Sweep(sweep::Sweep),
    /// Draw faults by seeds, heal, and check what must always hold; makes a failure small
    Swarm(swarm::Swarm),
    /// Run a node's flight recording again (`burr run --flight-recorder DIR`): each input, and what the agent made of it
    Replay(replay::Replay),
}

#[derive(Args)]
struct What {
    /// A file, or a built-in name
    scenario: String,
    /// What decides all chance; the scenario's own, if left out
    #[arg(long)]
    seed: Option<u64>,
    /// Change a value, such as `config.tuning.sync_interval=1h` or `nodes.0.count=50` (may be given again)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = change)]
    changes: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing came of a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{scenario}: {error}")]
    Scenario { scenario: String, error: ScenarioError },
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error("{path}: {error}")]
    Trace { path: String, error: TraceError },
    #[error("{path}: {words}")]
    Recording { path: String, words: String },
    #[error("--vary takes one value, or two: give it once or twice")]
    Vary,
    #[error("there is no scenario {0}: give a file, or one of {1}")]
    NoScenario(String, String),
    #[error("can't write the output: {0}")]
    Output(io::Error),
}

/// A scenario's text and where it lies.
struct Source {
    name: String,
    text: String,
    directory: PathBuf,
}

impl Source {
    fn find(scenario: &str) -> Result<Self, Failure> {
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == scenario) {
            return Ok(Self { name: (*name).to_owned(), text: (*text).to_owned(), directory: PathBuf::new() });
        }
        let path = Path::new(scenario);
        if !path.exists() {
            let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
            return Err(Failure::NoScenario(scenario.to_owned(), names.join(", ")));
        }
        let text = read(path)?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, text, directory: path.parent().unwrap_or(Path::new("")).to_owned() })
    }

    fn scenario(&self, changes: &[(String, String)]) -> Result<Scenario, Failure> {
        Scenario::read_with(&self.text, changes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ScenarioError) -> Failure {
        Failure::Scenario { scenario: self.name.clone(), error }
    }

    fn contacts(&self, scenario: &Scenario) -> Result<Vec<Contact>, Failure> {
        let Some(recorded) = &scenario.trace else { return Ok(Vec::new()) };
        let path = self.directory.join(&recorded.file);
        let text = read(&path)?;
        trace::read(&text, recorded.format).map_err(|error| Failure::Trace { path: path.display().to_string(), error })
    }

    fn report(&self, changes: &[(String, String)], seed: Option<u64>, quiet: bool) -> Result<Report, Failure> {
        let scenario = self.scenario(changes)?;
        let contacts = self.contacts(&scenario)?;
        let seed = seed.unwrap_or(scenario.seed);
        let mut fleet = Fleet::new(&scenario, seed, contacts).map_err(|error| self.failed(error))?;
        let watched = !quiet && io::stderr().is_terminal();
        fleet.run(|fleet| {
            if watched {
                progress(fleet);
            }
        });
        if watched {
            eprint!("\r\x1b[K");
        }
        Ok(Report::of(&fleet, &self.name))
    }
}

fn progress(fleet: &Fleet) {
    let (now, end) = (fleet.world.time().0, fleet.end().0.max(1));
    let has = fleet.world.ledger().rollouts.last().map_or(0, |rollout| rollout.adopted.len());
    eprint!("\r{:3} %  {has} devices have the newest release, {} events\x1b[K", now * 100 / end, fleet.world.handled());
    let _ = io::stderr().flush();
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List { json } => {
                let teaches = |text| Scenario::read(text).map(|scenario| scenario.teaches).unwrap_or_default();
                let list = SHIPPED.iter().map(|(name, text)| Shipped { name, teaches: teaches(text) }).collect();
                show(&List(list), json)?;
            }
            Command::Show { name } => print(&Source::find(&name)?.text)?,
            Command::Run { what, html: page } => {
                let source = Source::find(&what.scenario)?;
                writable(page.as_deref())?;
                let report = source.report(&what.changes, what.seed, false)?;
                if let Some(path) = page {
                    write(&path, &html::page(&report))?;
                }
                show(&report, what.json)?;
                if !report.broken.is_empty() {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Command::Compare { a, b, seed, changes, json, html: page } => {
                writable(page.as_deref())?;
                let first = Source::find(&a)?.report(&[], seed, false)?;
                let mut second = Source::find(b.as_deref().unwrap_or(&a))?.report(&changes, seed, false)?;
                if b.is_none() {
                    "changed".clone_into(&mut second.scenario);
                }
                let comparison = Comparison::of(&first, &second);
                if let Some(path) = page {
                    write(&path, &html::comparison(&comparison, &first, &second))?;
                }
                show(&comparison, json)?;
            }
            Command::Sweep(sweep) => sweep.run()?,
            Command::Swarm(swarm) => return swarm.run(),
            Command::Replay(replay) => return replay.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The built-in scenarios.
#[derive(serde::Serialize)]
struct List(Vec<Shipped>);

#[derive(serde::Serialize)]
struct Shipped {
    name: &'static str,
    teaches: String,
}

impl Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|shipped| writeln!(f, "{:<14} {}", shipped.name, shipped.teaches))
    }
}

/// Works through a list on all cores, and says on a terminal how far it is; results come in the order of the list.
fn side_by_side<T: Sync, R: Send, E: Send>(list: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let next = Mutex::new(0);
    let results = Mutex::new(Vec::new());
    let watched = io::stderr().is_terminal();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(list.len().max(1));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock().expect("no worker panics with the lock");
                        *next += 1;
                        *next - 1
                    };
                    let Some(item) = list.get(at) else { return };
                    let result = work(item);
                    let mut results = results.lock().expect("no worker panics with the lock");
                    results.push((at, result));
                    if watched {
                        eprint!("\r{} of {} runs\x1b[K", results.len(), list.len());
                        let _ = io::stderr().flush();
                    }
                }
            });
        }
    });
    if watched {
        eprint!("\r\x1b[K");
    }
    let mut results = results.into_inner().expect("no worker panics with the lock");
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Prints what was found, as JSON or in words.
fn show(what: &(impl Display + serde::Serialize), json: bool) -> Result<(), Failure> {
    if json {
        print(format_args!("{}\n", serde_json::to_string_pretty(what).expect("figures are JSON")))
    } else {
        print(what)
    }
}

/// Prints to the standard output. A reader that has gone away (`head`, `less`) is no error: the exit code tells all the same.
fn print(what: impl Display) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match write!(output, "{what}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Makes sure that a page can be written, before the work whose outcome it shows.
fn writable(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let opened = fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(|_| ()).map_err(|error| Failure::File { path: path.display().to_string(), error })
}

fn change(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::File { path: path.display().to_string(), error })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::File { path: path.display().to_string(), error })
}
