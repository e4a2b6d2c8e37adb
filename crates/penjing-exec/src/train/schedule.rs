//! How the learning rate runs over a training.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ExecError;

/// A learning-rate schedule: a shape, after a linear warm-up if one is asked for.
///
/// In text: `constant`, `step:EPOCHS:FACTOR`, `cosine` or `one-cycle`, each with `+warmup:STEPS` where wanted.
///
/// ```
/// use penjing_exec::train::{Length, Schedule};
/// let schedule: Schedule = "cosine+warmup:10".parse()?;
/// let length = Length { epochs: 11, steps_per_epoch: 10 };
/// assert_eq!(schedule.rate(0.4, 4, length), 0.2); // half-way up
/// assert_eq!(schedule.rate(0.4, 60, length), 0.2); // half-way down
/// # Ok::<(), penjing_exec::ExecError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    /// What follows the warm-up, over the steps that are left.
    pub shape: Shape,
    /// Steps over which the rate rises linearly to the first rate of the shape; 0 for none.
    pub warmup: u64,
}

/// How the rate runs after the warm-up, as a fraction of the base rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// 1 throughout.
    Constant,
    /// Multiplied by `factor` after every `epochs` epochs.
    Step {
        /// Epochs at the same rate, at least 1.
        epochs: u64,
        /// 0 < factor ≤ 1.
        factor: f32,
    },
    /// ½·(1 + cos(π·t)) for t from 0 to 1: one half period without restarts (Loshchilov & Hutter 2017).
    Cosine,
    /// From 1/25 up to 1 over the first 30 % of the steps, then down to 1/250,000, both along half a cosine
    /// (Smith & Topin 2018, with PyTorch's constants). The base rate is the largest.
    OneCycle,
}

/// How long a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Epochs.
    pub epochs: u64,
    /// Optimizer steps in each.
    pub steps_per_epoch: u64,
}

impl Length {
    /// Optimizer steps in all.
    pub fn steps(self) -> u64 {
        self.epochs.saturating_mul(self.steps_per_epoch)
    }
}

impl Schedule {
    /// A shape from the first step on.
    pub fn new(shape: Shape) -> Schedule {
        Schedule { shape, warmup: 0 }
    }

    /// Learning rate of optimizer step `step`, counted from 0, where `base` is the rate at factor 1.
    pub fn rate(&self, base: f32, step: u64, length: Length) -> f32 {
        let left = length.steps().saturating_sub(self.warmup);
        let factor = match step.checked_sub(self.warmup) {
            Some(step) => self.shape.factor(step, left, length.steps_per_epoch),
            None => self.shape.factor(0, left, length.steps_per_epoch) * (step + 1) as f64 / self.warmup as f64,
        };
        (f64::from(base) * factor) as f32
    }

    /// Whether it fits a training of this length.
    ///
    /// # Errors
    /// When the warm-up leaves no step at the full rate.
    pub fn check(&self, length: Length) -> Result<(), ExecError> {
        if self.warmup == 0 || self.warmup < length.steps() {
            return Ok(());
        }
        Err(ExecError::Option(format!(
            "a warm-up of {} steps does not fit a training of {} steps ({} epochs of {}; hint: shorten it, or raise --epochs)",
            self.warmup,
            length.steps(),
            length.epochs,
            length.steps_per_epoch
        )))
    }
}

impl Shape {
    /// Fraction of the base rate at `step` of `steps`.
    fn factor(self, step: u64, steps: u64, steps_per_epoch: u64) -> f64 {
        const START: f64 = 1.0 / 25.0;
        const END: f64 = START / 1e4;
        const RISE: f64 = 0.3;
        match self {
            Shape::Constant => 1.0,
            Shape::Step { epochs, factor } => {
                let drops = step / epochs.saturating_mul(steps_per_epoch).max(1);
                f64::from(factor).powi(i32::try_from(drops).unwrap_or(i32::MAX))
            }
            Shape::Cosine => along_cosine(1.0, 0.0, fraction(step as f64, steps as f64)),
            Shape::OneCycle => {
                let (step, last) = (step as f64, steps as f64 - 1.0);
                let peak = (RISE * steps as f64 - 1.0).max(0.0);
                if step < peak { along_cosine(START, 1.0, step / peak) } else { along_cosine(1.0, END, fraction(step - peak, last - peak)) }
            }
        }
    }
}

/// From `a` at t = 0 to `b` at t = 1 along half a period of the cosine.
fn along_cosine(a: f64, b: f64, t: f64) -> f64 {
    b + (a - b) * (1.0 + (PI * t).cos()) / 2.0
}

/// part / whole within 0 to 1; 0 of nothing.
fn fraction(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Constant => f.write_str("constant")?,
            Shape::Step { epochs, factor } => write!(f, "step:{epochs}:{factor}")?,
            Shape::Cosine => f.write_str("cosine")?,
            Shape::OneCycle => f.write_str("one-cycle")?,
        }
        match self.warmup {
            0 => Ok(()),
            steps => write!(f, "+warmup:{steps}"),
        }
    }
}

impl FromStr for Schedule {
    type Err = ExecError;

    fn from_str(text: &str) -> Result<Schedule, ExecError> {
        let (shape, warmup) = match text.split_once('+') {
            None => (text, 0),
            Some((shape, warmup)) => {
                let steps = warmup.strip_prefix("warmup:").and_then(|steps| steps.parse().ok());
                (shape, steps.ok_or_else(|| refusal(text, format!("`{warmup}` is not warmup:STEPS")))?)
            }
        };
        let shape = match shape.split(':').collect::<Vec<_>>()[..] {
            ["constant"] => Shape::Constant,
            ["cosine"] => Shape::Cosine,
            ["one-cycle"] => Shape::OneCycle,
            ["step", epochs, factor] => Shape::Step {
                epochs: match epochs.parse() {
                    Ok(epochs) if epochs > 0 => epochs,
                    _ => return Err(refusal(text, format!("`{epochs}` is not a number of epochs, 1 or more"))),
                },
                factor: match factor.parse() {
                    Ok(factor) if factor > 0.0 && factor <= 1.0 => factor,
                    _ => return Err(refusal(text, format!("`{factor}` is not a factor above 0 and at most 1"))),
                },
            },
            _ => return Err(refusal(text, format!("`{shape}` is none of constant, step:EPOCHS:FACTOR, cosine, one-cycle"))),
        };
        Ok(Schedule { shape, warmup })
    }
}

fn refusal(text: &str, reason: String) -> ExecError {
    ExecError::Option(format!("schedule `{text}`: {reason} (hint: `cosine+warmup:500` warms up over 500 steps)"))
}

impl TryFrom<String> for Schedule {
    type Error = ExecError;

    fn try_from(text: String) -> Result<Schedule, ExecError> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> String {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEN: Length = Length { epochs: 5, steps_per_epoch: 2 };

    fn rates(text: &str, length: Length) -> Vec<f32> {
        let schedule: Schedule = text.parse().expect(text);
        (0..length.steps()).map(|step| schedule.rate(1.0, step, length)).collect()
    }

    #[test]
    fn constant_stays() {
        assert_eq!(rates("constant", TEN), [1.0; 10]);
    }

    #[test]
    fn step_drops_after_whole_epochs() {
        // Two epochs of two steps at each rate.
        assert_eq!(rates("step:2:0.5", TEN), [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn cosine_falls_by_half_a_period() {
        // ½(1 + cos(πt)) at t = 0, ¼, ½, ¾: cos 45° = 0.70711.
        let four = rates("cosine", Length { epochs: 1, steps_per_epoch: 4 });
        for (rate, by_hand) in four.iter().zip([1.0, 0.853_553, 0.5, 0.146_447]) {
            assert!((rate - by_hand).abs() < 1e-6, "{four:?}");
        }
    }

    #[test]
    fn warm_up_rises_to_the_first_rate_and_the_shape_spans_the_rest() {
        assert_eq!(rates("constant+warmup:4", TEN)[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        let warm = rates("cosine+warmup:2", TEN);
        assert_eq!(warm[..2], [0.5, 1.0]);
        assert_eq!(warm[2..], rates("cosine", Length { epochs: 4, steps_per_epoch: 2 })[..]);
    }

    #[test]
    fn one_cycle_has_the_published_corners() {
        // 10 steps: the peak is at step 0.3·10 − 1 = 2, the end at 9. Step 1 is half-way up: (0.04 + 1)/2.
        let cycle = rates("one-cycle", TEN);
        for (step, by_hand) in [(0, 0.04), (1, 0.52), (2, 1.0), (9, 4e-6)] {
            assert!((cycle[step] - by_hand).abs() < 1e-6, "step {step}: {}", cycle[step]);
        }
        assert!(cycle[2..].is_sorted_by(|a, b| a > b), "{cycle:?}");
    }

    #[test]
    fn the_base_scales() {
        let schedule: Schedule = "step:1:0.1".parse().expect("step");
        assert!((schedule.rate(0.05, 2, TEN) - 0.005).abs() < 1e-9);
    }

    #[test]
    fn a_warm_up_that_never_ends_is_refused() {
        let schedule: Schedule = "cosine+warmup:10".parse().expect("warm-up");
        let text = schedule.check(TEN).expect_err("too long").to_string();
        assert!(text.starts_with("a warm-up of 10 steps does not fit a training of 10 steps"), "{text}");
        assert!(schedule.check(Length { epochs: 6, steps_per_epoch: 2 }).is_ok());
        assert!(Schedule::new(Shape::Constant).check(Length { epochs: 0, steps_per_epoch: 0 }).is_ok());
    }

    #[test]
    fn refusals_name_the_part_and_the_choices() {
        for (text, part) in [
            ("linear", "`linear` is none of constant, step:EPOCHS:FACTOR, cosine, one-cycle"),
            ("step:30", "`step:30` is none of"),
            ("step:0:0.1", "`0` is not a number of epochs"),
            ("step:30:10", "`10` is not a factor"),
            ("step:30:NaN", "`NaN` is not a factor"),
            ("cosine+500", "`500` is not warmup:STEPS"),
            ("cosine+warmup:-1", "`warmup:-1` is not warmup:STEPS"),
        ] {
            let refusal = text.parse::<Schedule>().expect_err(text).to_string();
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    fn any_schedule() -> impl Strategy<Value = Schedule> {
        let shape = prop_oneof![
            Just(Shape::Constant),
            (1u64..40, 0.01f32..1.0).prop_map(|(epochs, factor)| Shape::Step { epochs, factor }),
            Just(Shape::Cosine),
            Just(Shape::OneCycle),
        ];
        (shape, 0u64..30).prop_map(|(shape, warmup)| Schedule { shape, warmup })
    }

    proptest! {
        #[test]
        fn text_and_back(schedule in any_schedule()) {
            prop_assert_eq!(schedule.to_string().parse::<Schedule>().ok(), Some(schedule));
        }

        #[test]
        fn rates_are_finite_and_never_above_the_base(schedule in any_schedule(), epochs in 1u64..20, steps_per_epoch in 1u64..20) {
            let length = Length { epochs, steps_per_epoch };
            for step in 0..length.steps() {
                let rate = schedule.rate(0.1, step, length);
                prop_assert!((0.0..=0.1).contains(&rate), "{} at step {} is {}", schedule, step, rate);
            }
        }
    }
}
