//! Burr's decisions, pure: no IO, no clock, no threads, no random state.

pub mod action;
pub mod admission;
pub mod agent;
pub mod budget;
pub mod cache;
pub mod catalog;
pub mod config;
pub mod fact;
pub mod fetch;
pub mod flight;
pub mod gateway;
mod halting;
pub mod id;
pub mod label;
pub mod manifest;
pub mod member;
pub mod peers;
pub mod policy;
pub mod receipt;
pub mod record;
pub mod release;
pub mod rules;
pub mod seal;
pub mod serving;
pub mod standing;
pub mod status;
pub mod table;
pub mod time;
pub mod trust;
pub mod update;
pub mod upstream;
pub mod wire;

pub use agent::Agent;
pub use id::{Hash, NodeId, RepositoryId, SealKey};
pub use time::{Now, Time, Wall};
