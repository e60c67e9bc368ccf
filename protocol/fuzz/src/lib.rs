//! Fuzz targets: whatever reads the bytes of strangers, and what goes on with them.
//!
//! A decoder's target asks that nothing panics, that what is read has one spelling, and that it keeps its bounds. The
//! targets `client` and `agent` read the input as a program, which feeds real documents, altered ones and any bytes in
//! any order to a state machine and asserts what must hold whatever comes. Bodies are plain functions, so that
//! protocol's own tests replay the committed corpora on a stable toolchain (`tests/all/fuzz.rs`).

mod agent;
mod audit;
mod client;
mod draft;
mod manifest;
mod member;
mod program;
mod records;
mod seal;
mod shop;
mod trust;
mod wire;

/// One target.
pub struct Target {
    /// Its name: that of its binary and of its corpus.
    pub name: &'static str,
    /// Runs one input; panics on a finding.
    pub run: fn(&[u8]),
    /// Inputs to start from, made of real documents.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    Target { name: "agent", run: agent::run, seeds: agent::seeds },
    Target { name: "audit", run: audit::run, seeds: audit::seeds },
    Target { name: "client", run: client::run, seeds: client::seeds },
    Target { name: "draft", run: draft::run, seeds: draft::seeds },
    Target { name: "manifest", run: manifest::run, seeds: manifest::seeds },
    Target { name: "member", run: member::run, seeds: member::seeds },
    Target { name: "records", run: records::run, seeds: records::seeds },
    Target { name: "seal", run: seal::run, seeds: seal::seeds },
    Target { name: "trust", run: trust::run, seeds: trust::seeds },
    Target { name: "wire", run: wire::run, seeds: wire::seeds },
];

/// Runs one input of the target of this name.
///
/// # Panics
/// On a finding; and if there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}
