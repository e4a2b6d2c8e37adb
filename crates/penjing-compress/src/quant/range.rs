//! The smallest and the largest of many numbers.

use serde::{Deserialize, Serialize};

use super::QuantError;

/// What a tensor's values lie between, both ends included and finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Lower end.
    pub min: f32,
    /// Upper end.
    pub max: f32,
}

/// Numbers that are compared side by side, so that the compiler makes vectors of them.
const LANES: usize = 16;

impl Range {
    /// That of `values`; `None` where there are none.
    ///
    /// # Errors
    /// When a value is NaN or infinite.
    pub fn of(values: &[f32]) -> Result<Option<Range>, QuantError> {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        // x · 0 is 0 for finite x and NaN for all others.
        let mut poison = [0.0f32; LANES];
        let mut take = |lane: usize, x: f32| {
            min[lane] = if x < min[lane] { x } else { min[lane] };
            max[lane] = if x > max[lane] { x } else { max[lane] };
            poison[lane] += x * 0.0;
        };
        for chunk in chunks {
            chunk.iter().enumerate().for_each(|(lane, x)| take(lane, *x));
        }
        rest.iter().enumerate().for_each(|(lane, x)| take(lane, *x));
        if poison.iter().any(|p| p.is_nan()) {
            return Err(not_finite(values));
        }
        let smallest = min.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Ok((!values.is_empty()).then_some(Range { min: smallest, max: largest }))
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The smallest range that holds it and zero.
    #[must_use]
    pub fn with_zero(self) -> Range {
        Range { min: self.min.min(0.0), max: self.max.max(0.0) }
    }

    /// What of it, widened to hold zero, has a magnitude of at most `threshold` ≥ 0.
    #[must_use]
    pub fn within(self, threshold: f32) -> Range {
        let Range { min, max } = self.with_zero();
        Range { min: min.max(-threshold), max: max.min(threshold) }
    }

    /// Both ends times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f32) -> Range {
        Range { min: self.min * factor, max: self.max * factor }
    }

    /// max |x| over it.
    pub fn abs_max(self) -> f32 {
        self.min.abs().max(self.max.abs())
    }
}

/// What is wrong with values of which some are not finite.
#[cold]
fn not_finite(values: &[f32]) -> QuantError {
    let mut places = values.iter().enumerate().filter(|(_, x)| !x.is_finite()).map(|(index, _)| index);
    let first = places.next().unwrap_or_default();
    QuantError::NotFinite { count: 1 + places.count(), total: values.len(), first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_by_hand() {
        assert_eq!(Range::of(&[]), Ok(None));
        assert_eq!(Range::of(&[-0.5, 2.0, 1.0]), Ok(Some(Range { min: -0.5, max: 2.0 })));
        let mut long = vec![1.0; 50];
        (long[17], long[49]) = (-3.0, 4.0);
        assert_eq!(Range::of(&long), Ok(Some(Range { min: -3.0, max: 4.0 })));
    }

    #[test]
    fn what_is_not_finite_is_counted_and_placed() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.0; 40];
            (values[19], values[36]) = (bad, bad);
            assert_eq!(Range::of(&values), Err(QuantError::NotFinite { count: 2, total: 40, first: 19 }));
        }
    }

    #[test]
    fn within_a_threshold() {
        let range = Range { min: -1.0, max: 4.0 };
        assert_eq!(range.within(2.0), Range { min: -1.0, max: 2.0 });
        assert_eq!(Range { min: 1.0, max: 4.0 }.within(2.0), Range { min: 0.0, max: 2.0 });
        assert_eq!(range.abs_max(), 4.0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_fold(values in prop::collection::vec(-1e30f32..1e30, 1..70)) {
            let range = Range::of(&values).expect("finite").expect("some");
            prop_assert_eq!(range.min, values.iter().copied().fold(f32::INFINITY, f32::min));
            prop_assert_eq!(range.max, values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
