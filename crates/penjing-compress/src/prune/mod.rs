//! Pruning of single weights: by which criterion, in which pattern, in which steps, down to a sparsity or to an accuracy floor.
//!
//! Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks".

mod calibration;
pub mod criteria;
mod floor_search;
mod layer;
mod pattern;
mod pruning;
mod schedule;
mod select;
pub(crate) mod sparsegpt;
mod stats;
pub mod structured;
#[cfg(test)]
pub(crate) mod testing;
mod weight_matrix;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use penjing_exec::ExecError;
use penjing_graph::{Edit, Graph, GraphError, Tensor, ValueId, roles};
use serde::{Deserialize, Serialize};

pub use calibration::{Calibration, SplitSamples, TrainingSamples};
use criteria::{Criterion, Magnitude};
pub use floor_search::{FloorSearch, Mark, Until};
pub use layer::{Layer, layers};
pub use pattern::{Block, NOfM, Pattern};
pub(crate) use pruning::{Pruning, Shrink};
pub use schedule::PruningSchedule;
pub use select::{keep_largest, keep_largest_few};
pub(crate) use sparsegpt::inputs::Inputs;
pub use sparsegpt::{Compensated, sparsegpt};
pub use stats::{FeatureMoments, GradientMoments, Stats};
pub use weight_matrix::{FeatureAxis, WeightMatrix};

/// Fraction of weights that are zero, 0 ≤ s ≤ 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Sparsity(pub(crate) f64);

impl Sparsity {
    /// The fraction.
    pub fn value(self) -> f64 {
        self.0
    }

    pub(crate) fn min(self, other: Sparsity) -> Sparsity {
        Sparsity(self.0.min(other.0))
    }

    /// How many of `total` weights it removes: ⌊s · total⌋, where a product that is whole but for rounding counts as whole.
    pub fn count(self, total: usize) -> usize {
        ((self.0 * total as f64 + 1e-6).floor() as usize).min(total)
    }
}

impl TryFrom<f64> for Sparsity {
    type Error = PruneError;

    fn try_from(fraction: f64) -> Result<Sparsity, PruneError> {
        if (0.0..=1.0).contains(&fraction) { Ok(Sparsity(fraction)) } else { Err(PruneError::NotAFraction { given: fraction }) }
    }
}

impl FromStr for Sparsity {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<Sparsity, PruneError> {
        text.parse::<f64>().map_err(|_| PruneError::NotANumber(text.into()))?.try_into()
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", self.0 * 100.0)
    }
}

/// Over which weights one threshold holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One threshold for all weights together: layers that need fewer weights lose more.
    #[default]
    Global,
    /// The same sparsity in every layer.
    Layer,
    /// The same sparsity in every row of a layer's matrix: each output keeps as many of its inputs.
    Row,
}

/// What can go wrong while pruning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// A fraction outside of 0 to 1.
    #[error("{given} is not a fraction from 0 to 1{}", suggest_fraction(*given))]
    NotAFraction {
        /// What was given.
        given: f64,
    },
    /// Text that is no number.
    #[error("`{0}` is not a number (hint: a fraction from 0 to 1, such as 0.9)")]
    NotANumber(String),
    /// A model without weights that pruning applies to.
    #[error(
        "the model has no Conv, Gemm or MatMul weights in float32, so there is nothing to prune (hint: `penjing inspect` lists what it has)"
    )]
    NothingToPrune,
    /// A weight that is NaN or infinite.
    #[error("weight `{0}` holds a NaN or an infinity (hint: the model was damaged in training; train it again with a lower --lr)")]
    NotFinite(String),
    /// Text that is no pattern.
    #[error("`{0}` is no pattern (hint: unstructured; 2:4, with 1 ≤ N < M; or 4x1, rows by columns)")]
    UnknownPattern(String),
    /// Text that names no criterion.
    #[error("`{name}` is no criterion (hint: {})", criteria::names())]
    UnknownCriterion {
        /// The text.
        name: String,
    },
    /// Text that names no criterion for channels.
    #[error("`{name}` is no criterion for channels (hint: {})", structured::criteria::names())]
    UnknownChannelCriterion {
        /// The text.
        name: String,
    },
    /// A model of which no channel can go.
    #[error("no channel of the model can be removed (hint: `penjing inspect` says what keeps them)")]
    NoChannels,
    /// A pattern of what to keep that matches nothing.
    #[error(
        "`{pattern}` names no group of channels that can be removed, and no node that gives them (hint: `penjing inspect` lists the groups)"
    )]
    NothingToKeep {
        /// The pattern.
        pattern: String,
    },
    /// A budget that cutting cannot reach.
    #[error(
        "{asked:.0} {budget} are asked for, and with every channel gone that may go {least:.0} are left (hint: a larger budget, a smaller \
         --min-channels, --round-to 1, or fewer --keep)"
    )]
    BudgetOutOfReach {
        /// What is counted.
        budget: &'static str,
        /// What was asked for.
        asked: f64,
        /// The least that can be had.
        least: f64,
    },
    /// A criterion has nothing to judge a weight by.
    #[error("no {what} were collected for weight `{weight}` (hint: give data, or take a criterion that needs none, such as magnitude)")]
    NotCollected {
        /// What is missing.
        what: &'static str,
        /// The weight.
        weight: String,
    },
    /// A criterion gave a score that is no number.
    #[error("criterion `{criterion}` gives weight `{weight}` a score that is not finite (hint: the loss overflows on some sample)")]
    ScoreNotFinite {
        /// Its name.
        criterion: &'static str,
        /// The weight.
        weight: String,
    },
    /// Text that names no way to train sparsely.
    #[error("`{0}` is no regularization (hint: group-lasso, bn-l1 or growing, with a strength above 0 if wanted: bn-l1:0.001)")]
    UnknownRegularization(String),
    /// A network that a regularization finds nothing in.
    #[error("{regularizer} finds nothing to pull towards zero: no channel that can go has such weights (hint: group-lasso)")]
    NothingToRegularize {
        /// Its name.
        regularizer: &'static str,
    },
    /// A layer of which no inputs were seen.
    #[error("no sample reaches `{0}` as numbers that are finite, so that nothing is known of the layer behind it (hint: give more data)")]
    NoInputs(String),
    /// A sample could not be read or run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The graph refused the pruned weights.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

fn suggest_fraction(x: f64) -> String {
    if x > 1.0 && x <= 100.0 {
        format!(" (hint: for {x} percent write {})", x / 100.0)
    } else {
        " (hint: 0.9 removes nine weights of ten)".into()
    }
}

/// Which elements of each pruned weight stay.
pub type Masks = BTreeMap<ValueId, Vec<bool>>;

/// Removes the weights of a network that matter least. Makes copies; the network that comes in is never changed.
#[derive(Clone, Copy, Debug)]
pub struct Pruner {
    sparsity: Sparsity,
    scope: Scope,
    pattern: Pattern,
    criterion: &'static dyn Criterion,
}

/// A pruned copy and what was done to it.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The network with its smallest weights at zero.
    pub graph: Graph,
    /// Which weights stay; retraining must respect it.
    pub masks: Masks,
}

impl Pruner {
    /// A pruner that removes that fraction of the weights, those of smallest magnitude, with one threshold for all of them.
    ///
    /// # Errors
    /// When the fraction is not from 0 to 1.
    pub fn new(fraction: f64) -> Result<Pruner, PruneError> {
        Ok(Pruner { sparsity: fraction.try_into()?, scope: Scope::Global, pattern: Pattern::Unstructured, criterion: &Magnitude })
    }

    /// The same with another scope.
    #[must_use]
    pub fn scope(self, scope: Scope) -> Pruner {
        Pruner { scope, ..self }
    }

    /// The same in a pattern. Under N:M, the fraction and the scope do not count; in blocks, the fraction is that of blocks.
    #[must_use]
    pub fn pattern(self, pattern: Pattern) -> Pruner {
        Pruner { pattern, ..self }
    }

    /// The same by another criterion, within the scope in which its scores can be compared.
    #[must_use]
    pub fn criterion(self, criterion: &'static dyn Criterion) -> Pruner {
        Pruner { criterion, scope: criterion.scope(), ..self }
    }

    /// A copy of the network with the Conv, Gemm and MatMul weights that matter least at zero; biases and norms are left alone.
    ///
    /// # Errors
    /// When there is nothing to prune, a weight is not finite, or the criterion needs to see data.
    pub fn prune(&self, graph: &Graph) -> Result<Pruned, PruneError> {
        let masks = self.select(graph, &Stats::default())?;
        Ok(Pruned { graph: apply_masks(graph, &masks)?, masks })
    }

    /// Which weights stay, without changing anything.
    ///
    /// # Errors
    /// When there is nothing to prune, a weight is not finite, or `stats` do not hold what the criterion needs.
    pub fn select(&self, graph: &Graph, stats: &Stats) -> Result<Masks, PruneError> {
        let layers = layers(graph)?;
        let criterion = self.criterion;
        let scores = layers.iter().map(|layer| criterion.score(layer, stats)).collect::<Result<Vec<_>, _>>()?;
        if let Some((layer, _)) = layers.iter().zip(&scores).find(|(_, scores)| !scores.iter().all(|s| s.is_finite())) {
            return Err(PruneError::ScoreNotFinite { criterion: criterion.name(), weight: layer.name.into() });
        }
        let keep = self.pattern.masks(&layers, &scores, self.sparsity, self.scope);
        Ok(layers.iter().map(|layer| layer.id).zip(keep).collect())
    }
}

/// The weights that pruning applies to: constant float32 operands of Conv, ConvTranspose, Gemm and MatMul, in order of their ids.
pub fn prunable(graph: &Graph) -> Vec<ValueId> {
    roles(graph)
        .into_iter()
        .filter(|(id, role)| role.prunable() && graph.tensor(*id).is_some_and(|t| t.values::<f32>().is_some()))
        .map(|(id, _)| id)
        .collect()
}

/// A copy of the network with every weight that a mask does not keep at zero.
///
/// # Errors
/// When the graph refuses, which only a mask of another graph could cause.
pub fn apply_masks(graph: &Graph, masks: &Masks) -> Result<Graph, PruneError> {
    let mut edit = Edit::new(graph, "prune");
    for (id, keep) in masks {
        let Some(tensor) = graph.tensor(*id) else { continue };
        let values = tensor.values::<f32>().unwrap_or_default();
        if keep.iter().all(|k| *k) {
            continue;
        }
        let kept = values.iter().zip(keep).map(|(w, keep)| if *keep { *w } else { 0.0 }).collect::<Vec<f32>>();
        edit.set_tensor(*id, Tensor::new(tensor.dims(), kept));
    }
    let mut pruned = graph.clone();
    if !edit.is_empty() {
        pruned.apply(edit)?;
    }
    Ok(pruned)
}

/// Weights of one layer before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSparsity {
    /// Name of the weight.
    pub weight: String,
    /// Number of weights.
    pub total: usize,
    /// Weights that are not zero.
    pub left: usize,
}

impl LayerSparsity {
    /// Fraction of the weights that are zero.
    pub fn sparsity(&self) -> f64 {
        if self.total == 0 { 0.0 } else { 1.0 - self.left as f64 / self.total as f64 }
    }
}

/// The zeros of every prunable weight.
pub fn layer_sparsities(graph: &Graph) -> Vec<LayerSparsity> {
    prunable(graph)
        .into_iter()
        .map(|id| {
            let values = graph.tensor(id).and_then(Tensor::values::<f32>).unwrap_or_default();
            let left = values.iter().filter(|w| **w != 0.0).count();
            LayerSparsity { weight: graph.value(id).name.clone(), total: values.len(), left }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_graph::ops::{Gemm, MatMul};
    use penjing_graph::{DataType, Dim, GraphBuilder};

    fn two_layers() -> Graph {
        let mut b = GraphBuilder::new("two");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
        let w1 = b.tensor("w1", Tensor::new([2, 2], vec![0.1f32, -0.2, 0.3, -0.4]));
        let bias = b.tensor("bias", Tensor::new([2], vec![0.01f32, 0.01]));
        let h = b.node("h", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w1, bias]);
        let w2 = b.tensor("w2", Tensor::new([2, 1], vec![5.0f32, 0.25]));
        let y = b.node("y", MatMul, &[h, w2]);
        b.output(y).finish().expect("valid")
    }

    fn weights(graph: &Graph, name: &str) -> Vec<f32> {
        graph.tensor(graph.find_value(name).expect(name)).and_then(Tensor::values::<f32>).expect("float").into_owned()
    }

    #[test]
    fn half_of_the_weights_by_hand() {
        let graph = two_layers();
        let pruned = Pruner::new(0.5).expect("fraction").prune(&graph).expect("pruned");
        // |w| in order: 0.1 0.2 0.25 0.3 0.4 5: the first three go, wherever they are; the bias stays.
        assert_eq!(weights(&pruned.graph, "w1"), [0.0, 0.0, 0.3, -0.4]);
        assert_eq!(weights(&pruned.graph, "w2"), [5.0, 0.0]);
        assert_eq!(weights(&pruned.graph, "bias"), [0.01, 0.01]);
        assert_eq!(weights(&graph, "w1"), [0.1, -0.2, 0.3, -0.4]);
        let layers = layer_sparsities(&pruned.graph);
        assert_eq!(layers.iter().map(|l| (l.total, l.left)).collect::<Vec<_>>(), [(4, 2), (2, 1)]);
    }

    #[test]
    fn the_same_sparsity_in_every_layer() {
        let pruned = Pruner::new(0.5).expect("fraction").scope(Scope::Layer).prune(&two_layers()).expect("pruned");
        assert_eq!(weights(&pruned.graph, "w1"), [0.0, 0.0, 0.3, -0.4]);
        assert_eq!(weights(&pruned.graph, "w2"), [5.0, 0.0]);
    }

    #[test]
    fn nothing_and_everything() {
        let graph = two_layers();
        for (fraction, left) in [(0.0, 6), (1.0, 0)] {
            let pruned = Pruner::new(fraction).expect("fraction").prune(&graph).expect("pruned");
            assert_eq!(layer_sparsities(&pruned.graph).iter().map(|l| l.left).sum::<usize>(), left);
        }
    }

    #[test]
    fn whole_products_are_whole() {
        assert_eq!(Sparsity(0.29).count(100), 29);
        assert_eq!(Sparsity(0.5).count(61_770), 30_885);
        assert_eq!(Sparsity(0.5).count(5), 2);
        assert_eq!(Sparsity(1.0).count(7), 7);
    }

    #[test]
    fn a_percentage_is_answered_with_its_fraction() {
        assert_eq!(
            Pruner::new(50.0).expect_err("refused").to_string(),
            "50 is not a fraction from 0 to 1 (hint: for 50 percent write 0.5)"
        );
        assert!(Pruner::new(f64::NAN).is_err() && Pruner::new(-0.1).is_err());
    }
}
