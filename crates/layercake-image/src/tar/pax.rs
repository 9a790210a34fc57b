//! Extended headers: what they say of the entry after them, or of all that follow.

use super::header::until_zero;
use super::read::Xattr;
use super::sparse::{MAX_SEGMENTS, Segment};

/// The names under which archives keep extended attributes. `LIBARCHIVE` is base64, and comes beside
/// the other from programs that write both.
const XATTR: &[u8] = b"SCHILY.xattr.";
const XATTR_BASE64: &[u8] = b"LIBARCHIVE.xattr.";
/// How many extended attributes a file may have; the kernel lists 64 KiB of names.
const MAX_XATTRS: usize = 1000;

/// The values of extended headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: Sparse,
    /// There was an ACL in the form of text.
    pub(super) acl: bool,
    /// A label of SELinux, with the zero that the kernel keeps at its end.
    pub(super) selinux: Option<Vec<u8>>,
    /// The archive is a volume of several, and not the first.
    pub(super) later_volume: bool,
}

/// Sparse files as pax headers tell of them: formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) major: u64,
    pub(super) real_size: Option<u64>,
    pub(super) map: Option<Vec<Segment>>,
    /// An offset of format 0.0 whose length is still to come.
    offset: Option<u64>,
}

impl Overrides {
    /// Takes in the records of a header; says what is wrong with them.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<(), &'static str> {
        let mut rest = data;
        while let Some((key, value, after)) = record(rest)? {
            self.set(key, value)?;
            rest = after;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = |value| decimal(value).ok_or("a number of an extended header is not one");
        let signed = |value| whole_seconds(value).ok_or("a time of an extended header is not one");
        match key {
            // An empty value takes back what an earlier header said (POSIX pax).
            b"path" => self.path = path(value),
            b"linkpath" => self.link = path(value),
            b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(signed(value)?),
            b"gid" => self.gid = Some(signed(value)?),
            b"mtime" => self.mtime = Some(signed(value)?),
            b"GNU.sparse.name" => self.sparse.name = path(value),
            b"GNU.sparse.major" => self.sparse.major = number(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = Some(number(value)?);
            }
            b"GNU.sparse.numblocks" => self.sparse.map = Some(Vec::new()),
            b"GNU.sparse.offset" => self.sparse.offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or("a sparse file lacks an offset")?;
                let segment = Segment { offset, length: number(value)? };
                self.sparse.map.get_or_insert_default().push(segment);
            }
            b"GNU.sparse.map" => self.sparse.map = Some(sparse_map(value)?),
            b"GNU.volume.offset" => self.later_volume = number(value)? > 0,
            b"SCHILY.acl.access" | b"SCHILY.acl.default" | b"SCHILY.acl.ace" => self.acl = true,
            b"RHT.security.selinux" => self.selinux = Some([value, b"\0"].concat()),
            _ => self.set_xattr(key, value)?,
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let (name, value) = if let Some(name) = key.strip_prefix(XATTR) {
            // GNU tar writes `=` and `%` in names so: a record ends its name at the first `=`.
            (replace(&replace(name, b"%3D", b"="), b"%25", b"%"), value.to_vec())
        } else if let Some(name) = key.strip_prefix(XATTR_BASE64) {
            if self.xattrs.iter().any(|xattr| xattr.name == name) {
                return Ok(());
            }
            (name.to_vec(), base64(value).ok_or("an extended attribute is not base64")?)
        } else {
            return Ok(());
        };
        self.xattrs.retain(|xattr| xattr.name != name);
        if self.xattrs.len() >= MAX_XATTRS {
            return Err("an entry has more than 1000 extended attributes");
        }
        self.xattrs.push(Xattr { name, value });
        Ok(())
    }
}

/// Splits `25 ctime=1084839148.1212\n` off. The value may have any bytes in it, also ends of lines: its
/// length counts and nothing else.
#[expect(clippy::type_complexity, reason = "key, value and the rest")]
fn record(data: &[u8]) -> Result<Option<(&[u8], &[u8], &[u8])>, &'static str> {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let lead = data.iter().take_while(|byte| blank(byte)).count();
    let digits = data[lead..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        // Zeros fill the block up.
        let end = data[lead..].first().is_none_or(|&byte| byte == 0);
        return if end { Ok(None) } else { Err("an extended header has a record without length") };
    }
    let length = decimal(&data[lead..lead + digits]).and_then(|length| length.try_into().ok());
    let length: usize = length.ok_or("an extended header has a record of no length")?;
    let start = lead + digits;
    let record =
        data.get(start..length).ok_or("an extended header has a record that is cut off")?;
    let record = record.strip_suffix(b"\n").ok_or("a record of an extended header does not end")?;
    let record = &record[record.iter().take_while(|byte| blank(byte)).count()..];
    let equals = record.iter().position(|&byte| byte == b'=');
    let equals = equals.ok_or("an extended header has a record without `=`")?;
    Ok(Some((&record[..equals], &record[equals + 1..], &data[length..])))
}

fn path(value: &[u8]) -> Option<Vec<u8>> {
    let value = until_zero(value);
    (!value.is_empty()).then(|| value.to_vec())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

/// A number of seconds before or after 1970, rounded down; what is out of range is the nearest.
fn whole_seconds(value: &[u8]) -> Option<i64> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let (whole, part) = (parts.next()?, parts.next().unwrap_or_default());
    if whole.is_empty() || !whole.iter().chain(part).all(u8::is_ascii_digit) {
        return None;
    }
    let whole = decimal(whole).and_then(|whole| i64::try_from(whole).ok()).unwrap_or(i64::MAX);
    let below = part.iter().any(|&digit| digit != b'0');
    Some(if negative { (-whole).saturating_sub(i64::from(below)) } else { whole })
}

/// Offsets and lengths with commas between them.
fn sparse_map(value: &[u8]) -> Result<Vec<Segment>, &'static str> {
    let wrong = "the map of a sparse file cannot be read";
    let numbers: Option<Vec<u64>> = value.split(|&byte| byte == b',').map(decimal).collect();
    let numbers = numbers.filter(|numbers| numbers.len() <= 2 * MAX_SEGMENTS).ok_or(wrong)?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    let map = pairs.iter().map(|&[offset, length]| Segment { offset, length });
    if rest.is_empty() { Ok(map.collect()) } else { Err(wrong) }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            made.extend_from_slice(to);
            rest = after;
        } else {
            made.push(first);
            rest = &rest[1..];
        }
    }
    made
}

/// Decodes base64 with or without its `=` (RFC 4648 §4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let end = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(end * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for &letter in &text[..end] {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    (end % 4 != 1).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with its length in front.
    pub(super) fn pax(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let mut record = format!("{length} {key}=").into_bytes();
        record.extend_from_slice(value);
        record.push(b'\n');
        record
    }

    fn read(records: &[(&str, &[u8])]) -> Result<Overrides, &'static str> {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax(key, value)).collect();
        let mut read = Overrides::default();
        read.read(&data).map(|()| read)
    }

    #[test]
    fn values_may_hold_line_ends_zeros_and_equal_signs() {
        let capability = b"\x01\x00\x00\x02\x0a\x00\x00\x00=\n7 x=y\n";
        let read = read(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.a%3Db%25", b""),
            ("path", b"a\nb=c"),
        ])
        .unwrap();
        assert_eq!(read.path.as_deref(), Some(&b"a\nb=c"[..]));
        assert_eq!(read.xattrs[0].value, capability);
        assert_eq!((&read.xattrs[1].name[..], read.xattrs[1].value.len()), (&b"user.a=b%"[..], 0));
    }

    #[test]
    fn the_last_header_counts_and_an_empty_value_takes_back() {
        let taken = read(&[("path", b"a"), ("linkpath", b"l"), ("path", b"b"), ("linkpath", b"")]);
        let taken = taken.unwrap();
        assert_eq!((taken.path.as_deref(), taken.link), (Some(&b"b"[..]), None));
    }

    #[test]
    fn times_are_rounded_down_also_before_1970() {
        let seconds = |text: &str| whole_seconds(text.as_bytes());
        assert_eq!(seconds("1.999999999"), Some(1));
        assert_eq!(seconds("-1"), Some(-1));
        assert_eq!(seconds("-1.5"), Some(-2));
        assert_eq!(seconds("-0.000"), Some(0));
        assert_eq!(seconds("99999999999999999999"), Some(i64::MAX));
        assert_eq!([seconds(""), seconds("-"), seconds("1e3"), seconds(".5")], [None; 4]);
    }

    #[test]
    fn attributes_in_base64_are_the_same_as_raw_ones() {
        for (text, bytes) in [("", &b""[..]), ("Zg", b"f"), ("Zm8=", b"fo"), ("AAr/", b"\0\n\xff")]
        {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!((base64(b"Z"), base64(b"Z m8")), (None, None));
        let both = read(&[
            ("SCHILY.xattr.user.a", b"raw"),
            ("LIBARCHIVE.xattr.user.a", b"Zm8"),
            ("LIBARCHIVE.xattr.user.b", b"Zm8"),
        ]);
        let values: Vec<_> = both.unwrap().xattrs.into_iter().map(|xattr| xattr.value).collect();
        assert_eq!(values, [b"raw".to_vec(), b"fo".to_vec()]);
    }

    #[test]
    fn broken_records_are_refused_wherever_they_are_cut() {
        let whole = [pax("path", b"some/name"), pax("mtime", b"-12.5")].concat();
        for end in 1..whole.len() {
            let mut read = Overrides::default();
            let cut = read.read(&whole[..end]);
            assert!(cut.is_err() || end == pax("path", b"some/name").len(), "{end}: {read:?}");
        }
        for wrong in
            [&b"0 a=b\n"[..], b"6 a-b\n", b"5 a=b\n", b"99999999999999999999 a=b\n", b"a=b"]
        {
            assert!(Overrides::default().read(wrong).is_err(), "{wrong:?}");
        }
    }
}
