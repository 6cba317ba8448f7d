//! Codecs: their names, and the encoding of prompts. Speech of a call is relayed as it is, unless its two legs speak
//! different codecs ([`crate::transcode`]).

mod g722;
mod resample;

pub use g722::{Decoder as G722Decoder, Encoder as G722Encoder};

use crate::{g711, sys};

/// An audio codec as SDP names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    Pcmu,
    Pcma,
    G722,
    Opus,
}

impl Codec {
    /// By upper-case encoding name (RFC 3551, RFC 7587).
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "PCMU" => Some(Self::Pcmu),
            "PCMA" => Some(Self::Pcma),
            "G722" => Some(Self::G722),
            "OPUS" => Some(Self::Opus),
            _ => None,
        }
    }

    /// Bytes of one millisecond, for codecs whose stream may be cut anywhere.
    pub fn bytes_per_ms(self) -> Option<usize> {
        (self != Self::Opus).then_some(8)
    }

    /// RTP clock in Hz; 8000 for G.722 though it samples at 16 kHz (RFC 3551 §4.5.2).
    pub fn clock_rate(self) -> u32 {
        if self == Self::Opus {
            48_000
        } else {
            8_000
        }
    }

    /// Rate of the samples that the encoder takes. Recordings have 16 kHz at most, so Opus gets no more: its clock in RTP is
    /// that of 48 kHz all the same (RFC 7587 §4.1), and wideband costs a fraction.
    fn sample_rate(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8_000,
            Self::G722 => 16_000,
            Self::Opus => sys::OPUS_RATE,
        }
    }
}

/// Encode mono samples to frames of `ptime_ms`; the last one is filled up with silence. Opus frames are 20 ms.
pub fn encode(samples: &[i16], sample_rate: u32, codec: Codec, ptime_ms: u32) -> Result<Vec<Vec<u8>>, String> {
    if !(8_000..=192_000).contains(&sample_rate) {
        return Err(format!("sample rate {sample_rate} is not between 8000 and 192000 Hz"));
    }
    if !matches!(ptime_ms, 10 | 20 | 30 | 40 | 60) || (codec == Codec::Opus && ptime_ms != 20) {
        return Err(format!("frames of {ptime_ms} ms are not possible"));
    }
    let rate = codec.sample_rate();
    let mut samples = resample::resample(samples, sample_rate, rate);
    let frame = (rate * ptime_ms / 1000) as usize;
    samples.resize(samples.len().next_multiple_of(frame), 0);
    Ok(match codec {
        Codec::Pcmu => cut(samples.iter().map(|&s| g711::encode_ulaw(s)).collect(), ptime_ms),
        Codec::Pcma => cut(samples.iter().map(|&s| g711::encode_alaw(s)).collect(), ptime_ms),
        Codec::G722 => cut(g722::Encoder::default().encode(&samples), ptime_ms),
        Codec::Opus => sys::opus_encode(&samples)?,
    })
}

fn cut(bytes: Vec<u8>, ptime_ms: u32) -> Vec<Vec<u8>> {
    bytes.chunks(8 * ptime_ms as usize).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_of_their_codec() {
        let second = vec![0i16; 8_000];
        for (codec, bytes) in [(Codec::Pcmu, 160), (Codec::Pcma, 160), (Codec::G722, 160)] {
            let frames = encode(&second, 8_000, codec, 20).unwrap();
            assert_eq!((frames.len(), frames[0].len()), (50, bytes));
        }
        assert_eq!(encode(&second[..8], 8_000, Codec::Pcmu, 30).unwrap(), [vec![g711::PCMU_SILENCE; 240]]);
        assert_eq!(encode(&[], 8_000, Codec::Opus, 20).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn rfc7587_opus_frames_carry_20_ms() {
        let tone: Vec<i16> = (0..16_000).map(|n| ((f64::from(n) * 0.17).sin() * 9000.0) as i16).collect();
        let frames = encode(&tone, 16_000, Codec::Opus, 20).unwrap();
        assert_eq!(frames.len(), 50);
        // RFC 6716 §3.1: the low two bits of the first byte say "one frame", bit 2 "mono".
        assert!(frames.iter().all(|frame| frame.len() > 2 && frame[0] & 0x07 == 0));
    }

    #[test]
    fn impossible_wishes_are_refused() {
        assert!(encode(&[0], 4_000, Codec::Pcmu, 20).is_err());
        assert!(encode(&[0], 8_000, Codec::Pcmu, 25).is_err());
        assert!(encode(&[0], 8_000, Codec::Opus, 40).is_err());
        assert_eq!(Codec::from_name("G729"), None);
    }
}
