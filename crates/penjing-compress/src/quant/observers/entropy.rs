use super::histogram::Bins;
use super::{Histogram, Observer};
use crate::quant::number::{Codes, Format};
use crate::quant::{Grid, QuantError, Range, Scheme, Symmetry};

/// The range that loses the least information: the threshold, one for both signs, for which the Kullback-Leibler divergence from the
/// distribution of values cut to it to that of their codes is least. Migacz 2017, "8-bit Inference with TensorRT".
///
/// Only where a code stands for more than one bin is anything lost that a histogram shows: 16-bit codes and floats keep the full range.
#[derive(Clone, Debug, Default)]
pub struct Entropy {
    histogram: Histogram,
}

/// Thresholds that are tried, at most.
const THRESHOLDS: usize = 1024;

impl Entropy {
    /// That range for what a histogram has seen; `None` where that is nothing.
    pub fn of(histogram: &Histogram, scheme: &Scheme) -> Option<Range> {
        let seen = histogram.seen()?;
        let Format::Integer(codes) = scheme.format() else { return Some(seen) };
        let bins = histogram.nonzero();
        let sums = Sums::of(&bins);
        let (low, high) = (bins.first, bins.first + bins.counts.len() as i32);
        let outermost = high.max(-low).max(0);
        let mut best = (f64::INFINITY, seen);
        // From the widest inwards: of equals the widest.
        for edge in (1..=outermost).rev().step_by((outermost as usize).div_ceil(THRESHOLDS).max(1)) {
            let (from, to) = (low.max(-edge), high.min(edge));
            let range = if edge == outermost { seen } else { seen.within((f64::from(edge) * bins.width) as f32) };
            // With fewer bins than codes nothing but the cut is lost.
            let spread = match scheme.symmetry {
                Symmetry::Symmetric => 2 * edge,
                Symmetry::Asymmetric => to.max(0) - from.min(0),
            };
            if spread < codes.steps() || from >= to {
                break;
            }
            let divergence = sums.divergence(&bins, codes, Grid::new(scheme, range), from, to);
            if divergence < best.0 {
                best = (divergence, range);
            }
        }
        Some(best.1)
    }
}

impl Observer for Entropy {
    fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        self.histogram.observe(values)
    }

    fn range(&self, scheme: &Scheme) -> Option<Range> {
        Entropy::of(&self.histogram, scheme)
    }
}

/// Sums over the bins before each edge.
struct Sums {
    /// Σ c
    counts: Vec<f64>,
    /// Bins with c > 0.
    filled: Vec<f64>,
    /// Σ c ln c
    logs: Vec<f64>,
}

impl Sums {
    fn of(bins: &Bins) -> Sums {
        let before = |term: fn(f64) -> f64| {
            let sums = bins.counts.iter().scan(0.0, |sum, count| {
                *sum += term(*count);
                Some(*sum)
            });
            std::iter::once(0.0).chain(sums).collect()
        };
        Sums { counts: before(|c| c), filled: before(|c| f64::from(u8::from(c > 0.0))), logs: before(c_ln_c) }
    }

    /// Σ P ln (P / Q) over the bins between edges `from` and `to`. P: counts, with what lies outside added to the outermost bins. Q: what
    /// inside has the same code, spread evenly over those of its bins that P fills. Infinite where only Q is zero.
    fn divergence(&self, bins: &Bins, codes: Codes, grid: Grid, from: i32, to: i32) -> f64 {
        let (start, end) = ((from - bins.first) as usize, (to - bins.first) as usize);
        let (below, above) = (self.counts[start], self.counts[bins.counts.len()] - self.counts[end]);
        let (total, inside) = (self.counts[bins.counts.len()], self.counts[end] - self.counts[start]);
        if inside <= 0.0 {
            return f64::INFINITY;
        }
        // What the outermost bins gain, and whether that fills them.
        let gain = |at: usize| if at == start { below } else { 0.0 } + if at + 1 == end { above } else { 0.0 };
        let changed = |at: usize| c_ln_c(bins.counts[at] + gain(at)) - c_ln_c(bins.counts[at]);
        let newly = |at: usize| f64::from(u8::from(bins.counts[at] == 0.0 && gain(at) > 0.0));
        let last = end - 1;
        let outermost = |f: &dyn Fn(usize) -> f64| f(start) + if last > start { f(last) } else { 0.0 };
        let p_ln_p = self.logs[end] - self.logs[start] + outermost(&changed);

        let mut p_ln_q = 0.0;
        let codes_per_bin = bins.width / f64::from(grid.scale);
        let mut first = start;
        for code in codes.low..=codes.high {
            // The edge between this code and the next, in bins.
            let edge = (f64::from(code - grid.zero_point) + 0.5) / codes_per_bin - f64::from(bins.first);
            let next = if code == codes.high { end } else { (edge.round() as i64).clamp(first as i64, end as i64) as usize };
            if next > first {
                let holds = |at: usize| (first..next).contains(&at);
                let own = |f: &dyn Fn(usize) -> f64| {
                    (if holds(start) { f(start) } else { 0.0 }) + if holds(last) && last > start { f(last) } else { 0.0 }
                };
                let inside_code = self.counts[next] - self.counts[first];
                let mass = inside_code + own(&gain);
                let filled = self.filled[next] - self.filled[first] + own(&newly);
                if mass > 0.0 {
                    p_ln_q += mass * (inside_code / filled).ln();
                }
                first = next;
            }
        }
        // ln P = ln p − ln total and ln Q = ln q − ln inside, and Σ p = total.
        (p_ln_p - p_ln_q) / total - total.ln() + inside.ln()
    }
}

/// c ln c, 0 at 0.
fn c_ln_c(c: f64) -> f64 {
    if c > 0.0 { c * c.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::observers::tests::per_tensor;
    use crate::quant::{Number, Symmetry};
    use proptest::prelude::*;

    fn seen(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.observe(values).expect("finite");
        histogram
    }

    #[test]
    fn divergence_by_hand() {
        // Bins of 1 from 0; codes 0 and 1 of an unsigned step of 4 stand for [0, 2) and [2, 6).
        let bins = Bins { first: 0, counts: vec![3.0, 1.0, 2.0, 0.0, 2.0], width: 1.0 };
        let sums = Sums::of(&bins);
        let codes = Codes { low: 0, high: 1 };
        let grid = Grid { scale: 4.0, zero_point: 0 };
        // Whole: P = (3, 1, 2, ·, 2)/8, Q = (2, 2, 2, ·, 2)/8.
        let whole = sums.divergence(&bins, codes, grid, 0, 5);
        assert!((whole - (3.0 * 1.5f64.ln() + 0.5f64.ln()) / 8.0).abs() < 1e-12, "{whole}");
        // Cut at 3: P = (3, 1, 2 + 2)/8, Q = (2, 2, 2)/6.
        let cut = sums.divergence(&bins, codes, grid, 0, 3);
        let expected = (3.0 * (9.0f64 / 8.0).ln() + (3.0f64 / 8.0).ln() + 4.0 * 1.5f64.ln()) / 8.0;
        assert!((cut - expected).abs() < 1e-12, "{cut}, not {expected}");
        // Cut at 4: P fills the empty bin with 2, and Q spreads 2 over both: Q = (2, 2, 1, 1)/6.
        let filled = sums.divergence(&bins, codes, grid, 0, 4);
        let expected = (3.0 * (9.0f64 / 8.0).ln() + (3.0f64 / 8.0).ln() + 2.0 * 2.0 * 1.5f64.ln()) / 8.0;
        assert!((filled - expected).abs() < 1e-12, "{filled}, not {expected}");
    }

    #[test]
    fn a_long_thin_tail_is_cut_and_a_flat_distribution_is_not() {
        let scheme = per_tensor(Number::Uint8, Symmetry::Asymmetric);
        let flat: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        let full = seen(&flat).seen().expect("seen");
        assert_eq!(Entropy::of(&seen(&flat), &scheme), Some(full));
        let mut tail: Vec<f32> = flat.iter().map(|p| -(1.0 - p).ln() / 4.0).collect();
        tail.push(20.0);
        let range = Entropy::of(&seen(&tail), &scheme).expect("seen");
        assert!(range.min == 0.0 && range.max > 0.8 && range.max < 5.0, "{range:?}");
    }

    proptest! {
        /// The definition, bin by bin.
        #[test]
        fn sums_agree_with_the_definition(
            counts in prop::collection::vec(prop_oneof![Just(0u32), 1u32..50], 8..40), first in -20i32..5, steps in 2i32..8,
            cut in 0i32..12, zero_point in 0i32..4,
        ) {
            let mut counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let len = counts.len();
            (counts[0], counts[len - 1]) = (1.0, 1.0);
            let bins = Bins { first, counts, width: 1.0 };
            let (from, to) = (first + cut.min(3), first + bins.counts.len() as i32 - cut.min(4));
            let codes = Codes { low: 0, high: steps };
            let grid = Grid { scale: bins.counts.len() as f32 / steps as f32, zero_point: zero_point.min(steps) };
            let inner: Vec<usize> = ((from - first) as usize..(to - first) as usize).collect();
            let (start, end) = (inner[0], inner[inner.len() - 1] + 1);
            let mut p: Vec<f64> = bins.counts[start..end].to_vec();
            let inside: f64 = p.iter().sum();
            p[0] += bins.counts[..start].iter().sum::<f64>();
            p[end - start - 1] += bins.counts[end..].iter().sum::<f64>();
            let total: f64 = p.iter().sum();
            // The middle of a bin decides its code, which is what rounding the edges between codes to those of bins means.
            let code = |at: usize| {
                let middle = f64::from(first) + at as f64 + 0.5;
                let edges = (codes.low..codes.high).filter(|code| {
                    let edge = (f64::from(code - grid.zero_point) + 0.5) * f64::from(grid.scale) - f64::from(first);
                    edge.round() + f64::from(first) < middle
                });
                edges.count()
            };
            let divergence: f64 = inner.iter().map(|at| {
                let peers: Vec<usize> = inner.iter().copied().filter(|other| code(*other) == code(*at)).collect();
                let filled = peers.iter().filter(|peer| p[**peer - start] > 0.0).count() as f64;
                let q = peers.iter().map(|peer| bins.counts[*peer]).sum::<f64>() / filled / inside;
                let p = p[at - start] / total;
                if p > 0.0 { p * (p / q).ln() } else { 0.0 }
            }).sum();
            let found = Sums::of(&bins).divergence(&bins, codes, grid, from, to);
            prop_assert!(found == divergence || inside == 0.0 || (found - divergence).abs() < 1e-9, "{found}, not {divergence}");
            prop_assert!(inside == 0.0 || found >= -1e-12);
        }
    }
}
