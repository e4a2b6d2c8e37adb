//! Functions of a number that the compiler can run on vectors.

/// x kept between `lo` and `hi`; where `lo` > `hi`, `hi` wins, and what is not a number stays.
#[inline(always)]
pub(crate) fn clip(x: f32, [lo, hi]: [f32; 2]) -> f32 {
    let raised = if x < lo { lo } else { x };
    if raised > hi { hi } else { raised }
}

/// eˣ to two units in the last place, by the reduction and polynomial of Cephes (Moshier). Results below 2⁻¹²⁵ are 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LEAST: f32 = -86.643_4;
    const MOST: f32 = 88.722_84;
    // Adding this leaves no bits behind the point.
    const ROUNDING: f32 = 12_582_912.0;
    let inside = if x < LEAST { LEAST } else { x };
    let inside = if inside > MOST { MOST } else { inside };
    // x = n·ln 2 + r; ln 2 in two parts, so that the first product is exact.
    let shifted = inside * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    let r = inside - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let tail = 1.987_569_1e-4;
    let tail = tail * r + 1.398_2e-3;
    let tail = tail * r + 8.333_452e-3;
    let tail = tail * r + 4.166_579_6e-2;
    let tail = tail * r + 0.166_666_66;
    let tail = tail * r + 0.5;
    let power = tail * r * r + r + 1.0;
    // 2ⁿ⁻¹ from its exponent, and doubled, since 2¹²⁸ has none.
    let half = f32::from_bits((shifted.to_bits() << 23).wrapping_add(126 << 23));
    let y = power * half * 2.0;
    let y = if x < LEAST { 0.0 } else { y };
    if x > MOST { f32::INFINITY } else { y }
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function to 4e-7, by the rational approximation of Eigen: odd polynomial over even polynomial on |x| ≤ 4.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let inside = if x < -4.0 { -4.0 } else { x };
    let x = if inside > 4.0 { 4.0 } else { inside };
    let s = x * x;
    let over = -2.726_142e-10;
    let over = over * s + 2.770_681_4e-8;
    let over = over * s - 2.101_024e-6;
    let over = over * s - 5.692_506_5e-5;
    let over = over * s - 7.349_906e-4;
    let over = over * s - 2.954_6e-3;
    let over = over * s - 1.609_603_3e-2;
    let under = -1.456_607_2e-5;
    let under = under * s - 2.133_740_6e-4;
    let under = under * s - 1.682_827e-3;
    let under = under * s - 7.373_329e-3;
    let under = under * s - 1.426_473_9e-2;
    x * over / under
}

/// x·Φ(x), Φ the distribution function of the normal distribution.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Φ(x) + x·φ(x)
#[inline(always)]
pub(crate) fn gelu_slope(x: f32) -> f32 {
    const DENSITY: f32 = 0.398_942_3; // 1/√(2π)
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * DENSITY * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -860_000..887_000 {
            let x = i as f32 * 1e-4;
            let (got, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact, "exp({x}) is {exact} but {got}");
        }
        assert_eq!([exp(f32::NEG_INFINITY), exp(-100.0), exp(0.0), exp(89.0)], [0.0, 0.0, 1.0, f32::INFINITY]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn erf_and_gelu_are_those_of_tables() {
        // Abramowitz & Stegun, table 7.1.
        for (x, y) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (3.5, 0.999_999_3), (9.0, 1.0)] {
            assert!((erf(x) - y).abs() < 4e-7 && (erf(-x) + y).abs() < 4e-7, "erf({x}) is {y} but {}", erf(x));
        }
        assert!(erf(f32::NAN).is_nan());
        assert!((gelu(1.0) - 0.841_344_7).abs() < 1e-6 && gelu(-20.0).abs() < 1e-5 && (gelu(20.0) - 20.0).abs() < 1e-5);
        for x in [-3.0f32, -0.7, 0.0, 0.4, 2.5] {
            let h = 1e-2;
            let difference = (gelu(x + h) - gelu(x - h)) / (2.0 * h);
            assert!((gelu_slope(x) - difference).abs() < 2e-4, "{x}: {difference} but {}", gelu_slope(x));
        }
    }
}
