//! `burr run`: a node, in whatever role its settings give it.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use burr_node::{
    Node, Publisher, control,
    error::{Error, Kind},
    gateway::Gateway,
    metrics,
    net::Enroller,
    publisher::{fleet::is_invited, halting},
    settings::{Resolved, Settings, Source, follow::Link},
};
use burr_protocol::{
    Hash, Wall,
    fact::Fact,
    member::{Answer, Refusal},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast::error::RecvError,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::{Context, print};

/// How often it is looked whether snapshot and timestamp are to be signed anew; they live for weeks.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Descriptors that a node asks for at most: the gateway's connections with a file each, and as many again.
const MAX_FILES: u64 = 16 << 10;

/// How long work that was begun may go on after the node's end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// How often, and after what time, an enrolment is tried again while somebody publishes.
const BUSY_TRIES: u32 = 20;
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Run a node until it is stopped: device, cache, kiosk, gateway, courier or publisher, by its settings.
///
/// What is set here for this run can be set for good in `burr.toml`; `burr config` shows all settings. Apps that are
/// published from this data directory are followed and served without being named.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Install an app from a channel and keep it up to date: APP/CHANNEL@REPOSITORY.
    #[arg(long, value_name = "LINK")]
    install: Vec<Link>,
    /// Keep an app's payloads for others, of one channel or all: APP@REPOSITORY or APP/CHANNEL@REPOSITORY.
    #[arg(long, value_name = "LINK")]
    cache: Vec<Link>,
    /// Shell command that says whether a newly installed version works (exit code 0), run in its files.
    #[arg(long, value_name = "COMMAND", requires = "install")]
    health: Option<String>,
    /// A node to connect to: ip:port or a multiaddress.
    #[arg(long = "peer", value_name = "ADDRESS")]
    peers: Vec<String>,
    /// IP address to listen on.
    #[arg(long, value_name = "IP")]
    listen: Option<String>,
    /// Port for QUIC and TCP; 0 lets the system choose.
    #[arg(long)]
    port: Option<String>,
    /// Neither find nodes on the LAN nor be found.
    #[arg(long)]
    no_mdns: bool,
    /// Collect receipts here.
    #[arg(long)]
    collect: bool,
    /// Record all that this node is told in files in DIR, which `burr-sim replay FILE` runs again; no private key.
    #[arg(long, value_name = "DIR")]
    flight_recorder: Option<String>,
    /// Any setting of `burr config`, as NAME=VALUE.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut resolved = context.resolved()?;
    take_flags(&mut resolved, arguments)?;
    let published = Publisher::apps(&context.data);
    follow_published(&mut resolved, context, &published)?;
    let mut settings = resolved.settings()?;
    settings.enroller = enroller(context, &published);
    let bars = MultiProgress::new();
    start_log(if context.is_watched() { Some(bars.clone()) } else { None });
    // Two threads: one may verify while the other talks.
    open_many_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Storage, "can't start threads").with_source(error))?;
    let ended = runtime.block_on(serve(context, settings, &published, bars));
    // What still waits for a silent web server is not worth waiting for: whatever counts survives a kill.
    runtime.shutdown_timeout(LAST_WORK);
    ended
}

/// Connections and files that are served are descriptors: as many as the system lets a process have, up to a bound.
fn open_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MAX_FILES).min(MAX_FILES);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Without it, fewer can be served at a time.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn take_flags(resolved: &mut Resolved, arguments: &Arguments) -> Result<(), Error> {
    for link in &arguments.cache {
        resolved.set_app(&link.app, "repository", link.repository.to_string(), Source::Flag)?;
        let what = link.channel.as_deref().unwrap_or("all");
        resolved.set_app(&link.app, "cache", what.to_owned(), Source::Flag)?;
    }
    for link in &arguments.install {
        resolved.install(link, &Source::Flag)?;
        if let Some(health) = &arguments.health {
            resolved.set_app(&link.app, "health", health.clone(), Source::Flag)?;
        }
    }
    if !arguments.peers.is_empty() {
        resolved.set("peers", arguments.peers.join(" "), Source::Flag)?;
    }
    let flags = [
        ("listen", arguments.listen.clone()),
        ("port", arguments.port.clone()),
        ("mdns", arguments.no_mdns.then(|| "false".to_owned())),
        ("collect", arguments.collect.then(|| "true".to_owned())),
        ("flight_recorder", arguments.flight_recorder.clone()),
    ];
    for (name, value) in flags {
        if let Some(value) = value {
            resolved.set(name, value, Source::Flag)?;
        }
    }
    for pair in &arguments.set {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Error::new(Kind::Config, format!("--set {pair:?} has no =")).with_hint("write --set NAME=VALUE")
        })?;
        match name.strip_prefix("apps.").and_then(|rest| rest.rsplit_once('.')) {
            Some((app, key)) => resolved.set_app(app, key, value.to_owned(), Source::Flag)?,
            None => resolved.set(name, value.to_owned(), Source::Flag)?,
        }
    }
    Ok(())
}

/// A publisher serves its own apps and wants to hear how they fare.
fn follow_published(resolved: &mut Resolved, context: &Context, published: &[String]) -> Result<(), Error> {
    for app in published.iter().filter(|app| !resolved.follows(app)).cloned().collect::<Vec<_>>() {
        let publisher = Publisher::open(&context.data, &app)?;
        resolved.set_app(&app, "repository", publisher.id().to_string(), Source::Default)?;
    }
    if !published.is_empty() {
        resolved.set_default("collect", "true");
    }
    Ok(())
}

/// Answers those who were invited to the fleets of apps that are published from here.
fn enroller(context: &Context, published: &[String]) -> Option<Enroller> {
    let data = context.data.clone();
    let enrols = |app: &&String| Publisher::open(&data, app).is_ok_and(|publisher| publisher.enrols());
    published.iter().find(enrols)?;
    let (data, published) = (context.data.clone(), published.to_vec());
    Some(Enroller::new(move |request| enrol(&data, &published, request).encode()))
}

fn enrol(data: &Path, published: &[String], request: &[u8]) -> Answer {
    let passphrase = env::var("BURR_PASSPHRASE").ok();
    let mut refusal = Refusal::Unknown;
    for app in published.iter().filter(|app| is_invited(data, app, request)) {
        let asked = || Publisher::open(data, app).and_then(|mut own| own.enrol(request, passphrase.as_deref()));
        let mut answer = asked();
        // A publish in between takes its time.
        for _ in 0..BUSY_TRIES {
            if answer.as_ref().is_err_and(|error| error.kind() == Kind::Busy) {
                std::thread::sleep(BUSY_WAIT);
                answer = asked();
            }
        }
        match answer {
            Ok(Answer::Refused(Refusal::Unknown)) => {}
            Ok(Answer::Refused(why)) => {
                tracing::warn!(target: "burr", "{app}: a device was not enrolled: {why}");
                return Answer::Refused(why);
            }
            Ok(welcome) => {
                tracing::info!(target: "burr", "{app}: a device was enrolled; `burr audit` says which");
                return welcome;
            }
            Err(error) => {
                tracing::warn!(target: "burr", "{app}: a device was not enrolled: {error}");
                refusal = Refusal::Unable;
            }
        }
    }
    Answer::Refused(refusal)
}

async fn serve(
    context: &Context,
    settings: Settings,
    published: &[String],
    bars: MultiProgress,
) -> Result<ExitCode, Error> {
    // Before anybody can know that the node runs.
    let mut stop = StopSignal::new()?;
    let (gateway, http, metrics) = (settings.gateway.clone(), settings.control, settings.metrics);
    let (node, running) = Node::start(settings).await?;
    let facts = node.facts();
    let gateway = match gateway {
        Some(settings) => Some(Gateway::open(node.clone(), &context.data, settings).await?),
        None => None,
    };
    let http = match http {
        Some(at) => Some(control::http::Http::open(node.clone(), &context.data, at).await?),
        None => None,
    };
    let metrics = match metrics {
        Some(at) => Some(metrics::http::Http::open(node.clone(), at).await?),
        None => None,
    };
    // Before the repositories are read: whatever is published from now on, this node is told of.
    let listener = control::listen(&context.data)?;
    if context.json {
        let started = serde_json::json!({
            "fact": "started",
            "node": node.id(),
            "listeners": node.listeners(),
            "gateway": gateway.as_ref().map(Gateway::address),
            "control": http.as_ref().map(control::http::Http::address),
            "metrics": metrics.as_ref().map(metrics::http::Http::address),
        });
        print(&started.to_string())?;
    } else {
        for listener in node.listeners() {
            tracing::info!(target: "burr", "node {} listens on {listener}", node.id());
        }
        if let Some(gateway) = &gateway {
            tracing::info!(target: "burr", "the gateway listens on {}", gateway.address());
        }
        if let Some(http) = &http {
            tracing::info!(target: "burr", "local control listens on http://{}", http.address());
        }
        if let Some(metrics) = &metrics {
            tracing::info!(target: "burr", "metrics are at http://{}/metrics", metrics.address());
        }
    }
    let (json, bars) = (context.json, context.is_watched().then_some(bars));
    // On a thread of its own: whoever reads the facts may stop reading for a while, and the node goes on.
    std::thread::Builder::new()
        .name("burr-shown".to_owned())
        .spawn(move || show(facts, json, bars.as_ref()))
        .map_err(|error| Error::new(Kind::Storage, "can't start threads").with_source(error))?;
    let control = tokio::spawn(control::serve(listener, node.clone(), context.data.clone()));
    for app in published {
        control::offer(&node, &context.data, app).await?;
    }
    let renewal = tokio::spawn(renew(node.clone(), context.data.clone(), published.to_vec()));
    let (owner, data, apps) = (node.clone(), context.data.clone(), published.to_vec());
    let pausing = tokio::spawn(halting::pause_what_halts(owner, node.facts(), data, apps));
    let stopped = tokio::select! {
        ended = running => Some(ended),
        () = stop.received() => {
            node.shutdown().await;
            None
        }
        _ = control => return Err(Error::new(Kind::Ended, "the control socket stopped")),
    };
    drop((gateway, http, metrics));
    renewal.abort();
    pausing.abort();
    match stopped {
        None | Some(Ok(Ok(()))) => Ok(ExitCode::SUCCESS),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(Error::new(Kind::Ended, "the node stopped unexpectedly").with_source(error)),
    }
}

/// SIGTERM or SIGINT.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn new() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|error| Error::new(Kind::Storage, "can't listen for signals").with_source(error))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! { _ = self.terminate.recv() => (), _ = self.interrupt.recv() => () }
    }
}

/// Signs snapshot and timestamp of the apps whose keys for that are here anew, before they expire. What fails is told and
/// tried again: a node goes on without it.
async fn renew(node: Node, data: PathBuf, published: Vec<String>) {
    loop {
        for app in &published {
            let (data_of, name) = (data.clone(), app.clone());
            let renewed = tokio::task::spawn_blocking(move || renew_one(&data_of, &name)).await;
            let offered = match renewed {
                Ok(Ok(true)) => control::offer(&node, &data, app).await,
                Ok(Ok(false)) | Err(_) => continue,
                Ok(Err(error)) => Err(error),
            };
            match offered {
                Ok(()) => tracing::info!(target: "burr", "{app}: snapshot and timestamp are signed anew"),
                Err(error) => tracing::warn!(target: "burr", "{app}: can't sign snapshot and timestamp anew: {error}"),
            }
        }
        tokio::time::sleep(RENEWAL_INTERVAL).await;
    }
}

fn renew_one(data: &Path, app: &str) -> Result<bool, Error> {
    let mut publisher = Publisher::open(data, app)?;
    if !publisher.has_online_keys()? {
        return Ok(false);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let passphrase = env::var("BURR_PASSPHRASE").ok();
    publisher.renew_online(Wall(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)), passphrase.as_deref())
}

/// Facts as JSON lines for a program, or as bars for a person; the log tells the rest. A program that reads too slowly is
/// told how many it missed.
fn show(mut facts: tokio::sync::broadcast::Receiver<Fact>, json: bool, bars: Option<&MultiProgress>) {
    let mut fetches: BTreeMap<Hash, ProgressBar> = BTreeMap::new();
    loop {
        let fact = match facts.blocking_recv() {
            Ok(fact) => fact,
            Err(RecvError::Lagged(missed)) => {
                if json && print(&serde_json::json!({ "missed": missed }).to_string()).is_err() {
                    return;
                }
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if json && print(&serde_json::to_string(&fact).expect("facts are JSON")).is_err() {
            return;
        }
        let Some(bars) = bars else { continue };
        match fact {
            Fact::FetchStarted { blob, size, held } => {
                let style =
                    ProgressStyle::with_template("fetching {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
                let bar = ProgressBar::new(size).with_style(style.expect("the template is well formed"));
                bar.set_position(held);
                fetches.insert(blob, bars.add(bar));
            }
            Fact::FetchProgress { blob, held, .. } => {
                if let Some(bar) = fetches.get(&blob) {
                    bar.set_position(held);
                }
            }
            Fact::FetchCompleted { blob, .. } | Fact::FetchLeft { blob } => {
                if let Some(bar) = fetches.remove(&blob) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}

/// The log goes to standard error, filtered by `BURR_LOG`; where there are bars, above them.
fn start_log(bars: Option<MultiProgress>) {
    let filter =
        EnvFilter::try_from_env("BURR_LOG").unwrap_or_else(|_| EnvFilter::new("warn,burr=info,libp2p_gossipsub=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // Fails only if something logs already; then that goes on.
    let _ = builder.with_ansi(bars.is_some()).with_writer(Above(bars)).try_init();
}

struct Above(Option<MultiProgress>);

impl<'a> MakeWriter<'a> for Above {
    type Writer = AboveWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        AboveWriter(self.0.as_ref())
    }
}

struct AboveWriter<'a>(Option<&'a MultiProgress>);

impl io::Write for AboveWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0 {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
