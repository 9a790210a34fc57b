//! The `Range` header of HTTP, for one range.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeAnswer {
    /// Everything: no header, or one that may be ignored (RFC 9110, section 14.2).
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Nothing that is there (section 15.5.17).
    Unsatisfiable,
}

/// Reads a `Range` header for something of `len` bytes (RFC 9110, sections 14.1.2 and 14.2).
///
/// What is malformed, has another unit, or asks for several ranges gets the whole: a server may always
/// ignore the header, and several parts are of no use to a node.
#[must_use]
pub fn parse_range(header: &str, len: u64) -> RangeAnswer {
    let Some((unit, range)) = header.split_once('=') else { return RangeAnswer::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return RangeAnswer::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return RangeAnswer::Whole;
    }
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => RangeAnswer::Whole,
        (Some(first), _) if first >= len && (last.is_empty() || number(last).is_some()) => {
            RangeAnswer::Unsatisfiable
        }
        (Some(first), Some(last)) => RangeAnswer::Part(first..last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => RangeAnswer::Part(first..len),
        (None, Some(suffix)) if first.is_empty() => match suffix.min(len) {
            0 => RangeAnswer::Unsatisfiable,
            suffix => RangeAnswer::Part(len - suffix..len),
        },
        _ => RangeAnswer::Whole,
    }
}

/// Digits only; what is too large for the type is larger than any image.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_are_understood() {
        for (header, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-499", 0..100),
            ("bytes=40-59", 40..60),
            ("bytes=99-", 99..100),
            ("bytes=-1", 99..100),
            ("bytes=-500", 0..100),
            ("Bytes=5-6", 5..7),
            ("bytes=0-99999999999999999999999", 0..100),
        ] {
            assert_eq!(parse_range(header, 100), RangeAnswer::Part(part), "{header}");
        }
    }

    #[test]
    fn what_is_not_there_is_unsatisfiable() {
        for header in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(parse_range(header, 100), RangeAnswer::Unsatisfiable, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), RangeAnswer::Unsatisfiable);
        assert_eq!(parse_range("bytes=-5", 0), RangeAnswer::Unsatisfiable);
    }

    #[test]
    fn what_is_malformed_or_several_gets_the_whole() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=0-1",
            "bytes=0-1,5-6",
            "bytes=200-x",
            "bytes=0x1-2",
            "bytes=--1",
        ] {
            assert_eq!(parse_range(header, 100), RangeAnswer::Whole, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_part_is_never_empty_nor_outside(header in "(bytes=)?[0-9,-]{0,45}", len: u64) {
            if let RangeAnswer::Part(part) = parse_range(&header, len) {
                assert!(part.start < part.end && part.end <= len);
            }
        }
    }
}
