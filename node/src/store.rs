//! What a node keeps on disk: blobs in iroh-blobs' file store, records in sled with a journal, metadata as plain files.

pub mod blobs;
pub mod home;
mod journal;
pub mod metadata;
pub mod records;
