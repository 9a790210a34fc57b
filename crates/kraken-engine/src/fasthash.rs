//! A hasher for short names that administrators choose.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from short, trusted keys. Nothing may depend on its order.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiply and rotate, eight bytes at a time (the idea of Firefox's `FxHasher`). Names of nodes and
/// addresses come from the cluster file and the schemas, so nobody outside can make them collide.
#[derive(Default)]
pub(crate) struct FastHasher(u64);

const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

impl FastHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn finish(&self) -> u64 {
        // The table looks at the highest and the lowest bits; multiplication leaves the lowest poor.
        self.0 ^ (self.0 >> 32)
    }
}
