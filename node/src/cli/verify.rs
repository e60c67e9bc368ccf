//! `burr verify`: is a slot, byte for byte, what its manifest says?

use std::{fmt, path::PathBuf, process::ExitCode};

use burr_node::{
    bundle::{self, Fault},
    error::Error,
};
use burr_protocol::Hash;
use bytesize::ByteSize;
use serde::Serialize;

use super::Context;

/// Read a slot (or its tree, or `current`) whole and compare it with its manifest. Exit code 3 if anything differs.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory.
    path: PathBuf,
}

#[derive(Serialize)]
struct Verified {
    bundle: Hash,
    files: u64,
    bytes: u64,
    whole: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    path: String,
    fault: &'static str,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{:<8} {}", finding.fault, finding.path)?;
        }
        let what = if self.whole { "whole" } else { "NOT whole" };
        write!(f, "{what}: bundle {}, {} files, {}", self.bundle, self.files, ByteSize::b(self.bytes))
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let path = std::fs::canonicalize(&arguments.path).map_err(|error| {
        Error::new(burr_node::Kind::BadInput, format!("can't read {}", arguments.path.display())).with_source(error)
    })?;
    let verdict = bundle::verify(&path, &|_, _| ())?;
    let whole = verdict.is_whole();
    let finding = |finding: bundle::Finding| Finding {
        fault: match finding.fault {
            Fault::Missing => "missing",
            Fault::Altered => "altered",
            Fault::Extra => "extra",
        },
        path: finding.path,
    };
    context.print(&Verified {
        bundle: verdict.bundle,
        files: verdict.files,
        bytes: verdict.bytes,
        whole,
        findings: verdict.findings.into_iter().map(finding).collect(),
    })?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
