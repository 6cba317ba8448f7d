//! What was received on a leg: loss (RFC 3550 §A.3) and interarrival jitter (§A.8).

use crate::rtp::Header;

/// A gap larger than this is a sender that began anew, not loss (RFC 3550 §A.1, MAX_DROPOUT).
const MAX_DROPOUT: u16 = 3000;

/// Figures of one leg as `call` sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegStatistics {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub jitter_ms: f64,
    pub packets_discarded: u64,
}

/// Reception of one stream; a new SSRC or a jump begins a new one and keeps the loss counted so far.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    started: bool,
    pub ssrc: u32,
    base: u32,
    highest: u32,
    received: u32,
    earlier_loss: u64,
    transit: Option<i64>,
    jitter_x16: u64,
    expected_before: u32,
    received_before: u32,
    pub total: u64,
}

/// One report block's worth (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub ssrc: u32,
    pub fraction_lost: u8,
    pub cumulative_lost: i32,
    pub highest: u32,
    pub jitter: u32,
}

impl Reception {
    /// Count a packet. `timed` packets move the jitter: audio, not telephone-events, whose timestamp stands still.
    #[inline]
    pub fn packet(&mut self, header: &Header, timed: bool, clock_rate: u32, now_us: u64) {
        self.total += 1;
        if !self.started || (header.ssrc != self.ssrc && timed) {
            self.begin(header);
        } else if header.ssrc != self.ssrc {
            return; // telephone-events under an SSRC of their own have no place in the audio's sequence
        }
        let delta = header.sequence.wrapping_sub(self.highest as u16);
        if delta < MAX_DROPOUT {
            self.highest = self.highest.wrapping_add(u32::from(delta));
        } else if delta <= u16::MAX - MAX_DROPOUT {
            self.begin(header);
        }
        self.received += 1;
        if timed {
            let arrival = (now_us as i64).wrapping_mul(i64::from(clock_rate)) / 1_000_000;
            let transit = arrival.wrapping_sub(i64::from(header.timestamp));
            if let Some(before) = self.transit {
                let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
                // A timestamp that leaps (a new talker behind the same SSRC) says nothing of the network.
                if difference < clock_rate {
                    self.jitter_x16 = self.jitter_x16 + u64::from(difference) - ((self.jitter_x16 + 8) >> 4);
                }
            }
            self.transit = Some(transit);
        }
    }

    fn begin(&mut self, header: &Header) {
        self.earlier_loss += self.lost_now();
        self.started = true;
        self.ssrc = header.ssrc;
        self.base = u32::from(header.sequence);
        self.highest = u32::from(header.sequence);
        self.received = 0;
        self.expected_before = 0;
        self.received_before = 0;
        self.transit = None;
    }

    fn expected(&self) -> u32 {
        if self.started {
            self.highest.wrapping_sub(self.base).wrapping_add(1)
        } else {
            0
        }
    }

    fn lost_now(&self) -> u64 {
        u64::from(self.expected().saturating_sub(self.received))
    }

    /// Packets lost over the whole life of the leg; duplicates never make it negative.
    pub fn lost(&self) -> u64 {
        self.earlier_loss + self.lost_now()
    }

    pub fn jitter_ms(&self, clock_rate: u32) -> f64 {
        (self.jitter_x16 as f64 / 16.0) * 1000.0 / f64::from(clock_rate.max(1))
    }

    /// The report block since the last call of this function, or nothing when nothing was received yet.
    pub fn report(&mut self) -> Option<Report> {
        if !self.started {
            return None;
        }
        let expected = self.expected();
        let expected_interval = expected.wrapping_sub(self.expected_before);
        let received_interval = self.received.wrapping_sub(self.received_before);
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction_lost = (u64::from(lost_interval) * 256 / u64::from(expected_interval.max(1))).min(255) as u8;
        let lost = i64::from(expected) - i64::from(self.received);
        Some(Report {
            ssrc: self.ssrc,
            fraction_lost,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest: self.highest,
            jitter: (self.jitter_x16 >> 4) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u16, timestamp: u32, ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp, ssrc, start: 12, end: 172 }
    }

    #[test]
    fn rfc3550_a_3_loss_counts_gaps_across_the_wrap() {
        let mut reception = Reception::default();
        for (n, sequence) in [65533u16, 65534, 1, 2].into_iter().enumerate() {
            reception.packet(&header(sequence, n as u32 * 160, 1), true, 8000, n as u64 * 20_000);
        }
        assert_eq!(reception.lost(), 2); // 65535 and 0
        let report = reception.report().unwrap();
        assert_eq!((report.cumulative_lost, report.fraction_lost, report.highest), (2, 85, 0x1_0002));
        assert_eq!(reception.report().unwrap().fraction_lost, 0); // nothing since
    }

    #[test]
    fn rfc3550_a_3_duplicates_and_reordering_are_no_loss() {
        let mut reception = Reception::default();
        for sequence in [10u16, 12, 11, 11, 13] {
            reception.packet(&header(sequence, 0, 1), false, 8000, 0);
        }
        assert_eq!(reception.lost(), 0);
        assert_eq!(reception.report().unwrap().cumulative_lost, -1);
    }

    #[test]
    fn rfc3550_a_1_a_jump_or_a_new_ssrc_begins_anew() {
        let mut reception = Reception::default();
        reception.packet(&header(10, 0, 1), true, 8000, 0);
        reception.packet(&header(12, 320, 1), true, 8000, 40_000);
        reception.packet(&header(30_000, 480, 1), true, 8000, 60_000);
        reception.packet(&header(7, 0, 2), true, 8000, 80_000);
        assert_eq!(reception.lost(), 1);
        assert_eq!(reception.total, 4);
        reception.packet(&header(900, 0, 3), false, 8000, 80_000); // an event under its own SSRC
        assert_eq!((reception.lost(), reception.ssrc), (1, 2));
    }

    #[test]
    fn rfc3550_a_8_jitter_of_an_even_stream_is_zero_and_of_an_uneven_one_is_not() {
        let mut even = Reception::default();
        let mut uneven = Reception::default();
        for n in 0..200u64 {
            let packet = header(n as u16, n as u32 * 160, 1);
            even.packet(&packet, true, 8000, n * 20_000);
            uneven.packet(&packet, true, 8000, n * 20_000 + (n % 2) * 4_000);
        }
        assert!(even.jitter_ms(8000) < 0.01);
        assert!((3.0..4.2).contains(&uneven.jitter_ms(8000)), "{}", uneven.jitter_ms(8000));
    }

    #[test]
    fn nothing_received_is_nothing_to_report() {
        let mut reception = Reception::default();
        assert_eq!(reception.report(), None);
        assert_eq!((reception.lost(), reception.jitter_ms(0)), (0, 0.0));
    }
}
