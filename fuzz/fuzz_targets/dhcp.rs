//! What a machine, or anything else on the network, asks of the DHCP server.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| layercake_boot::dhcp::fuzz_handle(data));
