//! The deterministic driver of `burr_protocol::Agent`, for tests and experiments.
