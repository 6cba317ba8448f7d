//! G.711 companding (ITU-T G.711; PCMU and PCMA of RFC 3551).

/// Silence on the wire.
pub const PCMU_SILENCE: u8 = 0xFF;
pub const PCMA_SILENCE: u8 = 0xD5;

const BIAS: i32 = 0x84;
const CLIP: i32 = 32_635;

pub const fn encode_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (sample as i32).abs();
    let magnitude = if magnitude > CLIP { CLIP } else { magnitude } + BIAS;
    let exponent = (31 - (magnitude as u32).leading_zeros() as i32) - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0F;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

pub const fn decode_ulaw(code: u8) -> i16 {
    let code = !code;
    let exponent = ((code >> 4) & 7) as i32;
    let mantissa = (code & 0x0F) as i32;
    let magnitude = (((mantissa << 3) + BIAS) << exponent) - BIAS;
    (if code & 0x80 == 0 { magnitude } else { -magnitude }) as i16
}

pub const fn encode_alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 { (0x80, sample as i32) } else { (0, !(sample as i32)) };
    let code = if magnitude < 256 {
        magnitude >> 4
    } else {
        let exponent = (31 - (magnitude as u32).leading_zeros() as i32) - 7;
        (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0F)
    };
    (code as u8 | sign) ^ 0x55
}

pub const fn decode_alaw(code: u8) -> i16 {
    let code = code ^ 0x55;
    let exponent = ((code >> 4) & 7) as i32;
    let step = ((code & 0x0F) as i32) << 4;
    let magnitude = if exponent == 0 { step + 8 } else { (step + 0x108) << (exponent - 1) };
    (if code & 0x80 == 0 { -magnitude } else { magnitude }) as i16
}

const fn table(alaw: bool) -> [i16; 256] {
    let mut values = [0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = if alaw { decode_alaw(code as u8) } else { decode_ulaw(code as u8) };
        code += 1;
    }
    values
}

/// Linear values of all codes.
pub static ULAW: [i16; 256] = table(false);
pub static ALAW: [i16; 256] = table(true);

const fn crossing(to_alaw: bool) -> [u8; 256] {
    let mut codes = [0; 256];
    let mut code = 0;
    while code < 256 {
        let sample = if to_alaw { decode_ulaw(code as u8) } else { decode_alaw(code as u8) };
        codes[code] = if to_alaw { encode_alaw(sample) } else { encode_ulaw(sample) };
        code += 1;
    }
    codes
}

/// From one law to the other by way of the linear value.
pub static ULAW_TO_ALAW: [u8; 256] = crossing(true);
pub static ALAW_TO_ULAW: [u8; 256] = crossing(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in 0..=255u8 {
            // 0x7F is the second zero of u-law: minus zero becomes plus zero.
            if code != 0x7F {
                assert_eq!(encode_ulaw(decode_ulaw(code)), code, "u-law {code:#x}");
            }
            assert_eq!(encode_alaw(decode_alaw(code)), code, "A-law {code:#x}");
        }
    }

    #[test]
    fn every_sample_comes_back_close() {
        for sample in i16::MIN..=i16::MAX {
            let tolerance = i32::from(sample).abs() / 16 + 20;
            for back in [decode_ulaw(encode_ulaw(sample)), decode_alaw(encode_alaw(sample))] {
                assert!(
                    (i32::from(back) - i32::from(sample)).abs() <= tolerance.max(700 * i32::from(sample == i16::MIN))
                );
            }
        }
    }

    #[test]
    fn crossing_from_law_to_law_stays_close_and_keeps_silence() {
        assert_eq!(ULAW_TO_ALAW[usize::from(PCMU_SILENCE)], PCMA_SILENCE);
        for code in 0..=255u8 {
            let to_alaw = decode_alaw(ULAW_TO_ALAW[usize::from(code)]);
            let to_ulaw = decode_ulaw(ALAW_TO_ULAW[usize::from(code)]);
            for (before, after) in [(decode_ulaw(code), to_alaw), (decode_alaw(code), to_ulaw)] {
                let off = (i32::from(before) - i32::from(after)).abs();
                assert!(off <= i32::from(before).abs() / 24 + 12, "{before} became {after}");
            }
        }
    }

    #[test]
    fn the_values_of_the_recommendation() {
        assert_eq!((encode_ulaw(0), encode_alaw(0)), (PCMU_SILENCE, PCMA_SILENCE));
        assert_eq!((decode_ulaw(0x80), decode_ulaw(0x00)), (32_124, -32_124));
        assert_eq!((decode_alaw(0xAA), decode_alaw(0x2A)), (32_256, -32_256));
    }
}
