//! Keeping the gateway's view up to date, and the newest bundles ready to be sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use burr_protocol::{Hash, fact::Fact, policy, record::ReleaseId, release::Release, rules::Tally, trust::Verified};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::metrics::Beside;

use super::{Serves, Shared, bundles, view::View};

/// Of each channel's newest bundles, so many stay ready in any case: a device may just be fetching one.
const KEPT: usize = 2;

/// Follows the node's facts for as long as it runs.
pub(super) async fn follow(shared: Arc<Shared>, mut facts: Receiver<Fact>) {
    let mut no_room = BTreeSet::new();
    loop {
        let (Ok(catalog), Ok(halted)) = (shared.node.catalog().await, shared.node.halted().await) else { return };
        show(&shared, &catalog, &halted);
        // What was made may take less than it might have: then there is room for more.
        while prepare(&shared, &catalog, &mut no_room).await {
            show(&shared, &catalog, &halted);
        }
        loop {
            match facts.recv().await {
                Ok(Fact::MetadataVerified { .. } | Fact::FetchCompleted { .. } | Fact::Halted { .. })
                | Err(RecvError::Lagged(_)) => break,
                // What halted may go on when it works on more devices.
                Ok(Fact::ReceiptKept { .. }) if !shared.view().halted.is_empty() => break,
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Shows requests the catalog, and what is ready of it.
pub(super) fn show(shared: &Shared, catalog: &[Verified], halted: &BTreeMap<ReleaseId, Tally>) {
    let settings = &shared.settings;
    let mut view = View::of(catalog, &settings.serves, &settings.channel, &shared.bundles);
    view.halted.clone_from(halted);
    *shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
}

/// Makes ready what devices may still take and is here whole, as far as there is room for it; says whether anything
/// changed.
async fn prepare(shared: &Arc<Shared>, catalog: &[Verified], no_room: &mut BTreeSet<Hash>) -> bool {
    let mut room = shared.settings.quota;
    let (mut keep, mut wanted) = (BTreeSet::new(), Vec::new());
    for (release, is_current) in by_worth(&shared.settings.serves, catalog) {
        if keep.contains(&release.bundle) {
            continue;
        }
        let need = match shared.bundles.taken(release.bundle) {
            Some(taken) => taken,
            None if is_current => bundles::most(release),
            // One that may not be taken any more is not made.
            None => continue,
        };
        if need > room {
            if is_current && no_room.insert(release.bundle) {
                tracing::warn!(
                    target: "burr",
                    "the gateway can't offer {} {} to apps: it takes up to {need} bytes, and gateway.quota leaves {room}",
                    release.app,
                    release.version
                );
            }
            continue;
        }
        room -= need;
        keep.insert(release.bundle);
        if is_current {
            wanted.push(release);
        }
    }
    no_room.retain(|bundle| !keep.contains(bundle));
    let mut changed = remove_all_but(shared, keep).await;
    for release in wanted {
        if matches!(shared.node.blobs().whole_size(release.payload.blob).await, Ok(Some(_))) {
            changed |= make(shared, release).await;
        }
    }
    shared.node.holds(Beside::Gateway, shared.settings.quota - room).await;
    changed
}

/// The releases that are worth having ready, the most worth first, and whether devices may still take each: the newest of
/// each channel come before older ones of any.
fn by_worth<'a>(serves: &[Serves], catalog: &'a [Verified]) -> Vec<(&'a Release, bool)> {
    let mut ranked = Vec::new();
    for served in serves {
        let Some(verified) = catalog.iter().find(|verified| verified.repository() == served.repository) else {
            continue;
        };
        for (app, channel) in verified.channels().into_iter().filter(|(app, _)| *app == served.app) {
            let current = policy::current(verified, &app, &channel);
            let current = current.into_iter().filter(|release| release.enc.is_none());
            ranked.extend(current.enumerate().map(|(rank, release)| (rank, release, true)));
            let listed = verified.releases().filter(|release| release.app == app && release.channel == channel);
            let listed: Vec<&Release> = listed.collect();
            let newest = listed.into_iter().rev().take(KEPT);
            ranked.extend(newest.enumerate().map(|(rank, release)| (rank, release, false)));
        }
    }
    ranked.sort_by_key(|(rank, _, is_current)| (!is_current, *rank));
    ranked.into_iter().map(|(_, release, is_current)| (release, is_current)).collect()
}

async fn make(shared: &Arc<Shared>, release: &Release) -> bool {
    if shared.bundles.get(release.bundle).is_some() {
        return false;
    }
    let (bundles, payload) = (Arc::clone(&shared.bundles), shared.node.blobs().reader(release.payload.blob));
    let (name, wanted) = (format!("{} {}", release.app, release.version), release.clone());
    match tokio::task::spawn_blocking(move || bundles.prepare(&wanted, payload)).await {
        Ok(Ok(())) => {
            tracing::info!(target: "burr", "the gateway offers {name} to apps");
            true
        }
        Ok(Err(error)) => {
            tracing::warn!(target: "burr", "the gateway can't offer {name} to apps: {error}");
            false
        }
        // The runtime ends.
        Err(_) => false,
    }
}

async fn remove_all_but(shared: &Arc<Shared>, keep: BTreeSet<Hash>) -> bool {
    let bundles = Arc::clone(&shared.bundles);
    match tokio::task::spawn_blocking(move || bundles.retain(&keep)).await {
        Ok(Err(error)) => {
            tracing::warn!(target: "burr", "the gateway can't remove old bundles: {error}");
            false
        }
        Ok(Ok(removed)) => removed,
        Err(_) => false,
    }
}
