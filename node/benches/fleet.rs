//! Publish to active on the last of three running devices, and what an idle device costs: real `burr` processes on
//! loopback. `cargo bench --package burr-node --bench fleet`

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const BURR: &str = env!("CARGO_BIN_EXE_burr");
const DEVICES: usize = 3;
const ROUNDS: usize = 9;
/// Bytes of the bundle, as 50 files that don't compress.
const BUNDLE: usize = 5_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device is watched while nothing happens.
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = |name: &str| home.path().join(name);
    let made = burr(&data("publisher"), &["--json", "init", "--app", "shop"]);
    let link = made["links"][0].as_str().expect("a link").to_owned();
    let publish = |round: usize| {
        let bundle = data("bundle");
        write_bundle(&bundle, round);
        let begun = Instant::now();
        let version = format!("1.0.{round}");
        let source = bundle.to_str().expect("UTF-8");
        burr(&data("publisher"), &["--json", "publish", source, "--app", "shop", "--version", &version]);
        (begun, version)
    };
    let publisher = Node::start(&data("publisher"), &[]);
    let peer = publisher.listener.clone();
    let devices: Vec<Node> = (0..DEVICES)
        .map(|index| Node::start(&data(&format!("device {index}")), &["--install", &link, "--peer", &peer]))
        .collect();
    let mut publish_only = Vec::new();
    let mut to_last = Vec::new();
    for round in 0..=ROUNDS {
        let (begun, version) = publish(round);
        let published = begun.elapsed();
        let last = devices.iter().map(|device| device.active(&version)).max().expect("devices");
        if round > 0 {
            publish_only.push(published);
            to_last.push(last.duration_since(begun));
        }
    }
    println!(
        "publish to active on the last of {DEVICES} devices, {BUNDLE} bytes, {ROUNDS} rounds: {}",
        spread(to_last)
    );
    println!("  of it the publish command itself: {}", spread(publish_only));

    let device = &devices[0];
    let before = device.switches();
    thread::sleep(IDLE);
    let after = device.switches();
    println!(
        "idle device: {} KiB resident, {} bytes of binary",
        device.resident(),
        fs::metadata(BURR).expect("it runs").len()
    );
    let mut total = 0;
    for (thread, count) in &after {
        let woken = count - before.iter().find(|(name, _)| name == thread).map_or(0, |(_, count)| *count);
        total += woken;
        println!("  {woken:>5} wake-ups a minute of {thread}");
    }
    println!("  {total:>5} in all");
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    format!("median {:.0} ms, least {:.0}, most {:.0}", ms(median), ms(least), ms(most))
}

fn write_bundle(at: &Path, round: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(round as u64 + 1);
    for file in 0..50 {
        let mut bytes = Vec::with_capacity(BUNDLE / 50);
        while bytes.len() < BUNDLE / 50 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let path = at.join(format!("part-{}/{file}.bin", file % 5));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
}

fn burr(data: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(BURR).arg("--data").arg(data).args(arguments).output().expect("burr runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

struct Node {
    process: Child,
    listener: String,
    facts: Receiver<(Instant, Value)>,
}

impl Node {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(BURR)
            .arg("--data")
            .arg(data)
            .args(["--json", "run", "--listen", "127.0.0.1", "--no-mdns"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("burr runs");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let (sender, facts) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let fact = serde_json::from_str(&line).expect("JSON");
                if sender.send((Instant::now(), fact)).is_err() {
                    return;
                }
            }
        });
        let (_, started): (_, Value) = facts.recv_timeout(PATIENCE).expect("it starts");
        let listener = started["listeners"][0].as_str().expect("it listens").to_owned();
        Self { process, listener, facts }
    }

    /// Waits until a version is active, and says when it was.
    fn active(&self, version: &str) -> Instant {
        loop {
            let (at, fact) = self.facts.recv_timeout(PATIENCE).expect("the version becomes active in time");
            if fact["fact"] == "update" && fact["version"] == version && fact["step"]["step"] == "active" {
                return at;
            }
        }
    }

    /// Voluntary context switches so far, by thread.
    fn switches(&self) -> Vec<(String, u64)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("Linux").flatten();
        let mut switches: Vec<_> = tasks
            .map(|task| {
                let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                let id = task.file_name().into_string().unwrap_or_default();
                (format!("{} ({id})", name.trim()), number(&task.path().join("status"), "voluntary_ctxt_switches:"))
            })
            .collect();
        switches.sort();
        switches
    }

    fn resident(&self) -> u64 {
        number(&PathBuf::from(format!("/proc/{}/status", self.process.id())), "VmRSS:")
    }
}

fn number(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
