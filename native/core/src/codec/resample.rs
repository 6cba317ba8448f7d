//! Sample rate conversion by a windowed sinc; used once per prompt at load.

use std::f64::consts::PI;

/// Zero crossings on each side of the kernel.
const CROSSINGS: f64 = 24.0;

/// Convert samples between any two rates in Hz.
///
/// Between two whole rates the positions of the output repeat: there are only `to / gcd` different sets of weights, which
/// are worked out once (a polyphase filter). The rest is multiplication.
pub fn resample(input: &[i16], from: u32, to: u32) -> Vec<i16> {
    if from == to {
        return input.to_vec();
    }
    let common = gcd(from, to);
    let (step, phases) = ((from / common) as usize, (to / common) as usize);
    let ratio = f64::from(to) / f64::from(from);
    // The pass band ends a little below the lower of the two Nyquist frequencies.
    let cutoff = ratio.min(1.0) * 0.94;
    let reach = CROSSINGS / cutoff;
    let side = reach.ceil() as usize;
    let weights: Vec<Vec<f32>> =
        (0..phases).map(|phase| weights(phase as f64 / phases as f64, cutoff, reach)).collect();
    // Silence on both sides, so that every output has all its neighbours.
    let mut padded = vec![0.0; side - 1];
    padded.extend(input.iter().map(|&sample| f32::from(sample)));
    padded.resize(input.len() + 2 * side, 0.0);
    let length = (input.len() * phases).div_ceil(step);
    let sample = |n: usize| {
        let (before, phase) = (n * step / phases, n * step % phases);
        let sum = dot(&padded[before..before + 2 * side], &weights[phase]);
        sum.round().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16
    };
    (0..length).map(sample).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}

/// Weights of the input samples around an output that lies `fraction` after the one in the middle.
fn weights(fraction: f64, cutoff: f64, reach: f64) -> Vec<f32> {
    let side = reach.ceil();
    let distance = |n: usize| n as f64 - (side - 1.0) - fraction;
    let weight = |n: usize| if distance(n).abs() <= reach { kernel(distance(n), cutoff, reach) as f32 } else { 0.0 };
    (0..2 * side as usize).map(weight).collect()
}

/// Sum of the products, in several lanes so that the processor can work on them at once.
fn dot(samples: &[f32], weights: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (samples, weights) = (samples.chunks_exact(LANES), weights.chunks_exact(LANES));
    let rest: f32 = samples.remainder().iter().zip(weights.remainder()).map(|(a, b)| a * b).sum();
    let mut lanes = [0.0f32; LANES];
    for (samples, weights) in samples.zip(weights) {
        for lane in 0..LANES {
            lanes[lane] += samples[lane] * weights[lane];
        }
    }
    rest + lanes.iter().sum::<f32>()
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
    fn rates_without_a_common_divisor() {
        let output = resample(&tone(1000.0, 44_101, 8_820), 44_101, 16_000);
        let wanted = tone(1000.0, 16_000, output.len());
        assert!((800..2400).all(|n| (i32::from(output[n]) - i32::from(wanted[n])).abs() < 100));
    }

    #[test]
    fn lengths() {
        assert_eq!(resample(&[], 8_000, 16_000), Vec::<i16>::new());
        assert_eq!(resample(&[1, 2, 3], 8_000, 16_000).len(), 6);
        assert_eq!(resample(&[1, 2, 3], 16_000, 8_000).len(), 2);
        assert_eq!(resample(&[1, 2, 3], 8_000, 8_000), [1, 2, 3]);
    }
}
