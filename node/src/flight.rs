//! The flight recorder: what the agent is told, written down as it is told, for `burr-sim replay`.
//!
//! Each start of the node has a file of its own, `000001.flight` and up, of at most [`MAX_FILE`] bytes, after which
//! nothing more is recorded of it; the newest [`MAX_FILES`] are kept. What a killed process recorded is whole up to its
//! last input. Recording is never a reason for a node to stop: if it fails, it ends with a warning.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use burr_protocol::{
    NodeId, Now,
    action::{Action, Input},
    flight::{Moment, Start},
};

use crate::error::{Error, Kind};

/// Bytes of one file at most.
const MAX_FILE: u64 = 64 << 20;
/// Files kept.
const MAX_FILES: usize = 4;

/// Where one run of the agent is recorded.
#[derive(Debug)]
pub(crate) struct Recorder {
    me: NodeId,
    path: PathBuf,
    /// `None` once nothing more is recorded.
    file: Option<File>,
    left: u64,
}

impl Recorder {
    /// Begins a file in a directory, which is made if it is not there, and removes the oldest ones.
    pub(crate) fn begin(directory: &Path, start: &Start) -> Result<Self, Error> {
        let failed = |error| {
            let words = format!("can't record in {}", directory.display());
            Error::new(Kind::Storage, words).with_source(error).with_hint("choose another --flight-recorder directory")
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut numbers: Vec<u64> = fs::read_dir(directory)
            .map_err(failed)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".flight")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let file = |number: u64| directory.join(format!("{number:06}.flight"));
        for old in numbers.iter().rev().skip(MAX_FILES - 1) {
            fs::remove_file(file(*old)).map_err(failed)?;
        }
        let path = file(numbers.last().map_or(1, |last| last.saturating_add(1)));
        // It holds what peers said: for this user's eyes.
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let mut recorder = Self { me: start.me, path, file: Some(opened), left: MAX_FILE };
        recorder.write(&start.encode());
        Ok(recorder)
    }

    /// Records one call of the agent.
    pub(crate) fn record(&mut self, now: Now, input: Input, actions: &[Action]) {
        if self.file.is_some() {
            self.write(&Moment::of(self.me, now, input, actions).encode());
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let length = bytes.len() as u64;
        let full = length > self.left;
        let written = if full { Ok(()) } else { file.write_all(bytes) };
        self.left = self.left.saturating_sub(length);
        if let Err(error) = &written {
            tracing::warn!(%error, path = %self.path.display(), "the flight recording ends: it can't be written");
        } else if full {
            tracing::warn!(path = %self.path.display(), "the flight recording ends: it is full");
        }
        if full || written.is_err() {
            self.file = None;
        }
    }
}
