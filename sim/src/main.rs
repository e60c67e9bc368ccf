//! `burr-sim`: tells the first story and prints its digest.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "the binary reads its arguments and prints")]

fn main() {
    let seed = std::env::args().nth(1).unwrap_or_else(|| "1".to_owned());
    print!("{}", burr_sim::story::three_nodes(&seed));
}
