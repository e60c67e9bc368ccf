//! The protocol's stories, one module a topic.

mod manifest;
mod trust;
