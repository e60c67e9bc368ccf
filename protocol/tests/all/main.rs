//! The protocol's stories, one module a topic.

mod ceremony;
mod client;
mod fetch;
mod fuzz;
mod gateway;
mod limits;
mod manifest;
mod member;
mod news;
mod record;
mod seal;
mod standing;
mod swarm;
mod trust;
mod upstream;
mod wire;
