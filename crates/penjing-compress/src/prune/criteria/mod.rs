//! Criteria: how much the network needs each weight. One file each.

mod fisher;
mod lamp;
mod magnitude;
mod random;
mod snip;
mod taylor;
mod wanda;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use fisher::Fisher;
pub use lamp::Lamp;
pub use magnitude::Magnitude;
pub use random::Random;
pub use snip::Snip;
pub use taylor::Taylor;
pub use wanda::Wanda;

use super::{Layer, PruneError, Scope, Stats};

/// Every criterion that scores, in the order in which they are listed.
pub const ALL: &[&dyn Criterion] = &[&Magnitude, &Taylor, &Fisher, &Snip, &Wanda, &Lamp, &Random];

/// What a criterion has to know beside the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Weights,
    /// Derivatives of the loss, so labelled samples.
    Gradients,
    /// What the weights are multiplied with, so samples.
    Activations,
}

/// Scores how much the network needs each weight: the higher, the more.
pub trait Criterion: fmt::Debug + Sync {
    /// Its name in the command and in records.
    fn name(&self) -> &'static str;

    /// What must have been collected before it scores.
    fn needs(&self) -> Needs;

    /// Over which weights its scores can be compared, where nothing else is asked for.
    fn scope(&self) -> Scope;

    /// One score for each weight, in the file's order: finite and not negative, and 0 where the weight is 0 already.
    ///
    /// # Errors
    /// When `stats` do not hold what it needs.
    fn score(&self, layer: &Layer<'_>, stats: &Stats) -> Result<Vec<f32>, PruneError>;
}

/// How weights are chosen.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Choice {
    /// By a score of each.
    Scores(&'static dyn Criterion),
    /// Layer by layer, changing the weights that stay so that they make up for those that go.
    SparseGpt,
}

impl Choice {
    /// Its name in the command and in records.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Scores(criterion) => criterion.name(),
            Choice::SparseGpt => "sparsegpt",
        }
    }

    /// What must be collected before.
    pub fn needs(self) -> Needs {
        match self {
            Choice::Scores(criterion) => criterion.needs(),
            Choice::SparseGpt => Needs::Activations,
        }
    }

    /// Over which weights it compares, where nothing else is asked for.
    pub fn scope(self) -> Scope {
        match self {
            Choice::Scores(criterion) => criterion.scope(),
            Choice::SparseGpt => Scope::Layer,
        }
    }

    /// Every choice, in the order in which they are listed.
    pub fn all() -> impl Iterator<Item = Choice> {
        ALL.iter().map(|criterion| Choice::Scores(*criterion)).chain([Choice::SparseGpt])
    }
}

/// The names of all choices, for people.
pub(crate) fn names() -> String {
    Choice::all().map(Choice::name).collect::<Vec<_>>().join(", ")
}

impl Default for Choice {
    fn default() -> Choice {
        Choice::Scores(&Magnitude)
    }
}

impl PartialEq for Choice {
    fn eq(&self, other: &Choice) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Choice {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<Choice, PruneError> {
        Choice::all().find(|choice| choice.name() == text).ok_or_else(|| PruneError::UnknownCriterion { name: text.into() })
    }
}

impl TryFrom<String> for Choice {
    type Error = PruneError;

    fn try_from(text: String) -> Result<Choice, PruneError> {
        text.parse()
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> String {
        choice.name().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::stats::GradientMoments;
    use crate::prune::testing::layer;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_back() {
        for choice in Choice::all() {
            assert_eq!(choice.name().parse::<Choice>().expect("known"), choice);
        }
        let refused = "wanda2".parse::<Choice>().expect_err("unknown").to_string();
        assert!(refused.contains("magnitude, taylor, fisher, snip, wanda, lamp, random, sparsegpt"), "{refused}");
    }

    #[test]
    fn what_was_not_collected_is_an_error() {
        let built = layer(1, 2, &[1.0, -2.0]);
        for criterion in ALL {
            let scored = criterion.score(&built.layer(), &Stats::default());
            assert_eq!(scored.is_ok(), criterion.needs() == Needs::Weights, "{}", criterion.name());
        }
    }

    proptest! {
        /// Every criterion gives one finite score ≥ 0 for each weight, the same each time, and 0 for a weight that is gone.
        #[test]
        fn scores_are_finite_and_not_negative(
            (inputs, outputs) in (1usize..8, 1usize..8),
            numbers in prop::collection::vec(prop_oneof![Just(0.0f32), -3.0f32..3.0, Just(1e-20f32), Just(1e18f32)], 64 * 4),
        ) {
            let count = inputs * outputs;
            let built = layer(inputs, outputs, &numbers[..count]);
            let layer = built.layer();
            let of = |part: usize| numbers[part * 64..][..count].iter().map(|x| x.clamp(-1e3, 1e3)).collect::<Vec<f32>>();
            let moments = GradientMoments {
                sum: of(1),
                absolute: of(1).iter().map(|g| g.abs()).collect(),
                squared: of(1).iter().map(|g| g * g).collect(),
            };
            let norms = of(2)[..inputs].iter().map(|x| x.abs()).collect();
            let stats = Stats::of_layer(&layer, 1, moments, norms);
            for criterion in ALL {
                let scores = criterion.score(&layer, &stats).expect("all that it needs");
                prop_assert_eq!(scores.len(), count, "{}", criterion.name());
                prop_assert!(scores.iter().all(|s| s.is_finite() && *s >= 0.0), "{}: {:?}", criterion.name(), scores);
                prop_assert!(layer.values.iter().zip(&scores).all(|(w, s)| *w != 0.0 || *s == 0.0), "{}", criterion.name());
                prop_assert_eq!(&criterion.score(&layer, &stats).expect("again"), &scores, "{}", criterion.name());
            }
        }
    }
}
