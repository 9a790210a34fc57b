//! Archives that become system images.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| layercake_image::fuzz_tar(data));
