//! TFTP: a request, the name in it, and the transfer that follows.
#![no_main]

use layercake_boot::tftp::{ReadRequest, normalize};

// The first half of the data is the request, the second the datagrams of the peer.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    layercake_boot::tftp::fuzz_transfer(data);
    if let Ok(request) = ReadRequest::parse(data)
        && let Ok(path) = normalize(&request.filename)
    {
        assert!(!path.starts_with('/'), "{path:?} is absolute");
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
    }
});
