//! Sending one digit as a tone in the audio (ITU-T Q.23), to a peer that takes no telephone-events.

use std::f64::consts::TAU;

use crate::codec::{Codec, G722Encoder};
use crate::g711;
use crate::inband::{FREQUENCIES, KEYS};
use crate::telephone_event::DIGITS;

/// Peak of each of the two frequencies: -8 dBm0, a usual level of a telephone (full scale is +3.17 dBm0).
const PEAK: f64 = 8_900.0;

/// Octets of the longest frame, 60 ms.
const LONGEST: usize = 480;

/// Octet of the next sample at 8 kHz.
enum Encoder {
    Law(fn(i16) -> u8),
    G722(Box<G722Encoder>),
}

/// One digit under way, in frames of the peer's packet time.
pub struct ToneSender {
    codec: Codec,
    encoder: Encoder,
    /// Radians per sample.
    steps: [f64; 2],
    at: u32,
    samples: u32,
    due_us: u64,
    /// Of the next frame.
    pub timestamp: u32,
    frame: [u8; LONGEST],
}

impl ToneSender {
    /// Nothing when the codec's frames can't be made here or the event is no digit.
    pub fn new(code: u8, duration_ms: u32, codec: Codec, timestamp: u32, now_us: u64) -> Option<Self> {
        let encoder = match codec {
            Codec::Pcmu => Encoder::Law(g711::encode_ulaw),
            Codec::Pcma => Encoder::Law(g711::encode_alaw),
            Codec::G722 => Encoder::G722(Box::default()),
            Codec::Opus => return None,
        };
        let digit = DIGITS.get(usize::from(code))?;
        let place = KEYS.iter().flatten().position(|key| key == digit)?;
        let steps = [FREQUENCIES[place / 4], FREQUENCIES[4 + place % 4]].map(|f| TAU * f64::from(f) / 8000.0);
        let samples = duration_ms.clamp(1, 10_000) * 8;
        Some(Self { codec, encoder, steps, at: 0, samples, due_us: now_us, timestamp, frame: [0; LONGEST] })
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    pub fn is_over(&self) -> bool {
        self.at >= self.samples
    }

    /// The next frame when it is due: whether it is the first (marker), its timestamp and payload. What the last one has
    /// left over is silence.
    pub fn poll(&mut self, now_us: u64, ptime_ms: u32) -> Option<(bool, u32, &[u8])> {
        if self.is_over() || now_us < self.due_us {
            return None;
        }
        let (first, timestamp, length) = (self.at == 0, self.timestamp, (ptime_ms * 8).clamp(1, LONGEST as u32));
        self.due_us += u64::from(length) * 125;
        self.timestamp = timestamp.wrapping_add(length);
        for n in 0..length as usize {
            let sample = if self.at < self.samples {
                self.steps.iter().map(|step| (step * f64::from(self.at)).sin() * PEAK).sum::<f64>() as i16
            } else {
                0
            };
            self.at += 1;
            self.frame[n] = match &mut self.encoder {
                Encoder::Law(encode) => encode(sample),
                Encoder::G722(encoder) => encoder.narrow(sample),
            };
        }
        Some((first, timestamp, &self.frame[..length as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::G722Decoder;
    use crate::inband::Detector;

    fn heard(code: u8, codec: Codec, ptime_ms: u32) -> Vec<(u8, u32)> {
        let mut sender = ToneSender::new(code, 100, codec, 7, 0).unwrap();
        let (mut samples, mut now_us, mut timestamp) = (Vec::new(), 0, 7);
        let mut decoder = G722Decoder::default();
        while !sender.is_over() {
            let due_us = sender.due_us();
            let (marker, stamped, payload) = sender.poll(due_us, ptime_ms).unwrap();
            assert_eq!((marker, stamped, due_us), (timestamp == 7, timestamp, now_us));
            timestamp += ptime_ms * 8;
            now_us += u64::from(ptime_ms) * 1000;
            samples.extend(payload.iter().map(|&octet| match codec {
                Codec::Pcmu => g711::ULAW[usize::from(octet)],
                Codec::Pcma => g711::ALAW[usize::from(octet)],
                _ => decoder.narrow(octet),
            }));
        }
        samples.resize(samples.len() + 800, 0);
        let mut digits = Vec::new();
        Detector::default().samples(samples.into_iter(), &mut |tone| digits.push((tone.digit, tone.duration_ms)));
        digits
    }

    #[test]
    fn q23_every_digit_is_heard_once_in_every_codec() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722] {
            for (code, digit) in DIGITS.iter().enumerate() {
                let digits = heard(code as u8, codec, 20);
                assert_eq!(digits.len(), 1, "{codec:?} {code}");
                assert_eq!(digits[0].0, *digit, "{codec:?}");
                assert!((75..=125).contains(&digits[0].1), "{codec:?} lasts {} ms", digits[0].1);
            }
        }
    }

    #[test]
    fn a_tone_ends_in_silence_where_it_fills_no_whole_frame() {
        assert_eq!(heard(5, Codec::Pcmu, 30).len(), 1);
        assert_eq!(heard(5, Codec::Pcma, 60).len(), 1);
    }

    #[test]
    fn what_is_no_digit_or_no_plain_codec_makes_no_tone() {
        assert!(ToneSender::new(16, 100, Codec::Pcmu, 0, 0).is_none()); // RFC 4733 §3.2: flash
        assert!(ToneSender::new(1, 100, Codec::Opus, 0, 0).is_none());
        let mut sender = ToneSender::new(1, 0, Codec::Pcmu, 0, 1_000).unwrap();
        assert!(sender.poll(999, 20).is_none());
        assert!(sender.poll(1_000, 20).is_some() && sender.poll(9_000_000, 20).is_none());
    }
}
