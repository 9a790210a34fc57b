//! Files with holes: where their data lies.

use super::header::number;

/// How many pieces of data a file with holes may have.
pub(super) const MAX_SEGMENTS: usize = 1 << 20;

/// A piece of data of a file with holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// How long it is, in bytes. A last one without length says how long the file is.
    pub(crate) length: u64,
}

/// Takes the segments of a part of an old GNU header in; false after the last that is used.
pub(super) fn gnu_segments(fields: &[u8], map: &mut Vec<Segment>) -> Result<bool, &'static str> {
    for field in fields.as_chunks::<24>().0 {
        let (offset, length) = field.split_at(12);
        if length[0] == 0 {
            return Ok(false);
        }
        let unsigned = |field| number(field).and_then(|number| u64::try_from(number).ok());
        let (Some(offset), Some(length)) = (unsigned(offset), unsigned(length)) else {
            return Err("the map of a sparse file cannot be read");
        };
        push(map, Segment { offset, length })?;
    }
    Ok(true)
}

fn push(map: &mut Vec<Segment>, segment: Segment) -> Result<(), &'static str> {
    if map.len() >= MAX_SEGMENTS {
        return Err("a sparse file has more than a million pieces");
    }
    map.push(segment);
    Ok(())
}

/// Reads the map of format 1.0, which lies before the data: how many segments, then each offset and
/// length, one number in a line, filled up to a whole block.
#[derive(Default)]
pub(super) struct MapReader {
    wanted: Option<u64>,
    digits: Vec<u8>,
    offset: Option<u64>,
    map: Vec<Segment>,
}

impl MapReader {
    /// Takes in a block; the map after the last one.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<Option<Vec<Segment>>, &'static str> {
        let wrong = "the map of a sparse file cannot be read";
        for &byte in block {
            if byte != b'\n' {
                // As long as the largest number.
                if !byte.is_ascii_digit() || self.digits.len() >= 20 {
                    return Err(wrong);
                }
                self.digits.push(byte);
                continue;
            }
            let number = std::str::from_utf8(&self.digits).ok().and_then(|text| text.parse().ok());
            let number: u64 = number.ok_or(wrong)?;
            self.digits.clear();
            match (self.wanted, self.offset.take()) {
                (None, _) => self.wanted = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => push(&mut self.map, Segment { offset, length: number })?,
            }
            if self.offset.is_none() && self.wanted == Some(self.map.len() as u64) {
                return Ok(Some(std::mem::take(&mut self.map)));
            }
        }
        Ok(None)
    }
}

/// Checks that the segments follow each other inside of the file, which is streamed.
pub(super) fn check(map: &[Segment], size: u64) -> Result<(), &'static str> {
    let mut end = 0;
    for segment in map {
        if segment.offset < end {
            return Err("the pieces of a sparse file are not in order");
        }
        end = segment.offset.checked_add(segment.length).ok_or("a sparse file is too large")?;
    }
    if end > size { Err("a piece of a sparse file lies behind its end") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Result<Option<Vec<Segment>>, &'static str> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let mut reader = MapReader::default();
        let mut blocks = bytes.chunks(512).map(|block| reader.block(block));
        blocks.find(|read| !matches!(read, Ok(None))).unwrap_or(Ok(None))
    }

    #[test]
    fn a_map_is_read_across_blocks_and_to_its_last_number() {
        let segment = |offset, length| Segment { offset, length };
        assert_eq!(map("1\n0\n512\n").unwrap().unwrap(), [segment(0, 512)]);
        assert_eq!(map("0\n").unwrap().unwrap(), []);
        let long: String = (0..200).map(|n| format!("{}\n{}\n", n * 10_000, 512)).collect();
        let long = map(&format!("200\n{long}")).unwrap().unwrap();
        assert_eq!((long.len(), long[199]), (200, segment(1_990_000, 512)));
        for wrong in ["x\n", "\n", "1\n-1\n2\n", "1\n2\n", &"9".repeat(21)] {
            assert!(map(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pieces_that_overlap_or_lie_outside_are_refused() {
        let segments = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            pairs.iter().map(|&(offset, length)| Segment { offset, length }).collect()
        };
        check(&segments(&[(0, 5), (5, 5), (20, 0)]), 20).unwrap();
        for wrong in [&[(0, 5), (4, 1)][..], &[(0, 21)], &[(u64::MAX, 1)]] {
            assert!(check(&segments(wrong), 20).is_err(), "{wrong:?}");
        }
    }
}
