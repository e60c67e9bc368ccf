//! What every file of the project keeps to.

use std::{fs, path::Path};

use super::{CRATES, files, none, read, root, rust_files};

/// What may lie at the top; names with a leading dot are free.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "node",
    "protocol",
    "sim",
    "target",
    "tests",
];

/// Lines of a Rust file at most.
const MAX_LINES: usize = 700;

/// Names that say nothing about what is inside.
const VAGUE: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Marks of unfinished work, in two halves so that this file has none.
const MARKS: &[(&str, &str)] =
    &[("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("todo", "!("), ("unimplemented", "!("), ("dbg", "!(")];

#[test]
fn the_top_level_needs_no_explanation() {
    let entries = fs::read_dir(root()).expect("the workspace's directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()));
    none(&names, "The top level holds the four crates and the README. Move these into the crate that they belong to.");
}

#[test]
fn no_rust_file_is_too_long() {
    let counts = rust_files().into_iter().map(|path| (read(&path).lines().count(), path));
    let long = counts.filter(|(count, _)| *count > MAX_LINES);
    let found: Vec<_> = long.map(|(count, path)| format!("{}: {count} lines", path.display())).collect();
    none(
        &found,
        "A file has one duty and at most 700 lines: give each part a child file of its own (net.rs, net/gossip.rs).",
    );
}

#[test]
fn every_rust_file_says_what_it_is() {
    let mute = rust_files().into_iter().filter(|path| !read(path).starts_with("//! "));
    let found: Vec<_> = mute.map(|path| path.display().to_string()).collect();
    none(&found, "Begin the file with `//!` and what it is, on its first line.");
}

#[test]
fn names_say_what_is_inside() {
    let vague = rust_files().into_iter().filter(|path| VAGUE.contains(&stem(path)));
    let found: Vec<_> = vague.map(|path| path.display().to_string()).collect();
    none(&found, "Name the file after what is in it; what has no name of its own belongs to whoever uses it.");
}

#[test]
fn nothing_is_left_unfinished() {
    let text = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        matches!(extension, "rs" | "toml" | "md" | "js" | "html" | "css" | "sh")
    };
    let mut found = Vec::new();
    for path in CRATES.iter().flat_map(|(dir, _)| files(dir)).filter(|path| text(path)) {
        for (number, line) in read(&path).lines().enumerate() {
            if MARKS.iter().any(|(first, second)| has_word(line, &format!("{first}{second}"))) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    none(&found, "Finish it, or take it out and file an issue; a mark in the code is read by nobody.");
}

#[test]
fn no_rust_file_is_forgotten() {
    let mut found = Vec::new();
    for path in rust_files() {
        let parents = parents(&path);
        let name = if stem(&path) == "mod" { parent_name(&path) } else { stem(&path) };
        let declared = parents.iter().any(|parent| declares(&read(parent), name));
        if !is_root(&path) && !declared {
            found.push(format!("{}: no `mod {name};` in any of {parents:?}", path.display()));
        }
    }
    none(&found, "Nothing compiles or runs these files: declare each as a module of its parent, or remove it.");
}

/// Whether cargo starts a compilation at this file.
fn is_root(path: &Path) -> bool {
    let directory = parent_name(path);
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let grandparent = path.parent().map(parent_name).unwrap_or_default();
    match file {
        "lib.rs" => directory == "src",
        "main.rs" => directory == "src" || matches!(grandparent, "tests" | "benches" | "examples" | "bin"),
        "build.rs" => CRATES.iter().any(|(name, _)| path.parent() == Some(Path::new(name))),
        _ => matches!(directory, "tests" | "benches" | "examples" | "bin"),
    }
}

/// The files that may declare this one as a module, of those that exist.
fn parents(path: &Path) -> Vec<String> {
    let mut directory = path.parent().expect("a file lies in a directory");
    if stem(path) == "mod" {
        directory = directory.parent().expect("a crate's file lies two directories deep at least");
    }
    let mut candidates = vec![directory.with_extension("rs")];
    candidates.extend(["lib.rs", "main.rs", "mod.rs"].map(|name| directory.join(name)));
    // Test targets that share a module lie beside its directory.
    if matches!(directory.file_name().and_then(|name| name.to_str()), Some("tests" | "benches")) {
        let beside = fs::read_dir(root().join(directory)).expect("a directory that was walked");
        candidates.extend(beside.filter_map(Result::ok).map(|entry| directory.join(entry.file_name())));
    }
    candidates.retain(|candidate| candidate != path && root().join(candidate).is_file());
    candidates.iter().map(|candidate| candidate.display().to_string()).collect()
}

fn declares(text: &str, name: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let item = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
            Some(scoped) => scoped.split_once(')').map_or("", |(_, item)| item),
            None => rest,
        });
        item.trim_start().strip_prefix("mod ").and_then(|item| item.strip_suffix(';')) == Some(name)
    })
}

/// Whether `word` stands in `line` and is no part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let goes_on = word.ends_with(part) && line[at + word.len()..].starts_with(part);
        !goes_on && !line[..at].ends_with(part)
    })
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn parent_name(path: &Path) -> &str {
    path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default()
}
