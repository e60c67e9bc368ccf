//! What every Cargo.toml and clippy.toml keeps to.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{CRATES, none, read, rust_files};

/// The tables of a crate's Cargo.toml that name dependencies.
const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

fn manifest(directory: &str) -> Table {
    read(format!("{directory}/Cargo.toml")).parse().expect("cargo has read it before")
}

/// A crate's dependencies on any platform: name, and what the manifest says of it.
fn dependencies(directory: &str) -> BTreeMap<String, Value> {
    let mut tables = vec![manifest(directory)];
    if let Some(Value::Table(targets)) = tables[0].get("target").cloned() {
        tables.extend(targets.into_iter().filter_map(|(_, target)| target.try_into().ok()));
    }
    let kinds = tables.iter().flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    kinds.flat_map(Clone::clone).collect()
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool) == Some(true)
}

#[test]
fn every_crate_keeps_the_workspaces_terms() {
    let mut found = Vec::new();
    for (directory, name) in CRATES {
        let manifest = manifest(directory);
        assert_eq!(manifest["package"]["name"].as_str(), Some(name));
        if !is_true(manifest.get("lints").and_then(|lints| lints.get("workspace"))) {
            found.push(format!("{directory}/Cargo.toml: no `[lints] workspace = true`"));
        }
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            if !is_true(manifest["package"].get(field).and_then(|value| value.get("workspace"))) {
                found.push(format!("{directory}/Cargo.toml: no `{field}.workspace = true`"));
            }
        }
    }
    none(&found, "Lints, edition and terms are set once, in the workspace's Cargo.toml: inherit them.");
}

#[test]
fn every_dependency_is_declared_once() {
    let mut found = Vec::new();
    for (directory, _) in CRATES {
        for (name, value) in dependencies(directory) {
            if !is_true(value.get("workspace")) {
                found.push(format!("{directory}/Cargo.toml: {name}"));
            }
        }
    }
    none(&found, "Declare the dependency in [workspace.dependencies] and write `name.workspace = true` here.");
}

#[test]
fn every_dependency_has_a_reason() {
    let text = read("Cargo.toml");
    let section = text.split_once("[workspace.dependencies]\n").expect("the section").1;
    let lines: Vec<_> = section.lines().take_while(|line| !line.starts_with('[')).collect();
    let unexplained = lines.iter().enumerate().filter(|(at, line)| {
        let names_one = !line.starts_with(['#', ' ']) && line.contains(" = ");
        names_one && (*at == 0 || !lines[at - 1].starts_with("# "))
    });
    let found: Vec<_> = unexplained.map(|(_, line)| (*line).to_owned()).collect();
    none(&found, "Say in the line above, after `# `, what this dependency is for in Burr.");
}

#[test]
fn every_dependency_is_used() {
    let mut found = Vec::new();
    let mut left: Vec<String> = workspace_dependencies();
    for (directory, _) in CRATES {
        let sources: Vec<_> = rust_files().into_iter().filter(|path| path.starts_with(directory)).map(read).collect();
        for name in dependencies(directory).into_keys() {
            let ident = name.replace('-', "_");
            if !sources.iter().any(|text| names(text, &ident)) {
                found.push(format!("{directory}/Cargo.toml: {name}"));
            }
            left.retain(|other| *other != name);
        }
    }
    found.extend(left.into_iter().map(|name| format!("Cargo.toml: {name}")));
    none(&found, "Nothing names these dependencies: take each out where it is listed.");
}

fn workspace_dependencies() -> Vec<String> {
    let manifest: Table = read("Cargo.toml").parse().expect("cargo has read it before");
    let table = manifest["workspace"]["dependencies"].as_table().expect("a table");
    table.keys().cloned().collect()
}

/// Whether code in `text` names the crate `ident`: `ident::...`, `use ident as ...` or `use ident;`.
fn names(text: &str, ident: &str) -> bool {
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    code.flat_map(|line| line.match_indices(ident).map(move |(at, _)| (&line[..at], &line[at + ident.len()..]))).any(
        |(before, after)| {
            let starts = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            starts && (after.starts_with("::") || before.trim_end().ends_with("use"))
        },
    )
}

#[test]
fn both_pure_crates_have_one_fence() {
    let same = read("protocol/clippy.toml") == read("sim/clippy.toml");
    assert!(same, "\nprotocol/clippy.toml and sim/clippy.toml differ: copy the one that is right over the other.\n");
}
