//! What is on this node's disk.

pub mod blobs;
