//! Everything random, from one seed.

/// A generator of numbers that look random and are the same every time: SplitMix64 (Steele, Lea,
/// Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Other numbers for another purpose: what one purpose draws does not move another's.
    #[must_use]
    pub fn apart(seed: u64, purpose: u64) -> Self {
        let mut random = Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(random.next())
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below a bound; zero when there is none below it.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// One of a range, both ends included.
    pub fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// Whether something of this likelihood, in percent, happens.
    pub fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.below(100) < percent
    }

    /// Bytes for a key.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_a_purpose_others() {
        let three = |mut random: Random| [random.next(), random.next(), random.next()];
        assert_eq!(three(Random::new(7)), three(Random::new(7)));
        assert_eq!(three(Random::apart(7, 1)), three(Random::apart(7, 1)));
        assert_ne!(three(Random::apart(7, 1)), three(Random::apart(7, 2)));
        assert_ne!(three(Random::apart(7, 1)), three(Random::apart(8, 1)));
    }

    #[test]
    fn bounds_are_kept_at_both_ends() {
        let mut random = Random::new(1);
        let all: Vec<u64> = (0..1000).map(|_| random.within(3, 5)).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&3), Some(&5)));
        assert_eq!(random.below(0), 0);
        assert!((0..100).all(|_| !random.chance(0) && random.chance(100)));
    }
}
