//! How often values of each size were seen, in one pass over values of unknown range.

use crate::quant::number::power_of_two;
use crate::quant::{QuantError, Range};

/// Bins for the values of each sign. The largest magnitude lies in the upper half of them, so that 2,048 are always in use.
pub const BINS: usize = 4096;

/// Both signs.
const ALL: usize = 2 * BINS;
/// Counters of a bin, used in turn: adding to one does not wait for the last addition to it, which in zeros after a ReLU it would.
const LANES: usize = 4;
/// Values whose bins are worked out before they are counted.
const CHUNK: usize = 1024;

/// Counts of values in bins of one width, a power of two that doubles when a value lies outside: neighbours are then added in pairs.
/// Bins start at zero and such widths divide exactly, so that the counts depend on the values alone, not on their order.
///
/// Bin `BINS + i` counts i·w ≤ x < (i + 1)·w, bin `BINS − 1 − i` counts −(i + 1)·w < x ≤ −i·w. Zeros are counted by themselves, as
/// every grid stands for them exactly. Takes 192 KiB.
#[derive(Clone, Debug)]
pub struct Histogram {
    seen: Option<Range>,
    zeros: u64,
    /// log₂ of the width of a bin; `None` until a value was seen that is not zero.
    exponent: Option<i32>,
    counts: Box<[u64]>,
    /// Counted since they were last added to `counts`, zeros in bin `BINS` among them.
    lanes: Box<[[u32; LANES]; ALL]>,
    /// The most that a lane can hold.
    pending: u32,
    /// Zeros in `counts` and `lanes`.
    binned_zeros: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let lanes = vec![[0; LANES]; ALL].into_boxed_slice();
        Histogram {
            seen: None,
            zeros: 0,
            exponent: None,
            counts: vec![0; ALL].into(),
            lanes: lanes.try_into().unwrap_or_else(|_| unreachable!("of that length")),
            pending: 0,
            binned_zeros: 0,
        }
    }
}

impl Histogram {
    /// Counts values.
    ///
    /// # Errors
    /// When one is NaN or infinite; none is then counted.
    pub fn observe(&mut self, values: &[f32]) -> Result<(), QuantError> {
        let Some(batch) = Range::of(values)? else { return Ok(()) };
        self.seen = Some(self.seen.map_or(batch, |seen| seen.union(batch)));
        if batch.abs_max() == 0.0 {
            self.zeros += values.len() as u64;
            return Ok(());
        }
        let exponent = self.widen(batch.abs_max());
        for chunk in values.chunks(CHUNK) {
            self.count(chunk, power_of_two(-exponent));
        }
        Ok(())
    }

    /// Smallest and largest value; `None` until one was seen.
    pub fn seen(&self) -> Option<Range> {
        self.seen
    }

    /// Number of values that were seen.
    pub fn total(&self) -> u64 {
        self.zeros + self.nonzero().counts.iter().map(|count| *count as u64).sum::<u64>()
    }

    /// Zeros among them.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Counts of all values but zeros, in bins from the first to the last that is not empty.
    pub(super) fn nonzero(&self) -> Bins {
        let mut counts: Vec<f64> = self.counts.iter().zip(self.lanes.iter()).map(|(count, lanes)| (count + sum(lanes)) as f64).collect();
        counts[BINS] -= self.binned_zeros as f64;
        let first = counts.iter().position(|count| *count > 0.0).unwrap_or(BINS);
        let end = counts.iter().rposition(|count| *count > 0.0).map_or(first, |last| last + 1);
        let width = self.exponent.map_or(0.0, |exponent| f64::from(power_of_two(exponent)));
        Bins { first: first as i32 - BINS as i32, counts: counts[first..end].to_vec(), width }
    }

    /// Makes bins wide enough for a magnitude, and says how wide they are.
    fn widen(&mut self, magnitude: f32) -> i32 {
        // 2^(e + 1) > magnitude is BINS bins wide. Subnormals lie in the first bins of the narrowest.
        let biased = (magnitude.to_bits() >> 23) as i32;
        let needed = (biased - 127 + 1 - BINS.ilog2() as i32).max(-126);
        match self.exponent {
            Some(exponent) if exponent >= needed => exponent,
            narrower => {
                if let Some(exponent) = narrower {
                    self.merge((needed - exponent) as u32);
                }
                self.exponent = Some(needed);
                needed
            }
        }
    }

    /// Adds up 2^doublings neighbours.
    fn merge(&mut self, doublings: u32) {
        self.fold();
        let narrow = std::mem::replace(&mut self.counts, vec![0; ALL].into());
        for i in 0..BINS {
            let wide = i.checked_shr(doublings).unwrap_or(0);
            self.counts[BINS + wide] += narrow[BINS + i];
            self.counts[BINS - 1 - wide] += narrow[BINS - 1 - i];
        }
    }

    /// Empties the lanes.
    fn fold(&mut self) {
        for (count, lanes) in self.counts.iter_mut().zip(self.lanes.iter_mut()) {
            *count += sum(lanes);
            *lanes = [0; LANES];
        }
        self.pending = 0;
    }

    fn count(&mut self, chunk: &[f32], per_bin: f32) {
        if self.pending > u32::MAX - CHUNK as u32 {
            self.fold();
        }
        self.pending += chunk.len() as u32;
        let mut bins = [0u32; CHUNK];
        let mut zeros = 0;
        for (bin, x) in bins.iter_mut().zip(chunk) {
            // −0 + 0 = +0
            let scaled = (x + 0.0) * per_bin;
            // !i = −1 − i where the sign is set.
            let sign = (scaled.to_bits() as i32) >> 31;
            *bin = ((whole_part(scaled.abs()) ^ sign) + BINS as i32) as u32;
            zeros += u32::from(*x == 0.0);
        }
        let (fours, rest) = bins[..chunk.len()].as_chunks::<LANES>();
        for bins in fours.iter().map(|four| &four[..]).chain([rest]) {
            bins.iter().enumerate().for_each(|(lane, bin)| self.lanes[*bin as usize % ALL][lane] += 1);
        }
        self.zeros += u64::from(zeros);
        self.binned_zeros += u64::from(zeros);
    }
}

/// ⌊x⌋ of 0 ≤ x < 2²². In additions, where `as` would check each number for what cannot be.
#[inline(always)]
fn whole_part(x: f32) -> i32 {
    // Added to 2²³, a number keeps its whole part in its last bits, rounded.
    const SHIFTER: f32 = 8_388_608.0;
    let shifted = x + SHIFTER;
    let above = shifted - SHIFTER > x;
    (shifted.to_bits() as i32) - SHIFTER.to_bits() as i32 - i32::from(above)
}

fn sum(lanes: &[u32; LANES]) -> u64 {
    lanes.iter().map(|count| u64::from(*count)).sum()
}

/// Counts of neighbouring bins: bin i counts what lies between edges i and i + 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bins {
    /// The first bin's lower edge, in widths of a bin.
    pub(super) first: i32,
    /// Whole numbers; exact up to 2⁵³.
    pub(super) counts: Vec<f64>,
    /// Of each bin; 0 where there are none.
    pub(super) width: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.observe(values).expect("finite");
        histogram
    }

    #[test]
    fn bins_by_hand() {
        // 4096 bins of 1 hold up to 4095.99.
        let histogram = of(&[4095.5, 1.0, 1.5, 0.0, -0.0, -0.25, -2.0, 0.75]);
        let bins = histogram.nonzero();
        assert_eq!((bins.width, bins.first, histogram.zeros(), histogram.total()), (1.0, -3, 2, 8));
        // −2 lies in (−3, −2], −0.25 in (−1, 0], 0.75 in [0, 1), 1 and 1.5 in [1, 2).
        assert_eq!(bins.counts[..5], [1.0, 0.0, 1.0, 1.0, 2.0]);
        assert_eq!(bins.counts.iter().sum::<f64>(), 6.0);
    }

    #[test]
    fn widening_adds_neighbours() {
        let mut histogram = of(&[4095.0, 1.0, 2.0, 3.0, -1.0, -2.0]);
        histogram.observe(&[8192.0]).expect("finite");
        let bins = histogram.nonzero();
        assert_eq!((bins.width, bins.first), (4.0, -1));
        assert_eq!(bins.counts[..2], [2.0, 3.0]);
    }

    #[test]
    fn only_zeros() {
        let histogram = of(&[0.0, -0.0]);
        assert_eq!((histogram.total(), histogram.nonzero().counts.len(), histogram.seen()), (2, 0, Some(Range { min: 0.0, max: 0.0 })));
    }

    #[test]
    fn extremes_have_bins() {
        for values in [vec![f32::MAX, f32::MIN], vec![1e-45, -1e-45], vec![f32::MAX, 1e-45], vec![f32::MIN_POSITIVE]] {
            let histogram = of(&values);
            assert_eq!(histogram.total(), values.len() as u64);
        }
    }

    proptest! {
        /// The definition, value by value, and at least 2,048 bins up to the largest magnitude.
        #[test]
        fn counts_are_those_of_the_values(
            values in prop::collection::vec((-1.0f32..1.0, -30i32..30).prop_map(|(x, e)| x * 2f32.powi(e)), 1..200),
            parts in 1usize..50,
        ) {
            let mut histogram = Histogram::default();
            values.chunks(parts).for_each(|part| histogram.observe(part).expect("finite"));
            let bins = histogram.nonzero();
            let nonzero: Vec<f64> = values.iter().filter(|x| **x != 0.0).map(|x| f64::from(*x)).collect();
            let mut expected = vec![0.0; bins.counts.len()];
            for x in &nonzero {
                let i = (x.abs() / bins.width).floor() as i32;
                expected[((if *x < 0.0 { -1 - i } else { i }) - bins.first) as usize] += 1.0;
            }
            prop_assert_eq!(&bins.counts, &expected);
            let largest = nonzero.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            prop_assert!(largest == 0.0 || (BINS as f64 / 2.0..BINS as f64).contains(&(largest / bins.width)));
            prop_assert_eq!(&of(&values).nonzero(), &bins);
        }
    }
}
