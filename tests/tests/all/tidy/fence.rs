//! What a crate must not know, asked of `cargo tree`.

use std::{collections::BTreeSet, process::Command};

use super::{none, root};

/// What acts or waits: a crate that decides has none of it in its tree. A name that ends in `*` is a prefix.
const RUNTIME: &[&str] = &[
    "async-*",
    "crossbeam*",
    "hyper*",
    "iroh*",
    "libp2p*",
    "mio",
    "netlink-*",
    "parking_lot*",
    "polling",
    "quinn*",
    "rayon*",
    "redb",
    "reqwest",
    "rustls",
    "sled",
    "smol",
    "socket2",
    "tokio*",
];

/// Where randomness, files and clocks come from.
const OUTSIDE: &[&str] = &["chrono", "fastrand", "getrandom", "rand", "rand_chacha", "rustix", "tempfile", "time"];

/// The packages in the tree of `package`, itself left out, over dependencies of these kinds.
fn tree(package: &str, kinds: &str, more: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--prefix=none", "--format={p}"])
        .args(["--package", package, "--edges", kinds])
        .args(more)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let names: BTreeSet<_> = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains(package), "the tree of {package} begins with it");
    names.into_iter().filter(|name| name != package).collect()
}

fn matches(name: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *pattern,
    })
}

#[track_caller]
fn refuse(package: &str, names: &BTreeSet<String>, patterns: &[&str], to_do: &str) {
    let found: Vec<_> = names
        .iter()
        .filter(|name| matches(name, patterns))
        .map(|name| format!("{package} depends on {name}: see `cargo tree -p {package} -e normal -i {name}`"))
        .collect();
    none(&found, to_do);
}

const PURE: &str = "Protocol and sim decide and never act: make it an action that a driver carries out, or turn off the \
    dependency's feature that brings this.";

#[test]
fn protocol_and_sim_have_no_runtime_network_or_database() {
    for package in ["burr-protocol", "burr-sim"] {
        refuse(package, &tree(package, "normal", &["--target=all"]), RUNTIME, PURE);
    }
}

/// The TUF verifier links a file cache that is never called here (`protocol/clippy.toml` sees to it), and with it
/// `tempfile`. Nothing else may bring entropy or files.
#[test]
fn protocol_and_sim_have_no_entropy_files_or_clock() {
    for package in ["burr-protocol", "burr-sim"] {
        refuse(package, &tree(package, "normal", &["--target=all", "--prune=sigstore-tuf"]), OUTSIDE, PURE);
    }
}

#[test]
fn only_tests_sees_both_drivers() {
    let to_do = "Node and sim are two drivers of one agent and never meet: what both need belongs into protocol, and a \
        test of both into tests.";
    let every_kind = "normal,build,dev";
    refuse("burr-protocol", &tree("burr-protocol", every_kind, &[]), &["burr-*"], to_do);
    refuse("burr-sim", &tree("burr-sim", every_kind, &[]), &["burr-node", "burr-tests"], to_do);
    refuse("burr-node", &tree("burr-node", every_kind, &[]), &["burr-sim", "burr-tests"], to_do);
}
