//! The seeds of the fuzz targets (`protocol/fuzz`), and what fuzzing found before, on a stable toolchain.

#![allow(clippy::disallowed_methods, reason = "the corpora are files beside the crate")]

use std::{
    fs,
    path::{Path, PathBuf},
};

#[allow(unreachable_pub, reason = "a crate of its own under libFuzzer, a module here")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Files, and bytes in all, that a committed corpus may have.
const MAX_FILES: usize = 64;
const MAX_BYTES: usize = 256 << 10;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

#[test]
#[ignore = "writes the seeds into the corpora, when formats have changed"]
fn write_seeds() {
    for target in targets::TARGETS {
        fs::create_dir_all(corpus(target.name)).unwrap();
        for (seed, number) in (target.seeds)().iter().zip(1..) {
            fs::write(corpus(target.name).join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}

fn replay(name: &str) {
    let target = targets::TARGETS.into_iter().find(|target| target.name == name).unwrap();
    for seed in (target.seeds)() {
        targets::run(name, &seed);
    }
    let mut inputs: Vec<_> = fs::read_dir(corpus(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    let mut bytes = 0;
    for input in &inputs {
        let data = fs::read(input).unwrap();
        bytes += data.len();
        targets::run(name, &data);
    }
    assert!(
        !inputs.is_empty() && inputs.len() <= MAX_FILES && bytes <= MAX_BYTES,
        "{} files, {bytes} bytes",
        inputs.len()
    );
}

#[test]
fn agent() {
    replay("agent");
}

#[test]
fn audit() {
    replay("audit");
}

#[test]
fn client() {
    replay("client");
}

#[test]
fn draft() {
    replay("draft");
}

#[test]
fn manifest() {
    replay("manifest");
}

#[test]
fn member() {
    replay("member");
}

#[test]
fn records() {
    replay("records");
}

#[test]
fn seal() {
    replay("seal");
}

#[test]
fn trust() {
    replay("trust");
}

#[test]
fn wire() {
    replay("wire");
}
