//! Files in the blob store's directory that its database knows nothing of.
//!
//! The store writes a blob's files before it notes the blob, and removes them after it has forgotten the blob. A kill in
//! between leaves files that are in no list and that nothing would ever remove.

use std::{collections::BTreeSet, fs, io, path::Path};

/// Removes the files of all blobs but these, and files half imported; nothing may use the store meanwhile.
pub(super) fn remove(dir: &Path, known: &BTreeSet<String>) -> io::Result<()> {
    for (name, of_known) in [("data", known), ("temp", &BTreeSet::new())] {
        for entry in fs::read_dir(dir.join(name))? {
            let path = entry?.path();
            // Named `HASH.KIND`.
            let blob = path.file_stem().and_then(|stem| stem.to_str());
            if !blob.is_some_and(|blob| of_known.contains(blob)) && path.is_file() {
                tracing::debug!(path = %path.display(), "nothing is known of this file: removing it");
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}
