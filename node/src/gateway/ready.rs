//! Keeping the gateway's view up to date, and the newest bundles ready to be sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use burr_protocol::{Hash, fact::Fact, policy, record::ReleaseId, release::Release, rules::Tally, trust::Verified};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Shared, view::View};

/// Of each channel's newest bundles, so many stay ready in any case: a device may just be fetching one.
const KEPT: usize = 2;

/// Follows the node's facts for as long as it runs.
pub(super) async fn follow(shared: Arc<Shared>, mut facts: Receiver<Fact>) {
    loop {
        let (Ok(catalog), Ok(halted)) = (shared.node.catalog().await, shared.node.halted().await) else { return };
        show(&shared, &catalog, &halted);
        if prepare(&shared, &catalog).await {
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

/// Makes ready what devices may still take and is here whole; says whether anything changed.
async fn prepare(shared: &Arc<Shared>, catalog: &[Verified]) -> bool {
    let mut keep = BTreeSet::new();
    let mut changed = false;
    for served in &shared.settings.serves {
        let Some(verified) = catalog.iter().find(|verified| verified.repository() == served.repository) else {
            continue;
        };
        for (app, channel) in verified.channels().into_iter().filter(|(app, _)| *app == served.app) {
            let listed = verified.releases().filter(|release| release.app == app && release.channel == channel);
            let listed: Vec<&Release> = listed.collect();
            keep.extend(listed.iter().rev().take(KEPT).map(|release| release.bundle));
            for release in policy::current(verified, &app, &channel).into_iter().filter(|release| release.enc.is_none())
            {
                keep.insert(release.bundle);
                if matches!(shared.node.blobs().whole_size(release.payload.blob).await, Ok(Some(_))) {
                    changed |= make(shared, release).await;
                }
            }
        }
    }
    changed | remove_all_but(shared, keep).await
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
