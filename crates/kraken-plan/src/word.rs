//! Maps by states, and by what else is short.

use crate::set::State;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by something short.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// A map by state.
pub(crate) type StateMap<T> = FastMap<State, T>;

/// A fast hash (multiply and fold) of what is short, comes from within and is counted: nobody
/// outside chooses states so that they collide.
#[derive(Default)]
pub(crate) struct WordHasher(u64);

impl WordHasher {
    fn fold(&mut self, low: u64, high: u64) {
        let (low, high) = (low ^ self.0 ^ 0x517c_c1b7_2722_0a95, high ^ 0x9e37_79b9_7f4a_7c15);
        let product = u128::from(low) * u128::from(high);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(u64::from(byte), 0);
    }

    fn write_u16(&mut self, word: u16) {
        self.fold(u64::from(word), 0);
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word), 0);
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word, 0);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64, 0);
    }

    fn write_u128(&mut self, word: u128) {
        self.fold(word as u64, (word >> 64) as u64);
    }
}
