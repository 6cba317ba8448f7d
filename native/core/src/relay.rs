//! Rewriting relayed packets so that the far side sees one continuous stream (RFC 3550 §5.1, §7.1).
//!
//! Sequence numbers and timestamps keep their distances, so loss and reordering stay visible to the receiver beyond;
//! only their offset changes, when the stream begins, when the sender begins anew, or after a prompt or digit of the
//! gate took numbers in between.

use crate::rtp::{self, Header};
use crate::stream::OutStream;

/// A step of the sequence number beyond this is a sender that began anew (RFC 3550 §A.1).
const MAX_DROPOUT: u16 = 3000;

/// The new header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
}

/// Clock rates of telephone-events on their way across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventClocks {
    pub from: u32,
    pub to: u32,
    /// The codec's clock, the same on both legs.
    pub audio: u32,
}

impl EventClocks {
    /// A duration in the units of the far side, clamped to what the payload can say.
    pub fn duration(self, ticks: u16) -> u16 {
        if self.from == self.to {
            return ticks;
        }
        (u64::from(ticks) * u64::from(self.to) / u64::from(self.from.max(1))).min(u64::from(u16::MAX)) as u16
    }
}

/// The mapping of one direction; lives with the leg that sends.
#[derive(Default)]
pub struct RelayMap {
    active: bool,
    ssrc: u32,
    epoch: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
    first: u16,
    highest: u16,
    /// The last two events: timestamp on the way in and on the way out.
    events: [Option<(u32, u32)>; 2],
}

impl RelayMap {
    /// Map an audio packet that lasts `ticks`; nothing when it is too late to be passed on.
    #[inline]
    pub fn audio(&mut self, header: &Header, ticks: u32, out: &OutStream, now_us: u64) -> Option<Mapped> {
        let fresh_source = !self.active || header.ssrc != self.ssrc || self.jumped(header.sequence);
        if fresh_source {
            self.timestamp_offset = out.fresh_timestamp(now_us).wrapping_sub(header.timestamp);
            self.events = [None; 2];
        }
        let (sequence, resumed) = self.sequence(header, fresh_source, out)?;
        let mut timestamp = header.timestamp.wrapping_add(self.timestamp_offset);
        if resumed && !fresh_source {
            // After a digit of the gate the sender's clock still holds, unless it fell behind what was sent meanwhile.
            let earliest = out.fresh_timestamp(now_us).wrapping_sub(ticks);
            if (timestamp.wrapping_sub(earliest) as i32) < 0 {
                self.timestamp_offset = out.fresh_timestamp(now_us).wrapping_sub(header.timestamp);
                timestamp = header.timestamp.wrapping_add(self.timestamp_offset);
            }
        }
        Some(Mapped { marker: header.marker || resumed, sequence, timestamp })
    }

    /// Map a telephone-event packet.
    pub fn event(&mut self, header: &Header, clocks: EventClocks, out: &OutStream, now_us: u64) -> Option<Mapped> {
        let known = self.events.iter().flatten().find(|event| event.0 == header.timestamp).map(|event| event.1);
        let fresh_source = !self.active || header.ssrc != self.ssrc || self.jumped(header.sequence);
        let one_clock = clocks.from == clocks.audio && clocks.to == clocks.audio;
        if fresh_source && known.is_none() {
            self.timestamp_offset = out.fresh_timestamp(now_us).wrapping_sub(header.timestamp);
        }
        let timestamp = known.unwrap_or_else(|| {
            if one_clock {
                header.timestamp.wrapping_add(self.timestamp_offset)
            } else if clocks.to == clocks.audio {
                out.fresh_timestamp(now_us)
            } else {
                out.clock_in(clocks.to, now_us)
            }
        });
        let (sequence, _) = self.sequence(header, fresh_source, out)?;
        if known.is_none() {
            self.events = [Some((header.timestamp, timestamp)), self.events[0]];
        }
        Some(Mapped { marker: header.marker, sequence, timestamp })
    }

    /// A packet of the sender was left out on purpose: close the gap it would leave.
    pub fn skip(&mut self, header: &Header) {
        if self.active && header.ssrc == self.ssrc && header.sequence == self.highest.wrapping_add(1) {
            self.highest = header.sequence;
            self.sequence_offset = self.sequence_offset.wrapping_sub(1);
        }
    }

    /// The packet mapped last became `count` packets on the way out: the numbers after it make room or close up.
    pub fn became(&mut self, count: usize) {
        self.sequence_offset = self.sequence_offset.wrapping_add(count as u16).wrapping_sub(1);
    }

    fn jumped(&self, sequence: u16) -> bool {
        (MAX_DROPOUT..u16::MAX - MAX_DROPOUT).contains(&sequence.wrapping_sub(self.highest))
    }

    #[inline]
    fn sequence(&mut self, header: &Header, fresh_source: bool, out: &OutStream) -> Option<(u16, bool)> {
        let resumed = fresh_source || self.epoch != out.epoch;
        if resumed {
            if !fresh_source && !rtp::after(header.sequence, self.highest) {
                return None; // from before the interruption
            }
            self.active = true;
            self.ssrc = header.ssrc;
            self.epoch = out.epoch;
            self.sequence_offset = out.peek_sequence().wrapping_sub(header.sequence);
            self.first = header.sequence;
            self.highest = header.sequence;
        } else if rtp::after(header.sequence, self.highest) {
            self.highest = header.sequence;
            if self.highest.wrapping_sub(self.first) > 0x4000 {
                self.first = self.highest.wrapping_sub(0x2000); // so that `first` never seems to lie ahead
            }
        } else if rtp::after(self.first, header.sequence) {
            return None; // its number belongs to a packet of before
        }
        Some((header.sequence.wrapping_add(self.sequence_offset), resumed))
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
