//! How sparsity grows from step to step.

use serde::{Deserialize, Serialize};

use crate::prune::Sparsity;

/// The sparsity after each of several steps, retraining after each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruningSchedule {
    /// All at once, however many steps are asked for.
    OneShot,
    /// As many weights in every step.
    Linear,
    /// Most at the beginning, where they are superfluous: Zhu & Gupta 2017, "To prune, or not to prune", eq. 1.
    #[default]
    Cubic,
    /// The same share of the weights left in every step: Frankle & Carbin 2019, "The Lottery Ticket Hypothesis".
    Exponential,
}

impl PruningSchedule {
    /// Sparsity after each of `steps` steps, from `start` to exactly `end`.
    pub fn sparsities(self, start: Sparsity, end: Sparsity, steps: usize) -> Vec<Sparsity> {
        let (from, to) = (start.0, end.0);
        let after = |t: f64| match self {
            PruningSchedule::OneShot => to,
            PruningSchedule::Linear => from + (to - from) * t,
            PruningSchedule::Cubic => to + (from - to) * (1.0 - t).powi(3),
            // Of what is left, 1 − s: nothing at the end cannot be reached in equal shares, and is left to the last step.
            PruningSchedule::Exponential => 1.0 - (1.0 - from) * ((1.0 - to).max(1e-3) / (1.0 - from).max(1e-3)).powf(t),
        };
        let steps = match self {
            PruningSchedule::OneShot => 1,
            PruningSchedule::Linear | PruningSchedule::Cubic | PruningSchedule::Exponential => steps.max(1),
        };
        (1..steps).map(|step| Sparsity(after(step as f64 / steps as f64).clamp(from.min(to), from.max(to)))).chain([end]).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [PruningSchedule; 4] =
        [PruningSchedule::OneShot, PruningSchedule::Linear, PruningSchedule::Cubic, PruningSchedule::Exponential];

    #[test]
    fn two_steps_by_hand() {
        let first = |schedule: PruningSchedule, end| schedule.sparsities(Sparsity(0.0), Sparsity(end), 2)[0].0;
        assert_eq!(PruningSchedule::OneShot.sparsities(Sparsity(0.0), Sparsity(0.8), 5), [Sparsity(0.8)]);
        assert_eq!(first(PruningSchedule::Linear, 0.8), 0.4);
        // (1 − 1/2)³ = 1/8 of the way is left after the first of two steps.
        assert!((first(PruningSchedule::Cubic, 0.8) - 0.7).abs() < 1e-12);
        // Half of the weights, then half of those: 0.5, 0.75.
        assert!((first(PruningSchedule::Exponential, 0.75) - 0.5).abs() < 1e-12);
    }

    proptest! {
        /// Every schedule ends at the goal exactly, never falls and never overshoots.
        #[test]
        fn they_rise_to_the_goal(from in 0.0f64..=1.0, share in 0.0f64..=1.0, steps in 0usize..12) {
            let to = from + (1.0 - from) * share;
            for schedule in ALL {
                let s = schedule.sparsities(Sparsity(from), Sparsity(to), steps);
                prop_assert_eq!(s.last(), Some(&Sparsity(to)));
                prop_assert!(s.iter().all(|s| from <= s.0 && s.0 <= to) && s.windows(2).all(|w| w[0].0 <= w[1].0), "{:?}: {:?}", schedule, s);
            }
        }
    }
}
