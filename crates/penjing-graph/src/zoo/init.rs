//! Random initial weights, the same bytes on every machine.
//!
//! Only integer steps, + − · / and √ are used, which IEEE 754 rounds the same everywhere; a platform's own `ln` or
//! `cos` does not promise that.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded source of weights: ChaCha with 8 rounds, the seed in the first eight octets of its key.
#[derive(Debug)]
pub(super) struct Generator(ChaCha8Rng);

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Generator(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// `count` values uniform in [−bound, bound).
    pub(super) fn uniform(&mut self, count: usize, bound: f64) -> Vec<f32> {
        (0..count).map(|_| (bound * (2.0 * self.unit() - 1.0)) as f32).collect()
    }

    /// `count` values of the normal distribution around 0.
    pub(super) fn normal(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            let pair = self.normal_pair();
            values.extend(pair.iter().take(count - values.len()).map(|z| (deviation * z) as f32));
        }
        values
    }

    /// Two independent standard normal values (Marsaglia's polar method).
    fn normal_pair(&mut self) -> [f64; 2] {
        loop {
            let (u, v) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let s = u * u + v * v;
            if 0.0 < s && s < 1.0 {
                let scale = (-2.0 * ln(s) / s).sqrt();
                return [u * scale, v * scale];
            }
        }
    }
}

/// Natural logarithm of a positive normal number: x = m·2ᵉ with √½ ≤ m < √2 ⇒ ln x = e·ln 2 + 2·artanh((m − 1)/(m + 1)).
fn ln(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & FRACTION | 1.0f64.to_bits());
    if mantissa >= std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    // artanh t = t + t³/3 + t⁵/5 + …; |t| < 0.172, so that the eleventh term is below 2⁻⁵³.
    let series = (0..11).rev().fold(0.0, |sum, k| sum * t * t + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_is_exact_to_the_last_digits() {
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(2.0), std::f64::consts::LN_2);
        for x in [1e-300, 1e-30, 0.1, 0.5, 0.71, 0.999, 1.41, 1.5, 3.0, 1e9] {
            assert!((ln(x) - f64::ln(x)).abs() <= 4e-16 * f64::ln(x).abs(), "ln {x}: {} is not {}", ln(x), f64::ln(x));
        }
    }

    #[test]
    fn first_values_of_a_seed_never_change() {
        let mut generator = Generator::new(7);
        let uniform: Vec<u32> = generator.uniform(2, 1.0).iter().map(|v| v.to_bits()).collect();
        let normal: Vec<u32> = generator.normal(3, 1.0).iter().map(|v| v.to_bits()).collect();
        assert_eq!((uniform, normal), (vec![1057438029, 3180037376], vec![3213655121, 3217654217, 3205024095]));
    }

    #[test]
    fn normal_values_have_the_moments_of_a_normal_distribution() {
        let n = 100_000;
        let values = Generator::new(0).normal(n, 2.0);
        let moment = |power| values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / n as f64;
        // Five standard errors: σ/√n, σ²·√(2/n), and for z⁴ (mean 3σ⁴) σ⁴·√(96/n).
        let root = (n as f64).sqrt();
        assert!(moment(1).abs() < 5.0 * 2.0 / root, "mean {}", moment(1));
        assert!((moment(2) - 4.0).abs() < 5.0 * 4.0 * 2f64.sqrt() / root, "variance {}", moment(2));
        assert!((moment(4) - 48.0).abs() < 5.0 * 16.0 * 96f64.sqrt() / root, "fourth moment {}", moment(4));
    }

    #[test]
    fn uniform_values_fill_their_range() {
        let values = Generator::new(0).uniform(10_000, 0.5);
        assert!(values.iter().all(|v| (-0.5..=0.5).contains(v)));
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        assert!(low < -0.499 && high > 0.499, "{low} to {high}");
    }
}
