//! The real program, end to end: what people type, what they are told, and what a crash, bad input or a bad link leave.

mod bad_input;
mod budgets;
mod by_hand;
mod control;
mod crash;
mod damage;
mod embed;
mod fleet;
mod freshness;
mod gateway;
mod halting;
mod http;
mod lan;
mod link;
mod metrics;
mod moments;
mod namespace;
mod onlooker;
mod program;
mod quota;
mod releases;
mod sealed;
mod swarm;
mod upstream;
