//! Burr's second driver: the same [`burr_protocol::Agent`]s in a world of queue, links and disks that a seed decides.
//!
//! Nothing of the agent's decisions is written again here. What is a model and not the real thing: links (a delay and
//! a rate), gossip (a flood with memory), the blob store (whole pieces, no bytes), the installer (a bundle stages and is
//! healthy unless the world says otherwise). Same seed, same world, same digest.

pub mod disk;
pub mod ledger;
pub mod network;
pub mod publisher;
pub mod queue;
pub mod random;
pub mod story;
pub mod world;

pub use publisher::Publisher;
pub use world::{Clock, Lies, NodeIndex, World, Write};
