//! What a command writes: kept whole, and cut into lines as it comes.

/// The longest line that is passed on; the rest of a longer one is left out.
const MAX_LINE_BYTES: usize = 2048;

/// What came out of one pipe so far.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// Up to where lines were passed on.
    told: usize,
}

impl Written {
    /// Takes what came, and passes on every line that is complete.
    pub(crate) fn take(&mut self, bytes: &[u8], tell: &mut dyn FnMut(&str)) {
        self.bytes.extend_from_slice(bytes);
        while let Some(length) = self.bytes[self.told..].iter().position(|byte| *byte == b'\n') {
            tell(&line(&self.bytes[self.told..self.told + length]));
            self.told += length + 1;
        }
    }

    /// Passes on a last line without an end.
    pub(crate) fn end(&mut self, tell: &mut dyn FnMut(&str)) {
        if self.told < self.bytes.len() {
            tell(&line(&self.bytes[self.told..]));
            self.told = self.bytes.len();
        }
    }
}

fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_LINE_BYTES)]);
    text.trim_end().replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_however_they_come() {
        let mut lines = Vec::new();
        let mut tell = |line: &str| lines.push(line.to_owned());
        let mut written = Written::default();
        for piece in [&b"a"[..], b"b\nc", b"\r\n\n", b"\x1b[1mend"] {
            written.take(piece, &mut tell);
        }
        written.end(&mut tell);
        written.end(&mut tell);
        assert_eq!(lines, ["ab", "c", "", " [1mend"]);
        assert_eq!(written.bytes, b"ab\nc\r\n\n\x1b[1mend");
    }
}
