//! End-to-end and tidy tests; the only crate that sees both drivers.
