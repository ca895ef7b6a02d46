//! A hash that is fixed by us, not by a library: what is cut or sampled by it is cut alike for ever.

use std::hash::Hasher;

/// FNV-1a with a final mix (Fowler, Noll, Vo 1991): stable across releases, unlike the standard library's hasher.
pub struct Fnv(u64);

impl Fnv {
    /// A hasher whose hashes have nothing to do with those of another seed.
    pub fn seeded(seed: u64) -> Self {
        Self(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(GOLDEN))
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        mixed(self.0)
    }
}

/// 2⁶⁴ over the golden ratio: steps of it spread evenly (Knuth; Steele, Lea, Flood 2014).
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The final mix of SplitMix64: every bit of the input moves every bit of the output.
pub fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_stay_as_they_are() {
        let hash = |seed, bytes: &[u8]| {
            let mut hasher = Fnv::seeded(seed);
            hasher.write(bytes);
            hasher.finish()
        };
        assert_eq!(hash(0, b""), mixed(0xcbf2_9ce4_8422_2325));
        // FNV-1a of "a", as its authors publish it, mixed.
        assert_eq!(hash(0, b"a"), mixed(0xaf63_dc4c_8601_ec8c));
        assert_ne!(hash(0, b"a"), hash(1, b"a"));
    }
}
