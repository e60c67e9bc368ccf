//! `burr-sim` as it is called: what it prints and writes, and its exit codes.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program and its files are what is tried")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// Two devices behind a gateway, and a release of which a line of 8 Mbit/s takes seconds.
const SHOP: &str = r#"
teaches = "that it can be called"
duration = "2h"

[config]
quota = "50 MB"
[config.tuning]
sync_interval = "10m"

[[sites]]
name = "cloud"
[sites.uplink]
up = "100 Mbit/s"
down = "100 Mbit/s"

[[sites]]
name = "shop"
[sites.uplink]
up = "2 Mbit/s"
down = "8 Mbit/s"
class = "dsl"
cost = 1.0

[[nodes]]
name = "publisher"
role = "publisher"
site = "cloud"

[[nodes]]
name = "gateway"
role = "collector"
site = "shop"
knows = ["publisher"]

[[nodes]]
name = "device"
role = "device"
count = 2
site = "shop"
knows = ["gateway"]

[[releases]]
at = "10min"
version = "1.0.0"
size = "8 MB"
"#;

/// A directory of a test's own, empty, with the scenario in it.
fn home(test: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::remove_dir_all(&home).ok();
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("shop.toml"), SHOP).unwrap();
    home
}

fn burr_sim(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_burr-sim")).current_dir(home).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_run_is_told_as_text_as_json_and_as_a_page() {
    let home = home("run");
    let told = text(&burr_sim(&home, &["run", "shop.toml", "--html", "shop.html"]));
    for part in ["1.0.0", "2/2", "between sites", "dsl", "radio", "digest", "of device time"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(fs::read_to_string(home.join("shop.html")).unwrap().matches("<svg").count(), 4);

    let report = json(&burr_sim(&home, &["run", "shop.toml", "--json"]));
    let number =
        |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {report}"));
    // From the publisher over the gateway it takes two hands or three to a device, and 8 MB take 8 s to the first.
    assert!((2.0..=3.0).contains(&number("/rollouts/0/hops/1")), "{report}");
    assert!((8_000.0..20_000.0).contains(&number("/rollouts/0/t50_ms")));
    assert!(number("/rollouts/0/t50_ms") <= number("/rollouts/0/t95_ms"));
    // Once over the line, which costs 1.0 a gigabyte both ways.
    assert!((8e6..8.2e6).contains(&number("/bytes/far")));
    let carried = number("/lines/0/up") + number("/lines/0/down");
    assert!((number("/lines/0/cost") - carried / 1e9).abs() < 1e-9 && carried > 8e6);
    assert!((1.0..1.01).contains(&number("/bytes/redundancy")));
    // Always on, for two hours; behind for some seconds of the last 110 minutes.
    assert!((7_190.0..=7_200.0).contains(&number("/radio_seconds")));
    assert!((0.99..1.0).contains(&number("/staleness/current")));
    assert!((number("/staleness/mean_ms") - number("/rollouts/0/t50_ms")).abs() < 5_000.0);

    let told = burr_sim(&home, &["run", "shop.toml", "--set", "nodes.9.count=1"]);
    assert!(!told.status.success() && text(&told).contains("nodes.9.count"), "{}", text(&told));
}

#[test]
fn two_values_are_swept_each_with_each_over_seeds() {
    let home = home("sweep");
    let vary = ["--vary", "sites.1.uplink.down=2 Mbit/s,8 Mbit/s", "--vary", "releases.0.size=2 MB,8 MB"];
    let sweep = [&["sweep", "shop.toml", "--seeds", "3"], vary.as_slice()].concat();
    let swept = json(&burr_sim(&home, &[sweep.as_slice(), &["--json", "--html", "sweep.html"]].concat()));
    assert_eq!(swept["varied"], "sites.1.uplink.down");
    let lines = swept["lines"].as_array().unwrap();
    assert_eq!(
        lines.iter().map(|line| &line["name"]).collect::<Vec<_>>(),
        ["releases.0.size=2 MB", "releases.0.size=8 MB"]
    );
    // Seconds that the line takes, of each size at each rate; three seeds each, in order.
    for (line, least) in lines.iter().zip([[8.0, 2.0], [32.0, 8.0]]) {
        for (value, (rate, least)) in
            line["values"].as_array().unwrap().iter().zip(["2 Mbit/s", "8 Mbit/s"].iter().zip(least))
        {
            assert_eq!(value[0], *rate);
            let seconds: Vec<f64> =
                value[1].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap() / 1000.0).collect();
            assert!(seconds.len() == 3 && seconds.is_sorted(), "{seconds:?}");
            assert!(seconds.iter().all(|took| (least..least * 1.15 + 6.0).contains(took)), "{rate}: {seconds:?}");
        }
    }
    let page = fs::read_to_string(home.join("sweep.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("releases.0.size=8 MB"));
    // What one value's runs are, they are with another beside it as well.
    let alone = json(&burr_sim(&home, &["sweep", "shop.toml", "--seeds", "3", "--json", vary[0], vary[1]]));
    assert_eq!(alone["lines"][0]["values"], lines[1]["values"]);
    let three = [sweep.as_slice(), &["--vary", "duration=1h,2h"]].concat();
    assert!(text(&burr_sim(&home, &three)).contains("once or twice"));
}

#[test]
fn a_change_of_settings_is_compared() {
    let home = home("compare");
    let slower = ["compare", "shop.toml", "--set", "sites.1.uplink.down=1 Mbit/s"];
    let compared = json(&burr_sim(&home, &[slower.as_slice(), &["--json"]].concat()));
    let figure = |name: &str| {
        let figures = compared["figures"].as_array().unwrap();
        figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("{name}: {compared}"))["values"]
            .clone()
    };
    let (before, after) = (figure("1.0.0 t95")[0].as_f64().unwrap(), figure("1.0.0 t95")[1].as_f64().unwrap());
    assert!(after > 64_000.0 && (5.0..8.0).contains(&(after / before)), "{before} to {after}");
    assert_eq!(figure("1.0.0 has it"), serde_json::json!([2.0, 2.0]));
    assert!(text(&burr_sim(&home, &slower)).contains("t95"));
}

/// The settings of a node are those of a scenario, as they stand: what a node refuses is refused here, with the same words.
#[test]
fn the_settings_of_a_node_are_pasted_as_they_are() {
    let home = home("paste");
    let with = |settings: &str| {
        let text = SHOP.replacen("quota = \"50 MB\"", settings, 1);
        fs::write(home.join("pasted.toml"), text).unwrap();
        burr_sim(&home, &["run", "pasted.toml", "--json"])
    };
    // A quota that the release does not fit into, and a rate that makes it last: settings are not only read.
    let full = json(&with("quota = \"4 MB\""));
    assert_eq!(full["rollouts"][0]["reached"], 0);
    let slow = json(&with(
        "quota = \"50 MB\"\nbudget = { wan_down = \"100 kB/s\", lan_up = \"1 MB/s; 22:00-05:00 unlimited\" }",
    ));
    assert!(slow["rollouts"][0]["t50_ms"].as_u64().unwrap() > 75_000, "{slow}");
    for (settings, said) in
        [("quotum = \"1 GB\"", "quotum"), ("quota = \"much\"", "quota"), ("budget = { wan_up = \"fast\" }", "wan_up")]
    {
        let refused = with(settings);
        assert!(!refused.status.success() && text(&refused).contains(said), "{}", text(&refused));
    }
}

/// The defect that is built in for this alone: a driver that says too soon that something is on the disk.
#[test]
fn a_failure_is_made_small_and_its_file_shows_it_again() {
    let home = home("swarm");
    let faults = ["swarm", "shop.toml", "--seeds", "2", "--set", "heal=1h"];
    let whole = burr_sim(&home, &faults);
    assert!(whole.status.success() && !home.join("failure.toml").exists(), "{}", text(&whole));

    let broken = burr_sim(&home, &[faults.as_slice(), &["--set", "speaks_too_soon=true"]].concat());
    assert_eq!(broken.status.code(), Some(1));
    let told = text(&broken);
    assert!(told.contains("2 seeds broke a rule") && told.contains("nothing is said before"), "{told}");
    // The line that it prints is one to run.
    let line = told.lines().find_map(|line| line.trim().strip_prefix("burr-sim ")).unwrap();
    let again = burr_sim(&home, &line.split(' ').collect::<Vec<_>>());
    assert!(again.status.code() == Some(1) && text(&again).contains("BROKEN"), "{}", text(&again));
    let small = fs::read_to_string(home.join("failure.toml")).unwrap();
    assert!(!small.contains("[[faults]]"), "it needs no fault: {small}");

    let found = burr_sim(&home, &[faults.as_slice(), &["--set", "speaks_too_soon=true", "--json"]].concat());
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&found["seeds"], &found["broke"], &found["small"]["faults"]), (&2.into(), &2.into(), &0.into()));
    assert_eq!(found["failures"][1]["seed"], 2);
}

/// `head` closes a pipe; a page may lie where nobody can write; a disk may be full.
#[test]
fn an_output_that_nobody_reads_is_no_panic_and_one_that_cannot_be_written_is_told_of() {
    let home = home("output");
    let program = |arguments: &[&str], out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burr-sim"));
        command.current_dir(&home).args(arguments).stdout(out).stderr(Stdio::piped()).output().unwrap()
    };
    for arguments in [["list", "--json"], ["show", "swarm"], ["run", "shop.toml"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let unread = program(&arguments, write.into());
        assert!(unread.status.success() && unread.stderr.is_empty(), "{arguments:?}: {}", text(&unread));
    }
    // What was found is told by the exit code, whoever reads.
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let faults = ["swarm", "shop.toml", "--seeds", "1", "--set", "heal=1h", "--set", "speaks_too_soon=true"];
    assert_eq!(program(&faults, write.into()).status.code(), Some(1));
    let full = program(&["list"], fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
    assert!(full.status.code() == Some(2) && text(&full).contains("can't write the output"), "{}", text(&full));
    // Before the work, not after it.
    let nowhere = burr_sim(&home, &["run", "scale_1m", "--html", "nowhere/page.html"]);
    assert!(nowhere.status.code() == Some(2) && text(&nowhere).contains("nowhere/page.html"), "{}", text(&nowhere));
}
