use super::{Histogram, Observer};
use crate::quant::{QuantError, Range, Scheme, Symmetry};

/// What holds a stated share of all values: of magnitudes where the scheme is symmetric, else with as many cut on either side. Ends are
/// edges of bins, so that never more is cut than stated.
#[derive(Clone, Debug)]
pub struct Percentile {
    share: f64,
    histogram: Histogram,
}

impl Percentile {
    /// For `percent` of all values, 0 to 100; other numbers are taken as the nearest of these.
    pub fn new(percent: f64) -> Percentile {
        Percentile { share: percent.clamp(0.0, 100.0) / 100.0, histogram: Histogram::default() }
    }

    /// The range that holds `percent` of what a histogram has seen; `None` where that is nothing.
    pub fn of(histogram: &Histogram, percent: f64, symmetry: Symmetry) -> Option<Range> {
        let seen = histogram.seen()?.with_zero();
        let bins = histogram.nonzero();
        let total = bins.counts.iter().sum::<f64>() + histogram.zeros() as f64;
        let cut = (total * (1.0 - percent / 100.0)).floor();
        let bin = |at: i32| usize::try_from(at - bins.first).ok().and_then(|at| bins.counts.get(at)).copied().unwrap_or(0.0);
        let below = -bins.first.min(0);
        let above = (bins.first + bins.counts.len() as i32).max(0);
        // Magnitudes up to i·w are kept, for the smallest i beyond which no more than `most` lie.
        let edge = |outermost: i32, most: f64, count: &dyn Fn(i32) -> f64| {
            let mut beyond = 0.0;
            let kept = (0..outermost).rev().find(|i| {
                beyond += count(*i);
                beyond > most
            });
            (kept.map_or(0.0, |i| f64::from(i + 1)) * bins.width) as f32
        };
        match symmetry {
            Symmetry::Symmetric => Some(seen.within(edge(below.max(above), cut, &|i| bin(i) + bin(-1 - i)))),
            Symmetry::Asymmetric => {
                let half = (cut / 2.0).floor();
                let (min, max) = (0.0 - edge(below, half, &|i| bin(-1 - i)), edge(above, half, &bin));
                Some(Range { min: min.max(seen.min), max: max.min(seen.max) })
            }
        }
    }
}

impl Default for Percentile {
    /// 99.99 % of all values.
    fn default() -> Percentile {
        Percentile::new(99.99)
    }
}

impl Observer for Percentile {
    fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        self.histogram.observe(values)
    }

    fn range(&self, scheme: &Scheme) -> Option<Range> {
        Percentile::of(&self.histogram, self.share * 100.0, scheme.symmetry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f32], percent: f64, symmetry: Symmetry) -> Range {
        let mut histogram = Histogram::default();
        histogram.observe(values).expect("finite");
        Percentile::of(&histogram, percent, symmetry).expect("seen")
    }

    #[test]
    fn tails_by_hand() {
        // 100 values from −50 to 49; with the largest at 4095 a bin is 1 wide.
        let mut values: Vec<f32> = (0..100).map(|i| (i - 50) as f32).collect();
        values[99] = 4095.0;
        // 4 may go: 4095, −50, −49 and one of ±48, of which there are two, so that these stay; −48 lies below 49.
        assert_eq!(of(&values, 96.0, Symmetry::Symmetric), Range { min: -49.0, max: 49.0 });
        // 2 on either side: −50 and −49; 4095 and 48. What is left reaches from −48 to 47.
        assert_eq!(of(&values, 96.0, Symmetry::Asymmetric), Range { min: -49.0, max: 48.0 });
        assert_eq!(of(&values, 100.0, Symmetry::Asymmetric), Range { min: -50.0, max: 4095.0 });
    }

    proptest! {
        /// No more than the stated share is cut.
        #[test]
        fn the_share_is_kept(values in prop::collection::vec(-10.0f32..100.0, 1..400), percent in 50.0f64..100.0) {
            for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
                let range = of(&values, percent, symmetry);
                let cut = values.iter().filter(|x| **x < range.min || **x > range.max).count() as f64;
                prop_assert!(cut <= values.len() as f64 * (1.0 - percent / 100.0) + 1e-9, "{symmetry}: {cut} of {}", values.len());
            }
        }
    }
}
