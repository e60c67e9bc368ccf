//! The flight recorder: what the agent is told, written down as it is told, for `burr-sim replay`.
//!
//! Each start of the node begins a file, `000001.flight` and up, and so does each [`MAX_FILE`] bytes of a run, with a snapshot
//! of the agent: any file can be run again without those before it. The newest [`MAX_FILES`] are kept, for what fails fails
//! at the end. What a killed process recorded is whole up to its last input. Recording is never a reason for a node to
//! stop: if it fails, it ends with a warning.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use burr_protocol::{
    Agent, Now,
    action::{Action, Input},
    flight::{Beginning, Moment, Snapshot, Start},
};

use crate::error::{Error, Kind};

/// A file that has so many bytes is followed by another one: it has them and one input more at most.
const MAX_FILE: u64 = 16 << 20;
/// Files kept.
const MAX_FILES: usize = 16;

/// Where a run of the agent is recorded.
#[derive(Debug)]
pub(crate) struct Recorder {
    directory: PathBuf,
    /// Bytes of a file after which there is another one.
    full: u64,
    /// `None` once nothing more is recorded.
    page: Option<Page>,
}

/// The file that is written to.
#[derive(Debug)]
struct Page {
    file: File,
    bytes: u64,
}

impl Recorder {
    /// Begins a file in a directory, which is made if it is not there, and removes the oldest ones.
    pub(crate) fn begin(directory: &Path, start: Start) -> Result<Self, Error> {
        let page = Page::begin(directory, &Beginning::Start(start)).map_err(|error| {
            let words = format!("can't record in {}", directory.display());
            Error::new(Kind::Storage, words).with_source(error).with_hint("choose another --flight-recorder directory")
        })?;
        Ok(Self { directory: directory.to_owned(), full: MAX_FILE, page: Some(page) })
    }

    /// Records one call of the agent, which is as that call left it.
    pub(crate) fn record(&mut self, now: Now, input: Input, actions: &[Action], agent: &Agent) {
        let Some(mut page) = self.page.take() else { return };
        let path = self.directory.display();
        match page.write(&Moment::of(agent.me(), now, input, actions).encode()) {
            Ok(()) if page.bytes < self.full => self.page = Some(page),
            Ok(()) => match Page::begin(&self.directory, &Beginning::Later(Snapshot::of(agent))) {
                Ok(next) if next.bytes < self.full => self.page = Some(next),
                Ok(_) => tracing::warn!(%path, "the flight recording ends: what the node holds is too much for a file"),
                Err(error) => tracing::warn!(%error, %path, "the flight recording ends: it can't be written"),
            },
            Err(error) => tracing::warn!(%error, %path, "the flight recording ends: it can't be written"),
        }
    }
}

impl Page {
    fn begin(directory: &Path, beginning: &Beginning) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut numbers: Vec<u64> = fs::read_dir(directory)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".flight")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let file = |number: u64| directory.join(format!("{number:06}.flight"));
        for old in numbers.iter().rev().skip(MAX_FILES - 1) {
            fs::remove_file(file(*old))?;
        }
        let path = file(numbers.last().map_or(1, |last| last.saturating_add(1)));
        // It holds what peers said: for this user's eyes.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut page = Self { file, bytes: 0 };
        page.write(&beginning.encode())?;
        Ok(page)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burr_protocol::{Time, config::Config, flight::Recording, peers::Address};
    use ed25519_dalek::SigningKey;

    use super::*;

    /// A node hears of others for a while, with files of a few kilobytes: those that are kept are its end, and each goes on
    /// from where the one before it ended.
    #[test]
    fn a_long_run_is_kept_from_its_end_back_and_each_file_runs_again_alone() {
        let home = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let start = Start {
            me: burr_protocol::NodeId(key.verifying_key().to_bytes()),
            config: Config::default(),
            records: Vec::new(),
            store: BTreeMap::new(),
            now: Now { time: Time(0), wall: None },
        };
        let (mut agent, _) =
            Agent::new(key, start.config.clone(), start.records.clone(), start.store.clone(), start.now);
        let mut recorder = Recorder::begin(home.path(), start).unwrap();
        recorder.full = 20_000;
        for number in 0..8000 {
            let now = Now { time: Time(number * 1000), wall: None };
            let input = match number % 3 {
                0 => Input::Wake,
                1 => Input::Found { address: Address(format!("node {}", number % 50)), node: None, fixed: false },
                _ => Input::DialFailed { address: Address(format!("node {}", (number - 1) % 50)) },
            };
            let mut actions = Vec::new();
            agent.handle(now, input.clone(), &mut actions);
            recorder.record(now, input, &actions, &agent);
        }
        let mut files: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), MAX_FILES);
        assert!(!files[0].ends_with("000001.flight"), "{files:?}");
        let mut next = None;
        for file in &files {
            let bytes = fs::read(file).unwrap();
            assert!(bytes.len() < 21_000, "{}", bytes.len());
            let recording = Recording::read(&bytes).unwrap();
            let (mut agent, _) = recording.agent().unwrap();
            assert!(next.is_none_or(|next| recording.beginning.now().time == next), "{}", file.display());
            for moment in &recording.moments {
                let mut actions = Vec::new();
                agent.handle(moment.now, moment.input.clone(), &mut actions);
                assert_eq!(burr_protocol::flight::hash(&actions), moment.actions, "{}", file.display());
                next = Some(moment.now.time);
            }
        }
        assert_eq!(next, Some(Time(7_999_000)), "the end is there");
    }
}
