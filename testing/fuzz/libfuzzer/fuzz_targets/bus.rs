#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tcpguard_fuzz::bus(input));
