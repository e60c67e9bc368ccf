//! The target `audit` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| burr_fuzz::run("audit", data));
