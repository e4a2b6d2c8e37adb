//! The accuracy that must hold, as a statistical statement: original and result on the same samples, pair by pair.

use penjing_exec::ExecError;
use penjing_exec::data::Split;
use penjing_exec::train::Evaluation;
use penjing_exec::train::statistics::Interval;
use serde::{Deserialize, Serialize};

/// Room for rounding, in percentage points, far below what one sample of any set counts.
const ROUNDING: f64 = 1e-9;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Floor {
    /// How low the accuracy may go.
    pub limit: Limit,
    /// How sure it must be.
    #[serde(default)]
    pub certainty: Certainty,
}

/// How low the accuracy may go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// At most this many percentage points below the original's.
    MaxDrop(f64),
    /// At least this many percent.
    MinAccuracy(f64),
}

/// How sure it must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// The point estimate holds where choices are made; on the test split the 95 % interval must not lie wholly below the limit.
    #[default]
    Point,
    /// The lower end of the 95 % interval holds on every split.
    Strict,
}

/// Whether it held, with the numbers that decide. All in percentage points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FloorVerdict {
    /// Whether it held.
    pub holds: bool,
    /// For a greatest drop: result minus original, so that a loss is negative. For a least accuracy: the result's.
    pub measured: f64,
    /// 95 % interval of it: of the paired difference, or Wilson's.
    pub interval: Interval,
    /// The least that `measured` may be.
    pub limit: f64,
}

impl Floor {
    /// Whether the limit is a number of percentage points.
    ///
    /// # Errors
    /// Names the option and its range.
    pub fn check(&self) -> Result<(), ExecError> {
        let (option, value) = match self.limit {
            Limit::MaxDrop(value) => ("--max-drop", value),
            Limit::MinAccuracy(value) => ("--min-accuracy", value),
        };
        if (0.0..=100.0).contains(&value) {
            return Ok(());
        }
        Err(ExecError::Option(format!("{option} {value} must be from 0 to 100 percentage points (hint: 0.5 is half a point)")))
    }

    /// Judges a result on one split.
    ///
    /// # Errors
    /// When the two were not measured on the same samples.
    pub fn judge(&self, original: &Evaluation, result: &Evaluation, split: Split) -> Result<FloorVerdict, ExecError> {
        let paired = original.paired(result)?;
        let (measured, interval, limit) = match self.limit {
            Limit::MaxDrop(points) => (paired.difference(), paired.interval(), -points),
            Limit::MinAccuracy(percent) => (result.accuracy(), result.top1.interval(), percent),
        };
        let (measured, interval) = (100.0 * measured, Interval { low: 100.0 * interval.low, high: 100.0 * interval.high });
        let decisive = match (self.certainty, split) {
            (Certainty::Point, Split::Train | Split::Validation) => measured,
            (Certainty::Point, Split::Test) => interval.high,
            (Certainty::Strict, Split::Train | Split::Validation | Split::Test) => interval.low,
        };
        Ok(FloorVerdict { holds: decisive >= limit - ROUNDING, measured, interval, limit })
    }

    /// Judges a result by the user's own metric, in its unit: the higher the better, one number of which nothing says how sure it is.
    ///
    /// # Errors
    /// When the floor asks how sure it is, or its limit is no number.
    pub fn judge_metric(&self, original: f64, result: f64) -> Result<FloorVerdict, ExecError> {
        let (measured, limit) = match self.limit {
            Limit::MaxDrop(drop) => (result - original, -drop),
            Limit::MinAccuracy(least) => (result, least),
        };
        if !limit.is_finite() || matches!(self.limit, Limit::MaxDrop(drop) if drop < 0.0) {
            return Err(ExecError::Option(format!(
                "a floor of {limit} is no limit to a metric (hint: a finite number; --max-drop from 0)"
            )));
        }
        match self.certainty {
            Certainty::Point => Ok(FloorVerdict {
                holds: measured >= limit - ROUNDING,
                measured,
                interval: Interval { low: measured, high: measured },
                limit,
            }),
            Certainty::Strict => {
                Err(ExecError::Option("a metric command gives no interval to be strict about (hint: --floor point)".into()))
            }
        }
    }
}

impl FloorVerdict {
    /// Percentage points between what was measured and the limit; negative below it.
    pub fn spare(&self) -> f64 {
        self.measured - self.limit
    }
}

#[cfg(test)]
mod tests {
    use penjing_exec::train::statistics::{MeanEstimate, Proportion};
    use proptest::prelude::*;

    use super::*;

    /// The first `lost` samples only the original gets right, the next `gained` only the result, of the rest both.
    fn pair(samples: usize, lost: usize, gained: usize) -> [Evaluation; 2] {
        let of = |right: &dyn Fn(usize) -> bool| {
            let correct: Vec<bool> = (0..samples).map(right).collect();
            let successes = correct.iter().filter(|c| **c).count() as u64;
            Evaluation {
                top1: Proportion { successes, trials: samples as u64 },
                top5: None,
                loss: MeanEstimate::of_many(&vec![0.0; samples]).expect("samples"),
                predictions: correct.iter().map(|c| u32::from(*c)).collect(),
                correct,
            }
        };
        [of(&|i| !(lost..lost + gained).contains(&i)), of(&|i| i >= lost)]
    }

    fn holds(limit: Limit, certainty: Certainty, split: Split, [original, result]: &[Evaluation; 2]) -> bool {
        Floor { limit, certainty }.judge(original, result, split).is_ok_and(|verdict| verdict.holds)
    }

    #[test]
    fn a_drop_of_exactly_the_limit_holds() {
        // 12 lost and 7 gained of 1000: 0.5 points.
        let pair = pair(1000, 12, 7);
        assert!(holds(Limit::MaxDrop(0.5), Certainty::Point, Split::Validation, &pair));
        assert!(!holds(Limit::MaxDrop(0.49), Certainty::Point, Split::Validation, &pair));
        assert!(!holds(Limit::MaxDrop(0.0), Certainty::Point, Split::Validation, &pair));
    }

    #[test]
    fn the_test_breaks_only_when_the_whole_interval_lies_below() {
        // −0.5 points, interval (−5 ± 1.96·√21)/1002 ≈ −1.4 to 0.4.
        let unsure = pair(1000, 12, 7);
        assert!(holds(Limit::MaxDrop(0.0), Certainty::Point, Split::Test, &unsure));
        // −3 points, interval −4.2 to −1.8.
        let sure = pair(1000, 34, 4);
        assert!(!holds(Limit::MaxDrop(0.5), Certainty::Point, Split::Test, &sure));
        assert!(holds(Limit::MaxDrop(2.0), Certainty::Point, Split::Test, &sure));
    }

    #[test]
    fn strict_asks_the_lower_end() {
        let pair = pair(1000, 12, 7);
        for split in [Split::Validation, Split::Test] {
            assert!(!holds(Limit::MaxDrop(1.0), Certainty::Strict, split, &pair));
            assert!(holds(Limit::MaxDrop(1.5), Certainty::Strict, split, &pair));
        }
    }

    #[test]
    fn a_least_accuracy_is_the_results_own() {
        // 988 of 1000; Wilson 97.9 to 99.3.
        let pair = pair(1000, 12, 0);
        assert!(holds(Limit::MinAccuracy(98.8), Certainty::Point, Split::Validation, &pair));
        assert!(!holds(Limit::MinAccuracy(98.9), Certainty::Point, Split::Validation, &pair));
        assert!(holds(Limit::MinAccuracy(98.9), Certainty::Point, Split::Test, &pair));
        assert!(!holds(Limit::MinAccuracy(99.5), Certainty::Point, Split::Test, &pair));
        assert!(!holds(Limit::MinAccuracy(98.5), Certainty::Strict, Split::Validation, &pair));
        assert!(holds(Limit::MinAccuracy(97.8), Certainty::Strict, Split::Validation, &pair));
    }

    #[test]
    fn a_metric_is_judged_in_its_own_unit() -> Result<(), ExecError> {
        let judge = |limit, certainty| Floor { limit, certainty }.judge_metric(0.75, 0.5);
        let drop = judge(Limit::MaxDrop(0.25), Certainty::Point)?;
        assert_eq!((drop.holds, drop.measured, drop.limit, drop.spare()), (true, -0.25, -0.25, 0.0));
        assert!(!judge(Limit::MaxDrop(0.125), Certainty::Point)?.holds);
        assert!(judge(Limit::MinAccuracy(-3.0), Certainty::Point)?.holds && !judge(Limit::MinAccuracy(0.625), Certainty::Point)?.holds);
        for (limit, certainty) in [
            (Limit::MaxDrop(0.5), Certainty::Strict),
            (Limit::MaxDrop(-0.5), Certainty::Point),
            (Limit::MinAccuracy(f64::NAN), Certainty::Point),
        ] {
            assert!(judge(limit, certainty).is_err(), "{limit:?}");
        }
        Ok(())
    }

    #[test]
    fn limits_out_of_range_are_named() {
        for (limit, text) in [(Limit::MaxDrop(-1.0), "--max-drop -1"), (Limit::MinAccuracy(f64::NAN), "--min-accuracy NaN")] {
            let refusal = Floor { limit, certainty: Certainty::Point }.check().expect_err(text).to_string();
            assert!(refusal.starts_with(&format!("{text} must be from 0 to 100")), "{refusal}");
        }
    }

    #[test]
    fn other_samples_are_refused() {
        let floor = Floor { limit: Limit::MaxDrop(1.0), certainty: Certainty::Point };
        assert!(floor.judge(&pair(10, 0, 0)[0], &pair(11, 0, 0)[1], Split::Test).is_err());
    }

    proptest! {
        #[test]
        fn strict_is_never_laxer_and_more_room_never_breaks(
            samples in 100usize..400, lost in 0usize..50, gained in 0usize..50, points in 0.0f64..20.0, more in 0.0f64..20.0,
        ) {
            let pair = pair(samples, lost, gained);
            for split in [Split::Validation, Split::Test] {
                let point = holds(Limit::MaxDrop(points), Certainty::Point, split, &pair);
                prop_assert!(point || !holds(Limit::MaxDrop(points), Certainty::Strict, split, &pair));
                prop_assert!(!point || holds(Limit::MaxDrop(points + more), Certainty::Point, split, &pair));
            }
        }
    }
}
