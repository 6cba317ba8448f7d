//! Identifiers that must be hard to guess or merely spread: SSRCs, first sequence numbers, report intervals.

use crate::sys;

/// SplitMix64 seeded by the kernel. SSRCs need no more: they separate streams, they guard nothing (RFC 3550 §8).
pub struct Rng(u64);

impl Rng {
    pub fn new() -> Self {
        let fallback = u64::from(std::process::id()) << 32;
        Self(sys::random_u64().unwrap_or(fallback))
    }

    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

impl Default for Rng {
    fn default() -> Self {
        Self::new()
    }
}
