//! What is done about a node that falls silent.

/// The address at which the cluster file says so.
pub const SILENCE: &str = "silence";

/// Its values: power-cycle the node once; leave it alone until it is heard; leave it alone and ask a person.
pub const SILENCE_WORDS: &[&str] = &["recover", "wait", "ask"];

/// The address at which it is kept how many times a node was power-cycled since it was last seen.
pub const RECOVERIES: &str = "recovery.tried";

/// How many times a node is power-cycled because it is not heard, before a person is asked.
pub const MOST_RECOVERIES: u32 = 1;

/// What most likely keeps a node from being seen that was power-cycled in vain, for a person.
pub const LIKELY_UNSEEN: &str = "the network between server and node (a cable, a switch, a VLAN), or firmware \
                                 that does not boot from it";
