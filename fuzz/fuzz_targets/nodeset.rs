//! Sets of nodes as people write them.
#![no_main]

use kraken_model::NodeSet;

/// The groups of a small cluster.
fn resolve(name: &str) -> Option<NodeSet> {
    match name {
        "*" => "n[1-8],login".parse().ok(),
        "rack1" => "n[1-4]".parse().ok(),
        "rack2" => "n[5-8]".parse().ok(),
        "empty" => Some(NodeSet::new()),
        _ if name.contains('=') => "n[2,4]".parse().ok(),
        _ => None,
    }
}

/// Larger sets say nothing that smaller ones do not, and with coverage each takes seconds.
const MAX_CHECKED: usize = 20_000;

/// What is longer is not read: a set of names that do not fold well may be.
const MAX_TEXT_BYTES: usize = 256 * 1024;

// The folded form stands for the same set, and an error points into the text.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match NodeSet::parse(text, &resolve) {
        Ok(set) if set.len() > MAX_CHECKED => return,
        Ok(set) if !set.is_empty() => {
            let folded = set.fold();
            if folded.len() <= MAX_TEXT_BYTES {
                assert_eq!(folded.parse::<NodeSet>().as_ref(), Ok(&set), "{folded}");
            }
        }
        Ok(_) => {}
        Err(error) => {
            let characters = text.chars().count();
            assert!((1..=characters + 1).contains(&error.position), "{error}");
        }
    }
    if let (Ok(names), Ok(set)) = (NodeSet::expand(text), text.parse::<NodeSet>()) {
        assert_eq!(names.into_iter().collect::<NodeSet>(), set);
    }
});
