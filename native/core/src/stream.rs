//! The one RTP stream that a leg sends for its whole life: prompts, relayed packets and digits follow each other under one
//! SSRC, with sequence numbers without gaps and timestamps that keep pace with the wall clock.

use crate::rng::Rng;

/// Sequence, timestamp and counters of an outgoing stream.
pub struct OutStream {
    pub ssrc: u32,
    clock_rate: u32,
    next_sequence: u16,
    anchor_us: u64,
    anchor_timestamp: u32,
    last_timestamp: u32,
    last_ticks: u32,
    /// Changes whenever something else than the relay takes sequence numbers; the relay then finds its offset anew.
    pub epoch: u32,
    pub packets: u64,
    pub octets: u64,
}

impl OutStream {
    pub fn new(rng: &mut Rng, clock_rate: u32, now_us: u64) -> Self {
        Self {
            ssrc: rng.next_u32(),
            clock_rate,
            // The lower half, so that the roll-over counter of SRTP is never in doubt at the start (RFC 4568 §6.4).
            next_sequence: rng.next_u32() as u16 & 0x7FFF,
            anchor_us: now_us,
            anchor_timestamp: rng.next_u32(),
            last_timestamp: 0,
            last_ticks: 0,
            epoch: 0,
            packets: 0,
            octets: 0,
        }
    }

    /// A new codec may bring a new clock: time goes on from where it stands.
    pub fn set_clock_rate(&mut self, clock_rate: u32, now_us: u64) {
        if clock_rate != self.clock_rate {
            self.anchor_timestamp = self.clock(now_us);
            self.anchor_us = now_us;
            self.clock_rate = clock_rate;
        }
    }

    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// The wall clock in RTP units of the stream.
    pub fn clock(&self, now_us: u64) -> u32 {
        self.clock_in(self.clock_rate, now_us)
    }

    /// The wall clock in units of another rate (telephone-event beside a codec of a different clock).
    pub fn clock_in(&self, rate: u32, now_us: u64) -> u32 {
        let elapsed = u128::from(now_us.saturating_sub(self.anchor_us));
        self.anchor_timestamp.wrapping_add((elapsed * u128::from(rate) / 1_000_000) as u32)
    }

    /// Timestamp for a new talk spurt or event that begins now: the wall clock, but never before the end of the last packet.
    pub fn fresh_timestamp(&self, now_us: u64) -> u32 {
        let wall = self.clock(now_us);
        let earliest = self.last_timestamp.wrapping_add(self.last_ticks);
        if self.packets > 0 && (wall.wrapping_sub(earliest) as i32) < 0 {
            earliest
        } else {
            wall
        }
    }

    pub fn peek_sequence(&self) -> u16 {
        self.next_sequence
    }

    /// Take the next sequence number for a packet of the gate's own (prompt or digit).
    pub fn take_sequence(&mut self) -> u16 {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.epoch = self.epoch.wrapping_add(1);
        sequence
    }

    /// A relayed packet used `sequence`: the next of the gate's own comes after the highest.
    #[inline]
    pub fn passed(&mut self, sequence: u16) {
        if !crate::rtp::after(self.next_sequence, sequence) {
            self.next_sequence = sequence.wrapping_add(1);
        }
    }

    /// Count a sent packet; `ticks` is how long it lasts.
    #[inline]
    pub fn sent(&mut self, timestamp: u32, ticks: u32, octets: usize) {
        if self.packets == 0 || (timestamp.wrapping_sub(self.last_timestamp) as i32) >= 0 {
            self.last_timestamp = timestamp;
            self.last_ticks = ticks;
        }
        self.packets += 1;
        self.octets += octets as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3550_5_1_fresh_timestamps_follow_the_wall_clock_and_never_go_back() {
        let mut stream = OutStream::new(&mut Rng::seeded(1), 8000, 0);
        let first = stream.fresh_timestamp(0);
        assert_eq!(stream.fresh_timestamp(1_000_000).wrapping_sub(first), 8000);
        stream.sent(first.wrapping_add(80_000), 160, 160); // a sender that ran ahead of the clock
        assert_eq!(stream.fresh_timestamp(1_000_000).wrapping_sub(first), 80_160);
        assert_eq!(stream.fresh_timestamp(20_000_000).wrapping_sub(first), 160_000);
    }

    #[test]
    fn own_packets_take_numbers_after_the_highest_relayed() {
        let mut stream = OutStream::new(&mut Rng::seeded(1), 8000, 0);
        let first = stream.take_sequence();
        stream.passed(first.wrapping_add(5));
        stream.passed(first.wrapping_add(3)); // reordered
        assert_eq!(stream.take_sequence(), first.wrapping_add(6));
    }

    #[test]
    fn a_new_clock_rate_goes_on_from_the_same_moment() {
        let mut stream = OutStream::new(&mut Rng::seeded(1), 8000, 0);
        let before = stream.clock(1_000_000);
        stream.set_clock_rate(48_000, 1_000_000);
        assert_eq!(stream.clock(1_000_000), before);
        assert_eq!(stream.clock(2_000_000).wrapping_sub(before), 48_000);
    }
}
