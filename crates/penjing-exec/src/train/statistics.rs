//! How sure a measured number is: intervals of 95 % and tests for proportions, pairs and means.

use serde::{Deserialize, Serialize};

/// The 97.5 % point of the standard normal distribution: 95 % lie within ±Z.
const Z: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    fn around(centre: f64, half: f64) -> Interval {
        Interval { low: centre - half, high: centre + half }
    }

    fn clamped(self, low: f64, high: f64) -> Interval {
        Interval { low: self.low.clamp(low, high), high: self.high.clamp(low, high) }
    }

    /// Whether `value` lies in it.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// high − low.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// Wilson's score interval of a proportion, without continuity correction (Wilson 1927; Newcombe 1998, method 3).
/// All of 0 to 1 where there are no trials.
pub fn wilson(successes: u64, trials: u64) -> Interval {
    if trials == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (x, n) = (successes as f64, trials as f64);
    let p = x / n;
    let centre = (x + Z * Z / 2.0) / (n + Z * Z);
    let half = Z / (n + Z * Z) * (n * p * (1.0 - p) + Z * Z / 4.0).sqrt();
    let interval = Interval::around(centre, half).clamped(0.0, 1.0);
    // At the ends the formula gives exactly 0 and 1; rounding must not take the estimate out.
    Interval { low: interval.low.min(p), high: interval.high.max(p) }
}

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proportion {
    /// How many.
    pub successes: u64,
    /// Of how many.
    pub trials: u64,
}

impl Proportion {
    /// successes / trials, 0 to 1. 0 of none.
    pub fn value(&self) -> f64 {
        self.successes as f64 / self.trials.max(1) as f64
    }

    /// Its 95 % interval: [`wilson`].
    pub fn interval(&self) -> Interval {
        wilson(self.successes, self.trials)
    }
}

/// Two classifiers on the same samples: how often each was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// Both right.
    pub both: u64,
    /// Only the first right: what the second lost.
    pub lost: u64,
    /// Only the second right: what it gained.
    pub gained: u64,
    /// Both wrong.
    pub neither: u64,
}

impl Paired {
    /// Counts two vectors of "was right", sample by sample. `None` where they differ in length.
    pub fn count(first: &[bool], second: &[bool]) -> Option<Paired> {
        let mut paired = Paired { both: 0, lost: 0, gained: 0, neither: 0 };
        for (a, b) in first.iter().zip(second) {
            *match (a, b) {
                (true, true) => &mut paired.both,
                (true, false) => &mut paired.lost,
                (false, true) => &mut paired.gained,
                (false, false) => &mut paired.neither,
            } += 1;
        }
        (first.len() == second.len()).then_some(paired)
    }

    /// Samples.
    pub fn samples(&self) -> u64 {
        self.both + self.lost + self.gained + self.neither
    }

    /// Accuracy of the second minus that of the first, −1 to 1. 0 of no samples.
    pub fn difference(&self) -> f64 {
        (self.gained as f64 - self.lost as f64) / self.samples().max(1) as f64
    }

    /// 95 % interval of [`Paired::difference`]: Wald's after adding one sample to each kind of disagreement
    /// (Bonett & Price 2012; recommended by Fagerland, Lydersen & Laake 2014, Stat. Med. 33:2850). Honest also where nothing differs.
    pub fn interval(&self) -> Interval {
        let n = self.samples() as f64 + 2.0;
        let (lost, gained) = ((self.lost as f64 + 1.0) / n, (self.gained as f64 + 1.0) / n);
        let difference = gained - lost;
        let half = Z * ((lost + gained - difference * difference) / n).sqrt();
        Interval::around(difference, half).clamped(-1.0, 1.0)
    }

    /// McNemar's exact test: the two-sided p-value of "each is as often the only one right", from the binomial distribution at ½.
    pub fn mcnemar_exact(&self) -> f64 {
        let (smaller, n) = self.disagreements();
        // C(n, k − 1) = C(n, k)·k/(n − k + 1): from the largest term down.
        let terms = std::iter::successors(Some((smaller, binomial_half(n, smaller))), |(k, term)| {
            (*k > 0).then(|| (k - 1, term * *k as f64 / (n - k + 1) as f64))
        });
        (2.0 * terms.map(|(_, term)| term).sum::<f64>()).min(1.0)
    }

    /// McNemar's mid-p test: the exact one less half the probability of what was seen; less conservative
    /// (Fagerland, Lydersen & Laake 2013, BMC Med. Res. Methodol. 13:91).
    pub fn mcnemar_mid_p(&self) -> f64 {
        let (smaller, n) = self.disagreements();
        if 2 * smaller == n {
            return 1.0 - binomial_half(n, smaller) / 2.0;
        }
        self.mcnemar_exact() - binomial_half(n, smaller)
    }

    fn disagreements(&self) -> (u64, u64) {
        (self.lost.min(self.gained), self.lost + self.gained)
    }
}

/// C(n, k) / 2ⁿ, by logarithms.
fn binomial_half(n: u64, k: u64) -> f64 {
    let choose: f64 = (0..k).map(|i| ((n - i) as f64 / (k - i) as f64).ln()).sum();
    (choose - n as f64 * std::f64::consts::LN_2).exp()
}

/// Mean, sample standard deviation and 95 % interval of the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanEstimate {
    /// Number of values.
    pub count: u64,
    /// Σx / n.
    pub mean: f64,
    /// √(Σ(x − mean)² / (n − 1)); 0 of one value.
    pub deviation: f64,
    /// 95 % interval of the mean; the whole line from one value.
    pub interval: Interval,
}

impl MeanEstimate {
    /// For few values, e.g. one a seed: Student's t. `None` of no values.
    pub fn of_few(values: &[f64]) -> Option<MeanEstimate> {
        MeanEstimate::of(values, t_quantile)
    }

    /// For many values, e.g. one a sample: the normal approximation. `None` of no values.
    pub fn of_many(values: &[f64]) -> Option<MeanEstimate> {
        MeanEstimate::of(values, |freedom| if freedom == 0 { f64::INFINITY } else { Z })
    }

    fn of(values: &[f64], quantile: impl Fn(u64) -> f64) -> Option<MeanEstimate> {
        let count = values.len() as u64;
        let freedom = count.checked_sub(1)?;
        let n = count as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        let deviation = (squares / freedom.max(1) as f64).sqrt();
        let half = if freedom == 0 { f64::INFINITY } else { quantile(freedom) * deviation / n.sqrt() };
        Some(MeanEstimate { count, mean, deviation, interval: Interval::around(mean, half) })
    }
}

/// The 97.5 % point of Student's t distribution: tabled up to 30 degrees of freedom, beyond by the expansion about the normal
/// quantile (Fisher & Cornish 1960), good to 4 decimals there.
fn t_quantile(freedom: u64) -> f64 {
    #[rustfmt::skip]
    const TABLE: [f64; 30] = [
        12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
        2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
        2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
    ];
    let tabled = freedom.checked_sub(1).and_then(|row| TABLE.get(usize::try_from(row).ok()?));
    match tabled {
        Some(t) => *t,
        None if freedom == 0 => f64::INFINITY,
        None => {
            let (z, v) = (Z, freedom as f64);
            z + (z.powi(3) + z) / (4.0 * v)
                + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
                + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(interval: Interval, low: f64, high: f64, within: f64) {
        assert!((interval.low - low).abs() < within && (interval.high - high).abs() < within, "{interval:?} is not {low} to {high}");
    }

    #[test]
    fn wilson_gives_newcombes_table() {
        // Newcombe 1998, Stat. Med. 17:857, table I, method 3.
        close(wilson(81, 263), 0.2553, 0.3662, 5e-5);
        close(wilson(15, 148), 0.0624, 0.1605, 5e-5);
        close(wilson(0, 20), 0.0, 0.1611, 5e-5);
        close(wilson(1, 29), 0.0061, 0.1718, 5e-5);
        assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    /// Airway hyper-responsiveness before and after stem cell transplantation, 21 children:
    /// the worked example of Fagerland, Lydersen & Laake (1, 1, 7, 12).
    const AIRWAYS: Paired = Paired { both: 1, lost: 1, gained: 7, neither: 12 };

    #[test]
    fn pairs_by_hand_and_as_published() {
        assert!((AIRWAYS.difference() - 6.0 / 21.0).abs() < 1e-12);
        // (8 − 2)/23 ± 1.96·√((10/23 − (6/23)²)/23) = 0.2609 ± 0.2475
        close(AIRWAYS.interval(), 0.013, 0.508, 5e-4);
        // 2·(1 + 8)/2⁸, less 8/2⁸
        assert!((AIRWAYS.mcnemar_exact() - 18.0 / 256.0).abs() < 1e-12);
        assert!((AIRWAYS.mcnemar_mid_p() - 10.0 / 256.0).abs() < 1e-12);
    }

    #[test]
    fn agreement_is_not_certainty() {
        let same = Paired { both: 96, lost: 0, gained: 0, neither: 2 };
        assert_eq!(same.difference(), 0.0);
        close(same.interval(), -0.0277, 0.0277, 5e-5); // ±1.96·√(2/100/100)
        assert_eq!((same.mcnemar_exact(), same.mcnemar_mid_p()), (1.0, 0.5));
    }

    #[test]
    fn pairs_are_counted_sample_by_sample() {
        let (first, second) = ([true, true, false, false, true], [true, false, true, false, false]);
        assert_eq!(Paired::count(&first, &second), Some(Paired { both: 1, lost: 2, gained: 1, neither: 1 }));
        assert_eq!(Paired::count(&first, &second[..4]), None);
    }

    #[test]
    fn many_disagreements_do_not_overflow() {
        let even = Paired { both: 0, lost: 30_000, gained: 30_000, neither: 0 };
        // C(2n, n)/4ⁿ ≈ 1/√(πn)
        let middle = 1.0 / (std::f64::consts::PI * 30_000.0).sqrt();
        assert_eq!(even.mcnemar_exact(), 1.0);
        assert!((even.mcnemar_mid_p() - (1.0 - middle / 2.0)).abs() < 1e-5);
        let uneven = Paired { both: 0, lost: 30_300, gained: 29_700, neither: 0 };
        // z = 600/√60000 = 2.449: two-sided 0.0143
        assert!((uneven.mcnemar_mid_p() - 0.0143).abs() < 1e-4, "{}", uneven.mcnemar_mid_p());
    }

    #[test]
    fn students_sleep_data() {
        // Extra hours of sleep, drug 2 minus drug 1 (Student 1908): mean 1.58, s 1.23, 95 % 0.70 to 2.46.
        let hours = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        let estimate = MeanEstimate::of_few(&hours).expect("ten values");
        assert!((estimate.mean - 1.58).abs() < 1e-12 && (estimate.deviation - 1.22995).abs() < 1e-4, "{estimate:?}");
        close(estimate.interval, 0.7001, 2.4599, 1e-4);
        let many = MeanEstimate::of_many(&hours).expect("ten values");
        close(many.interval, 1.58 - 0.7623, 1.58 + 0.7623, 1e-4); // 1.95996·1.22995/√10
    }

    #[test]
    fn one_value_says_nothing_of_its_spread() {
        let one = MeanEstimate::of_few(&[98.5]).expect("one value");
        assert_eq!((one.mean, one.deviation, one.interval.width()), (98.5, 0.0, f64::INFINITY));
        assert_eq!(MeanEstimate::of_many(&[98.5]).expect("one value").interval.width(), f64::INFINITY);
        assert_eq!(MeanEstimate::of_few(&[]), None);
    }

    #[test]
    fn t_beyond_the_table_meets_the_printed_values() {
        for (freedom, printed) in [(1, 12.7062), (30, 2.0423), (31, 2.0395), (40, 2.0211), (60, 2.0003), (120, 1.9799)] {
            assert!((t_quantile(freedom) - printed).abs() < 6e-5, "{freedom}: {}", t_quantile(freedom));
        }
    }

    proptest! {
        #[test]
        fn wilson_holds_its_estimate_narrows_with_trials_and_mirrors(successes in 0u64..500, failures in 0u64..500) {
            let trials = successes + failures;
            prop_assume!(trials > 0);
            let interval = wilson(successes, trials);
            prop_assert!(interval.contains(successes as f64 / trials as f64));
            prop_assert!(wilson(2 * successes, 2 * trials).width() < interval.width());
            let mirrored = wilson(failures, trials);
            prop_assert!((mirrored.low - (1.0 - interval.high)).abs() < 1e-12 && (mirrored.high - (1.0 - interval.low)).abs() < 1e-12);
        }

        #[test]
        fn pairs_hold_their_estimate_and_swap_signs(both in 0u64..200, lost in 0u64..200, gained in 0u64..200, neither in 0u64..200) {
            let paired = Paired { both, lost, gained, neither };
            let swapped = Paired { lost: gained, gained: lost, ..paired };
            let interval = paired.interval();
            prop_assert!(interval.contains(paired.difference()), "{:?} {:?}", paired, interval);
            prop_assert_eq!(swapped.difference(), -paired.difference());
            prop_assert_eq!(swapped.interval(), Interval { low: -interval.high, high: -interval.low });
            prop_assert_eq!(swapped.mcnemar_exact(), paired.mcnemar_exact());
            // Cut off at ±1 an interval may be the narrower one.
            if -1.0 < interval.low && interval.high < 1.0 {
                let twice = Paired { both: 2 * both, lost: 2 * lost, gained: 2 * gained, neither: 2 * neither };
                prop_assert!(twice.interval().width() < interval.width());
            }
            prop_assert!(0.0 < paired.mcnemar_mid_p() && paired.mcnemar_mid_p() <= paired.mcnemar_exact());
            prop_assert!(paired.mcnemar_exact() <= 1.0);
        }

        #[test]
        fn means_move_with_their_values(values in prop::collection::vec(-10.0f64..10.0, 2..40), shift in -5.0f64..5.0) {
            let estimate = MeanEstimate::of_few(&values).expect("values");
            let moved: Vec<f64> = values.iter().map(|x| x + shift).collect();
            let moved = MeanEstimate::of_few(&moved).expect("values");
            prop_assert!(estimate.interval.contains(estimate.mean));
            prop_assert!((moved.mean - estimate.mean - shift).abs() < 1e-9);
            prop_assert!((moved.interval.width() - estimate.interval.width()).abs() < 1e-9);
            let many = MeanEstimate::of_many(&values).expect("values");
            prop_assert!(many.interval.width() <= estimate.interval.width());
        }
    }
}
