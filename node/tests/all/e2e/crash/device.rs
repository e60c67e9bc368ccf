//! A device that is killed while it updates, and a collector that is killed while it takes receipts.
//!
//! One device goes from version to version. In each version it is killed once in every phase, at a drawn moment; where
//! the kill really struck is read off what the device had told by then and what is on its disk. After each kill,
//! `current` is read whole. Hooks around the switch and the health command write down that they began, and a line from each
//! survives its device. The link brings bytes at a known speed, so that a fetch lasts, and counts them.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    super::{
        link::Link,
        program::{DEADLINE, Node, Shop, current, publish},
    },
    Draw,
};
use crate::support::{noise, tree};

/// Times that the device is killed, if `BURR_CRASH_KILLS` does not ask for more.
const KILLS: usize = 70;
/// One in so many kills, at least, must have struck in each phase.
const LEAST: usize = 14;
/// Kills of a version on trial.
const MAX_TRIAL_KILLS: usize = 3;
/// Bytes of a version that do not compress.
const SIZE: usize = 16 << 20;
/// Bytes a second that the link brings.
const RATE: u64 = 16 << 20;
/// Bytes fetched twice, of all that had to be fetched, in per cent.
const MAX_TWICE: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The payload is on its way.
    Fetch,
    /// It is unpacked and verified.
    Verify,
    /// Its slot is there, and it is not told yet.
    Stage,
    /// The hook before the switch runs.
    Prepare,
    /// The switch is being written down or made, and not told.
    Switch,
    /// It is on trial, and the hook after the switch runs.
    Finish,
    /// The health command runs.
    Confirm,
    /// The update is over.
    After,
}

const PHASES: [Phase; 7] =
    [Phase::Fetch, Phase::Verify, Phase::Stage, Phase::Prepare, Phase::Switch, Phase::Finish, Phase::Confirm];

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

/// A version: the release's names and size.
struct Version {
    name: String,
    bundle: String,
    size: u64,
}

struct Story {
    shop: Shop,
    collector: Option<Node>,
    link: Link,
    data: PathBuf,
    number: u64,
}

impl Story {
    fn open() -> Self {
        let shop = Shop::open(|at| build(at, 0));
        let collector = Node::start(&shop.publisher, &[]);
        let link = Link::to(collector.address(), RATE);
        let data = shop.data("device");
        Self { shop, collector: Some(collector), link, data, number: 0 }
    }

    fn start(&self) -> Node {
        let log = self.log();
        let begins = |what: &str| format!("echo {what} $BURR_VERSION >> '{}'", log.display());
        let health = format!("{} && sleep 0.1 && test -f index.html", begins("health"));
        let before = format!("apps.shop.before={} && sleep 0.05 && {}", begins("before"), begins("prepared"));
        let after = format!("apps.shop.after={} && sleep 0.05", begins("after"));
        let hooks = ["--set", &before, "--set", &after];
        let quick = ["--set", "tuning.dial_backoff=50ms", "--set", "tuning.dial_backoff_max=200ms"];
        let peer = self.link.address();
        let arguments = ["--install", &self.shop.link, "--health", &health, "--peer", &peer];
        // A kill that strikes before the trial is told may come after it was written down: those count as starts too.
        let patient = ["--set", "tuning.max_trial_starts=100"];
        Node::start(&self.data, &[&arguments[..], &quick[..], &patient[..], &hooks[..]].concat())
    }

    fn publish(&mut self) -> Version {
        self.number += 1;
        build(&self.shop.source(), self.number);
        let version = format!("2.0.{}", self.number);
        let release = publish(&self.shop.publisher, &self.shop.source(), &version);
        Version {
            name: version,
            bundle: release["bundle"].as_str().unwrap().to_owned(),
            size: release["payload"]["size"].as_u64().unwrap(),
        }
    }

    /// What hooks and health commands write.
    fn log(&self) -> PathBuf {
        self.shop.data("log")
    }

    fn logged(&self, what: &str, version: &Version) -> bool {
        let line = format!("{what} {}", version.name);
        fs::read_to_string(self.log()).unwrap_or_default().lines().any(|logged| logged == line)
    }

    fn slot(&self, bundle: &str) -> PathBuf {
        self.data.join("apps/shop/slots").join(bundle)
    }

    /// Kills the collector as well, and starts it again elsewhere.
    fn kill_collector(&mut self) {
        drop(self.collector.take().map(Node::kill));
        let collector = Node::start(&self.shop.publisher, &[]);
        self.link.point(collector.address());
        self.collector = Some(collector);
    }

    fn collector(&self) -> &Node {
        self.collector.as_ref().expect("always one")
    }

    /// The receipts of the device that the collector has, by number.
    fn receipts(&self) -> BTreeMap<u64, String> {
        let mut found = BTreeMap::new();
        for receipt in self.collector().ask("receipts").as_array().expect("a list") {
            let version = receipt["version"].as_str().unwrap().to_owned();
            assert_eq!(receipt["outcome"], "Active", "{receipt}");
            let before = found.insert(receipt["counter"].as_u64().unwrap(), version);
            assert_eq!(before, None, "a number was used twice: {receipt}");
        }
        found
    }
}

/// A large file that changes with each version, and many small ones.
fn build(at: &Path, number: u64) {
    tree(at, &[("index.html", format!("<h1>{number}</h1>").as_bytes()), ("data", &noise(number, SIZE))]);
    for small in 0..300 {
        tree(at, &[(&format!("assets/{}/{small}.js", small % 7), format!("app({number}, {small})").as_bytes())]);
    }
}

/// How far an update was when its device died.
fn struck(heard: &[Value], story: &Story, version: &Version, target: Option<&Path>) -> Phase {
    let step = |step: &str| heard.iter().any(|fact| fact["version"] == *version.name && fact["step"]["step"] == step);
    if step("active") {
        Phase::After
    } else if story.logged("health", version) {
        Phase::Confirm
    } else if step("on_trial") || story.logged("after", version) {
        Phase::Finish
    } else if story.logged("prepared", version) || target.is_some_and(|target| target.starts_with(&version.bundle)) {
        Phase::Switch
    } else if step("staged") || story.logged("before", version) {
        Phase::Prepare
    } else if story.slot(&version.bundle).exists() {
        Phase::Stage
    } else if heard.iter().any(|fact| fact["fact"] == "fetch_completed") {
        Phase::Verify
    } else {
        Phase::Fetch
    }
}

#[test]
fn a_device_that_is_killed_anywhere_goes_on_and_loses_nothing() {
    let asked = env::var("BURR_CRASH_KILLS").ok().map(|asked| asked.parse().expect("a number of kills"));
    let all = asked.map_or(KILLS, |asked: usize| asked.max(KILLS));
    let mut story = Story::open();
    let mut draw = Draw(0xb0b);
    let begun = Instant::now();
    let mut device = story.start();
    device.hear_step("1.0.0", "active");
    let mut old = current(&story.data).expect("installed");
    let mut acknowledged = story.receipts();
    let mut hits: BTreeMap<Phase, usize> = BTreeMap::new();
    let (mut kills, mut versions, mut wanted, mut twice) = (0, 0_u64, 0, 0);
    // How long each lasts, about.
    let durations = [700, 60, 3, 50, 6, 50, 100].map(Duration::from_millis);
    let mut durations: BTreeMap<Phase, Duration> = PHASES.into_iter().zip(durations).collect();

    while kills < all {
        assert!(versions * 7 < 4 * u64::try_from(all).unwrap(), "the kills do not strike: {hits:?}");
        versions += 1;
        let version = story.publish();
        wanted += version.size;
        let before = story.link.carried();
        let (mut reached, mut trial_kills) = (Phase::Fetch, 0);
        for aim in PHASES {
            if kills == all || aim < reached || trial_kills == MAX_TRIAL_KILLS {
                continue;
            }
            wait_for(&mut device, &story, &version, aim);
            thread::sleep(draw.time(durations[&aim]));
            let heard = device.kill();
            let target = fs::read_link(story.data.join("apps/shop/current")).ok();
            let target = target.as_deref().and_then(|target| target.strip_prefix("slots").ok());
            let phase = struck(&heard, &story, &version, target).max(reached);
            let found = current(&story.data).expect("never without a version");
            assert!(found == old || found == version.bundle, "{found} is neither the old nor the new version");
            reached = phase;
            if phase != Phase::After {
                *hits.entry(phase).or_default() += 1;
                kills += 1;
            }
            trial_kills += usize::from(phase >= Phase::Switch);
            // A moment that comes too late is drawn from a shorter time from now on, and the other way round.
            let duration = durations.get_mut(&aim).expect("every phase has one");
            *duration = if phase > aim { *duration * 2 / 3 } else { *duration * 21 / 20 };
            device = story.start();
        }
        // It gets there all the same, and the receipt arrives.
        let active = |fact: &Value| fact["version"] == *version.name && fact["step"]["step"] == "active";
        if !is_active(&device, &version) && !device.heard.iter().any(active) {
            device.hear_step(&version.name, "active");
        }
        assert_eq!(current(&story.data).as_deref(), Some(&version.bundle[..]), "it converges");
        old.clone_from(&version.bundle);
        twice += (story.link.carried() - before).saturating_sub(version.size);
        if versions % 3 == 0 {
            acknowledged.extend(story.receipts());
            story.kill_collector();
        }
        acknowledged = await_receipts(&story, &acknowledged, &version.name);
    }
    device.stop();
    let numbers: Vec<u64> = acknowledged.keys().copied().collect();
    assert_eq!(numbers, (1..=versions + 1).collect::<Vec<_>>(), "no number is missing");
    eprintln!("{all} kills over {versions} versions of {} MiB in {:?}:", SIZE >> 20, begun.elapsed());
    for phase in PHASES {
        eprintln!("  {phase:<8} {:>3}", hits.get(&phase).copied().unwrap_or_default());
    }
    eprintln!("  {twice} of {wanted} bytes crossed the link more than once, headers and handshakes included");
    for phase in PHASES {
        let hit = hits.get(&phase).copied().unwrap_or_default();
        assert!(hit * LEAST >= all, "{phase} was struck {hit} times only: {hits:?}");
    }
    assert!(twice * 100 < wanted * MAX_TWICE, "{twice} of {wanted} bytes were fetched twice");
}

/// Waits until an update is in a phase, or beyond it.
fn wait_for(device: &mut Node, story: &Story, version: &Version, aim: Phase) {
    let step = |fact: &Value, steps: &[&str]| {
        fact["version"] == *version.name && steps.iter().any(|step| fact["step"]["step"] == *step)
    };
    let heard_already = device.heard.iter().any(|fact| step(fact, &["on_trial", "active"]));
    match aim {
        _ if heard_already => {}
        Phase::Stage => poll(|| story.slot(&version.bundle).exists()),
        Phase::Switch => poll(|| story.logged("prepared", version)),
        Phase::Confirm => poll(|| story.logged("health", version)),
        _ => device.hear(&format!("{aim} of {}", version.name), |fact| {
            let further = match aim {
                Phase::Fetch => fact["fact"] == "fetch_started",
                Phase::Verify => fact["fact"] == "fetch_completed" || step(fact, &["staged"]),
                Phase::Stage | Phase::Prepare | Phase::Switch => step(fact, &["staged", "on_trial"]),
                Phase::Finish | Phase::Confirm | Phase::After => step(fact, &["on_trial", "active"]),
            };
            further.then_some(())
        }),
    }
}

/// Waits for what no fact tells.
fn poll(is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() && begun.elapsed() < DEADLINE {
        thread::sleep(Duration::from_micros(200));
    }
}

fn is_active(device: &Node, version: &Version) -> bool {
    device.ask("status")["apps"][0]["active"]["version"] == *version.name
}

/// Waits until the collector has the receipt of a version; those that it had before must still be there.
fn await_receipts(story: &Story, before: &BTreeMap<u64, String>, version: &str) -> BTreeMap<u64, String> {
    let begun = Instant::now();
    loop {
        let found = story.receipts();
        for (number, version) in before {
            assert_eq!(found.get(number), Some(version), "an acknowledged receipt was lost");
        }
        if found.values().any(|found| found == version) {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "the receipt of {version} did not arrive: {found:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
