//! fnmatch(3) as far as modules.alias uses it: `*`, `?` and `[...]`.

/// Does the whole text match the pattern?
///
/// Runs in O(pattern · text) and without recursion, whatever the pattern: on a mismatch only the
/// last `*` is tried again, one place further.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
                continue;
            }
            Some(_) => one(&pattern[p..], text[t]),
            None => None,
        };
        match (step, last_star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((star, taken))) => {
                last_star = Some((star, taken + 1));
                (p, t) = (star + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Matches one character; the length of the pattern that did it.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => set(pattern, byte),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        literal => (literal == byte).then_some(1),
    }
}

/// `[abc]`, `[a-f]`, `[!x]`. A bracket that is never closed stands for itself (POSIX 2.13.1).
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut found = false;
    loop {
        match pattern.get(at) {
            None => return (byte == b'[').then_some(1),
            Some(b']') if at > first => break,
            Some(&low) => match (pattern.get(at + 1), pattern.get(at + 2)) {
                (Some(b'-'), Some(&high)) if high != b']' => {
                    found |= (low..=high).contains(&byte);
                    at += 3;
                }
                _ => {
                    found |= low == byte;
                    at += 1;
                }
            },
        }
    }
    (found != negated).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("pci:v00008086d*sv*sd*bc02sc00i*", "pci:v00008086d0000100Esv0sd0bc02sc00i00", true),
            ("usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*", "usb:v1p2d3dc4dsc5dp6ic08isc06ip50in00", true),
            ("acpi*:PNP0C0[A-C]:*", "acpi:PNP0C0B:", true),
            ("acpi*:PNP0C0[A-C]:*", "acpi:PNP0C0D:", false),
            ("[!a]b", "cb", true),
            ("[!a]b", "ab", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("a?c", "abc", true),
            ("*", "", true),
            ("", "a", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = format!("{}b", "a*".repeat(1000));
        assert!(!matches(&pattern, &"a".repeat(10_000)));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_literals_match_themselves(pattern: String, text in "[a-z:]{0,20}") {
            let _ = matches(&pattern, &text);
            prop_assert!(matches(&text, &text));
        }
    }
}
