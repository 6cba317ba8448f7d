//! G.722 at 64 kbit/s (ITU-T G.722): two sub-bands of ADPCM behind a 24-tap quadrature mirror filter.
//!
//! Prompts are encoded from 16 kHz. Calls that meet G.711 use the lower band alone, which is speech up to 4 kHz sampled at
//! 8 kHz: the codec's own filters at the wideband end do the resampling.
//!
//! Block names in comments are those of the recommendation; its constants are in its fixed-point units.

const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
const Q6: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
const QM4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576,
    -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040,
    -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
const WL: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
const RL42: [usize; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];
const WH: [i32; 3] = [0, -214, 798];
const RH2: [usize; 4] = [2, 1, 2, 1];
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
    3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

fn saturate(value: i32) -> i32 {
    value.clamp(-32768, 32767)
}

/// Predictor and step size of one sub-band. Index 0 of `d`, `r`, `p` is the newest sample.
#[derive(Default)]
struct Band {
    estimate: i32,
    estimate_zero: i32,
    poles: [i32; 2],
    zeros: [i32; 6],
    d: [i32; 7],
    r: [i32; 2],
    p: [i32; 2],
    log_step: i32,
    step: i32,
}

impl Band {
    /// LOGSCL and SCALEL/SCALEH: adapt the quantiser's step.
    fn scale(&mut self, change: i32, highest: i32, shift: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + change).clamp(0, highest);
        let mantissa = ILB[((self.log_step >> 6) & 31) as usize];
        let exponent = shift - (self.log_step >> 11);
        self.step = (if exponent < 0 { mantissa << -exponent } else { mantissa >> exponent }) << 2;
    }

    /// Blocks 2 to 4 of the lower band: what encoder and decoder make of a six-bit code alike.
    fn adapt_low(&mut self, code: usize) {
        let truncated = code >> 2;
        let difference = (self.step * QM4[truncated]) >> 15; // INVQAL
        self.scale(WL[RL42[truncated]], 18432, 8);
        self.predict(difference);
    }

    /// Block 4: reconstruct with the quantised difference, adapt the predictor, predict the next sample.
    fn predict(&mut self, difference: i32) {
        let reconstructed = saturate(self.estimate + difference); // RECONS
        let partial = saturate(self.estimate_zero + difference); // PARREC
        let same = |a: i32, b: i32| (a < 0) == (b < 0);

        // UPPOL2
        let doubled = saturate(self.poles[0] << 2);
        let drift = if same(partial, self.p[0]) { (-doubled).min(32767) } else { doubled };
        let lean = if same(partial, self.p[1]) { 128 } else { -128 };
        let second = (lean + (drift >> 7) + ((self.poles[1] * 32512) >> 15)).clamp(-12288, 12288);
        // UPPOL1
        let lean = if same(partial, self.p[0]) { 192 } else { -192 };
        let limit = saturate(15360 - second);
        let first = saturate(lean + ((self.poles[0] * 32640) >> 15)).clamp(-limit, limit);
        self.poles = [first, second];

        // UPZERO over the differences before this one, then DELAYA
        self.d.copy_within(0..6, 1);
        self.d[0] = difference;
        let gain = if difference == 0 { 0 } else { 128 };
        for (zero, &before) in self.zeros.iter_mut().zip(&self.d[1..]) {
            let lean = if same(before, difference) { gain } else { -gain };
            *zero = saturate(lean + ((*zero * 32640) >> 15));
        }
        self.p = [partial, self.p[0]];
        self.r = [reconstructed, self.r[0]];

        // FILTEP, FILTEZ, PREDIC
        let pole = |n: usize| (self.poles[n] * saturate(self.r[n] * 2)) >> 15;
        let from_poles = saturate(pole(0) + pole(1));
        let sum: i32 = self.zeros.iter().zip(&self.d).map(|(zero, d)| (zero * saturate(d * 2)) >> 15).sum();
        self.estimate_zero = saturate(sum);
        self.estimate = saturate(from_poles + self.estimate_zero);
    }
}

pub struct Encoder {
    history: [i32; 24],
    low: Band,
    high: Band,
}

impl Default for Encoder {
    fn default() -> Self {
        let band = |step| Band { step, ..Band::default() };
        Self { history: [0; 24], low: band(32), high: band(8) }
    }
}

impl Encoder {
    /// Encode samples at 16 kHz, two to a byte; an odd last one is left out.
    pub fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        samples.chunks_exact(2).map(|pair| self.pair(pair[0], pair[1])).collect()
    }

    fn pair(&mut self, first: i16, second: i16) -> u8 {
        self.history.copy_within(2.., 0);
        self.history[22] = i32::from(first);
        self.history[23] = i32::from(second);
        let (mut odd, mut even) = (0, 0);
        for (n, taps) in self.history.chunks_exact(2).enumerate() {
            odd += taps[0] * QMF[n];
            even += taps[1] * QMF[11 - n];
        }
        self.lower((even + odd) >> 14) | self.higher((even - odd) >> 14) << 6
    }

    fn lower(&mut self, sample: i32) -> u8 {
        let band = &mut self.low;
        let error = saturate(sample - band.estimate); // SUBTRA
        let magnitude = if error >= 0 { error } else { -(error + 1) };
        // QUANTL: the first decision level above the magnitude
        let level = 1 + Q6[1..].partition_point(|level| magnitude >= (level * band.step) >> 12);
        let code = match (error < 0, level) {
            (true, 1) => 63,
            (true, 2) => 62,
            (true, n) => 34 - n,
            (false, n) => 62 - n,
        };
        band.adapt_low(code);
        code as u8
    }

    /// Encode one sample at 8 kHz: all of it is lower band, which the mirror filter would pass at half its size. The code
    /// of the upper band is one that leaves it silent.
    pub fn narrow(&mut self, sample: i16) -> u8 {
        self.lower(i32::from(sample) >> 1) | 0xC0
    }

    fn higher(&mut self, sample: i32) -> u8 {
        let band = &mut self.high;
        let error = saturate(sample - band.estimate);
        let magnitude = if error >= 0 { error } else { -(error + 1) };
        let far = magnitude >= (564 * band.step) >> 12; // QUANTH
        let code: usize = match (error < 0, far) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        let difference = (band.step * QM2[code]) >> 15; // INVQAH
        band.scale(WH[RH2[code]], 22528, 10);
        band.predict(difference);
        code as u8
    }
}

/// Decodes the lower band.
pub struct Decoder {
    low: Band,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { low: Band { step: 32, ..Band::default() } }
    }
}

impl Decoder {
    /// Decode one octet to one sample at 8 kHz; the upper band is left out.
    pub fn narrow(&mut self, octet: u8) -> i16 {
        let code = usize::from(octet & 0x3F);
        // INVQBL, RECONS and LIMIT
        let sample = (self.low.estimate + ((self.low.step * QM6[code]) >> 15)).clamp(-16384, 16383);
        self.low.adapt_low(code);
        (sample << 1) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
        let prime = 0x0000_0100_0000_01B3;
        bytes.into_iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(prime))
    }

    /// A sweep with a loud burst at 8 kHz, from whole-number arithmetic alone.
    fn sweep() -> Vec<i16> {
        let mut phase = 0i64;
        (0..8_000i64)
            .map(|n| {
                phase = (phase + 200 + n * 3) % 65_536;
                let triangle = (phase - 32_768).abs() - 16_384;
                let gain = if (3_000..4_000).contains(&n) { 31 } else { 6 };
                (triangle * gain / 16) as i16
            })
            .collect()
    }

    #[test]
    fn g722_lower_band_is_that_of_an_independent_codec() {
        let mut encoder = Encoder::default();
        let octets: Vec<u8> = sweep().into_iter().map(|sample| encoder.narrow(sample)).collect();
        assert_eq!(fnv1a(octets.iter().copied()), NARROW_ENCODED);
        let mut decoder = Decoder::default();
        let samples = octets.iter().flat_map(|&octet| decoder.narrow(octet).to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(fnv1a(samples), NARROW_DECODED);
        // Octets in any order: the loudest and most erratic input there is.
        let mut decoder = Decoder::default();
        let noise = (0..8_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
        let samples = noise.flat_map(|octet| decoder.narrow(octet).to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(fnv1a(samples), NOISE_DECODED);
    }

    const NARROW_ENCODED: u64 = 0x0AC3_2DB9_1265_A3F7;
    const NARROW_DECODED: u64 = 0xE183_6463_77A2_8B87;
    const NOISE_DECODED: u64 = 0x3EEC_8A97_4588_0D09;

    #[test]
    fn g722_output_is_that_of_an_independent_encoder() {
        // A sweep with a loud burst, encoded with another implementation: FNV-1a of its output.
        let mut phase = 0.0f64;
        let samples: Vec<i16> = (0..16_000)
            .map(|n| {
                phase += 0.02 + f64::from(n) * 0.000_15;
                let gain = if (6_000..8_000).contains(&n) { 32_000.0 } else { 6_000.0 };
                (phase.sin() * gain) as i16
            })
            .collect();
        let bytes = Encoder::default().encode(&samples);
        assert_eq!((bytes.len(), fnv1a(bytes)), (8_000, HASH));
    }

    const HASH: u64 = 0xFB2B_82B6_4B96_7C75;
}
