//! One block of 512 bytes that begins an entry.

use std::ops::Range;

use super::BLOCK;

/// The bytes of a header.
pub(super) type Block = [u8; BLOCK];

/// A header, read where it lies.
#[derive(Clone, Copy)]
pub(super) struct Header<'b>(pub(super) &'b Block);

impl Header<'_> {
    /// Checks the sum over the block, in which its own eight bytes count as spaces. Old programs added
    /// signed bytes.
    pub(super) fn has_valid_checksum(&self) -> bool {
        let bytes = || self.0[..148].iter().chain(&self.0[156..]);
        let unsigned: i64 = bytes().map(|&byte| i64::from(byte)).sum();
        let signed: i64 = bytes().map(|&byte| i64::from(byte as i8)).sum();
        let spaces = 8 * i64::from(b' ');
        let told = self.number(148..156);
        told == Some(unsigned + spaces) || told == Some(signed + spaces)
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn mode(&self) -> Option<i64> {
        self.number(100..108)
    }

    pub(super) fn uid(&self) -> Option<i64> {
        self.number(108..116)
    }

    pub(super) fn gid(&self) -> Option<i64> {
        self.number(116..124)
    }

    pub(super) fn size(&self) -> Option<i64> {
        self.number(124..136)
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        self.number(136..148)
    }

    pub(super) fn device(&self) -> Option<(i64, i64)> {
        Some((self.number(329..337)?, self.number(337..345)?))
    }

    /// The name, with the prefix that only POSIX archives have: GNU keeps other things there.
    pub(super) fn path(&self) -> Vec<u8> {
        let prefix = if self.is_posix() { self.text(345..500) } else { &[] };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(self.text(0..100));
        path
    }

    pub(super) fn link(&self) -> &[u8] {
        self.text(157..257)
    }

    pub(super) fn is_posix(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    /// Offsets and lengths of a sparse file of the old GNU format, up to the first that is not used.
    pub(super) fn gnu_sparse(&self) -> (&[u8], bool) {
        (&self.0[386..482], self.0[482] != 0)
    }

    /// The size of a sparse file of the old GNU format with its holes.
    pub(super) fn gnu_real_size(&self) -> Option<i64> {
        self.number(483..495)
    }

    fn text(&self, range: Range<usize>) -> &[u8] {
        until_zero(&self.0[range])
    }

    fn number(&self, range: Range<usize>) -> Option<i64> {
        number(&self.0[range])
    }
}

/// The bytes before the first zero.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in base 256 as GNU writes those that do not fit: a first byte of `0x80`
/// before a positive number, of `0xff` before a negative one. An empty field is zero.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.split_first()? {
        (&sign @ (0x80 | 0xff), rest) => {
            let start = if sign == 0xff { -1 } else { 0 };
            rest.iter().try_fold(start, |sum: i64, &byte| {
                sum.checked_mul(256)?.checked_add(i64::from(byte))
            })
        }
        _ => {
            let text = std::str::from_utf8(until_zero(field)).ok()?.trim_matches(' ');
            if text.is_empty() {
                return Some(0);
            }
            let octal = text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
            octal.then(|| i64::from_str_radix(text, 8).ok()).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_of_either_sign() {
        assert_eq!(number(b"0000755\0"), Some(0o755));
        assert_eq!(number(b"   755 \0"), Some(0o755));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x6b, 0x49, 0xd2, 1]), Some(1_800_000_001));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        let mut before_1970 = [0xff; 12];
        before_1970[11] = 0x9c;
        assert_eq!(number(&before_1970), Some(-100));
        assert_eq!(number(&[0x80, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "too large");
        assert_eq!(number(b"0000789\0"), None);
        assert_eq!(number(b"-000001\0"), None);
        assert_eq!(number(b""), None);
    }
}
