//! The join: messages of a stranger, and the book of tokens as it comes back from the store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kraken_sync::fuzz_join(data);
    kraken_sync::fuzz_tokens(data);
});
