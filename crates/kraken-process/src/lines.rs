//! What a command writes: kept whole, and cut into lines as it comes.

/// The longest line that is passed on; the rest of a longer one is left out.
const MAX_LINE_BYTES: usize = 2048;

/// How long a line may be before it is passed on without its end, where little is kept.
const MAX_WAITING_BYTES: usize = 64 * 1024;

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

    /// Forgets all but the last of what was passed on. A line without an end that is too long to wait
    /// for is passed on as it is.
    pub(crate) fn forget(&mut self, keep: usize, tell: &mut dyn FnMut(&str)) {
        if self.bytes.len() - self.told > MAX_WAITING_BYTES {
            self.end(tell);
        }
        let gone = self.told.saturating_sub(keep);
        self.bytes.drain(..gone);
        self.told -= gone;
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

    #[test]
    fn what_runs_for_ever_fills_no_memory() {
        let mut written = Written::default();
        let mut lines = 0;
        for _ in 0..1000 {
            written.take(&[b'x'; 4096], &mut |_| lines += 1);
            written.take(b"\nshort\n", &mut |_| lines += 1);
            written.forget(8, &mut |_| lines += 1);
            assert!(written.bytes.len() <= 8);
        }
        assert_eq!(lines, 2000);
        for _ in 0..1000 {
            written.take(&[b'x'; 4096], &mut |_| lines += 1);
            written.forget(8, &mut |_| lines += 1);
            assert!(written.bytes.len() <= MAX_WAITING_BYTES + 4096);
        }
    }
}
