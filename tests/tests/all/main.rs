//! The one binary of tests that need more than one crate: one link, and a forgotten file is noticed (`tidy::sources`).

mod costs;
mod drivers;
mod tidy;
