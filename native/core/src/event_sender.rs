//! Sending one digit as telephone-events (RFC 4733 §2.5.1): updates every 20 ms, the end three times.

use crate::telephone_event::Payload;

/// Time between packets (§2.5.1.2 asks for 50 ms or less; the packet interval of the audio it replaces).
pub const INTERVAL_US: u64 = 20_000;

/// Transmissions of the final packet (§2.5.1.4).
const ENDS: u8 = 3;

/// §3.2: -10 dBm0, a usual level of a pressed key.
const VOLUME: u8 = 10;

/// One digit under way.
#[derive(Clone, Debug)]
pub struct EventSender {
    code: u8,
    pub timestamp: u32,
    clock_rate: u32,
    total_ticks: u16,
    due_us: u64,
    updates: u32,
    ends: u8,
}

impl EventSender {
    /// `duration_ms` is clamped to what one segment can say (65535 ticks).
    pub fn new(code: u8, duration_ms: u32, clock_rate: u32, timestamp: u32, now_us: u64) -> Self {
        let interval = Self::ticks(clock_rate, 1);
        let total = u64::from(duration_ms) * u64::from(clock_rate) / 1000;
        let total_ticks = total.clamp(u64::from(interval), u64::from(u16::MAX)) as u16;
        Self { code, timestamp, clock_rate, total_ticks, due_us: now_us, updates: 0, ends: 0 }
    }

    fn ticks(clock_rate: u32, intervals: u32) -> u32 {
        (u64::from(clock_rate) * INTERVAL_US * u64::from(intervals) / 1_000_000) as u32
    }

    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    /// The next packet when it is due: whether it is the first (marker), and its payload.
    pub fn poll(&mut self, now_us: u64) -> Option<(bool, Payload)> {
        if self.is_over() || now_us < self.due_us {
            return None;
        }
        let first = self.updates == 0;
        self.updates += 1;
        self.due_us += INTERVAL_US;
        let so_far = Self::ticks(self.clock_rate, self.updates);
        let end = so_far >= u32::from(self.total_ticks);
        if end {
            self.ends += 1;
        }
        let duration = so_far.min(u32::from(self.total_ticks)) as u16;
        Some((first, Payload { code: self.code, end, volume: VOLUME, duration }))
    }

    pub fn is_over(&self) -> bool {
        self.ends >= ENDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(sender: &mut EventSender) -> Vec<(u64, bool, bool, u16)> {
        let mut packets = Vec::new();
        let mut now = 0;
        while !sender.is_over() {
            while let Some((marker, payload)) = sender.poll(now) {
                packets.push((now / 1000, marker, payload.end, payload.duration));
            }
            now += 5_000;
        }
        packets
    }

    #[test]
    fn rfc4733_2_5_1_updates_then_three_ends() {
        let mut sender = EventSender::new(11, 80, 8000, 777, 0);
        let expected = [
            (0, true, false, 160),
            (20, false, false, 320),
            (40, false, false, 480),
            (60, false, true, 640),
            (80, false, true, 640),
            (100, false, true, 640),
        ];
        assert_eq!(all(&mut sender), expected);
        assert_eq!(sender.poll(u64::MAX), None);
    }

    #[test]
    fn rfc4733_2_5_1_3_a_duration_never_leaves_its_segment() {
        let mut sender = EventSender::new(1, 60_000, 48_000, 0, 0);
        let packets = all(&mut sender);
        assert_eq!(packets.last().unwrap().3, u16::MAX);
        assert!(packets.windows(2).all(|pair| pair[0].3 <= pair[1].3));
    }

    #[test]
    fn a_digit_without_length_still_has_a_start_and_three_ends() {
        assert_eq!(all(&mut EventSender::new(1, 0, 8000, 0, 0)).len(), 3);
    }
}
