//! Burr's second driver: the same [`burr_protocol::Agent`]s in a world of queue, links and disks that a seed decides.
//!
//! Nothing of the agent's decisions is written again here; what is a model and not the real thing stands in `README.md`.
//! Same seed, same world, same digest. A `scenario` comes to life as a `fleet` in a `world`, and ends in a `report`; the
//! `swarm` draws what goes wrong. `replay` is a driver of its own, of one agent that was recorded in the field.

pub mod disk;
pub mod fleet;
pub mod ledger;
pub mod network;
pub mod publisher;
pub mod queue;
pub mod random;
pub mod replay;
pub mod report;
pub mod scenario;
pub mod story;
pub mod swarm;
pub mod trace;
pub mod world;

pub use publisher::Publisher;
pub use world::{Answers, Clock, Lies, NodeIndex, World, Write};
