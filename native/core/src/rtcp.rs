//! RTCP of one leg: the gate's own sender and receiver reports (RFC 3550 §6.4), its CNAME (§6.5.1) and its goodbye (§6.6).
//! No report of the other leg ever passes, so neither side learns the other's SSRCs.

use crate::rng::Rng;
use crate::statistics::Report;

/// §6.2: five seconds, spread over 0.5 to 1.5 times that (§6.3.1).
const INTERVAL_US: u64 = 5_000_000;

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;

/// Longest packet built here.
pub const MAX: usize = 128;

pub fn interval_us(rng: &mut Rng) -> u64 {
    INTERVAL_US / 2 + rng.below(INTERVAL_US)
}

/// Seconds since 1900 as a 32.32 fixed-point number, from microseconds since 1970 (§4).
pub fn ntp(unix_us: u64) -> u64 {
    let seconds = unix_us / 1_000_000 + 2_208_988_800;
    let fraction = ((unix_us % 1_000_000) << 32) / 1_000_000;
    seconds << 32 | fraction
}

/// What a sender report says of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub ntp: u64,
    pub timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// The peer's last sender report: the middle of its NTP time, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSr {
    pub middle: u32,
    pub at_us: u64,
}

/// Everything of one compound packet.
pub struct Compound<'a> {
    pub ssrc: u32,
    pub cname: &'a [u8],
    pub sent: Option<Sent>,
    pub report: Option<Report>,
    pub last_sr: Option<LastSr>,
    pub bye: bool,
}

struct Writer<'a> {
    bytes: &'a mut [u8; MAX],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn begin(&mut self, count: u8, kind: u8, ssrc: u32) -> usize {
        let start = self.at;
        self.put(&[0x80 | count, kind, 0, 0]);
        self.put(&ssrc.to_be_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let words = (self.at - start) / 4 - 1;
        self.bytes[start + 2..start + 4].copy_from_slice(&(words as u16).to_be_bytes());
    }
}

impl Compound<'_> {
    /// Write the packet: SR or RR, SDES with the CNAME (at most 32 bytes), and BYE when the leg closes.
    pub fn write(&self, bytes: &mut [u8; MAX], now_us: u64) -> usize {
        let mut writer = Writer { bytes, at: 0 };
        let kind = if self.sent.is_some() { SR } else { RR };
        let start = writer.begin(u8::from(self.report.is_some()), kind, self.ssrc);
        if let Some(sent) = self.sent {
            writer.put(&sent.ntp.to_be_bytes());
            writer.put(&sent.timestamp.to_be_bytes());
            writer.put(&sent.packets.to_be_bytes());
            writer.put(&sent.octets.to_be_bytes());
        }
        if let Some(report) = self.report {
            let loss = u32::from(report.fraction_lost) << 24 | (report.cumulative_lost as u32 & 0x00FF_FFFF);
            let (lsr, dlsr) = self.last_sr.map_or((0, 0), |sr| {
                let delay = now_us.saturating_sub(sr.at_us) * 65_536 / 1_000_000;
                (sr.middle, delay.min(u64::from(u32::MAX)) as u32)
            });
            for word in [report.ssrc, loss, report.highest, report.jitter, lsr, dlsr] {
                writer.put(&word.to_be_bytes());
            }
        }
        writer.end(start);

        let cname = &self.cname[..self.cname.len().min(32)];
        let start = writer.begin(1, SDES, self.ssrc);
        writer.put(&[1, cname.len() as u8]);
        writer.put(cname);
        // At least one zero ends the list, then up to the next word (§6.5).
        let zeros = 4 - (writer.at - start) % 4;
        writer.put(&[0; 4][..zeros]);
        writer.end(start);

        if self.bye {
            let start = writer.begin(1, BYE, self.ssrc);
            writer.end(start);
        }
        writer.at
    }
}

/// What a peer's compound packet tells about the gate's own stream and the peer's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Middle of the NTP time of its sender report.
    pub sr: Option<u32>,
    /// Round trip in 1/65536 s, from its report about `ssrc`.
    pub round_trip: Option<u32>,
}

/// Read a compound packet; parts that make no sense end the reading. `now_middle` is the middle of the NTP time now.
pub fn read(packet: &[u8], ssrc: u32, now_middle: u32) -> Received {
    let mut received = Received::default();
    let word =
        |bytes: &[u8], at: usize| -> Option<u32> { Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let mut rest = packet;
    while rest.len() >= 8 && rest[0] >> 6 == 2 {
        let length = (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1) * 4;
        let Some(part) = rest.get(..length) else { break };
        let blocks = match part[1] {
            SR => {
                if let (Some(high), Some(low)) = (word(part, 8), word(part, 12)) {
                    received.sr = Some(high << 16 | low >> 16);
                }
                28
            }
            RR => 8,
            _ => part.len(),
        };
        for block in part.get(blocks..).unwrap_or_default().chunks_exact(24).take(usize::from(part[0] & 0x1F)) {
            let (lsr, dlsr) = (word(block, 16).unwrap_or(0), word(block, 20).unwrap_or(0));
            if word(block, 0) == Some(ssrc) && lsr != 0 {
                let round_trip = now_middle.wrapping_sub(lsr).wrapping_sub(dlsr);
                // A clock that ran backwards, or nonsense: more than half the range is negative.
                received.round_trip = ((round_trip as i32) >= 0).then_some(round_trip);
            }
        }
        rest = &rest[length..];
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Report = Report { ssrc: 5, fraction_lost: 3, cumulative_lost: -1, highest: 70_000, jitter: 9 };

    fn compound(sent: Option<Sent>, report: Option<Report>, last_sr: Option<LastSr>, bye: bool) -> Vec<u8> {
        let mut bytes = [0; MAX];
        let packet = Compound { ssrc: 7, cname: b"0123456789abcdef", sent, report, last_sr, bye };
        let length = packet.write(&mut bytes, 2_000_000);
        bytes[..length].to_vec()
    }

    /// (count, type) of each part; fails when lengths don't add up.
    fn parts(mut packet: &[u8]) -> Vec<(u8, u8)> {
        let mut parts = Vec::new();
        while !packet.is_empty() {
            assert_eq!(packet[0] >> 6, 2);
            parts.push((packet[0] & 0x1F, packet[1]));
            packet = &packet[(usize::from(packet[2]) << 8 | usize::from(packet[3])) * 4 + 4..];
        }
        parts
    }

    #[test]
    fn rfc3550_6_1_compound_packets() {
        let sent = Sent { ntp: ntp(1_000_000), timestamp: 1, packets: 2, octets: 3 };
        assert_eq!(parts(&compound(Some(sent), Some(REPORT), None, false)), [(1, SR), (1, SDES)]);
        assert_eq!(parts(&compound(None, None, None, true)), [(0, RR), (1, SDES), (1, BYE)]);
        assert!(compound(Some(sent), Some(REPORT), None, true).len() <= MAX);
    }

    #[test]
    fn rfc3550_6_4_1_report_block_on_the_wire() {
        let last_sr = Some(LastSr { middle: 0xAABB_CCDD, at_us: 1_500_000 });
        let bytes = compound(None, Some(REPORT), last_sr, false);
        let words: Vec<u32> = bytes[8..32].chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words, [5, 0x03FF_FFFF, 70_000, 9, 0xAABB_CCDD, 32_768]);
    }

    #[test]
    fn rfc3550_4_ntp_time() {
        assert_eq!(ntp(0) >> 32, 2_208_988_800);
        assert_eq!(ntp(500_000) as u32, 0x8000_0000);
    }

    #[test]
    fn rfc3550_6_4_1_round_trip_from_a_report_about_us() {
        let sent = Sent { ntp: 0x0001_2345_6789_0000, timestamp: 0, packets: 1, octets: 1 };
        let about_us = Report { ssrc: 99, ..REPORT };
        let last_sr = Some(LastSr { middle: 1_000, at_us: 1_000_000 });
        let bytes = compound(Some(sent), Some(about_us), last_sr, false);
        let received = read(&bytes, 99, 1_000 + 65_536 + 655);
        assert_eq!(received, Received { sr: Some(0x2345_6789), round_trip: Some(655) });
        assert_eq!(read(&bytes, 98, 0).round_trip, None);
        assert_eq!(read(&bytes, 99, 1_000).round_trip, None);
    }

    #[test]
    fn nonsense_is_read_as_nothing() {
        let whole = compound(None, Some(REPORT), None, true);
        for length in 0..whole.len() {
            read(&whole[..length], 5, 0);
        }
        assert_eq!(read(&[0x9F, SR, 0, 1, 0, 0, 0, 0], 5, 0), Received::default());
        assert_eq!(read(&[0; 64], 5, 0), Received::default());
    }

    #[test]
    fn rfc3550_6_3_1_intervals_are_spread() {
        let mut rng = Rng::seeded(1);
        let intervals: Vec<u64> = (0..100).map(|_| interval_us(&mut rng)).collect();
        assert!(intervals.iter().all(|us| (2_500_000..7_500_000).contains(us)));
        assert!(intervals.iter().max().unwrap() - intervals.iter().min().unwrap() > 4_000_000);
    }
}
