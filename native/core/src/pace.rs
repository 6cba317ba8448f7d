//! Whether a media thread waits for each packet or ticks, and how long a tick is.
//!
//! What a packet costs depends on the company it comes in: after each sleep the kernel's path and the leg are cold, and
//! two packets cost as much as one and a half. A tick that gathers many is worth its delay, so a busy thread ticks, the
//! longer the fewer packets there are; a quiet one has time to spare and reports a digit at once.

use std::time::Duration;

/// Packets per second above which the thread ticks, and below which it waits for each again: clearly more than ten
/// callers at their prompts a second.
const BUSY_PPS: u64 = 1_800;
const QUIET_PPS: u64 = 1_200;
/// Packets that a tick is to gather: more of them cost hardly less each.
const GATHER: u64 = 16;
/// The bounds of a tick in microseconds. The longest is what one hop may add to a voice, and to the key that ends an entry.
const SHORTEST_US: u64 = 1_000;
const LONGEST_US: u64 = 2_000;
/// How long the rate is measured.
const WINDOW_US: u64 = 20_000;

/// The pace of one thread, from the packets it has counted.
#[derive(Default)]
pub struct Pace {
    tick: Option<Duration>,
    since_us: u64,
    packets: u64,
}

impl Pace {
    /// How long to sleep between two harvests; nothing when the thread waits for packets.
    #[inline]
    pub fn tick(&self) -> Option<Duration> {
        self.tick
    }

    /// Count the packets of a harvest.
    #[inline]
    pub fn count(&mut self, packets: usize, now_us: u64) {
        self.packets += packets as u64;
        let elapsed_us = now_us - self.since_us;
        if elapsed_us >= WINDOW_US {
            let rate = self.packets * 1_000_000 / elapsed_us;
            let enough = if self.tick.is_some() { QUIET_PPS } else { BUSY_PPS };
            let length_us = (GATHER * 1_000_000 / rate.max(1)).clamp(SHORTEST_US, LONGEST_US);
            self.tick = (rate > enough).then_some(Duration::from_micros(length_us));
            (self.since_us, self.packets) = (now_us, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tick in microseconds after 200 ms of `packets` every 4 ms.
    fn tick_at(pace: &mut Pace, now_us: &mut u64, packets: usize) -> Option<u128> {
        for _ in 0..50 {
            *now_us += 4_000;
            pace.count(packets, *now_us);
        }
        pace.tick().map(|tick| tick.as_micros())
    }

    #[test]
    fn a_quiet_thread_waits_and_a_busy_one_ticks_the_longer_the_fewer_packets_there_are() {
        let (mut pace, mut now_us) = (Pace::default(), 0);
        assert_eq!(pace.tick(), None);
        let ticks = [0, 4, 8, 32, 40, 64, 400, 8].map(|packets| tick_at(&mut pace, &mut now_us, packets));
        assert_eq!(ticks[..2], [None, None]);
        assert_eq!(ticks[2..], [2_000, 2_000, 1_600, 1_000, 1_000, 2_000].map(Some));
        assert_eq!(tick_at(&mut pace, &mut now_us, 4), None);
    }

    #[test]
    fn a_rate_between_the_two_bounds_changes_nothing() {
        let (mut pace, mut now_us) = (Pace::default(), 0);
        let ticks = [5, 8, 5, 4, 5].map(|packets| tick_at(&mut pace, &mut now_us, packets).is_some());
        assert_eq!(ticks, [false, true, true, false, false]);
    }

    #[test]
    fn a_burst_after_a_long_silence_is_no_rate() {
        let mut pace = Pace::default();
        pace.count(200, 3_600_000_000);
        assert_eq!(pace.tick(), None);
    }
}
