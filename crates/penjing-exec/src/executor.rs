//! The border: what the rest of the project asks of whatever runs a graph.

use std::collections::{BTreeMap, BTreeSet};

use penjing_graph::{Graph, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use crate::ExecError;

/// What the outputs of one batch are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Class of each sample.
    Classes(Vec<u32>),
    /// Numbers of the shape of the first output.
    Values(Tensor),
}

/// How outputs and target become one number. Means over the batch. In text: `cross-entropy`, `cross-entropy:SMOOTHING`, `mse`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Loss {
    /// Softmax cross-entropy of the first output (logits [N, C]) with `smoothing` of the probability spread evenly.
    CrossEntropy {
        /// Label smoothing, 0 ≤ s < 1.
        smoothing: f32,
    },
    /// Mean squared error.
    Mse,
}

/// The optimizer's formula and its settings for one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpdateRule {
    /// v ← momentum·v + g + decay·w; w ← w − lr·v (Nesterov: w ← w − lr·(g + decay·w + momentum·v)). PyTorch's form.
    Sgd {
        /// Momentum, 0 for none.
        momentum: f32,
        /// Nesterov's variant.
        nesterov: bool,
        /// L2 penalty added to the gradient.
        weight_decay: f32,
    },
    /// Adam (Kingma & Ba 2015) with bias correction; `decoupled` makes it AdamW (Loshchilov & Hutter 2019).
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// L2 penalty, or with `decoupled` plain decay of the weight.
        weight_decay: f32,
        /// Decay the weight itself, not the gradient.
        decoupled: bool,
    },
}

/// All that one training step needs beside the batch.
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    /// The loss.
    pub loss: Loss,
    /// The optimizer.
    pub rule: UpdateRule,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Largest allowed norm of the gradient of all weights together; larger ones are scaled down.
    pub clip_norm: Option<f32>,
}

/// What one training step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean loss of the batch before the update.
    pub loss: f32,
    /// Norm of the gradient of all weights together, before clipping; `None` where nothing asked for it.
    pub gradient_norm: Option<f32>,
}

/// Loss of a batch and its derivatives by every trainable weight.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Mean loss of the batch.
    pub loss: f32,
    /// Derivative by each trainable initializer, in its shape.
    pub by_weight: BTreeMap<ValueId, Tensor>,
}

/// Looks at a value as it is computed, and may give another in its place.
pub type Watch<'a> = dyn FnMut(ValueId, Tensor) -> Result<Option<Tensor>, ExecError> + 'a;

/// Runs and trains one graph. Holds its own copy of the weights; the graph that came in is not changed.
pub trait Executor: Send {
    /// The graph as it came in: its nodes and values are those that run, its weights may be older.
    fn graph(&self) -> &Graph;

    /// The graph with the weights as they are now.
    ///
    /// # Errors
    /// When the graph refuses the weights, which only a defect could cause.
    fn to_graph(&self) -> Result<Graph, ExecError>;

    /// Values `fetch` (outputs or inner values) for one batch, in inference mode. One tensor for each of `Graph::inputs`.
    ///
    /// # Errors
    /// When an input does not fit or a node cannot be run.
    fn run(&mut self, inputs: &[Tensor], fetch: &[ValueId]) -> Result<Vec<Tensor>, ExecError>;

    /// Runs one batch in inference mode, shows each of the values `watched` as it is computed, and lets what `watch` returns take its
    /// place from there on. Only what is still needed is kept, so that memory does not grow with the number of values.
    ///
    /// # Errors
    /// When an input does not fit, a node cannot be run, `watch` refuses or gives another shape.
    fn run_watched(&mut self, inputs: &[Tensor], watched: &BTreeSet<ValueId>, watch: &mut Watch<'_>) -> Result<(), ExecError>;

    /// One step of training: forward in training mode, loss, backward, update of weights and running statistics.
    ///
    /// # Errors
    /// When something does not fit, or the loss or a gradient is not finite; the weights are then as before.
    fn train_step(&mut self, inputs: &[Tensor], target: &Target, objective: &Objective) -> Result<StepReport, ExecError>;

    /// Loss and gradients of one batch in inference mode (running statistics), without an update.
    ///
    /// # Errors
    /// When something does not fit.
    fn gradients(&mut self, inputs: &[Tensor], target: &Target, loss: &Loss) -> Result<Gradients, ExecError>;

    /// Moves the running statistics of batch normalisations: (1 − share) · themselves + share · those of this batch. Nothing else
    /// changes; with shares 1, 1/2, 1/3 … they become the mean over all batches.
    ///
    /// # Errors
    /// When an input does not fit or a node cannot be run.
    fn update_statistics(&mut self, inputs: &[Tensor], share: f32) -> Result<(), ExecError>;

    /// From now on the gradient of each element w of these weights has λ·w added, its own λ for each, in the weight's order. No others
    /// do.
    ///
    /// # Errors
    /// When one is not trainable or the length differs from the weight's.
    fn set_penalties(&mut self, penalties: &BTreeMap<ValueId, Vec<f32>>) -> Result<(), ExecError>;

    /// Initializers that training changes, in order of their ids.
    fn trainable(&self) -> Vec<ValueId>;

    /// The current elements of an initializer.
    ///
    /// # Errors
    /// When it is not an initializer.
    fn weight(&self, id: ValueId) -> Result<Tensor, ExecError>;

    /// Replaces the elements of an initializer. Its mask, if there is one, is applied at once.
    ///
    /// # Errors
    /// When it is not an initializer or the shape differs.
    fn set_weight(&mut self, id: ValueId, tensor: &Tensor) -> Result<(), ExecError>;

    /// Keeps some elements of a weight at exactly zero from now on: `keep[i]` false means element i is zero. `None` lifts the mask.
    ///
    /// # Errors
    /// When the length differs from the weight's.
    fn set_mask(&mut self, id: ValueId, keep: Option<&[bool]>) -> Result<(), ExecError>;

    /// The optimizer's memory by name (`momentum/conv1.weight`, …) and the number of steps taken, for checkpoints.
    fn optimizer_state(&self) -> (u64, BTreeMap<String, Tensor>);

    /// Puts the optimizer's memory back; an empty map starts afresh.
    ///
    /// # Errors
    /// When a name or shape does not fit.
    fn set_optimizer_state(&mut self, steps: u64, state: &BTreeMap<String, Tensor>) -> Result<(), ExecError>;
}
