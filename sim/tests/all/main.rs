//! The simulator's stories: many nodes' decisions, one clock, no chance.

mod alone;
mod command_line;
mod digest;
mod fleets;
mod flight;
mod flood;
mod pair;
mod restore;
