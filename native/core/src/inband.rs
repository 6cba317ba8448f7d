//! Hearing DTMF tones in G.711 audio (ITU-T Q.23, Q.24) with eight Goertzel filters.
//!
//! Blocks of 102 samples (12.75 ms) at 8 kHz. A key is down after two blocks in a row that say so, so a tone of 40 ms is
//! always heard and one of 15 ms never; it is up again after two blocks that don't.

const BLOCK: usize = 102;

/// 2 cos(2 pi f / 8000) of the row and column frequencies, 697 to 941 Hz and 1209 to 1633 Hz.
pub const FREQUENCIES: [f32; 8] = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0];
pub const KEYS: [[u8; 4]; 4] = [*b"123A", *b"456B", *b"789C", *b"*0#D"];

/// Each tone's amplitude at least: about -33 dBm0.
const LEAST_AMPLITUDE: f32 = 500.0;
/// Twist limits as power ratios: the column at most 8 dB above the row (line loss of the high tone is the reverse).
const FORWARD_TWIST: f32 = 6.3;
const REVERSE_TWIST: f32 = 6.3;
/// The best of a group stands this much (8 dB) above the others of its group.
const PEAK: f32 = 6.3;
/// Talk-off: both tones together hold this share of the block's energy. Speech spreads it.
const PURITY: f32 = 0.62;

/// One key press heard in the audio.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Tone {
    pub digit: u8,
    pub duration_ms: u32,
}

pub struct Detector {
    coefficients: [f32; 8],
    v1: [f32; 8],
    v2: [f32; 8],
    energy: f32,
    filled: usize,
    last: Option<u8>,
    down: Option<(u8, u32)>,
    misses: u32,
}

impl Default for Detector {
    fn default() -> Self {
        let coefficients = FREQUENCIES.map(|f| 2.0 * (std::f32::consts::TAU * f / 8000.0).cos());
        let zero = [0.0; 8];
        Self { coefficients, v1: zero, v2: zero, energy: 0.0, filled: 0, last: None, down: None, misses: 0 }
    }
}

impl Detector {
    /// Is a key down, so that [`Detector::stop`] is due if the audio ceases?
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Take samples in order; whole key presses are handed to `heard` when the tone has ended.
    pub fn samples(&mut self, samples: impl Iterator<Item = i16>, heard: &mut impl FnMut(Tone)) {
        for sample in samples {
            let x = f32::from(sample);
            self.energy += x * x;
            for n in 0..8 {
                let v = self.coefficients[n] * self.v1[n] - self.v2[n] + x;
                self.v2[n] = self.v1[n];
                self.v1[n] = v;
            }
            self.filled += 1;
            if self.filled == BLOCK {
                let hit = self.decide();
                self.begin_block();
                self.block(hit, heard);
            }
        }
    }

    /// Audio is missing here. A block that held both sides of the gap would be of two phases, and no tone: two gaps
    /// would make two keys of a long one. What follows begins a block of its own.
    pub fn gap(&mut self) {
        self.begin_block();
    }

    fn begin_block(&mut self) {
        self.v1 = [0.0; 8];
        self.v2 = [0.0; 8];
        self.energy = 0.0;
        self.filled = 0;
    }

    /// The audio has ceased: a key that is down is up.
    pub fn stop(&mut self, heard: &mut impl FnMut(Tone)) {
        self.release(heard);
        *self = Self::default();
    }

    fn block(&mut self, hit: Option<u8>, heard: &mut impl FnMut(Tone)) {
        match (&mut self.down, hit) {
            (Some((digit, blocks)), Some(key)) if *digit == key => {
                *blocks += 1 + self.misses;
                self.misses = 0;
            }
            (Some(_), _) => {
                self.misses += 1;
                if self.misses == 2 {
                    self.release(heard);
                    if hit.is_some() && hit == self.last {
                        self.down = hit.map(|key| (key, 2));
                    }
                }
            }
            (None, Some(key)) if self.last == hit => self.down = Some((key, 2)),
            (None, _) => {}
        }
        self.last = hit;
    }

    fn release(&mut self, heard: &mut impl FnMut(Tone)) {
        if let Some((digit, blocks)) = self.down.take() {
            heard(Tone { digit, duration_ms: blocks * BLOCK as u32 / 8 });
        }
        self.misses = 0;
    }

    fn decide(&self) -> Option<u8> {
        // Power of each filter, scaled so that a sine of amplitude A gives A^2 BLOCK / 2, its energy in the block.
        let power: [f32; 8] = std::array::from_fn(|n| {
            let (a, b) = (self.v1[n], self.v2[n]);
            (a * a + b * b - self.coefficients[n] * a * b) * 2.0 / BLOCK as f32
        });
        let row = best(&power[..4])?;
        let column = best(&power[4..])?;
        let (low, high) = (power[row], power[4 + column]);
        let least = LEAST_AMPLITUDE * LEAST_AMPLITUDE * BLOCK as f32 / 2.0;
        let fits = low > least
            && high > least
            && high < low * FORWARD_TWIST
            && low < high * REVERSE_TWIST
            && low + high > PURITY * self.energy;
        fits.then(|| KEYS[row][column])
    }
}

/// The index of the strongest of a group if it stands clear of the others.
fn best(group: &[f32]) -> Option<usize> {
    let (index, power) = group.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    group.iter().enumerate().all(|(n, other)| n == index || other * PEAK < *power).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::g711;

    fn tone(frequencies: &[(f64, f64)], ms: usize) -> Vec<i16> {
        let value = |n: usize| -> f64 {
            frequencies.iter().map(|(f, a)| a * (std::f64::consts::TAU * f * n as f64 / 8000.0).sin()).sum()
        };
        (0..ms * 8).map(|n| value(n) as i16).collect()
    }

    fn frequencies(digit: u8) -> (f64, f64) {
        for (row, keys) in KEYS.iter().enumerate() {
            if let Some(column) = keys.iter().position(|&key| key == digit) {
                return (f64::from(FREQUENCIES[row]), f64::from(FREQUENCIES[4 + column]));
            }
        }
        panic!("no such key");
    }

    fn key(digit: u8, ms: usize, amplitude: f64) -> Vec<i16> {
        let (low, high) = frequencies(digit);
        tone(&[(low, amplitude), (high, amplitude)], ms)
    }

    fn hear(audio: &[i16]) -> Vec<u8> {
        let mut detector = Detector::default();
        let mut digits = Vec::new();
        let companded = audio.iter().map(|&s| g711::decode_ulaw(g711::encode_ulaw(s)));
        detector.samples(companded, &mut |tone| digits.push(tone.digit));
        detector.stop(&mut |tone| digits.push(tone.digit));
        digits
    }

    #[test]
    fn q24_all_sixteen_keys_of_40_ms_at_any_phase() {
        for offset in 0..13 {
            let mut audio = vec![0; offset * 8];
            for digit in crate::telephone_event::DIGITS {
                audio.extend(key(digit, 40, 5000.0));
                audio.extend(vec![0; 40 * 8]);
            }
            assert_eq!(hear(&audio), crate::telephone_event::DIGITS, "offset {offset}");
        }
    }

    /// Types so many codes of eight keys, tone and pause of so many ms each, in packets of 20 ms, of which the line
    /// loses some; returns how many arrived whole, and how many with a key that was not typed or in another order.
    fn codes_over_a_bad_line(ms: usize, loss_percent: u32, codes: usize) -> (usize, usize) {
        let mut rng = crate::rng::Rng::seeded(0x5851_F42D);
        let tones: Vec<Vec<i16>> = crate::telephone_event::DIGITS.iter().map(|&digit| key(digit, ms, 5000.0)).collect();
        let (mut whole, mut wrong) = (0, 0);
        for _ in 0..codes {
            let typed: Vec<usize> = (0..8).map(|_| rng.next_u32() as usize % 12).collect();
            // Nobody presses keys in step with the packets.
            let mut audio = vec![0; rng.next_u32() as usize % 160];
            for &n in &typed {
                audio.extend(&tones[n]);
                audio.extend(std::iter::repeat_n(0, ms * 8));
            }
            audio.extend(std::iter::repeat_n(0, 1600));
            let (mut detector, mut heard) = (Detector::default(), Vec::new());
            for packet in audio.chunks(160) {
                if rng.next_u32() % 100 < loss_percent {
                    detector.gap();
                } else {
                    let companded = packet.iter().map(|&s| g711::decode_ulaw(g711::encode_ulaw(s)));
                    detector.samples(companded, &mut |tone| heard.push(tone.digit));
                }
            }
            detector.stop(&mut |tone| heard.push(tone.digit));
            let typed: Vec<u8> = typed.iter().map(|&n| crate::telephone_event::DIGITS[n]).collect();
            let mut left = typed.iter();
            whole += usize::from(heard == typed);
            wrong += usize::from(!heard.iter().all(|digit| left.any(|typed| typed == digit)));
        }
        (whole, wrong)
    }

    #[test]
    fn q24_codes_of_tones_survive_what_loss_leaves_of_them_and_no_key_is_ever_wrong() {
        // Of 40 ms a lost packet leaves too little to be sure of, so such a key is missing then.
        let least_of_200 = [(40, 0, 200), (40, 1, 168), (100, 1, 200), (100, 5, 198), (100, 10, 195), (160, 10, 199)];
        for (ms, loss_percent, least) in least_of_200 {
            let (whole, wrong) = codes_over_a_bad_line(ms, loss_percent, 200);
            assert!(whole >= least, "{whole} of 200 codes of {ms} ms at {loss_percent} %");
            assert_eq!(wrong, 0, "codes of {ms} ms at {loss_percent} %");
        }
    }

    #[test]
    fn q24_levels_from_loud_to_faint() {
        for amplitude in [14_000.0, 3000.0, 800.0] {
            assert_eq!(hear(&key(b'5', 60, amplitude)), *b"5");
        }
        assert_eq!(hear(&key(b'5', 60, 200.0)), []);
    }

    #[test]
    fn q24_short_tones_are_no_digit_and_a_long_one_is_one() {
        for offset in 0..13 {
            let mut audio = vec![0; offset * 8];
            audio.extend(key(b'5', 15, 5000.0));
            audio.extend(vec![0; 400]);
            assert_eq!(hear(&audio), [], "offset {offset}");
        }
        let mut detector = Detector::default();
        detector.samples(key(b'#', 1000, 5000.0).into_iter(), &mut |_| panic!("still down"));
        assert!(detector.is_down());
        let mut length = 0;
        detector.stop(&mut |tone| length = tone.duration_ms);
        assert!((970..=1000).contains(&length));
    }

    #[test]
    fn q24_a_gap_of_one_block_does_not_split_and_one_of_40_ms_does() {
        let gapped = |ms: usize| [key(b'7', 60, 5000.0), vec![0; ms * 8], key(b'7', 60, 5000.0)].concat();
        assert_eq!(hear(&gapped(8)), *b"7");
        assert_eq!(hear(&gapped(40)), *b"77");
    }

    #[test]
    fn a_key_that_follows_without_a_gap_is_heard_too() {
        assert_eq!(hear(&[key(b'1', 80, 5000.0), key(b'2', 80, 5000.0)].concat()), *b"12");
    }

    #[test]
    fn q24_frequencies_one_and_a_half_percent_off_and_twist_of_6_db() {
        let (low, high) = frequencies(b'8');
        assert_eq!(hear(&tone(&[(low * 1.015, 4000.0), (high * 0.985, 4000.0)], 60)), *b"8");
        assert_eq!(hear(&tone(&[(low, 2500.0), (high, 5000.0)], 60)), *b"8");
        assert_eq!(hear(&tone(&[(low, 5000.0), (high, 2500.0)], 60)), *b"8");
        assert_eq!(hear(&tone(&[(low, 800.0), (high, 8000.0)], 60)), []);
    }

    #[test]
    fn talk_off_speech_like_sounds_single_tones_and_noise_are_no_digit() {
        let (low, high) = frequencies(b'5');
        let voiced: Vec<(f64, f64)> = (1..12).map(|n| (120.0 * f64::from(n), 1500.0)).collect();
        assert_eq!(hear(&tone(&voiced, 500)), []);
        assert_eq!(hear(&tone(&[(low, 6000.0)], 200)), []);
        assert_eq!(hear(&tone(&[(350.0, 4000.0), (440.0, 4000.0)], 500)), []); // dial tone
        assert_eq!(hear(&tone(&[(low, 3000.0), (high, 3000.0), (1000.0, 5000.0)], 200)), []);
        let mut rng = crate::rng::Rng::seeded(7);
        let noise: Vec<i16> = (0..40_000).map(|_| (rng.next_u32() >> 18) as i16 - 8192).collect();
        assert_eq!(hear(&noise), []);
    }
}
