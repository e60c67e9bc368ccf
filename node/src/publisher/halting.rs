//! A publisher's node that hears of too many failures turns the halt into a signed pause, which reaches every device and
//! holds until somebody ends it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use burr_protocol::{RepositoryId, fact::Fact, record::ReleaseId, rules::Rules, status::Halted};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::timeout,
};

use super::Publisher;
use crate::{control, error::Error, node::Node};

/// What could not be paused is tried again this often: somebody may have published, or the disk was full.
const AGAIN: Duration = Duration::from_secs(5);

/// Pauses what halts of the apps that are published from `data`, for as long as the node runs. What can't be done is
/// told, once for each release, and tried again.
pub async fn pause_what_halts(node: Node, mut facts: Receiver<Fact>, data: PathBuf, published: Vec<String>) {
    let mut told = BTreeSet::new();
    loop {
        let Ok(status) = node.status().await else { return };
        let mut undone = false;
        for halted in status.halted.into_iter().filter(|halted| !halted.held_back) {
            for app in published.iter().filter(|app| **app == halted.app) {
                undone |= !pause(&node, &data, app, &halted, &mut told).await;
            }
        }
        let news = async {
            loop {
                match facts.recv().await {
                    Ok(Fact::Halted { .. }) | Err(RecvError::Lagged(_)) => return true,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return false,
                }
            }
        };
        let goes_on = if undone { timeout(AGAIN, news).await.unwrap_or(true) } else { news.await };
        if !goes_on {
            return;
        }
    }
}

/// Returns false if it is to be tried again.
async fn pause(node: &Node, data: &Path, app: &str, halted: &Halted, told: &mut BTreeSet<ReleaseId>) -> bool {
    let (data_of, name, id) = (data.to_owned(), app.to_owned(), halted.release.clone());
    let signed = tokio::task::spawn_blocking(move || sign(&data_of, &name, &id)).await;
    let Halted { release, version, tally, .. } = halted;
    let by_hand = format!("burr release pause {version} --app {app} --channel {}", release.channel);
    let paused = match signed {
        Ok(Ok(Signed::Paused)) => control::offer(node, data, app).await.map(|()| true),
        // Held back already; or the runtime ends.
        Ok(Ok(Signed::NotHere)) | Err(_) => return true,
        Ok(Ok(Signed::KeysMissing)) => Ok(false),
        Ok(Err(error)) => Err(error),
    };
    if let Ok(true) = paused {
        tracing::warn!(target: "burr", "{app} {version} is paused: {tally}");
        return true;
    }
    if told.insert(release.clone()) {
        let why = paused.err().map_or_else(|| "more keys are needed".to_owned(), |error| error.to_string());
        tracing::warn!(target: "burr", "{app} {version} should be paused ({tally}), but can't be: {why}; {by_hand}");
    }
    false
}

enum Signed {
    Paused,
    /// It is held back already, or another repository's.
    NotHere,
    KeysMissing,
}

fn sign(data: &Path, app: &str, id: &ReleaseId) -> Result<Signed, Error> {
    let passphrase = std::env::var("BURR_PASSPHRASE").ok();
    let mut publisher = Publisher::open(data, app)?;
    let own: RepositoryId = publisher.id();
    let is = |release: &&burr_protocol::release::Release| release.channel == id.channel && release.seq == id.seq;
    let Some(release) = publisher.releases().find(is).filter(|_| own == id.repository) else {
        return Ok(Signed::NotHere);
    };
    if release.rules.paused || release.rules.yanked.is_some() {
        return Ok(Signed::NotHere);
    }
    let pause = |rules| Ok(Rules { paused: true, ..rules });
    let (_, done) = publisher.change_rules(&id.channel, id.seq, pause, passphrase.as_deref())?;
    Ok(if done { Signed::Paused } else { Signed::KeysMissing })
}
