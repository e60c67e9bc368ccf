//! `burr demo`: the main job from end to end, by real processes on this machine that share nothing but the network.
//!
//! This file tells the story and what it claims. `process.rs` is a process, `watch.rs` sees what all of them report and
//! waits for it, `bundle.rs` is what they carry, `liar.rs` is who lies to them, `rules.rs` is how releases are steered,
//! `table.rs` is who got what from whom.

mod bundle;
pub(super) mod liar;
mod process;
mod rules;
mod table;
mod watch;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use burr_node::error::{Error, Kind};
use burr_protocol::{RepositoryId, fact::UpdateStep, peers::Lie, receipt::Receipt, release::Release};
use bytesize::ByteSize;
use serde_json::json;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    bundle::{Bundle, HEALTH},
    table::Table,
    watch::{Watch, in_a_word},
};
use super::{Context, print_json};

const PUBLISHER: &str = "publisher";
const KIOSK: &str = "kiosk";
const COURIER: &str = "courier";
const LIAR: &str = "liar";
const FORGER: &str = "forger";
/// There from the start.
const FIRST: &str = "device-1";
/// Started when the publisher is gone; they know the kiosk alone.
const LATE: [&str; 2] = ["device-2", "device-3"];
/// Knows nobody, and meets the liar first.
const LONELY: &str = "device-4";
const DEVICES: [&str; 4] = [FIRST, LATE[0], LATE[1], LONELY];

const V1: &str = "1.0.0";
const V2: &str = "2.0.0";
const V3: &str = "3.0.0";

/// What a shell's command exits with when it was interrupted.
const INTERRUPTED: u8 = 130;

/// Show the main job from end to end, in separate processes on this machine: publish, carry, verify, roll back, report,
/// roll out in part, promote, halt.
///
/// A publisher, a kiosk, a courier, four devices and two liars, each with a data directory of its own, talk over the
/// loopback interface. Nothing outside of a temporary directory is touched, and nothing is left running. Exits with 0
/// only if everything that it claims was seen to be so.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A directory to publish instead of the small app that Burr carries; a `version.json` is put into each version.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Keep the nodes' data and logs in this directory, which must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let home = Home::make(arguments.keep.as_deref())?;
    let bundle = Bundle::make(arguments.bundle.as_deref(), home.path().join("build"))?;
    let mut watch = Watch::new(home.path().to_owned(), context.json);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Storage, "can't start threads").with_source(error))?;
    let interrupted = runtime.block_on(async {
        let told = tokio::select! {
            told = tell(&mut watch, &bundle) => Some(told),
            signal = interruption() => signal.map(|()| None)?,
        };
        let interrupted = told.is_none();
        let failure = told.and_then(Result::err);
        let haste = interrupted || failure.is_some();
        if let Some(error) = failure {
            watch.claim("the story is told to its end", false, error.to_string());
        }
        let stubborn = watch.end(haste).await;
        let seen = if stubborn.is_empty() { "every process ended".to_owned() } else { stubborn.join(" and ") };
        watch.claim("nothing is left running", stubborn.is_empty(), seen);
        Ok(interrupted)
    })?;
    if interrupted {
        watch.say("\ninterrupted; every process was ended");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    report(context, &watch, home)
}

async fn tell(watch: &mut Watch, bundle: &Bundle) -> Result<(), Error> {
    watch.title("A publisher, a kiosk and a device; version 1");
    let app = bundle.app;
    let made = watch.ask(PUBLISHER, &["init", "--app", app, "--channel", "stable", "--channel", "beta"]).await?;
    let repository: RepositoryId = read(made["repository"].clone())?;
    let link = format!("{app}/stable@{repository}");
    let device = ["--install", &link, "--health", HEALTH];
    let every_channel = format!("{app}@{repository}");
    rules::enrol(watch, repository).await?;
    let v1 = publish(watch, bundle, V1, true, &[]).await?;
    watch.start_node(PUBLISHER, &[], &[]).await?;
    watch.start_node(KIOSK, &["--cache", &every_channel, "--collect"], &[PUBLISHER]).await?;
    watch.start_node(FIRST, &device, &[PUBLISHER, KIOSK]).await?;
    let both = |watch: &Watch, release: &Release| {
        watch.is_active(FIRST, &release.version) && watch.sources(KIOSK, release.payload.blob).is_some()
    };
    watch.wait("the kiosk and device-1 have version 1", |watch| both(watch, &v1)).await?;

    watch.title("Version 2, published while everyone is there");
    let v2 = publish(watch, bundle, V2, true, &[]).await?;
    watch.wait("the kiosk and device-1 have version 2", |watch| both(watch, &v2)).await?;
    watch.claim(format!("{FIRST} runs 1, then 2"), true, "each was confirmed by its health check");

    watch.title("The publisher is killed; two devices come that never saw it");
    let ended = watch.kill(PUBLISHER).await?;
    watch.act(PUBLISHER, &format!("is gone ({ended})"));
    for late in LATE {
        watch.start_node(late, &device, &[KIOSK]).await?;
    }
    watch.wait("the late devices run version 2", |watch| LATE.iter().all(|late| watch.is_active(late, V2))).await?;
    let from = LATE.map(|late| watch.sources(late, v2.payload.blob).unwrap_or_default().join(" and "));
    let seen = format!("{} from {}, {} from {}", LATE[0], from[0], LATE[1], from[1]);
    watch.claim("devices that never saw the publisher get 2 from the kiosk", from == [KIOSK; 2], seen);

    liars(watch, &device, &link, repository, &v2).await?;

    watch.title("Version 3 is bad: its version.json was cut off");
    publish(watch, bundle, V3, false, &[]).await?;
    watch.start_node(PUBLISHER, &[], &[KIOSK]).await?;
    let returned = |step: &UpdateStep| matches!(step, UpdateStep::RolledBack { to: Some(to), .. } if to == V2);
    let done = |watch: &Watch| DEVICES.iter().all(|device| watch.reached(device, V3, returned));
    watch.wait("every device has tried version 3 and returned to 2", done).await?;
    for device in DEVICES {
        let current = process::data(watch.home(), device).join("apps").join(app).join("current");
        let verdict = watch.ask(device, &["verify", &current.to_string_lossy()]).await?;
        let whole = verdict["whole"] == true && verdict["bundle"] == json!(v2.bundle);
        let seen = format!("{} files of bundle {} verified", verdict["files"], v2.bundle.short());
        watch.claim(format!("{device} returned by itself, and what it runs is 2, byte for byte"), whole, seen);
    }

    watch.title("What the kiosk was told");
    let expected: Vec<(&str, &str, &str)> = DEVICES
        .into_iter()
        .flat_map(|device| [(device, V1, "active"), (device, V2, "active"), (device, V3, "rolled back")])
        .filter(|(device, version, _)| *version != V1 || *device == FIRST)
        .collect();
    let all = |watch: &Watch| expected.iter().all(|(device, version, _)| watch.has_receipt(KIOSK, device, version));
    watch.wait("the kiosk has every receipt", all).await?;
    let receipts: Vec<Receipt> = read(watch.ask(KIOSK, &["receipts"]).await?)?;
    let told = |receipt: &Receipt| (watch.name(receipt.device), receipt.version.clone(), in_a_word(&receipt.outcome));
    let mut told: Vec<_> = receipts.iter().map(told).collect();
    told.sort();
    let wanted =
        expected.iter().map(|(device, version, outcome)| ((*device).to_owned(), (*version).to_owned(), *outcome));
    let count = |word| told.iter().filter(|(.., outcome)| *outcome == word).count();
    let seen = format!("{} receipts: {} active, {} rolled back", told.len(), count("active"), count("rolled back"));
    watch.claim("signed receipts of all of it arrive at the kiosk", told.iter().cloned().eq(wanted), seen);
    rules::tell(watch, bundle, repository).await
}

/// A device whose only neighbour alters what it passes on, and a kiosk that hears forged news.
async fn liars(
    watch: &mut Watch,
    device: &[&str],
    link: &str,
    repository: RepositoryId,
    v2: &Release,
) -> Result<(), Error> {
    watch.title("A device knows nobody; a liar stands between it and the kiosk");
    watch.start_node(LONELY, device, &[]).await?;
    let place = |role| {
        let process = watch.running(role);
        liar::place(process.node, process.listener.expect("a node listens"))
    };
    let (from, to) = (place(KIOSK), place(LONELY));
    watch.start(LIAR, &["demo-liar", "altered-bytes", "--from", &from, "--to", &to]).await?;
    watch.wait("device-4 refuses the liar", |watch| watch.refusal(LONELY, LIAR).is_some()).await?;
    let nothing = !watch.reached(LONELY, V2, |step| *step != UpdateStep::Chosen);
    let (lie, why) = watch.refusal(LONELY, LIAR).expect("waited for");
    let seen = format!("{LONELY} refused {LIAR} for {lie}: {why}");
    watch.claim("a node that serves altered bytes is refused and named", lie == Lie::AlteredBytes && nothing, seen);

    watch.title("A courier that meets both brings it what the kiosk has");
    watch.start_node(COURIER, &["--cache", link], &[KIOSK, LONELY]).await?;
    watch.wait("device-4 runs version 2", |watch| watch.is_active(LONELY, V2)).await?;
    let sources = watch.sources(LONELY, v2.payload.blob).unwrap_or_default();
    let seen = format!("{LONELY} has it from {}", sources.join(" and "));
    let honest = sources.iter().any(|source| source == COURIER);
    watch.claim("the device gets 2 all the same, through a node that it never heard of", honest, seen);

    watch.title("Somebody announces metadata that the publisher never signed");
    let (name, to) = (repository.to_string(), watch.running(KIOSK).address());
    watch.start(FORGER, &["demo-liar", "forged-metadata", "--repository", &name, "--to", &to]).await?;
    watch.wait("the kiosk refuses the forger", |watch| watch.refusal(KIOSK, FORGER).is_some()).await?;
    let (lie, why) = watch.refusal(KIOSK, FORGER).expect("waited for");
    let seen = format!("{KIOSK} refused {FORGER} for {lie}: {why}");
    watch.claim("a node that announces forged metadata is refused and named", lie == Lie::ForgedMetadata, seen);
    Ok(())
}

async fn publish(
    watch: &mut Watch,
    bundle: &Bundle,
    version: &str,
    whole: bool,
    more: &[&str],
) -> Result<Release, Error> {
    let tree = bundle.turn_into(version, whole)?.to_string_lossy();
    let publish = ["publish", &tree, "--app", bundle.app, "--version", version];
    let published = watch.ask(PUBLISHER, &[&publish, more].concat()).await?;
    let took = published["took_ms"].clone();
    let release: Release = read(published)?;
    let (unpacked, packed) = (ByteSize::b(release.unpacked), ByteSize::b(release.payload.size));
    let words = format!("published {version}: {} files, {unpacked}, packed {packed}, in {took} ms", release.files);
    watch.act(PUBLISHER, &words);
    watch.releases.push(release.clone());
    Ok(release)
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    serde_json::from_value(value)
        .map_err(|error| Error::new(Kind::Ended, "a command of the demo answered something else").with_source(error))
}

async fn interruption() -> Result<(), Error> {
    let failed = |error: io::Error| Error::new(Kind::Storage, "can't listen for signals").with_source(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => (), _ = hangup.recv() => () }
    Ok(())
}

fn report(context: &Context, watch: &Watch, home: Home) -> Result<ExitCode, Error> {
    let held = watch.claims.iter().all(|claim| claim.held);
    let kept = home.leave(held)?;
    let table = Table::of(watch);
    let seconds = watch.elapsed().as_secs_f64();
    if context.json {
        let value = json!({ "held": held, "claims": watch.claims, "updates": table, "seconds": seconds, "kept": kept });
        print_json(&value)?;
    } else {
        watch.say(&format!("\n{table}\n"));
        let (all, bad) = (watch.claims.len(), watch.claims.iter().filter(|claim| !claim.held).count());
        watch.say(&if held {
            format!("all {all} claims held, in {seconds:.1} s")
        } else {
            format!("{bad} of {all} claims did NOT hold")
        });
        if let Some(kept) = kept {
            watch.say(&format!("the nodes' data and logs are in {}", kept.display()));
        }
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the processes keep their data.
#[derive(Debug)]
enum Home {
    Temporary(TempDir),
    Given(PathBuf),
}

impl Home {
    fn make(given: Option<&Path>) -> Result<Self, Error> {
        let Some(given) = given else {
            let made = tempfile::Builder::new().prefix("burr-demo-").tempdir();
            return made
                .map(Self::Temporary)
                .map_err(|error| Error::new(Kind::Storage, "can't make a temporary directory").with_source(error));
        };
        let failed =
            |error| Error::new(Kind::BadInput, format!("can't use --keep {}", given.display())).with_source(error);
        let given = std::path::absolute(given).map_err(failed)?;
        fs::create_dir_all(&given).map_err(failed)?;
        if fs::read_dir(&given).map_err(failed)?.next().is_some() {
            return Err(failed(io::Error::from(io::ErrorKind::DirectoryNotEmpty)).with_hint("give a new directory"));
        }
        Ok(Self::Given(given))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(made) => made.path(),
            Self::Given(given) => given,
        }
    }

    /// Removes what was made, unless somebody wants to look into it; returns what is left.
    fn leave(self, all_well: bool) -> Result<Option<PathBuf>, Error> {
        match self {
            Self::Given(given) => Ok(Some(given)),
            Self::Temporary(made) if !all_well => Ok(Some(made.keep())),
            Self::Temporary(made) => {
                let path = made.path().to_owned();
                let removed = made.close().map(|()| None);
                removed.map_err(|error| {
                    Error::new(Kind::Storage, format!("can't remove {}", path.display())).with_source(error)
                })
            }
        }
    }
}
