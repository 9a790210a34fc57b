//! The specification of an image: everything that decides what runs, under one short name.

use kraken_model::{Document, Path, Value};
use sha2::{Digest, Sha256};

/// What only describes an image: it follows from the digest, or is a name for people, and makes no difference to what runs.
const DESCRIPTIVE: &[&str] = &["reference", "size", "arch"];

/// The number of bytes of the hash that are kept. It tells versions of one image on one node apart, and
/// protects nothing.
const KEPT_BYTES: usize = 8;

/// The name of what a cfg says of an image, as the node tells it of what runs (`images.*.specification`): two are
/// equal just when the same runs. Hexadecimal, the first 64 bits of a SHA-256.
#[must_use]
pub fn specification(cfg: &Document, image: &str) -> String {
    let mut hash = Sha256::new();
    for (path, value) in specified(cfg, image) {
        text(&mut hash, path.as_str());
        digest(&mut hash, value);
    }
    hex::encode(&hash.finalize()[..KEPT_BYTES])
}

/// What a cfg says of an image that decides what runs, in the order of addresses.
fn specified<'a>(cfg: &'a Document, image: &'a str) -> impl Iterator<Item = (&'a Path, &'a Value)> {
    let is_descriptive = |path: &Path| {
        let mut keys = path.segments().skip(2);
        keys.next().is_some_and(|key| DESCRIPTIVE.contains(&key)) && keys.next().is_none()
    };
    let all = cfg.under("images").filter(move |(path, _)| path.segments().nth(1) == Some(image));
    all.filter(move |(path, _)| !is_descriptive(path))
}

/// Every value in an unambiguous form: a letter for its kind, and a length before what has one.
fn digest(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Bool(bool) => hash.update([b'b', u8::from(*bool)]),
        Value::Int(int) => {
            hash.update(b"i");
            hash.update(int.to_le_bytes());
        }
        Value::Text(value) => {
            hash.update(b"t");
            text(hash, value);
        }
        Value::List(list) => {
            hash.update(b"l");
            hash.update((list.len() as u64).to_le_bytes());
            list.iter().for_each(|value| digest(hash, value));
        }
    }
}

fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    const WEB: [(&str, &str); 3] = [
        ("images.web.digest", "a"),
        ("images.web.env.PORT", "80"),
        ("images.web.reference", "web:1"),
    ];

    fn with(change: (&str, &str)) -> String {
        let mut cfg = document(&WEB);
        cfg.set(Path::known(change.0), change.1);
        specification(&cfg, "web")
    }

    #[test]
    fn a_specification_changes_with_what_runs_and_with_nothing_else() {
        let web = specification(&document(&WEB), "web");
        assert_eq!(web.len(), 2 * KEPT_BYTES);
        for same in ["images.web.reference", "images.web.size", "images.db.digest", "labels.role"] {
            assert_eq!(with((same, "other")), web, "{same}");
        }
        let others =
            ["images.web.digest", "images.web.env.PORT", "images.web.env.size", "images.web.kind"];
        for other in others {
            assert_ne!(with((other, "other")), web, "{other}");
        }
    }

    #[test]
    fn a_list_is_not_the_text_of_its_members() {
        let command = |words: &[&str]| {
            let mut cfg = document(&WEB);
            let words: Vec<Value> = words.iter().map(|word| (*word).into()).collect();
            cfg.set(Path::known("images.web.command"), Value::List(words.into()));
            specification(&cfg, "web")
        };
        assert_ne!(command(&["a", "b"]), command(&["a, b"]));
        assert_ne!(command(&["ab", ""]), command(&["a", "b"]));
    }
}
