//! What left the process group of a command that failed. Each run's environment has a mark that no other has, and
//! whatever it starts inherits it, so it is found again wherever it went, as long as it runs under the node's own user and
//! kept its environment. Linux alone shows that, in `/proc`.

use std::fs;

use burr_protocol::Hash;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that has the mark.
pub(super) const VARIABLE: &str = "BURR_RUN";
/// How often it is looked again for what was started meanwhile: what forks all the time could go on for ever.
const ROUNDS: usize = 8;

/// The mark of one run; none, if there was nothing random to make one of.
pub(super) struct Mark(Option<Hash>);

impl Mark {
    pub(super) fn new() -> Self {
        let mut random = [0; 32];
        Self(getrandom::fill(&mut random).is_ok().then_some(Hash(random)))
    }

    /// What the environment says.
    pub(super) fn value(&self) -> String {
        self.0.map(|mark| mark.to_string()).unwrap_or_default()
    }

    /// Kills whatever has the mark.
    pub(super) async fn end_all(self) {
        if self.0.is_none() {
            return;
        }
        let entry = format!("{VARIABLE}={}", self.value());
        // Fails only if the runtime ends.
        let _ = tokio::task::spawn_blocking(move || (0..ROUNDS).any(|_| end(entry.as_bytes()) == 0)).await;
    }
}

/// Kills the processes whose environment has this entry; how many there were.
fn end(entry: &[u8]) -> usize {
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|of| Pid::from_raw(of.file_name().to_str()?.parse().ok()?));
    ids.filter(|id| {
        // Held before it is looked at: its number can't be somebody else's when the signal goes.
        let Ok(process) = pidfd_open(*id, PidfdFlags::empty()) else { return false };
        let environment = fs::read(format!("/proc/{}/environ", id.as_raw_nonzero())).unwrap_or_default();
        let has = environment.split(|byte| *byte == 0).any(|of| of == entry);
        has && pidfd_send_signal(process, Signal::KILL).is_ok()
    })
    .count()
}
