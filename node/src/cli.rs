//! The command line: one subcommand a file, and one place where an error becomes words, a hint and an exit code.

mod apply;
mod audit;
mod channel;
mod check;
mod config;
mod confirm;
mod demo;
mod device;
mod draft;
mod enrol;
mod explain;
mod export;
mod fleet;
mod init;
mod key;
mod passphrase;
mod publish;
mod receipts;
mod release;
mod releases;
mod root;
mod rules;
mod run;
mod status;
mod tuf;
mod verify;
mod wish;

use std::{
    env, fmt,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use burr_node::{
    control,
    error::{Error, Kind},
    settings::Resolved,
    store::home::check_format,
};
use clap::{CommandFactory as _, Parser, Subcommand};
use serde::Serialize;

/// Carries signed app updates to devices that are badly connected.
///
/// A publisher signs a bundle; nodes spread it to each other; devices verify every byte and every signature
/// themselves, switch in one step, and go back by themselves when the new version is not healthy.
///
/// Exit codes: 0 done; 1 failed; 2 wrong arguments or settings; 3 what was checked is not whole; 4 in use by another
/// process; 5 the disk.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The data directory: keys, store, installed apps and settings of one node.
    #[arg(long, global = true, env = "BURR_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    Publish(publish::Arguments),
    #[command(subcommand)]
    Release(release::Arguments),
    #[command(subcommand)]
    Channel(channel::Arguments),
    #[command(subcommand)]
    Key(key::Arguments),
    #[command(subcommand)]
    Root(root::Arguments),
    #[command(subcommand)]
    Fleet(fleet::Arguments),
    Enrol(enrol::Arguments),
    Join(enrol::Join),
    Audit(audit::Arguments),
    Run(run::Arguments),
    Status(status::Arguments),
    Verify(verify::Arguments),
    Receipts(receipts::Arguments),
    Releases(releases::Arguments),
    Explain(explain::Arguments),
    Export(export::Arguments),
    Check(check::Arguments),
    Confirm(confirm::Arguments),
    Apply(apply::Arguments),
    Defer(wish::Defer),
    Rollback(wish::Rollback),
    Retry(wish::Retry),
    #[command(subcommand)]
    Device(device::Arguments),
    Config(config::Arguments),
    Demo(demo::Arguments),
    #[command(hide = true)]
    DemoLiar(demo::liar::Arguments),
    Tuf(tuf::Arguments),
}

/// What every command knows.
struct Context {
    data: PathBuf,
    json: bool,
}

impl Context {
    /// Prints a value: as JSON for programs, else as text.
    fn print(&self, value: &(impl Serialize + fmt::Display)) -> Result<(), Error> {
        if self.json { print_json(value) } else { print(&value.to_string()) }
    }

    /// Tells the node that runs on the same data directory what is new of an app that is published from there; returns
    /// whether there is one.
    fn tell_node(&self, app: &str) -> Result<bool, Error> {
        if !control::is_running(&self.data) {
            return Ok(false);
        }
        let told = control::ask::<()>(&self.data, &control::Request::Import { app: app.to_owned() });
        told.map(|()| true).map_err(|error| {
            let words = format!("{app}: what was signed holds, but the node that runs here did not take it");
            Error::new(error.kind(), words).with_source(error).with_hint("`burr run` takes it when it is started again")
        })
    }

    /// Whether a person watches who would like to see progress.
    fn is_watched(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Defaults, file and environment.
    fn resolved(&self) -> Result<Resolved, Error> {
        let mut resolved = Resolved::load(&self.data)?;
        resolved.take_environment(
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )?;
        Ok(resolved)
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    print(&serde_json::to_string(value).expect("our own types are JSON"))
}

/// Prints a line. A reader that has gone away is no error.
fn print(text: &str) -> Result<(), Error> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Storage, "can't write the output").with_source(error))
        }
        _ => Ok(()),
    }
}

/// A time, as people say it.
fn in_words(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    // Two units say enough.
    let rounded = match seconds {
        0..=3599 => seconds,
        3600..=86_399 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    // It has directories of its own, and no node.
    if let Command::Tuf(given) = &arguments.command {
        return Ok(tuf::run(given, arguments.json));
    }
    let context = Context { data: data_directory(arguments.data)?, json: arguments.json };
    // Whatever is read or written there has to be of a format that this program knows. The demo has its own.
    if !matches!(arguments.command, Command::Demo(_)) {
        check_format(&context.data)?;
    }
    match arguments.command {
        Command::Init(arguments) => init::run(&context, &arguments),
        Command::Publish(arguments) => publish::run(&context, &arguments),
        Command::Release(arguments) => release::run(&context, &arguments),
        Command::Channel(arguments) => channel::run(&context, arguments),
        Command::Key(arguments) => key::run(&context, arguments),
        Command::Root(arguments) => root::run(&context, &arguments),
        Command::Fleet(arguments) => fleet::run(&context, arguments),
        Command::Enrol(arguments) => enrol::run(&context, arguments),
        Command::Join(arguments) => enrol::join(&context, &arguments),
        Command::Audit(arguments) => audit::run(&context, arguments),
        Command::Run(arguments) => run::run(&context, &arguments),
        Command::Status(arguments) => status::run(&context, &arguments),
        Command::Verify(arguments) => verify::run(&context, &arguments),
        Command::Receipts(arguments) => receipts::run(&context, &arguments),
        Command::Releases(arguments) => releases::run(&context, &arguments),
        Command::Export(arguments) => export::run(&context, &arguments),
        Command::Explain(arguments) => explain::run(&context, arguments),
        Command::Check(arguments) => check::run(&context, &arguments),
        Command::Confirm(arguments) => confirm::run(&context, arguments),
        Command::Apply(arguments) => apply::run(&context, arguments),
        Command::Defer(arguments) => wish::defer(&context, arguments),
        Command::Rollback(arguments) => wish::roll_back(&context, arguments),
        Command::Retry(arguments) => wish::retry(&context, arguments),
        Command::Device(arguments) => device::run(&context, arguments),
        Command::Config(arguments) => config::run(&context, &arguments),
        Command::Demo(arguments) => demo::run(&context, &arguments),
        Command::DemoLiar(arguments) => demo::liar::run(&context, arguments),
        Command::Tuf(_) => unreachable!("it was run above"),
    }
}

fn data_directory(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    if let Some(given) = given {
        return std::path::absolute(&given).map_err(|error| {
            Error::new(Kind::Config, format!("can't use --data {}", given.display())).with_source(error)
        });
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .map(|data| data.join("burr"))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share/burr")))
        .ok_or_else(|| Error::new(Kind::Config, "there is no home directory").with_hint("give a directory with --data"))
}

/// Turns an error into words, a hint and an exit code.
/// Says what is wrong with the arguments themselves, or what was asked about them.
pub(crate) fn misread(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Who asks for help and does not read it is not told so.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let given = Arguments::command().ignore_errors(true).try_get_matches().ok();
    if given.as_ref().is_some_and(|given| given.get_flag("json")) {
        let words = error.to_string();
        let (words, hint) = words.split_once("\n\n").unwrap_or((&words, ""));
        eprintln!("{}", serde_json::json!({ "error": words.trim_start_matches("error: "), "hint": hint.trim_end() }));
    } else {
        let _ = error.print();
    }
    // Scripts for TUF clients know no other codes than 0 and 1.
    let is_tuf = given.is_some_and(|given| given.subcommand_name() == Some("tuf"));
    ExitCode::from(if is_tuf { 1 } else { 2 })
}

pub(crate) fn report(error: &Error, json: bool) -> ExitCode {
    if json {
        let value = serde_json::json!({ "error": error.to_string(), "hint": error.hint() });
        eprintln!("{value}");
    } else {
        eprintln!("error: {error}");
        if let Some(hint) = error.hint() {
            eprintln!("hint: {hint}");
        }
    }
    ExitCode::from(match error.kind() {
        Kind::BadInput | Kind::Config => 2,
        Kind::NotWhole => 3,
        Kind::Busy | Kind::PortInUse => 4,
        Kind::Storage | Kind::NoSpace => 5,
        _ => 1,
    })
}
