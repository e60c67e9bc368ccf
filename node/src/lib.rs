//! The real driver of `burr_protocol::Agent`.

pub mod bundle;
pub mod error;
pub mod health;
pub mod net;
pub mod publisher;
pub mod slots;
pub mod store;

pub use error::{Error, Kind};
