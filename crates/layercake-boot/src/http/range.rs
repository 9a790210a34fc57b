//! The Range header (RFC 9110 section 14): one range of bytes.

/// What a request asks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    All,
    /// These bytes, `start..end`, never empty.
    Part {
        /// The first.
        start: u64,
        /// Behind the last.
        end: u64,
    },
    /// Bytes that the file does not have.
    Unsatisfiable,
}

/// Reads a Range header for a file of this length. What is not one range of bytes is ignored, as the
/// RFC allows: the answer is then the whole file.
pub fn parse_range(header: Option<&str>, len: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
    let range = match (number(first), number(last)) {
        (Some(start), Some(last)) if start <= last => start..last.saturating_add(1).min(len),
        (Some(start), None) if last.is_empty() => start..len,
        (None, Some(suffix)) if first.is_empty() => len.saturating_sub(suffix)..len,
        _ => return Wanted::All,
    };
    if range.is_empty() {
        Wanted::Unsatisfiable
    } else {
        Wanted::Part { start: range.start, end: range.end }
    }
}

/// Digits only; a number beyond `u64` is beyond every file.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_a_range_are_understood() {
        let part = |start, end| Wanted::Part { start, end };
        assert_eq!(parse_range(None, 10), Wanted::All);
        assert_eq!(parse_range(Some("bytes=0-3"), 10), part(0, 4));
        assert_eq!(parse_range(Some("bytes=4-"), 10), part(4, 10));
        assert_eq!(parse_range(Some("bytes=-3"), 10), part(7, 10));
        assert_eq!(parse_range(Some("bytes=-30"), 10), part(0, 10));
        assert_eq!(parse_range(Some("bytes=8-99999999999999999999999"), 10), part(8, 10));
    }

    #[test]
    fn bytes_beyond_the_file_cannot_be_had_and_other_headers_are_ignored() {
        assert_eq!(parse_range(Some("bytes=10-"), 10), Wanted::Unsatisfiable);
        assert_eq!(parse_range(Some("bytes=-0"), 10), Wanted::Unsatisfiable);
        for ignored in [
            "lines=1-2",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "bytes=",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(parse_range(Some(ignored), 10), Wanted::All, "{ignored}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_always_within_the_file(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", len in 0u64..100) {
            if let Wanted::Part { start, end } = parse_range(Some(&header), len) {
                prop_assert!(start < end && end <= len);
            }
        }
    }
}
