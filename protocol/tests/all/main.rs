//! The protocol's stories, one module a topic.

mod client;
mod fetch;
mod limits;
mod manifest;
mod record;
mod trust;
mod wire;
