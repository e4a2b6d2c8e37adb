//! Iterative magnitude pruning to an accuracy floor: which sparsity to try next.

use serde::{Deserialize, Serialize};

use crate::prune::Sparsity;

/// When the search ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// When a further round could remove only little more.
    #[default]
    Floor,
    /// At the first round that is more accurate than the original.
    Improved,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// More accurate than the original.
    Improved,
    /// The floor held.
    Held,
    /// The floor broke; the search goes back to the last model that held.
    Broke,
}

/// Where the search stands. Thinks in weights left, r = 1 − sparsity, since halving r is the natural step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloorSearch {
    /// Weights left of the last model that held.
    held: f64,
    /// Weights left of the sparsest known not to hold; 0 while nothing broke.
    broke: f64,
    /// Smallest relative gain in weights left that is worth a round.
    worthwhile: f64,
    rounds: usize,
    most_rounds: usize,
}

/// Weights that the first round takes from a model with all its accuracy to spare, as a fraction of those left.
const BOLD: f64 = 0.6;
/// The same where almost no accuracy is left to lose.
const TIMID: f64 = 0.15;

impl FloorSearch {
    /// Starts from a model of that sparsity; ends after `most_rounds` or when a round could remove less than 5 % of the weights left.
    pub fn new(start: Sparsity, most_rounds: usize) -> FloorSearch {
        FloorSearch { held: 1.0 - start.value(), broke: 0.0, worthwhile: 0.05, rounds: 0, most_rounds }
    }

    /// The next sparsity to try, or `None` when the search is over.
    ///
    /// `spare` is the accuracy between the last model that held and the floor, as a fraction of what the original had to
    /// spare: at 1 the step is bold, at 0 timid. Once a round broke, the step is the geometric middle of held and broken.
    pub fn next(&self, spare: f64) -> Option<Sparsity> {
        if self.rounds >= self.most_rounds || self.held <= 0.0 {
            return None;
        }
        let left = if self.broke > 0.0 {
            if 1.0 - self.broke / self.held < 2.0 * self.worthwhile {
                return None;
            }
            (self.held * self.broke).sqrt()
        } else {
            self.held * (1.0 - (TIMID + (BOLD - TIMID) * spare.clamp(0.0, 1.0)))
        };
        Some(Sparsity((1.0 - left).clamp(0.0, 1.0)))
    }

    /// Notes how the model of that sparsity did.
    pub fn note(&mut self, sparsity: Sparsity, mark: Mark) {
        self.rounds += 1;
        match mark {
            Mark::Improved | Mark::Held => self.held = 1.0 - sparsity.value(),
            Mark::Broke => self.broke = 1.0 - sparsity.value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_by_hand() {
        let mut search = FloorSearch::new(Sparsity(0.0), 20);
        // All accuracy to spare: 60 % of the weights go, then 60 % of the rest.
        let s = search.next(1.0).expect("a step");
        assert!((s.value() - 0.6).abs() < 1e-12);
        search.note(s, Mark::Held);
        let s = search.next(1.0).expect("a step");
        assert!((s.value() - 0.84).abs() < 1e-12);
        search.note(s, Mark::Broke);
        // Middle of 0.4 and 0.16 left: √0.064 ≈ 0.253.
        assert!((search.next(0.2).expect("a step").value() - (1.0 - 0.064f64.sqrt())).abs() < 1e-12);
    }

    proptest! {
        /// A network that holds up to some sparsity is driven to within 10 % of the weights that it needs, in few rounds.
        #[test]
        fn finds_the_edge(needed in 0.001f64..0.9, spare in 0.0f64..=1.0) {
            let mut search = FloorSearch::new(Sparsity(0.0), 60);
            let mut best = 1.0;
            while let Some(s) = search.next(spare) {
                let left = 1.0 - s.value();
                search.note(s, if left >= needed { best = left; Mark::Held } else { Mark::Broke });
            }
            prop_assert!(best >= needed && best <= needed * 1.12, "{best} for {needed}");
            prop_assert!(search.rounds < 60);
        }
    }
}
