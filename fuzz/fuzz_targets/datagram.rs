//! The sync: a sealed datagram, what an authentic but hostile peer sealed, and its frames and changes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kraken_sync::fuzz_frames(data);
    kraken_sync::fuzz_datagram(data);
});
