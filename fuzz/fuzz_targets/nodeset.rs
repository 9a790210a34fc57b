//! Sets of nodes as people write them.
#![no_main]

use kraken_model::{NodeId, NodeLookup, NodeSet, Side};

/// A small cluster, in which every name is a node.
struct Cluster;

impl NodeLookup for Cluster {
    fn contains(&self, _: &NodeId) -> bool {
        true
    }

    fn all(&self) -> Option<NodeSet> {
        "n[1-8],login".parse().ok()
    }

    fn group(&self, name: &str) -> Result<NodeSet, String> {
        match name {
            "rack1" => "n[1-4]".parse().map_err(|_| String::new()),
            "rack2" => "n[5-8]".parse().map_err(|_| String::new()),
            "empty" => Ok(NodeSet::new()),
            _ => Err("there is no such group".to_owned()),
        }
    }

    fn select(&self, _: Option<Side>, _: &str, _: &str) -> Result<NodeSet, String> {
        "n[2,4]".parse().map_err(|_| String::new())
    }
}

/// Larger sets say nothing that smaller ones do not, and with coverage each takes seconds.
const MAX_CHECKED: usize = 20_000;

/// What is longer is not read: a set of names that do not fold well may be.
const MAX_TEXT_BYTES: usize = 256 * 1024;

// The folded form stands for the same set, and an error points into the text.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match NodeSet::parse(text, &Cluster) {
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
