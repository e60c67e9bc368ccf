//! The real driver of [`burr_protocol::Agent`]: network, store, slots, and the node that an app embeds.
//!
//! [`Node`] is the way in. Beneath it, the driver owns the agent and carries out what it decides.

pub mod bundle;
pub mod clock;
pub mod condition;
pub mod control;
mod driver;
pub mod error;
mod fleet_keys;
mod flight;
pub mod gateway;
pub mod health;
mod http;
mod identity;
pub mod membership;
pub mod metrics;
pub mod net;
mod node;
mod pace;
pub mod publisher;
pub mod settings;
pub mod slots;
pub mod store;
pub mod tuf;
pub mod upstream;

pub use clock::Clock;
pub use condition::Said;
pub use error::{Error, Kind};
pub use node::{Node, Running};
pub use publisher::Publisher;
pub use settings::Settings;
