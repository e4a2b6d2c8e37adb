//! Ranges of values that are all at hand, as weights are.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, Segment};
use super::number::Format;
use super::{Grid, QuantError, Range, Scheme};

/// How the range of each group of weights is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// All values lie in it.
    #[default]
    MinMax,
    /// Of the full range times 1, 0.99, … 0.2, that with the smallest Σ (x − dq(q(x)))²; of equals the widest. What is left out is cut.
    /// A float format's relative error hardly depends on its scale, so that floats keep the full range.
    Mse,
}

/// Range factors that [`Fit::Mse`] tries, in hundredths.
const FACTORS: std::ops::RangeInclusive<u8> = 20..=100;

impl Fit {
    /// Every way.
    pub const ALL: [Fit; 2] = [Fit::MinMax, Fit::Mse];

    /// Its name in commands and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Fit::MinMax => "min-max",
            Fit::Mse => "mse",
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fit {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Fit, QuantError> {
        let known = || Fit::ALL.map(Fit::name).join(", ");
        let unknown = || QuantError::Unknown { text: text.into(), kind: "range of weights", known: known() };
        Fit::ALL.into_iter().find(|fit| fit.name() == text).ok_or_else(unknown)
    }
}

/// The range of each group of elements that share a scale; 0 … 0 of a group without elements.
pub(crate) fn ranges(scheme: &Scheme, layout: &Layout, values: &[f32], fit: Fit) -> Result<Vec<Range>, QuantError> {
    layout.check(values.len())?;
    // All at once, so that an error counts all of them.
    Range::of(values)?;
    let groups = gather(layout, values);
    groups.par_iter().map(|group| range(scheme, group, fit)).collect()
}

/// The range of some values that share a scale.
pub(super) fn range(scheme: &Scheme, values: &[f32], fit: Fit) -> Result<Range, QuantError> {
    let full = Range::of(values)?.unwrap_or(Range { min: 0.0, max: 0.0 });
    Ok(match fit {
        Fit::MinMax => full,
        Fit::Mse => least_squares(scheme, full, values),
    })
}

/// The elements of each group.
fn gather(layout: &Layout, values: &[f32]) -> Vec<Vec<f32>> {
    let mut groups = vec![vec![]; layout.groups()];
    for segment in layout.segments(values.len()) {
        match segment {
            Segment::One { values: at, group } => groups[group].extend_from_slice(&values[at]),
            Segment::Each { values: at, groups: of } => groups[of].iter_mut().zip(&values[at]).for_each(|(group, x)| group.push(*x)),
        }
    }
    groups
}

fn least_squares(scheme: &Scheme, full: Range, values: &[f32]) -> Range {
    let Format::Integer(codes) = scheme.format() else { return full };
    let error = |range: Range| {
        let Grid { scale, zero_point } = Grid::new(scheme, range);
        // In steps, so that no square overflows.
        let steps = squares(values, |x| x / scale - codes.round(x / scale, zero_point));
        steps * f64::from(scale).powi(2)
    };
    let candidates = FACTORS.rev().map(|hundredths| full.scaled(f32::from(hundredths) / 100.0));
    let best = candidates.map(|range| (error(range), range)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(full, |(_, range)| range)
}

/// Σ f(x)², in eight sums.
#[inline(always)]
fn squares(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for part in values.chunks(4096) {
        let (eights, rest) = part.as_chunks::<8>();
        let mut sums = [0.0f32; 8];
        let add = |(sum, x): (&mut f32, &f32)| {
            let y = f(*x);
            *sum += y * y;
        };
        eights.iter().for_each(|eight| sums.iter_mut().zip(eight).for_each(add));
        sums.iter_mut().zip(rest).for_each(add);
        total += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Granularity, Number, Symmetry};
    use proptest::prelude::*;

    #[test]
    fn an_outlier_is_cut_where_that_pays() {
        // With codes −1, 0 and 1, whole range: 1 becomes 0 a hundred times, which costs 100; 2·0.5 costs (2 − 1)² = 1.
        let mut values = vec![1.0; 100];
        values.push(2.0);
        let scheme = Scheme::new(Number::Int2, Granularity::Tensor, Symmetry::Symmetric);
        let layout = Layout::new(scheme.granularity, &[101]).expect("fits");
        assert_eq!(ranges(&scheme, &layout, &values, Fit::MinMax).expect("finite"), [Range { min: 1.0, max: 2.0 }]);
        let cut = ranges(&scheme, &layout, &values, Fit::Mse).expect("finite")[0];
        assert!((1.0..1.05).contains(&cut.max), "{cut:?}");
    }

    proptest! {
        /// The definition: among the candidates none has a smaller error, so that min-max is never better.
        #[test]
        fn mse_is_never_worse(values in prop::collection::vec(-1.0f32..1.0, 1..60), outlier in 1.0f32..20.0) {
            let mut values = values;
            values.push(outlier);
            for (number, symmetry) in [Number::Int8, Number::Int4, Number::Uint4, Number::Int2]
                .into_iter()
                .flat_map(|number| [(number, Symmetry::Symmetric), (number, Symmetry::Asymmetric)])
            {
                let scheme = Scheme::new(number, Granularity::Tensor, symmetry);
                let error = |fit: Fit| {
                    let quantizer = crate::quant::Quantizer::fit(scheme, &[values.len()], &values, fit).expect("fits");
                    let mut back = values.clone();
                    quantizer.fake_quantize(&mut back).expect("finite");
                    values.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
                };
                prop_assert!(error(Fit::Mse) <= error(Fit::MinMax) * 1.000_01, "{scheme}");
            }
        }
    }
}
