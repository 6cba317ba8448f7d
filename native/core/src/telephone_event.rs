//! Hearing DTMF as telephone-events (RFC 4733).
//!
//! ```text
//!  marker, ts=T            ts=T        ts=T        ts=T, E   ts=T, E   ts=T, E
//!  | event, duration 160 | dur 320 | dur 480 |...| dur 800 | dur 800 | dur 800 |
//! ```
//!
//! An event is named by SSRC and RTP timestamp and by nothing else: not by its code (the same key twice), not by the
//! marker (often missing or lost), not by the first packet (lost) nor by the end bit (repeated, reordered, lost).

/// Codes 0 to 15 (RFC 4733 §3.2).
pub const DIGITS: [u8; 16] = *b"0123456789*#ABCD";

/// The event code of `#`.
pub const POUND: u8 = 11;

/// An event whose packets stopped coming without an end is over after this long: three updates of a slow sender.
pub const EXPIRE_US: u64 = 150_000;

/// A packet older than the newest event is late only if it comes this soon; later, the sender began anew.
const LATE_US: u64 = 1_000_000;

/// §2.5.1.3: the longest duration of one segment, and the distance to the next.
const SEGMENT: u32 = 0xFFFF;

const REMEMBERED: usize = 4;

/// Code (0 to 15) of a digit.
pub fn code_of(digit: u8) -> Option<u8> {
    DIGITS.iter().position(|&d| d == digit.to_ascii_uppercase()).map(|code| code as u8)
}

/// The four bytes of one event (§2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    pub code: u8,
    pub end: bool,
    pub volume: u8,
    pub duration: u16,
}

impl Payload {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (event, _) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            code: event[0],
            end: event[1] & 0x80 != 0,
            volume: event[1] & 0x3F,
            duration: u16::from_be_bytes([event[2], event[3]]),
        })
    }

    pub fn write(self, bytes: &mut [u8]) {
        bytes[0] = self.code;
        bytes[1] = u8::from(self.end) << 7 | (self.volume & 0x3F);
        bytes[2..4].copy_from_slice(&self.duration.to_be_bytes());
    }
}

/// One whole key press.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Heard {
    pub code: u8,
    pub duration_ticks: u32,
}

/// How the leg stands when a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Whole events are reported.
    pub listening: bool,
    /// The leg is bridged and not listening: an event that begins now goes to the other leg.
    pub relaying: bool,
    pub now_us: u64,
}

struct Event {
    ssrc: u32,
    code: u8,
    /// Timestamp of the segment that is under way (§2.5.1.3); of the event itself when there is only one.
    segment: u32,
    earlier_ticks: u32,
    duration: u16,
    last_us: u64,
    over: bool,
    relayed: bool,
}

/// One that packets may still come of.
#[derive(Clone, Copy)]
struct Earlier {
    ssrc: u32,
    timestamp: u32,
    relayed: bool,
}

/// Hears the telephone-events of one peer, whose stream may become another (RFC 3550 §8.2).
#[derive(Default)]
pub struct Receiver {
    current: Option<Event>,
    earlier: [Option<Earlier>; REMEMBERED],
    next: usize,
}

impl Receiver {
    /// Take one packet's payload. Says whether the packet belongs to an event that is relayed; whole events that were
    /// heard are handed to `heard` at their first end packet.
    pub fn packet(
        &mut self,
        ssrc: u32,
        timestamp: u32,
        payload: &[u8],
        situation: Situation,
        heard: &mut impl FnMut(Heard),
    ) -> bool {
        let mut relay = false;
        let mut timestamp = timestamp;
        // §2.5.1.5: a packet may carry several events, each beginning where the one before it ends.
        for block in payload.chunks_exact(4) {
            let Some(event) = Payload::parse(block) else { continue };
            if usize::from(event.code) < DIGITS.len() {
                relay |= self.event(ssrc, timestamp, event, situation, heard);
            }
            timestamp = timestamp.wrapping_add(u32::from(event.duration));
        }
        relay
    }

    fn event(
        &mut self,
        ssrc: u32,
        timestamp: u32,
        packet: Payload,
        at: Situation,
        heard: &mut impl FnMut(Heard),
    ) -> bool {
        let Some(current) = &mut self.current else { return self.begin(ssrc, timestamp, packet, at, heard) };
        if ssrc != current.ssrc {
            if let Some(relayed) = self.remembers(ssrc, timestamp) {
                return relayed; // a late packet of the stream before
            }
            self.finish(at.listening, heard);
            return self.begin(ssrc, timestamp, packet, at, heard);
        }
        let ahead = timestamp.wrapping_sub(current.segment);
        if ahead == 0 {
            current.last_us = at.now_us;
            if packet.duration > current.duration {
                current.duration = packet.duration;
            } else if current.duration - packet.duration > 0x8000 && !current.over {
                // A sender that lets the duration wrap instead of beginning a segment.
                current.earlier_ticks += SEGMENT + 1;
                current.duration = packet.duration;
            }
        } else if ahead == SEGMENT && packet.code == current.code && !current.over {
            current.segment = timestamp;
            current.earlier_ticks += SEGMENT;
            current.duration = packet.duration;
            current.last_us = at.now_us;
        } else if (ahead as i32) > 0 || at.now_us.saturating_sub(current.last_us) > LATE_US {
            if self.remembers(ssrc, timestamp).is_some() {
                return false;
            }
            self.finish(at.listening, heard);
            return self.begin(ssrc, timestamp, packet, at, heard);
        } else {
            // Late, and whole since long: the receiver beyond the bridge knows it only if it was relayed.
            return self.remembers(ssrc, timestamp).unwrap_or(false);
        }
        let relayed = current.relayed;
        if packet.end {
            self.finish(at.listening, heard);
        }
        relayed
    }

    fn begin(
        &mut self,
        ssrc: u32,
        timestamp: u32,
        packet: Payload,
        at: Situation,
        heard: &mut impl FnMut(Heard),
    ) -> bool {
        if let Some(before) = &self.current {
            let &Event { ssrc, segment: timestamp, relayed, .. } = before;
            self.earlier[self.next] = Some(Earlier { ssrc, timestamp, relayed });
            self.next = (self.next + 1) % REMEMBERED;
        }
        self.current = Some(Event {
            ssrc,
            code: packet.code,
            segment: timestamp,
            earlier_ticks: 0,
            duration: packet.duration,
            last_us: at.now_us,
            over: false,
            relayed: at.relaying,
        });
        if packet.end {
            self.finish(at.listening, heard);
        }
        at.relaying
    }

    /// Say of an event before the current one whether it was relayed.
    fn remembers(&self, ssrc: u32, timestamp: u32) -> Option<bool> {
        let mut earlier = self.earlier.iter().flatten();
        earlier.find(|one| one.ssrc == ssrc && one.timestamp == timestamp).map(|one| one.relayed)
    }

    fn finish(&mut self, listening: bool, heard: &mut impl FnMut(Heard)) {
        if let Some(event) = &mut self.current {
            if !event.over && listening && !event.relayed {
                let duration_ticks = event.earlier_ticks.saturating_add(u32::from(event.duration));
                heard(Heard { code: event.code, duration_ticks });
            }
            event.over = true;
        }
    }

    /// Whether an event of this code has begun and not ended.
    #[inline]
    pub fn is_hearing(&self, code: u8) -> bool {
        self.current.as_ref().is_some_and(|event| event.code == code && !event.over)
    }

    /// When [`Receiver::expire`] wants to be called, if at all.
    pub fn deadline_us(&self) -> Option<u64> {
        self.current.as_ref().filter(|event| !event.over).map(|event| event.last_us + EXPIRE_US)
    }

    /// Take an event as over whose end packets were all lost.
    pub fn expire(&mut self, now_us: u64, listening: bool, heard: &mut impl FnMut(Heard)) {
        if self.deadline_us().is_some_and(|deadline| deadline <= now_us) {
            self.finish(listening, heard);
        }
    }
}

#[cfg(test)]
#[path = "telephone_event_tests.rs"]
mod tests;
