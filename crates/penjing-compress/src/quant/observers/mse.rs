use super::histogram::Bins;
use super::{Histogram, Observer};
use crate::quant::number::{Codes, Format};
use crate::quant::{Grid, QuantError, Range, Scheme, Symmetry};

/// The range with the least mean squared error of quantization, what is cut included: one threshold for both signs first, then, where
/// the scheme is asymmetric, each end by itself. Floats keep the full range: their relative error hardly depends on it.
#[derive(Clone, Debug, Default)]
pub struct Mse {
    histogram: Histogram,
}

/// Thresholds are tried in eighths of an octave, over this many octaves.
const OCTAVES: i32 = 8;
/// Then between the neighbours of the best, in so many parts.
const PARTS: i32 = 16;

impl Mse {
    /// That range for what a histogram has seen; `None` where that is nothing.
    pub fn of(histogram: &Histogram, scheme: &Scheme) -> Option<Range> {
        let seen = histogram.seen()?;
        let bins = histogram.nonzero();
        let Format::Integer(codes) = scheme.format() else { return Some(seen) };
        if bins.counts.is_empty() {
            return Some(seen);
        }
        let error = |range: Range| squared_error(&bins, codes, Grid::new(scheme, range));
        let threshold = least(seen.abs_max(), |threshold| error(seen.within(threshold)));
        let mut best = seen.within(threshold);
        if scheme.symmetry == Symmetry::Asymmetric && best.min < 0.0 && best.max > 0.0 {
            let wide = seen.with_zero();
            let min = -least(-wide.min, |min| error(Range { min: -min, ..best }));
            let alone = Range { min, ..best };
            best = if error(alone) < error(best) { alone } else { best };
            let max = least(wide.max, |max| error(Range { max, ..best }));
            let alone = Range { max, ..best };
            best = if error(alone) < error(best) { alone } else { best };
        }
        Some(best)
    }
}

impl Observer for Mse {
    fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        self.histogram.observe(values)
    }

    fn range(&self, scheme: &Scheme) -> Option<Range> {
        Mse::of(&self.histogram, scheme)
    }
}

/// Where up to `largest` an error is least, of equals the largest.
fn least(largest: f32, error: impl Fn(f32) -> f64) -> f32 {
    let better = |(best, least): (f32, f64), at: f32| {
        let error = error(at);
        if error < least { (at, error) } else { (best, least) }
    };
    let octaves = |eighths: f32| largest * (-eighths / 8.0).exp2();
    let (coarse, eighths, least) = (0..=8 * OCTAVES).fold((largest, 0, f64::INFINITY), |(best, place, least), eighths| {
        let (at, error) = better((best, least), octaves(eighths as f32));
        if error < least { (at, eighths, error) } else { (best, place, least) }
    });
    let fine = (1 - PARTS..PARTS).map(|part| octaves((eighths as f32 + part as f32 / PARTS as f32).max(0.0)));
    fine.fold((coarse, least), better).0
}

/// Σ over bins of count · mean (x − dq(q(x)))² of numbers spread evenly over the bin. That integral is known exactly, so that bins may be
/// wider than a step.
fn squared_error(bins: &Bins, codes: Codes, grid: Grid) -> f64 {
    let step = f64::from(grid.scale);
    let (low, high) = (f64::from(codes.low - grid.zero_point), f64::from(codes.high - grid.zero_point));
    // In steps, with k the code of u counted from the zero point: ∫₀ᵘ (u − k)² du = k/12 + (u − k)³/3, beyond the codes too.
    let antiderivative = |u: f64| {
        let inside = if u > low { u } else { low };
        let inside = if inside < high { inside } else { high };
        let k = (inside + SHIFTER) - SHIFTER;
        let rest = u - k;
        k / 12.0 + rest * rest * rest / 3.0
    };
    let per_bin = bins.width / step;
    let edge = |i: usize| (f64::from(bins.first) + i as f64) * per_bin;
    let (chunks, rest) = bins.counts.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    let mut add = |start: usize, counts: &[f64]| {
        for (lane, (sum, count)) in sums.iter_mut().zip(counts).enumerate() {
            *sum += count * (antiderivative(edge(start + lane + 1)) - antiderivative(edge(start + lane)));
        }
    };
    chunks.iter().enumerate().for_each(|(chunk, counts)| add(chunk * LANES, counts));
    add(chunks.len() * LANES, rest);
    sums.iter().sum::<f64>() * step * step / per_bin
}

/// Bins that are added up side by side.
const LANES: usize = 4;
/// 1.5 · 2⁵²: numbers of this size are whole, so that adding it rounds half to even.
const SHIFTER: f64 = 6_755_399_441_055_744.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Number;
    use crate::quant::observers::tests::per_tensor;
    use proptest::prelude::*;

    fn seen(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.observe(values).expect("finite");
        histogram
    }

    /// Σ (x − dq(q(x)))²
    fn measured(values: &[f32], scheme: Scheme, range: Range) -> f64 {
        let quantizer = crate::quant::Quantizer::new(scheme, &[], &[range]).expect("fits");
        let mut back = values.to_vec();
        quantizer.fake_quantize(&mut back).expect("finite");
        values.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum()
    }

    #[test]
    fn one_outlier_is_cut_where_that_pays() {
        let mut values: Vec<f32> = (0..10_000).map(|i| (i as f32 / 5000.0) - 1.0).collect();
        values.push(60.0);
        let scheme = per_tensor(Number::Int4, Symmetry::Symmetric);
        // Cut, it costs (60 − 4)² and all else (4/7)²/12 each; not cut, (60/7)²/12 would round all else to zero, 1/3 each.
        let range = Mse::of(&seen(&values), &scheme).expect("seen");
        let best = measured(&values, scheme, range);
        for threshold in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0] {
            let other = measured(&values, scheme, Range { min: -1.0, max: threshold });
            assert!(best <= other * 1.001, "{range:?} costs {best}, {threshold} {other}");
        }
    }

    #[test]
    fn the_known_optimum_of_a_normal_distribution() {
        // The uniform quantizer of 16 levels of least error for N(0, 1) has a step of 0.3352: Max 1960, "Quantizing for Minimum
        // Distortion", table II. 4,096 quantiles stand for the distribution; with codes −8 … 7 around a level at zero it is nearly that.
        let values: Vec<f32> = (0..4096).map(|i| normal_quantile((f64::from(i) + 0.5) / 4096.0) as f32).collect();
        let range = Mse::of(&seen(&values), &per_tensor(Number::Int4, Symmetry::Symmetric)).expect("seen");
        assert!((range.abs_max() / 7.0 - 0.3352).abs() < 0.02, "{range:?}");
    }

    /// By bisection of ½ + φ(x) · (x + x³/3 + x⁵/15 + …).
    fn normal_quantile(p: f64) -> f64 {
        let cumulative = |x: f64| {
            let mut term = x;
            let mut sum = x;
            for n in 1..100 {
                term *= x * x / (2 * n + 1) as f64;
                sum += term;
            }
            0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
        };
        let (mut low, mut high) = (-6.0, 6.0);
        for _ in 0..40 {
            let middle = (low + high) / 2.0;
            if cumulative(middle) < p { low = middle } else { high = middle }
        }
        low
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// What the histogram says an error is lies near what it is, and the range that is chosen is never worse than the full one.
        #[test]
        fn the_error_is_that_of_the_values(
            values in prop::collection::vec(-1.0f32..3.0, 200..400), threshold in 0.1f32..3.0, outlier in 3.0f32..30.0,
        ) {
            let mut values = values;
            values.push(outlier);
            let histogram = seen(&values);
            for (number, symmetry) in [
                (Number::Int8, Symmetry::Symmetric), (Number::Uint8, Symmetry::Asymmetric), (Number::Int4, Symmetry::Asymmetric),
            ] {
                let scheme = per_tensor(number, symmetry);
                let Format::Integer(codes) = scheme.format() else { continue };
                let range = histogram.seen().expect("seen").within(threshold);
                let said = squared_error(&histogram.nonzero(), codes, Grid::new(&scheme, range));
                let is = measured(&values, scheme, range);
                // Values are spread over a bin, of which a step of 8 bits has at least 8 / 3 / 30.
                prop_assert!((said - is).abs() <= 0.25 * is, "{scheme}: {said}, not {is}");
                let full = histogram.seen().expect("seen");
                let chosen = measured(&values, scheme, Mse::of(&histogram, &scheme).expect("seen"));
                prop_assert!(chosen <= 1.1 * measured(&values, scheme, full), "{scheme}");
            }
        }
    }
}
