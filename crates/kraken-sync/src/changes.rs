//! Changes of a document as bytes.
//!
//! Changes are sorted by address, and each address is written as what it shares with the one
//! before it plus the rest: a document of a hundred addresses below `images.` stays small.

use crate::Malformed;
use crate::wire::{Reader, put_blob, put_varint};
use kraken_model::{Change, Path, Value};

/// Largest transfer, in bytes: about ten thousand values.
pub const MAX_TRANSFER_BYTES: usize = 1 << 20;

/// Most changes in one transfer. Together with [`MAX_VALUES`] it bounds what a few hostile bytes
/// can make of the receiver's memory.
pub const MAX_CHANGES: usize = 16_384;

/// Most values in one transfer, members of lists included.
pub const MAX_VALUES: usize = 65_536;

/// How deep lists may lie in lists.
pub const MAX_LIST_DEPTH: usize = 8;

const MAX_PATH_BYTES: usize = 200;

const REMOVED: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const TEXT: u8 = 4;
const LIST: u8 = 5;

/// Writes changes one after the other.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: usize,
    pub(crate) values: usize,
    deepest: usize,
    last: String,
}

impl Writer {
    pub(crate) fn put(&mut self, path: &Path, value: Option<&Value>) {
        let path = path.as_str();
        let shared = path.bytes().zip(self.last.bytes()).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.bytes, shared as u64);
        put_blob(&mut self.bytes, &path.as_bytes()[shared..]);
        self.last.truncate(shared);
        self.last.push_str(&path[shared..]);
        match value {
            Some(value) => self.value(value, 0),
            None => self.bytes.push(REMOVED),
        }
        self.count += 1;
    }

    fn value(&mut self, value: &Value, depth: usize) {
        self.values += 1;
        self.deepest = self.deepest.max(depth);
        match value {
            Value::Bool(bool) => self.bytes.push(if *bool { TRUE } else { FALSE }),
            Value::Int(int) => {
                self.bytes.push(INT);
                // Zigzag: small negative numbers stay short.
                put_varint(&mut self.bytes, ((int << 1) ^ (int >> 63)) as u64);
            }
            Value::Text(text) => {
                self.bytes.push(TEXT);
                put_blob(&mut self.bytes, text.as_bytes());
            }
            Value::List(list) => {
                self.bytes.push(LIST);
                put_varint(&mut self.bytes, list.len() as u64);
                list.iter().for_each(|member| self.value(member, depth + 1));
            }
        }
    }

    /// Whether a receiver will take it.
    pub(crate) fn fits(&self) -> bool {
        self.bytes.len() <= MAX_TRANSFER_BYTES
            && self.count <= MAX_CHANGES
            && self.values <= MAX_VALUES
            && self.deepest <= MAX_LIST_DEPTH
    }
}

/// Reads changes that somebody else wrote.
///
/// # Errors
/// When they are not changes, not sorted, or beyond a limit.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Change>, Malformed> {
    if bytes.len() > MAX_TRANSFER_BYTES {
        return Err(Malformed::TooLong);
    }
    let mut reader = Reader::new(bytes);
    let mut changes: Vec<Change> = Vec::new();
    let mut values = MAX_VALUES;
    let mut text = String::new();
    while !reader.is_empty() {
        let shared = reader.size(text.len())?;
        if changes.len() == MAX_CHANGES || !text.is_char_boundary(shared) {
            return Err(Malformed::TooLong);
        }
        text.truncate(shared);
        text.push_str(reader.text(MAX_PATH_BYTES - shared)?);
        let path = Path::new(&text).map_err(|_| Malformed::Path)?;
        if changes.last().is_some_and(|last| last.path >= path) {
            return Err(Malformed::Order);
        }
        let value = match reader.u8()? {
            REMOVED => None,
            kind => Some(value(kind, &mut reader, 0, &mut values)?),
        };
        changes.push(Change { path, value });
    }
    Ok(changes)
}

fn value(
    kind: u8,
    reader: &mut Reader<'_>,
    depth: usize,
    left: &mut usize,
) -> Result<Value, Malformed> {
    *left = left.checked_sub(1).ok_or(Malformed::TooLong)?;
    match kind {
        FALSE => Ok(Value::Bool(false)),
        TRUE => Ok(Value::Bool(true)),
        INT => {
            let zigzag = reader.varint()?;
            Ok(Value::Int((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)))
        }
        TEXT => Ok(Value::from(reader.text(MAX_TRANSFER_BYTES)?)),
        LIST => {
            let len = reader.size(*left)?;
            if depth == MAX_LIST_DEPTH {
                return Err(Malformed::TooLong);
            }
            // Not `with_capacity`: the length is only a claim.
            let mut members = Vec::new();
            for _ in 0..len {
                let kind = reader.u8()?;
                members.push(value(kind, reader, depth + 1, left)?);
            }
            Ok(Value::List(members.into()))
        }
        kind => Err(Malformed::Tag(kind)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(Value::from)
        })
    }

    proptest! {
        #[test]
        fn changes_survive_the_wire(
            entries in proptest::collection::btree_map(
                "[a-c]{1,3}(\\.[a-c-]{1,3}){0,3}", proptest::option::of(any_value()), 0..20)
        ) {
            let mut writer = Writer::default();
            let changes: Vec<Change> = entries
                .into_iter()
                .map(|(path, value)| Change { path: Path::known(&path), value })
                .collect();
            changes.iter().for_each(|c| writer.put(&c.path, c.value.as_ref()));
            prop_assert_eq!(decode(&writer.bytes).unwrap(), changes);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_claim_of_many_members_is_not_believed() {
        let mut bytes = vec![0, 1, b'a', LIST];
        put_varint(&mut bytes, MAX_VALUES as u64 - 1);
        assert_eq!(decode(&bytes), Err(Malformed::Truncated));
        let mut deep = vec![0, 1, b'a'];
        deep.extend([LIST, 1].repeat(100));
        assert_eq!(decode(&deep), Err(Malformed::TooLong));
    }
}
