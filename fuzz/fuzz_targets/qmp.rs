//! What a hypervisor's control socket may say.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| layercake_power::qmp::fuzz_lines(data));
