//! G.722 encoder, 64 kbit/s (ITU-T G.722): two sub-bands of ADPCM behind a 24-tap quadrature mirror filter.
//!
//! Block names in comments are those of the recommendation; its constants are in its fixed-point units.

const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
const Q6: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
const QM4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
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
        let level = (1..30).find(|&n| magnitude < (Q6[n] * band.step) >> 12).unwrap_or(30);
        let code = match (error < 0, level) {
            (true, 1) => 63,
            (true, 2) => 62,
            (true, n) => 34 - n,
            (false, n) => 62 - n,
        };
        let truncated = code >> 2;
        let difference = (band.step * QM4[truncated]) >> 15; // INVQAL
        band.scale(WL[RL42[truncated]], 18432, 8);
        band.predict(difference);
        code as u8
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let hash = bytes
            .iter()
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        assert_eq!((bytes.len(), hash), (8_000, HASH));
    }

    const HASH: u64 = 0xFB2B_82B6_4B96_7C75;
}
