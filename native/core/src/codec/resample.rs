//! Sample rate conversion by a windowed sinc; used once per prompt at load.

use std::f64::consts::PI;

/// Zero crossings on each side of the kernel.
const CROSSINGS: f64 = 24.0;

/// Convert samples between any two rates in Hz.
pub fn resample(input: &[i16], from: u32, to: u32) -> Vec<i16> {
    if from == to {
        return input.to_vec();
    }
    let ratio = f64::from(to) / f64::from(from);
    // The pass band ends a little below the lower of the two Nyquist frequencies.
    let cutoff = ratio.min(1.0) * 0.94;
    let reach = CROSSINGS / cutoff;
    let length = (input.len() as u64 * u64::from(to)).div_ceil(u64::from(from)) as usize;
    let sample = |n: usize| {
        let centre = n as f64 / ratio;
        let first = (centre - reach).ceil().max(0.0) as usize;
        let last = ((centre + reach).floor() as usize).min(input.len().saturating_sub(1));
        let sum: f64 = (first..=last).map(|k| f64::from(input[k]) * kernel(k as f64 - centre, cutoff, reach)).sum();
        sum.round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
    };
    (0..length).map(sample).collect()
}

/// A sinc of the given cutoff (1 = Nyquist) under a Blackman window.
fn kernel(distance: f64, cutoff: f64, reach: f64) -> f64 {
    let x = PI * distance * cutoff;
    let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
    let phase = PI * distance / reach;
    cutoff * sinc * (0.42 + 0.5 * phase.cos() + 0.08 * (2.0 * phase).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency: f64, rate: u32, length: usize) -> Vec<i16> {
        (0..length).map(|n| ((2.0 * PI * frequency * n as f64 / f64::from(rate)).sin() * 10_000.0) as i16).collect()
    }

    #[test]
    fn a_tone_below_nyquist_survives_in_place() {
        for (from, to) in [(8_000, 16_000), (8_000, 48_000), (16_000, 8_000), (48_000, 8_000), (44_100, 8_000)] {
            let output = resample(&tone(1000.0, from, from as usize / 5), from, to);
            let wanted = tone(1000.0, to, output.len());
            let middle = output.len() / 4..output.len() * 3 / 4;
            let worst = middle.map(|n| (i32::from(output[n]) - i32::from(wanted[n])).abs()).max().unwrap();
            assert!(worst < 100, "{from} to {to}: off by {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_filtered_out() {
        let output = resample(&tone(6000.0, 16_000, 3200), 16_000, 8_000);
        assert!(output[200..1400].iter().all(|s| s.abs() < 50));
    }

    #[test]
    fn lengths() {
        assert_eq!(resample(&[], 8_000, 16_000), Vec::<i16>::new());
        assert_eq!(resample(&[1, 2, 3], 8_000, 16_000).len(), 6);
        assert_eq!(resample(&[1, 2, 3], 16_000, 8_000).len(), 2);
        assert_eq!(resample(&[1, 2, 3], 8_000, 8_000), [1, 2, 3]);
    }
}
