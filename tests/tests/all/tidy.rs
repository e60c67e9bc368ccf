//! What the house's rules say about the project itself, as tests: `attacks` (the table of attacks and its tests),
//! `fence` (what a crate must not know), `sources` (what every file keeps to) and `manifests` (what every Cargo.toml and
//! clippy.toml keeps to).
//!
//! Each check collects all its findings and fails once, with what to do about them.

use std::{
    fs,
    path::{Path, PathBuf},
};

mod attacks;
mod fence;
mod manifests;
mod sources;

/// The workspace's crates: directory, and package name.
const CRATES: [(&str, &str); 4] =
    [("protocol", "burr-protocol"), ("node", "burr-node"), ("sim", "burr-sim"), ("tests", "burr-tests")];

/// The workspace's directory.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The text of a file, named from the workspace's directory.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory of the workspace, sorted, as paths from the workspace's directory. What cargo builds in a
/// `target` directory is not the project's.
fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().join(below)];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let entry = entry.expect("an entry of a directory that opened");
            if entry.file_type().expect("the type of an entry").is_dir() {
                left.extend(Some(entry.path()).filter(|path| !path.ends_with("target")));
            } else {
                found.push(entry.path().strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The Rust files of all crates.
fn rust_files() -> Vec<PathBuf> {
    let all = CRATES.into_iter().flat_map(|(dir, _)| files(dir));
    all.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Fails if there are findings: all of them, and what to do.
#[track_caller]
fn none(findings: &[String], to_do: &str) {
    assert!(findings.is_empty(), "\n  {}\n{to_do}\n", findings.join("\n  "));
}
