//! Floats of fewer bits than 32.

/// A float with a sign, `exponent` bits biased by 2^(exponent − 1) − 1 and `fraction` bits, subnormals included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatFormat {
    exponent: u32,
    fraction: u32,
    largest: f32,
    saturates: bool,
}

impl FloatFormat {
    pub(super) const FLOAT16: FloatFormat = FloatFormat { exponent: 5, fraction: 10, largest: 65_504.0, saturates: false };
    pub(super) const BFLOAT16: FloatFormat = FloatFormat { exponent: 8, fraction: 7, largest: 3.389_531_4e38, saturates: false };
    pub(super) const E4M3FN: FloatFormat = FloatFormat { exponent: 4, fraction: 3, largest: 448.0, saturates: true };
    pub(super) const E5M2: FloatFormat = FloatFormat { exponent: 5, fraction: 2, largest: 57_344.0, saturates: true };

    /// Bits that one takes.
    pub fn bits(self) -> u32 {
        1 + self.exponent + self.fraction
    }

    /// The largest finite number.
    pub fn largest(self) -> f32 {
        self.largest
    }

    /// Whether larger numbers become the largest (QuantizeLinear to 8 bits), not infinite (Cast to 16 bits).
    pub fn saturates(self) -> bool {
        self.saturates
    }

    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    /// The smallest number that is not subnormal: 2^(1 − bias).
    fn smallest_normal(self) -> f32 {
        power_of_two(1 - self.bias())
    }

    /// The nearest number of the format, ties to the even fraction. Beyond the largest: the largest, or infinity where it does not
    /// saturate.
    #[inline(always)]
    pub(crate) fn round(self, x: f32) -> f32 {
        let magnitude = x.abs().to_bits();
        let shift = 23 - self.fraction;
        // Adding just under half of the last place, and a bit more where that place is odd, carries where it should.
        let carried = magnitude + ((1 << (shift - 1)) - 1) + ((magnitude >> shift) & 1);
        let normal = f32::from_bits(carried >> shift << shift);
        // Subnormals are multiples of 2^(1 − bias − fraction), as are numbers of the size of `shifter`.
        let shifter = 1.5 * power_of_two(1 - self.bias() + shift as i32);
        let subnormal = (x.abs() + shifter) - shifter;
        let rounded = if x.abs() < self.smallest_normal() { subnormal } else { normal };
        let beyond = if self.saturates { self.largest } else { f32::INFINITY };
        (if rounded > self.largest { beyond } else { rounded }).copysign(x)
    }

    /// The bits of the number nearest to `x`.
    #[inline(always)]
    pub(crate) fn encode(self, x: f32) -> i32 {
        let rounded = self.round(x);
        let magnitude = rounded.abs();
        let rebased = (magnitude.to_bits() >> (23 - self.fraction)) as i32 - ((127 - self.bias()) << self.fraction);
        let places = (magnitude * power_of_two(self.bias() - 1)) * power_of_two(self.fraction as i32);
        let bits = if magnitude < self.smallest_normal() { places as i32 } else { rebased };
        bits | (((rounded.to_bits() >> 31) as i32) << (self.bits() - 1))
    }

    /// The finite number of some bits.
    #[inline(always)]
    pub(crate) fn decode(self, bits: i32) -> f32 {
        let sign = (bits as u32 >> (self.bits() - 1)) << 31;
        let magnitude = bits as u32 & ((1 << (self.bits() - 1)) - 1);
        // Read with a float32's bias it is 2^(127 − bias) too small, subnormals too.
        let rebased = f32::from_bits(magnitude << (23 - self.fraction)) * power_of_two(127 - self.bias());
        f32::from_bits(rebased.to_bits() | sign)
    }
}

/// 2^exponent, −126 ≤ exponent ≤ 127.
pub(crate) const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [FloatFormat; 4] = [FloatFormat::FLOAT16, FloatFormat::BFLOAT16, FloatFormat::E4M3FN, FloatFormat::E5M2];

    fn finite_codes(format: FloatFormat) -> impl Iterator<Item = i32> {
        0..=format.encode(format.largest)
    }

    #[test]
    fn known_bits() {
        let bits = |format: FloatFormat, values: &[f32]| values.iter().map(|x| format.encode(*x)).collect::<Vec<_>>();
        assert_eq!(bits(FloatFormat::FLOAT16, &[1.0, -2.0, 65_504.0, 2f32.powi(-24), 0.1]), [0x3C00, 0xC000, 0x7BFF, 0x0001, 0x2E66]);
        assert_eq!(bits(FloatFormat::BFLOAT16, &[1.0, -2.0, 0.1, f32::MIN_POSITIVE]), [0x3F80, 0xC000, 0x3DCD, 0x0080]);
        assert_eq!(bits(FloatFormat::E4M3FN, &[1.0, -448.0, 1000.0, 2f32.powi(-9), 0.015625]), [0x38, 0xFE, 0x7E, 0x01, 0x08]);
        assert_eq!(bits(FloatFormat::E5M2, &[1.0, -57_344.0, 1e6, 2f32.powi(-16), 0.0]), [0x3C, 0xFB, 0x7B, 0x01, 0x00]);
    }

    #[test]
    fn ties_go_to_the_even_fraction() {
        // E4M3 between 16 and 18, 18 and 20; between 0 and the smallest subnormal; 464 is halfway to what would be 480.
        let format = FloatFormat::E4M3FN;
        assert_eq!(
            [17.0, 19.0, 17.001, 2f32.powi(-10), 1.5 * 2f32.powi(-9)].map(|x| format.round(x)),
            [16.0, 20.0, 18.0, 0.0, 2f32.powi(-8)]
        );
        assert_eq!((FloatFormat::FLOAT16.round(65_519.0), FloatFormat::FLOAT16.round(-65_520.0)), (65_504.0, f32::NEG_INFINITY));
        assert_eq!(FloatFormat::BFLOAT16.round(f32::MAX), f32::INFINITY);
    }

    #[test]
    fn every_code_is_read_back() {
        for format in ALL {
            let mut last = -1.0;
            for code in finite_codes(format) {
                let x = format.decode(code);
                assert!(x > last, "{format:?} {code:#x}: {x} after {last}");
                assert_eq!(format.encode(x), code, "{format:?} {x}");
                assert_eq!(format.decode(format.encode(-x)), -x);
                last = x;
            }
            assert_eq!(last, format.largest);
        }
    }

    proptest! {
        /// No number of the format is nearer, and of two as near the one with an even code is taken.
        #[test]
        fn rounds_to_the_nearest(bits in any::<u32>(), exponent in -20i32..20, fraction in 1.0f32..2.0) {
            for x in [f32::from_bits(bits & 0x7FFF_FFFF), fraction * power_of_two(exponent)] {
                for format in ALL {
                    if x > format.largest || x.is_nan() {
                        continue;
                    }
                    let code = format.encode(x);
                    let distance = |code: i32| (f64::from(format.decode(code)) - f64::from(x)).abs();
                    for other in [code - 1, code + 1] {
                        if (0..=format.encode(format.largest)).contains(&other) {
                            let (near, far) = (distance(code), distance(other));
                            prop_assert!(near < far || near == far && code % 2 == 0, "{:?}: {} became {}", format, x, format.decode(code));
                        }
                    }
                }
            }
        }
    }
}
