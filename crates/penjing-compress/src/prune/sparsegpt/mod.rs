//! SparseGPT: layer by layer, the weights that stay are changed so that they make up for those that go.
//!
//! Frantar & Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot".

mod compensate;
pub(crate) mod gram;
pub(crate) mod inputs;

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::cpu_executor;
use penjing_graph::{Graph, NodeId, Tensor};

use super::{Calibration, Layer, Masks, Pattern, PruneError, Scope, Sparsity, layers};
use compensate::compensate;
use gram::Gram;
use inputs::Inputs;

/// Windows of one sample that are looked at.
const MOST_WINDOWS: usize = 256;
/// Samples at a time.
const BATCH: usize = 32;

/// A network that SparseGPT pruned.
#[derive(Clone, Debug)]
pub struct Compensated {
    /// The network: zeros where the masks say, and other weights where they do not.
    pub graph: Graph,
    /// Which weights stay.
    pub masks: Masks,
    /// Which layers were pruned by magnitude instead, and why.
    pub notes: Vec<String>,
}

/// Prunes every layer to `sparsity` in `pattern`, by what its inputs are on the samples.
///
/// With W a layer's matrix [out, in] and X its inputs, the weights left minimise ‖WX − W'X‖² column by column, through
/// H = XXᵀ + λI with λ a hundredth of the mean diagonal. Layers come in running order, so that each learns from inputs that pruned
/// layers give it. One H is held at a time. Layers whose inputs cannot be laid out as a matrix are pruned by magnitude.
///
/// # Errors
/// When there is nothing to prune or no sample, or a sample cannot be run.
pub fn sparsegpt(graph: &Graph, calibration: &dyn Calibration, pattern: Pattern, sparsity: Sparsity) -> Result<Compensated, PruneError> {
    let layers = layers(graph)?;
    let mut executor = cpu_executor(graph)?;
    let mut masks = Masks::new();
    let mut notes = vec![];
    // Layers that read the same inputs share their H.
    let place: BTreeMap<NodeId, usize> = graph.nodes().enumerate().map(|(place, (id, _))| (id, place)).collect();
    let mut together: BTreeMap<(usize, Inputs), Vec<&Layer<'_>>> = BTreeMap::new();
    for layer in &layers {
        match Inputs::of(graph, layer) {
            Ok(inputs) => {
                let first = together.keys().find(|(_, known)| *known == inputs).map(|(place, _)| *place);
                let node = layer.matrix.as_ref().and_then(|matrix| place.get(&matrix.node()));
                let key = first.or(node.copied()).unwrap_or_default();
                together.entry((key, inputs)).or_default().push(layer);
            }
            Err(reason) => {
                notes.push(format!("`{}` was pruned by magnitude: {reason}", layer.name));
                let scores = layer.values.iter().map(|w| w.abs()).collect();
                let mask = pattern.masks(std::slice::from_ref(layer), &[scores], sparsity, Scope::Layer).remove(0);
                let kept = layer.values.iter().zip(&mask).map(|(w, keep)| if *keep { *w } else { 0.0 }).collect();
                executor.set_weight(layer.id, &tensor(graph, layer, kept))?;
                masks.insert(layer.id, mask);
            }
        }
    }
    for ((_, inputs), layers) in together {
        let mut grams: Vec<Gram> = (0..inputs.groups()).map(|_| Gram::new(inputs.columns())).collect();
        for batch in calibration.batches(BATCH) {
            let value = executor.run(&batch?.inputs, &[inputs.value()])?;
            let rows = value.first().map(|value| inputs.rows(value, MOST_WINDOWS)).unwrap_or_default();
            grams.iter_mut().zip(rows).for_each(|(gram, rows)| gram.add(&rows));
        }
        let mut factors = vec![];
        for gram in grams {
            let dead: BTreeSet<usize> = gram.dead().collect();
            factors.push((gram.factor().ok_or_else(|| PruneError::NoInputs(graph.value(inputs.value()).name.clone()))?, dead));
        }
        for layer in layers {
            let Some(matrix) = &layer.matrix else { continue };
            let mut weights = matrix.gather(&layer.values);
            let mut keep = vec![true; weights.len()];
            let share = weights.len() / factors.len();
            for (group, (factor, dead)) in factors.iter().enumerate() {
                let span = group * share..(group + 1) * share;
                compensate(&mut weights[span.clone()], &mut keep[span], factor, dead, pattern, matrix, sparsity);
            }
            let (mut values, mut mask) = (layer.values.to_vec(), vec![true; keep.len()]);
            matrix.scatter(&weights, &mut values);
            matrix.scatter(&keep, &mut mask);
            executor.set_weight(layer.id, &tensor(graph, layer, values))?;
            masks.insert(layer.id, mask);
        }
    }
    Ok(Compensated { graph: executor.to_graph()?, masks, notes })
}

fn tensor(graph: &Graph, layer: &Layer<'_>, values: Vec<f32>) -> Tensor {
    Tensor::new(graph.tensor(layer.id).map(Tensor::dims).unwrap_or_default(), values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;
    use crate::prune::{Pruner, layer_sparsities};
    use penjing_exec::data::Batch;

    /// 64 samples of six features that depend on one another, and a weight [6, 4].
    fn correlated() -> (crate::prune::testing::OneLayer, Vec<Batch>) {
        let noise = |i: usize| (i as f32 * 12.9898).sin();
        let weight: Vec<f32> = (0..24).map(|i| noise(i + 1)).collect();
        let x: Vec<f32> = (0..64)
            .flat_map(|s| {
                let common = noise(1000 + s);
                (0..6).map(move |f| common + 0.4 * noise(7 * s + f))
            })
            .collect();
        let batch = Batch { inputs: vec![Tensor::new([64, 6], x)], labels: None, targets: None, indices: (0..64).collect() };
        (layer(6, 4, &weight), vec![batch])
    }

    /// Σ (y − y')² over the samples.
    fn error(graph: &Graph, pruned: &Graph, samples: &[Batch]) -> f64 {
        let outputs = |graph: &Graph| {
            let y = cpu_executor(graph).expect("runs").run(&samples[0].inputs, graph.outputs()).expect("ran").remove(0);
            y.to_f32().expect("floats").into_owned()
        };
        outputs(graph).iter().zip(outputs(pruned)).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    #[test]
    fn it_beats_magnitude_on_correlated_inputs_in_every_pattern() {
        let (built, samples) = correlated();
        for (pattern, fraction) in [("unstructured", 0.5), ("1:2", 0.5), ("2x1", 0.5), ("1x2", 0.5)] {
            let pattern: Pattern = pattern.parse().expect("a pattern");
            let found = sparsegpt(&built.graph, &samples, pattern, Sparsity(fraction)).expect("pruned");
            let plain = Pruner::new(fraction).expect("a fraction").pattern(pattern).prune(&built.graph).expect("pruned");
            let left = |graph| layer_sparsities(graph).iter().map(|l| l.left).sum::<usize>();
            assert_eq!((left(&found.graph), left(&plain.graph)), (12, 12), "{pattern}");
            let (ours, theirs) = (error(&built.graph, &found.graph, &samples), error(&built.graph, &plain.graph, &samples));
            assert!(ours < 0.7 * theirs, "{pattern}: {ours} against {theirs}");
        }
    }

    #[test]
    fn a_network_without_samples_is_refused() {
        let (built, _) = correlated();
        assert!(sparsegpt(&built.graph, &Vec::new(), Pattern::Unstructured, Sparsity(0.5)).is_err());
    }
}
