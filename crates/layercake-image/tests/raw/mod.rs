//! Writes archives of any kind, right and wrong, byte by byte.
#![allow(dead_code, reason = "each of several tests uses a part of it")]

/// An entry of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: i64,
    pub(crate) device: (u32, u32),
    pub(crate) content: Vec<u8>,
    /// What a sparse file of the old GNU format has at the end of its header.
    pub(crate) tail: Vec<u8>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            link: Vec::new(),
            flag: b'0',
            mode: 0o644,
            owner: (0, 0),
            mtime: 0,
            device: (0, 0),
            content: Vec::new(),
            tail: Vec::new(),
        }
    }
}

/// A record of an extended header.
pub(crate) fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An archive with its end.
pub(crate) fn ended(entries: &[u8]) -> Vec<u8> {
    [entries, &[0; 1024]].concat()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A number in octal, or in base 256.
fn number(value: i64, width: usize) -> Vec<u8> {
    let digits = width - 1;
    let octal = format!("{value:0digits$o}\0");
    if value >= 0 && octal.len() == width {
        return octal.into_bytes();
    }
    let mut field = vec![if value < 0 { 0xff } else { 0 }; width];
    let bytes = value.to_be_bytes();
    let n = bytes.len().min(digits);
    field[width - n..].copy_from_slice(&bytes[bytes.len() - n..]);
    field[0] = if value < 0 { 0xff } else { 0x80 };
    field
}

impl Raw {
    /// The entry, with an extended header of these records before it.
    pub(crate) fn write(&self, records: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !records.is_empty() {
            let header = Self { name: b"pax".to_vec(), flag: b'x', ..Self::default() };
            bytes.extend(header.header(records.len()));
            bytes.extend(padded(records));
        }
        for (flag, name) in [(b'L', &self.name), (b'K', &self.link)] {
            if name.len() > 100 {
                let header = Self { name: b"long".to_vec(), flag, ..Self::default() };
                bytes.extend(header.header(name.len() + 1));
                bytes.extend(padded(&[name, &b"\0"[..]].concat()));
            }
        }
        bytes.extend(self.header(self.content.len()));
        bytes.extend(padded(&self.content));
        bytes
    }

    pub(crate) fn header(&self, size: usize) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, width: usize, bytes: &[u8]| {
            let n = bytes.len().min(width);
            block[at..at + n].copy_from_slice(&bytes[..n]);
        };
        put(0, 100, &self.name);
        put(100, 8, &number(self.mode.into(), 8));
        put(108, 8, &number(self.owner.0.into(), 8));
        put(116, 8, &number(self.owner.1.into(), 8));
        put(124, 12, &number(size as i64, 12));
        put(136, 12, &number(self.mtime, 12));
        put(148, 8, b"        ");
        put(156, 1, &[self.flag]);
        put(157, 100, &self.link);
        put(257, 8, b"ustar  \0");
        if matches!(self.flag, b'3' | b'4') {
            put(329, 8, &number(self.device.0.into(), 8));
            put(337, 8, &number(self.device.1.into(), 8));
        }
        put(386, 126, &self.tail);
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    /// The entry as a sparse file: `content` in blocks with holes of `hole` blocks before each, in the
    /// old GNU format (0), or in those of pax: 0.0, 0.1 and 1.0.
    pub(crate) fn sparse(mut self, form: usize, content: &[u8], hole: u64) -> Vec<u8> {
        let mut map = Vec::new();
        let mut at = 0;
        let mut data = Vec::new();
        for block in content.chunks(512) {
            at += hole * 512;
            map.push((at, block.len() as u64));
            at += 512;
            data.extend(padded(block));
        }
        let size = at + 77;
        map.push((size, 0));
        let stored = map.iter().map(|(_, length)| length).sum::<u64>() as usize;
        let text = |number: u64| number.to_string().into_bytes();
        let mut records = Vec::new();
        if form > 0 && form < 3 {
            records.extend(pax("GNU.sparse.size", &text(size)));
            records.extend(pax("GNU.sparse.numblocks", &text(map.len() as u64)));
        }
        let mut before = Vec::new();
        match form {
            0 => {
                self.flag = b'S';
                before = self.gnu_map(&map, size);
            }
            1 => {
                for &(offset, length) in &map {
                    records.extend(pax("GNU.sparse.offset", &text(offset)));
                    records.extend(pax("GNU.sparse.numbytes", &text(length)));
                }
            }
            2 => {
                let pairs: Vec<_> = map.iter().map(|(o, l)| format!("{o},{l}")).collect();
                records.extend(pax("GNU.sparse.map", pairs.join(",").as_bytes()));
            }
            _ => {
                records.extend(pax("GNU.sparse.major", b"1"));
                records.extend(pax("GNU.sparse.minor", b"0"));
                records.extend(pax("GNU.sparse.realsize", &text(size)));
                let lines: String = map.iter().map(|(o, l)| format!("{o}\n{l}\n")).collect();
                before = padded(format!("{}\n{lines}", map.len()).as_bytes());
            }
        }
        if form >= 2 {
            records.extend(pax("GNU.sparse.name", &self.name));
            self.name = b"GNUSparseFile.0/x".to_vec();
        }
        let in_body = if form == 3 { before.len() } else { 0 };
        let size_on_tape = data.len().max(stored) + in_body;
        let mut bytes = Vec::new();
        if !records.is_empty() {
            let header = Self { name: b"pax".to_vec(), flag: b'x', ..Self::default() };
            bytes.extend(header.header(records.len()));
            bytes.extend(padded(&records));
        }
        if self.name.len() > 100 {
            let header = Self { name: b"long".to_vec(), flag: b'L', ..Self::default() };
            bytes.extend(header.header(self.name.len() + 1));
            bytes.extend(padded(&[&self.name[..], b"\0"].concat()));
        }
        bytes.extend(self.header(size_on_tape));
        bytes.extend(before);
        bytes.extend(data);
        bytes
    }

    /// Puts a map into the header, and what does not fit there into blocks after it.
    fn gnu_map(&mut self, map: &[(u64, u64)], size: u64) -> Vec<u8> {
        let pair = |&(offset, length): &(u64, u64)| {
            [number(offset as i64, 12), number(length as i64, 12)].concat()
        };
        let (first, rest) = map.split_at(map.len().min(4));
        self.tail = first.iter().flat_map(pair).collect();
        self.tail.resize(96, 0);
        self.tail.push(u8::from(!rest.is_empty()));
        self.tail.extend(number(size as i64, 12));
        let mut blocks = Vec::new();
        let mut left = rest.chunks(21).peekable();
        while let Some(part) = left.next() {
            let mut block: Vec<u8> = part.iter().flat_map(pair).collect();
            block.resize(504, 0);
            block.push(u8::from(left.peek().is_some()));
            block.resize(512, 0);
            blocks.extend(block);
        }
        blocks
    }
}
