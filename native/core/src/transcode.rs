//! Transcoding between PCMU, PCMA and G.722 for two legs that speak different codecs, in packets as long as the far
//! peer wants them.
//!
//! All three codecs carry one octet per tick of their 8 kHz RTP clock (RFC 3551 §4.5.2, §4.5.14), so octets go over one by
//! one. G.722 meets G.711 in its lower band (see [`crate::codec`]). Sequence numbers and timestamps remain the relay's:
//! this only says how many packets became of one.

use crate::codec::{Codec, G722Decoder, G722Encoder};
use crate::g711;
use crate::rtp::{self, Header};
use crate::srtp;

/// Octets of the longest packet sent, 60 ms.
const LONGEST: usize = 480;

/// A gap up to this many ticks is filled up with silence to the end of the packet begun; a longer one is a pause.
const GAP: u32 = 960;

/// A step back of the sequence number beyond this is a sender that began anew (RFC 3550 §A.1).
const MAX_DROPOUT: u16 = 3000;

enum Conversion {
    Law { codes: &'static [u8; 256], silence: u8 },
    ToG722 { linear: &'static [i16; 256], encoder: G722Encoder },
    FromG722 { decoder: G722Decoder, encode: fn(i16) -> u8, silence: u8 },
}

impl Conversion {
    fn between(from: Codec, to: Codec) -> Option<Self> {
        Some(match (from, to) {
            (Codec::Pcmu, Codec::Pcma) => Self::Law { codes: &g711::ULAW_TO_ALAW, silence: g711::PCMA_SILENCE },
            (Codec::Pcma, Codec::Pcmu) => Self::Law { codes: &g711::ALAW_TO_ULAW, silence: g711::PCMU_SILENCE },
            (Codec::Pcmu, Codec::G722) => Self::ToG722 { linear: &g711::ULAW, encoder: G722Encoder::default() },
            (Codec::Pcma, Codec::G722) => Self::ToG722 { linear: &g711::ALAW, encoder: G722Encoder::default() },
            (Codec::G722, Codec::Pcmu) => {
                let (decoder, silence) = (G722Decoder::default(), g711::PCMU_SILENCE);
                Self::FromG722 { decoder, encode: g711::encode_ulaw, silence }
            }
            (Codec::G722, Codec::Pcma) => {
                let (decoder, silence) = (G722Decoder::default(), g711::PCMA_SILENCE);
                Self::FromG722 { decoder, encode: g711::encode_alaw, silence }
            }
            _ => return None,
        })
    }

    #[inline]
    fn octet(&mut self, octet: u8) -> u8 {
        match self {
            Self::Law { codes, .. } => codes[usize::from(octet)],
            Self::ToG722 { linear, encoder } => encoder.narrow(linear[usize::from(octet)]),
            Self::FromG722 { decoder, encode, .. } => encode(decoder.narrow(octet)),
        }
    }

    fn silence(&mut self) -> u8 {
        match self {
            Self::Law { silence, .. } | Self::FromG722 { silence, .. } => *silence,
            Self::ToG722 { encoder, .. } => encoder.narrow(0),
        }
    }
}

/// A packet that is ready: the buffer with room for header and protection, where it ends, and its first tick's timestamp.
pub struct Ready<'a> {
    pub buffer: &'a mut [u8],
    pub end: usize,
    /// It begins a talk spurt (RFC 3551 §4.1).
    pub marker: bool,
    pub timestamp: u32,
}

/// One direction of a call.
pub struct Transcoder {
    from: Codec,
    to: Codec,
    conversion: Conversion,
    buffer: [u8; rtp::HEADER + LONGEST + srtp::ROOM],
    filled: usize,
    /// Timestamp on the way out of the first octet that waits, and of the octet to come.
    begun: u32,
    next: u32,
    marker: bool,
    last: Option<(u32, u16)>,
}

impl Transcoder {
    /// Nothing when the codecs are the same or one of them can only be relayed.
    pub fn new(from: Codec, to: Codec) -> Option<Self> {
        let conversion = Conversion::between(from, to)?;
        let buffer = [0; rtp::HEADER + LONGEST + srtp::ROOM];
        Some(Self { from, to, conversion, buffer, filled: 0, begun: 0, next: 0, marker: false, last: None })
    }

    pub fn is_between(&self, from: Codec, to: Codec) -> bool {
        (self.from, self.to) == (from, to)
    }

    /// Did this packet come after one that followed it? A decoder cannot go back, and what follows may have been sent.
    pub fn is_late(&mut self, header: &Header) -> bool {
        if let Some((ssrc, last)) = self.last {
            if ssrc == header.ssrc && last.wrapping_sub(header.sequence) < MAX_DROPOUT {
                return true;
            }
        }
        self.last = Some((header.ssrc, header.sequence));
        false
    }

    /// Take a payload whose first octet has this timestamp on the way out. `anew` says that a talk spurt begins with it;
    /// `length` is how many octets a packet shall have. Returns how many packets were ready.
    pub fn push(
        &mut self,
        payload: &[u8],
        timestamp: u32,
        anew: bool,
        length: usize,
        mut ready: impl FnMut(usize, Ready),
    ) -> usize {
        let length = length.clamp(1, LONGEST);
        self.marker |= anew;
        let mut count = 0;
        if self.filled > 0 {
            let gap = timestamp.wrapping_sub(self.next);
            if anew || gap > GAP {
                self.filled = 0; // a piece of a packet from before a pause
            } else {
                let missing = length.saturating_sub(self.filled).min(gap as usize);
                for _ in 0..missing {
                    let octet = self.conversion.silence();
                    count += self.put(octet, length, count, &mut ready);
                }
            }
        }
        for (&octet, n) in payload.iter().zip(0u32..) {
            if self.filled == 0 {
                self.begun = timestamp.wrapping_add(n);
            }
            let octet = self.conversion.octet(octet);
            count += self.put(octet, length, count, &mut ready);
        }
        self.next = timestamp.wrapping_add(payload.len() as u32);
        count
    }

    #[inline]
    fn put(&mut self, octet: u8, length: usize, count: usize, ready: &mut impl FnMut(usize, Ready)) -> usize {
        self.buffer[rtp::HEADER + self.filled] = octet;
        self.filled += 1;
        if self.filled < length {
            return 0;
        }
        let end = rtp::HEADER + self.filled;
        self.filled = 0;
        let marker = std::mem::take(&mut self.marker);
        ready(count, Ready { buffer: &mut self.buffer, end, marker, timestamp: self.begun });
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn header(sequence: u16, ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp: 0, ssrc, start: 12, end: 172 }
    }

    struct Sent(Vec<(u32, Vec<u8>)>);

    impl Sent {
        fn push(&mut self, coder: &mut Transcoder, payload: &[u8], timestamp: u32, anew: bool, length: usize) -> usize {
            let before = self.0.len();
            let count = coder.push(payload, timestamp, anew, length, |n, packet| {
                assert_eq!(before + n, self.0.len());
                assert_eq!(packet.marker, self.0.is_empty() || (anew && n == 0));
                assert!(packet.buffer.len() >= packet.end + srtp::ROOM);
                self.0.push((packet.timestamp, packet.buffer[rtp::HEADER..packet.end].to_vec()));
            });
            assert_eq!(before + count, self.0.len());
            count
        }

        fn shape(&self) -> Vec<(u32, usize)> {
            self.0.iter().map(|(timestamp, payload)| (*timestamp, payload.len())).collect()
        }
    }

    fn coder(from: Codec, to: Codec) -> Transcoder {
        Transcoder::new(from, to).unwrap()
    }

    #[test]
    fn only_different_codecs_of_one_octet_per_tick_are_transcoded() {
        let codecs = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
        for from in codecs {
            for to in codecs {
                let possible = from != to && from != Codec::Opus && to != Codec::Opus;
                assert_eq!(Transcoder::new(from, to).is_some(), possible);
            }
        }
        assert!(coder(Codec::Pcmu, Codec::G722).is_between(Codec::Pcmu, Codec::G722));
        assert!(!coder(Codec::Pcmu, Codec::G722).is_between(Codec::Pcmu, Codec::Pcma));
    }

    #[test]
    fn packets_become_as_long_as_the_peer_wants_them() {
        for (inward, outward) in [(20, 20), (10, 60), (60, 10), (30, 20), (20, 30), (40, 60), (60, 40)] {
            let mut coder = coder(Codec::Pcmu, Codec::Pcma);
            let mut sent = Sent(Vec::new());
            for n in 0..12 {
                sent.push(&mut coder, &vec![0xFF; inward * 8], 1000 + n * inward as u32 * 8, n == 0, outward * 8);
            }
            let expected: Vec<_> =
                (0..12 * inward / outward).map(|n| (1000 + (n * outward * 8) as u32, outward * 8)).collect();
            assert_eq!(sent.shape(), expected, "{inward} to {outward} ms");
        }
    }

    #[test]
    fn a_lost_packet_leaves_a_gap_and_silence_up_to_the_next_packet() {
        let mut coder = coder(Codec::Pcma, Codec::Pcmu);
        let mut sent = Sent(Vec::new());
        assert_eq!(sent.push(&mut coder, &[0x2A; 80], 0, true, 160), 0);
        // The packets of ticks 80 to 239 are lost: the begun one is filled up, the whole one is left out.
        assert_eq!(sent.push(&mut coder, &[0x2A; 80], 240, false, 160), 1);
        assert_eq!(sent.push(&mut coder, &[0x2A; 80], 320, false, 160), 1);
        assert_eq!(sent.shape(), [(0, 160), (240, 160)]);
        assert_eq!(sent.0[0].1[79..81], [g711::encode_ulaw(-32_256), g711::PCMU_SILENCE]);
    }

    #[test]
    fn a_short_gap_within_a_packet_is_silence_in_its_place() {
        let mut coder = coder(Codec::Pcma, Codec::Pcmu);
        let mut sent = Sent(Vec::new());
        sent.push(&mut coder, &[0x2A; 80], 0, true, 480);
        sent.push(&mut coder, &[0x2A; 160], 160, false, 480);
        sent.push(&mut coder, &[0x2A; 160], 320, false, 480);
        assert_eq!(sent.shape(), [(0, 480)]);
        assert!(sent.0[0].1[80..160].iter().all(|&octet| octet == g711::PCMU_SILENCE));
        assert!(sent.0[0].1[160..].iter().all(|&octet| octet != g711::PCMU_SILENCE));
    }

    #[test]
    fn what_waited_is_dropped_at_a_pause_or_a_step_back() {
        for (timestamp, anew) in [(2000, false), (80, true), (0, false)] {
            let mut coder = coder(Codec::G722, Codec::Pcmu);
            let mut sent = Sent(Vec::new());
            sent.push(&mut coder, &[0; 80], 10, true, 160);
            assert_eq!(sent.push(&mut coder, &[0; 160], timestamp, anew, 160), 1);
            assert_eq!(sent.shape(), [(timestamp, 160)]);
        }
    }

    #[test]
    fn a_new_packet_time_counts_from_the_next_packet() {
        let mut coder = coder(Codec::Pcmu, Codec::Pcma);
        let mut sent = Sent(Vec::new());
        sent.push(&mut coder, &[0; 400], 0, true, 480);
        assert_eq!(sent.push(&mut coder, &[0; 161], 400, false, 160), 2);
        assert_eq!(sent.shape(), [(0, 401), (401, 160)]);
    }

    #[test]
    fn late_and_repeated_packets_are_told() {
        let mut coder = coder(Codec::Pcmu, Codec::Pcma);
        let late =
            [(65_534, 1), (65_535, 1), (65_535, 1), (1, 1), (0, 1), (65_000, 1), (2, 1), (40_000, 1), (9, 2), (8, 2)]
                .map(|(sequence, ssrc)| coder.is_late(&header(sequence, ssrc)));
        assert_eq!(late, [false, false, true, false, true, true, false, false, false, true]);
    }

    /// Signal to noise in dB over the second half, at the best delay.
    fn likeness(wanted: &[f64], got: &[f64]) -> f64 {
        let half = wanted.len() / 2;
        let best = (0..64).map(|delay| {
            let power: f64 = wanted[half..wanted.len() - 64].iter().map(|w| w * w).sum();
            let noise: f64 = (half..wanted.len() - 64).map(|n| (wanted[n] - got[n + delay]).powi(2)).sum();
            10.0 * (power / noise).log10()
        });
        best.fold(f64::MIN, f64::max)
    }

    #[test]
    fn a_tone_comes_through_every_pair_of_codecs() {
        for (from, to) in [
            (Codec::Pcmu, Codec::Pcma),
            (Codec::Pcma, Codec::Pcmu),
            (Codec::Pcmu, Codec::G722),
            (Codec::Pcma, Codec::G722),
        ] {
            let tone: Vec<f64> = (0..8_000).map(|n| (TAU * 1000.5 * f64::from(n) / 8_000.0).sin() * 8_000.0).collect();
            let encode = if from == Codec::Pcmu { g711::encode_ulaw } else { g711::encode_alaw };
            let coded: Vec<u8> = tone.iter().map(|&sample| encode(sample as i16)).collect();
            let (mut there, mut back) = (coder(from, to), coder(to, from));
            let mut decoded = Vec::new();
            let table = if from == Codec::Pcmu { &g711::ULAW } else { &g711::ALAW };
            for (n, packet) in coded.chunks(160).enumerate() {
                let timestamp = n as u32 * 160;
                there.push(packet, timestamp, n == 0, 160, |_, across| {
                    let payload = across.buffer[rtp::HEADER..across.end].to_vec();
                    back.push(&payload, timestamp, n == 0, 160, |_, again| {
                        let payload = &again.buffer[rtp::HEADER..again.end];
                        decoded.extend(payload.iter().map(|&octet| f64::from(table[usize::from(octet)])));
                    });
                });
            }
            let decibels = likeness(&tone, &decoded);
            assert!(decibels > 25.0, "{from:?} over {to:?} and back: {decibels:.1} dB");
        }
    }

    #[test]
    fn a_wideband_speaker_is_heard_in_g711() {
        // From the full encoder with its mirror filter, so the other way of making G.722.
        let tone: Vec<f64> = (0..16_000).map(|n| (TAU * 800.0 * f64::from(n) / 16_000.0).sin() * 8_000.0).collect();
        let samples: Vec<i16> = tone.iter().map(|&sample| sample as i16).collect();
        let coded = G722Encoder::default().encode(&samples);
        let mut decoded = Vec::new();
        coder(Codec::G722, Codec::Pcmu).push(&coded, 0, true, 160, |_, packet| {
            let payload = &packet.buffer[rtp::HEADER..packet.end];
            decoded.extend(payload.iter().map(|&octet| f64::from(g711::ULAW[usize::from(octet)])));
        });
        // The mirror filter's delay is not a whole number of samples at 8 kHz, so what is left beside a sine of any phase
        // counts: 1000 samples are 100 periods.
        let steady = &decoded[4_000..5_000];
        let part = |wave: fn(f64) -> f64| -> f64 {
            steady.iter().enumerate().map(|(n, sample)| sample * wave(TAU * n as f64 / 10.0)).sum::<f64>() / 500.0
        };
        let (sine, cosine) = (part(f64::sin), part(f64::cos));
        let power = (sine * sine + cosine * cosine) / 2.0;
        let noise = steady.iter().map(|sample| sample * sample).sum::<f64>() / 1_000.0 - power;
        let decibels = 10.0 * (power / noise).log10();
        assert!(decibels > 30.0 && (power.sqrt() / 5_657.0 - 1.0).abs() < 0.02, "{decibels:.1} dB, {power:.0}");
    }
}
