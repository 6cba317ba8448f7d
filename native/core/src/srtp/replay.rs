//! Packet indices: estimated from the 16 bits on the wire (RFC 3711 §3.3.1, appendix A), each taken once (§3.3.2).

/// How far behind the highest index a packet may still come: two and a half seconds of 20 ms packets.
pub const WINDOW: u64 = 128;

/// The highest index so far and which of the [`WINDOW`] before it were taken.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Nothing was taken yet while this is absent.
    highest: Option<u64>,
    /// Bit n stands for `highest - n`.
    seen: u128,
}

impl Window {
    /// The 48-bit index (roll-over counter and sequence number) closest to what came before; nothing when it would lie
    /// before the first roll.
    pub fn estimate(&self, sequence: u16) -> Option<u64> {
        let Some(highest) = self.highest else { return Some(u64::from(sequence)) };
        let roll_over = highest >> 16;
        let last = highest as u16;
        let roll_over = if last < 0x8000 && sequence.saturating_sub(last) > 0x8000 {
            roll_over.checked_sub(1)?
        } else if last >= 0x8000 && last - 0x8000 > sequence {
            roll_over + 1
        } else {
            roll_over
        };
        Some(roll_over << 16 | u64::from(sequence))
    }

    /// Was this index not taken yet, and is it not too old to tell?
    pub fn is_fresh(&self, index: u64) -> bool {
        match self.highest {
            None => true,
            Some(highest) if index > highest => true,
            Some(highest) => {
                let behind = highest - index;
                behind < WINDOW && self.seen >> behind & 1 == 0
            }
        }
    }

    /// Take an index that is fresh, once its packet is known to be genuine.
    pub fn take(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => self.seen |= 1u128.checked_shl((highest - index) as u32).unwrap_or(0),
            Some(highest) => {
                let ahead = u32::try_from(index - highest).unwrap_or(u32::MAX);
                self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
                self.highest = Some(index);
            }
            None => {
                self.seen = 1;
                self.highest = Some(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(highest: u64) -> Window {
        let mut window = Window::default();
        window.take(highest);
        window
    }

    #[test]
    fn rfc3711_3_3_1_the_roll_over_counter_follows_the_sequence() {
        assert_eq!(Window::default().estimate(65_000), Some(65_000));
        assert_eq!(at(65_535).estimate(0), Some(0x1_0000));
        assert_eq!(at(0x1_0000).estimate(65_535), Some(65_535));
        assert_eq!(at(0x5_1234).estimate(0x1235), Some(0x5_1235));
        assert_eq!(at(0x5_FFFE).estimate(0x7000), Some(0x6_7000));
        assert_eq!(at(0x5_FFFE).estimate(0x8001), Some(0x5_8001));
        assert_eq!(at(0x5_0003).estimate(0x8004), Some(0x4_8004));
    }

    #[test]
    fn a_sequence_from_before_the_first_roll_has_no_index() {
        assert_eq!(at(3).estimate(65_530), None);
    }

    #[test]
    fn rfc3711_3_3_2_an_index_is_taken_once() {
        let mut window = Window::default();
        for index in [100, 102, 101, 100 + WINDOW] {
            assert!(window.is_fresh(index));
            window.take(index);
            assert!(!window.is_fresh(index));
        }
        assert!(window.is_fresh(103));
        assert!(!window.is_fresh(100), "the oldest of the window is gone");
        window.take(10_000);
        assert!(window.is_fresh(10_000 - WINDOW + 1));
        assert!(!window.is_fresh(10_000 - WINDOW));
    }

    #[test]
    fn a_leap_of_any_size_forgets_what_was_before() {
        let mut window = at(1);
        window.take(u64::MAX >> 16);
        assert!(!window.is_fresh(1));
        assert!(window.is_fresh((u64::MAX >> 16) - 1));
    }

    #[test]
    fn a_long_stream_is_followed_through_its_rolls() {
        let mut window = Window::default();
        for index in 30_000..400_000u64 {
            let estimated = window.estimate(index as u16).unwrap();
            assert_eq!(estimated, index);
            assert!(window.is_fresh(estimated));
            window.take(estimated);
        }
    }
}
