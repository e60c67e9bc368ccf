//! The target `agent` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| burr_fuzz::run("agent", data));
