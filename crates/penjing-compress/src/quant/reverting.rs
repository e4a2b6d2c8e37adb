//! Layers that go back to float, the most damaging first, until an accuracy floor holds.

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::{Executor, cpu_executor};
use penjing_graph::{Graph, Tensor};
use serde::Serialize;

use super::calibrate::{Calibrated, batch_size, calibrate};
use super::plan::{Plan, QuantizedLayer};
use super::qdq::{Form, Parts, assemble};
use super::static_quantization::{Quantization, QuantizeError, prepared, sqnr, weight_codes};
use crate::prune::Calibration;

/// Samples that the damage of each layer is measured on, at most.
const DAMAGE_SAMPLES: usize = 16;

/// What the outputs lose where one layer alone computes in integers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerDamage {
    /// The node.
    pub node: String,
    /// Signal to noise of the network's outputs in dB: 10·log₁₀(Σy² / Σ(y − ŷ)²). Infinite (in JSON: null) without noise.
    pub output_sqnr: f64,
}

/// A network that was measured with some of its layers in float again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reverting {
    /// How many layers, the most damaging first.
    pub float: usize,
    /// Accuracy on validation in percent, or the user's own metric.
    pub score: f64,
    /// Whether the floor held.
    pub holds: bool,
}

/// The layers that would be quantized, the one that alone does the outputs most damage first.
///
/// # Errors
/// As [`quantize`](super::quantize).
pub fn damages(graph: &Graph, settings: &Quantization, calibration: &dyn Calibration) -> Result<Vec<LayerDamage>, QuantizeError> {
    let graph = &prepared(graph)?;
    let target = settings.target.0;
    let whole = Plan::new(graph, target, &|name| settings.keeps(name));
    let (weights, _) = weight_codes(graph, &whole, settings)?;
    let alone = |layer: &QuantizedLayer| {
        let node = &graph.node(layer.node).name;
        (node.clone(), Plan::new(graph, target, &|name| (name != node).then_some("another layer is looked at")))
    };
    let plans: Vec<(String, Plan)> = whole.layers.iter().map(alone).collect();
    let watched = plans.iter().flat_map(|(_, plan)| plan.observed()).collect();
    let Calibrated { activations, .. } = calibrate(graph, &watched, calibration, settings.calibration, &target.precision.activations)?;
    let batches = calibration.batches(batch_size(graph).min(DAMAGE_SAMPLES));
    let mut inputs: Vec<Vec<Tensor>> = vec![];
    let mut samples = 0;
    for batch in batches {
        let batch = batch?;
        samples += batch.indices.len();
        inputs.push(batch.inputs);
        if samples >= DAMAGE_SAMPLES {
            break;
        }
    }
    let float = outputs(&mut *cpu_executor(graph)?, &inputs)?;
    let mut damages = vec![];
    for (node, plan) in plans {
        let none = BTreeMap::new();
        let parts = Parts { plan: &plan, activations: &activations, weights: &weights, biases: &none, form: Form::Draft };
        let quantized = outputs(&mut *cpu_executor(&assemble(graph, &parts)?)?, &inputs)?;
        damages.push(LayerDamage { node, output_sqnr: sqnr(&float, &quantized) });
    }
    damages.sort_by(|a, b| a.output_sqnr.total_cmp(&b.output_sqnr));
    Ok(damages)
}

/// All floats that a network gives for some inputs, one after the other.
fn outputs(executor: &mut dyn Executor, inputs: &[Vec<Tensor>]) -> Result<Vec<f32>, QuantizeError> {
    let fetch = executor.graph().outputs().to_vec();
    let mut all = vec![];
    for inputs in inputs {
        for output in executor.run(inputs, &fetch)? {
            all.extend(output.to_f32().unwrap_or_default().iter());
        }
    }
    Ok(all)
}

/// The names of the `count` worst layers.
pub(crate) fn worst(damages: &[LayerDamage], count: usize) -> BTreeSet<String> {
    damages.iter().take(count).map(|damage| damage.node.clone()).collect()
}

/// The search for the fewest layers in float with which the floor holds: doubled until it does, then halved between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fewest {
    /// So many were not enough.
    broke: usize,
    /// So many were.
    held: Option<usize>,
    /// No more than that.
    most: usize,
}

impl Fewest {
    /// Of at most so many, none not being enough.
    pub(crate) fn of(most: usize) -> Fewest {
        Fewest { broke: 0, held: None, most }
    }

    /// How many to try next; `None` at the end.
    pub(crate) fn next(&self) -> Option<usize> {
        match self.held {
            None => (self.broke < self.most).then(|| (2 * self.broke).clamp(1, self.most)),
            Some(held) => (held - self.broke > 1).then(|| self.broke + (held - self.broke) / 2),
        }
    }

    /// Whether so many were enough.
    pub(crate) fn note(&mut self, count: usize, holds: bool) {
        if holds {
            self.held = Some(count);
        } else {
            self.broke = count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_layer_is_looked_for_by_hand() {
        let mut search = Fewest::of(10);
        let mut tried = vec![];
        while let Some(count) = search.next() {
            tried.push(count);
            search.note(count, count >= 6);
        }
        assert_eq!((tried, search.held), (vec![1, 2, 4, 8, 6, 5], Some(6)));
        assert_eq!(Fewest::of(0).next(), None, "a network of one layer has none to return");
    }

    proptest! {
        #[test]
        fn the_fewest_are_found(most in 1usize..300, needed in 1usize..400) {
            let mut search = Fewest::of(most);
            let mut steps = 0;
            while let Some(count) = search.next() {
                prop_assert!((1..=most).contains(&count));
                search.note(count, count >= needed);
                steps += 1;
            }
            prop_assert_eq!(search.held, (needed <= most).then_some(needed));
            prop_assert!(steps <= 2 * most.ilog2() as usize + 2);
        }
    }
}
