//! The target `seal` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| burr_fuzz::run("seal", data));
