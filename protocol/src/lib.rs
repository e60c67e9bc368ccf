//! Burr's decisions, pure.

pub mod id;
pub mod manifest;
pub mod release;
pub mod time;
pub mod trust;

pub use id::{Hash, NodeId, RepositoryId};
pub use time::{Now, Time, Wall};
