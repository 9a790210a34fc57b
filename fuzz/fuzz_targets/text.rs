//! The small words: headers, digests, addresses, durations. The first byte says which.
#![no_main]

use layercake_boot::http::Wanted;
use layercake_image::RangeAnswer;
use layercake_seed::{Cidr, ImageBase, KeyFingerprint, Mac};
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// What is shown is read as the same again.
fn same_again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&value), "{shown:?}");
    }
}

/// Both servers stay within the file.
fn ranges(text: &str) {
    let len = text.len() as u64;
    for len in [0, 1, len, 1 << 40, u64::MAX] {
        if let Wanted::Part { start, end } = layercake_boot::http::parse_range(Some(text), len) {
            assert!(start < end && end <= len);
        }
        if let RangeAnswer::Part(part) = layercake_image::parse_range(text, len) {
            assert!(part.start < part.end && part.end <= len);
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((selector, data)) = data.split_first() else { return };
    let text = &String::from_utf8_lossy(data);
    match selector {
        b'r' => ranges(text),
        b'd' => {
            same_again::<layercake_image::Digest>(text);
            same_again::<layercake_node::image::Digest>(text);
            same_again::<KeyFingerprint>(text);
        }
        b't' => same_again::<layercake_image::Tag>(text),
        b'm' => {
            same_again::<Mac>(text);
            same_again::<layercake_boot::MacAddr>(text);
            same_again::<layercake_power::MacAddress>(text);
        }
        b'c' => same_again::<Cidr>(text),
        b'u' => same_again::<ImageBase>(text),
        b'n' => {
            same_again::<kraken_model::NodeId>(text);
            same_again::<layercake_power::MachineName>(text);
            same_again::<layercake_node::image::ImageName>(text);
        }
        b'l' => drop(layercake_node::monitor::parse_log_line(data)),
        _ => {
            if let Ok(duration) = layercake_schema::parse_duration(text) {
                let shown = layercake_schema::format_duration(duration);
                assert_eq!(layercake_schema::parse_duration(&shown).ok(), Some(duration));
            }
        }
    }
});
