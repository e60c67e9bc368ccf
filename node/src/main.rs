//! `burr`.
fn main() {}
