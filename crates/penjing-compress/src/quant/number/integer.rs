//! Integers: whole numbers of steps from a zero point.

use super::Bits;

/// The codes that may be used, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// The smallest.
    pub low: i32,
    /// The largest.
    pub high: i32,
}

impl Codes {
    /// Number of steps from the smallest to the largest.
    pub fn steps(self) -> i32 {
        self.high - self.low
    }

    /// The code of zero where the range is symmetric: 0, or for unsigned codes the middle, 128 of 0 … 255.
    pub fn middle(self) -> i32 {
        if self.low < 0 { 0 } else { (self.high + 1) / 2 }
    }

    /// How many steps there are on both sides of the middle: 127 for 8 bits.
    pub fn half(self) -> i32 {
        (self.high - self.middle()).min(self.middle() - self.low)
    }

    /// Those of so many bits, as many below zero as above where there are any below: −7 … 7 of −128 … 127 for 4 bits, 0 … 15 of 0 … 255.
    /// No more than there are.
    #[must_use]
    pub fn of_bits(self, bits: Bits) -> Codes {
        let half = (1 << (bits.get() - 1)) - 1;
        match self.low {
            0.. => Codes { low: self.low, high: self.high.min(2 * half + 1) },
            _ => Codes { low: self.low.max(-half), high: self.high.min(half) },
        }
    }

    /// `steps` from the zero point, rounded half to even and cut where codes end: QuantizeLinear's saturate(round(x / scale) + zero
    /// point) minus the zero point.
    #[inline(always)]
    pub(crate) fn round(self, steps: f32, zero_point: i32) -> f32 {
        // Ends are whole, so that it is the same to cut first.
        let (low, high) = ((self.low - zero_point) as f32, (self.high - zero_point) as f32);
        let steps = if steps > low { steps } else { low };
        let steps = if steps < high { steps } else { high };
        round_half_even(steps)
    }

    /// The code of `steps` from the zero point.
    #[inline(always)]
    pub(crate) fn encode(self, steps: f32, zero_point: i32) -> i32 {
        // A whole number plus `SHIFTER` has it in its last bits; `as` would check for what cannot be.
        ((self.round(steps, zero_point) + SHIFTER).to_bits() as i32) - SHIFTER.to_bits() as i32 + zero_point
    }
}

/// 1.5 · 2²³: numbers of this size are whole.
const SHIFTER: f32 = 12_582_912.0;

/// The nearest whole number, ties to the even one, of |x| ≤ 2²². Two additions, where `round_ties_even` is a call before SSE 4.1.
#[inline(always)]
fn round_half_even(x: f32) -> f32 {
    (x + SHIFTER) - SHIFTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INT8: Codes = Codes { low: -128, high: 127 };

    #[test]
    fn half_goes_to_even_by_hand() {
        let codes = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 200.0, -200.0].map(|x| INT8.encode(x, 0));
        assert_eq!(codes, [-2, -2, 0, 0, 2, 2, 127, -128]);
        // Rounded before the zero point is added: 0.5 → 0 → 3, not 3.5 → 4.
        assert_eq!([0.5, 1.5, 130.0, f32::INFINITY, f32::NEG_INFINITY].map(|x| INT8.encode(x, 3)), [3, 5, 127, 127, -128]);
    }

    #[test]
    fn middles_and_halves() {
        let unsigned = Codes { low: 0, high: 255 };
        assert_eq!((INT8.middle(), INT8.half(), INT8.steps()), (0, 127, 255));
        assert_eq!((unsigned.middle(), unsigned.half()), (128, 127));
        assert_eq!(Codes { low: -2, high: 1 }.half(), 1);
        let of_bits = |codes: Codes, bits: u8| codes.of_bits(Bits::try_from(bits).expect("a width"));
        assert_eq!([8, 7, 4, 2].map(|bits| of_bits(INT8, bits)), [127, 63, 7, 1].map(|half| Codes { low: -half, high: half }));
        assert_eq!([8, 7, 4, 2].map(|bits| of_bits(unsigned, bits).high), [255, 127, 15, 3]);
        // Narrow codes do not grow.
        assert_eq!(of_bits(Codes { low: -2, high: 1 }, 4), Codes { low: -2, high: 1 });
    }

    proptest! {
        #[test]
        fn rounds_like_ieee(x in -4_194_304.0f32..4_194_304.0, halves in -70_000i32..70_000) {
            prop_assert_eq!(round_half_even(x), x.round_ties_even());
            let tie = halves as f32 / 2.0;
            prop_assert_eq!(round_half_even(tie), tie.round_ties_even());
        }
    }
}
