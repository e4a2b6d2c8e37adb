//! What criteria know of a network beside its weights. Collected sample by sample: what is kept is as large as the network,
//! however many samples there are.

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::{ExecError, Executor, Loss};
use penjing_graph::{Tensor, ValueId};

use super::calibration::Calibration;
use super::criteria::Needs;
use super::{FeatureAxis, Layer, PruneError};

/// Samples at a time where inputs are only run.
const BATCH: usize = 64;

/// Sums over the gradients g of single samples, one element a weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientMoments {
    /// Σ g.
    pub sum: Vec<f32>,
    /// Σ |g|.
    pub absolute: Vec<f32>,
    /// Σ g².
    pub squared: Vec<f32>,
}

impl GradientMoments {
    fn add(&mut self, gradient: &[f32]) {
        for (moment, of) in [(&mut self.sum, (|g| g) as fn(f32) -> f32), (&mut self.absolute, f32::abs), (&mut self.squared, |g| g * g)] {
            moment.resize(gradient.len(), 0.0);
            moment.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += of(*g));
        }
    }
}

/// Sums over all elements x of each feature of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureMoments {
    /// How many elements of one feature were seen.
    pub count: u64,
    /// Σ |x|.
    pub absolute: Vec<f64>,
    /// Σ x².
    pub squared: Vec<f64>,
    /// How many were 0.
    pub zeros: Vec<u64>,
}

impl FeatureMoments {
    fn add(&mut self, value: &Tensor, features: FeatureAxis) {
        let (Some(axis), Some(elements)) = (features.of_rank(value.dims().len()), value.to_f32()) else { return };
        let features = value.dims()[axis];
        let inner = value.dims()[axis + 1..].iter().product::<usize>().max(1);
        self.absolute.resize(features, 0.0);
        self.squared.resize(features, 0.0);
        self.zeros.resize(features, 0);
        self.count += elements.len().checked_div(features).unwrap_or(0) as u64;
        for (i, x) in elements.chunks_exact(inner).enumerate() {
            let feature = i % features;
            self.absolute[feature] += x.iter().map(|x| f64::from(x.abs())).sum::<f64>();
            self.squared[feature] += x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            self.zeros[feature] += x.iter().filter(|x| **x == 0.0).count() as u64;
        }
    }

    /// ‖x‖₂ of each feature.
    pub fn norms(&self) -> Vec<f32> {
        self.squared.iter().map(|sum| sum.sqrt() as f32).collect()
    }
}

/// What is known of a network beside its weights.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    seed: u64,
    samples: usize,
    gradients: BTreeMap<ValueId, GradientMoments>,
    activations: BTreeMap<(ValueId, FeatureAxis), FeatureMoments>,
}

impl Stats {
    /// Nothing but a seed, for criteria that draw.
    pub fn seeded(seed: u64) -> Stats {
        Stats { seed, ..Stats::default() }
    }

    /// Goes through the samples once and collects what is needed. Gradients are those of single samples where `calibration` gives
    /// them one at a time.
    ///
    /// # Errors
    /// When a batch cannot be read or run, has no labels where gradients are needed, or there is none.
    pub fn collect(
        executor: &mut dyn Executor,
        layers: &[Layer<'_>],
        calibration: &dyn Calibration,
        needs: Needs,
        loss: Loss,
        seed: u64,
    ) -> Result<Stats, ExecError> {
        let mut stats = Stats::seeded(seed);
        match needs {
            Needs::Weights => return Ok(stats),
            Needs::Gradients => stats.collect_gradients(executor, layers, calibration, loss)?,
            Needs::Activations => stats.collect_activations(executor, layers, calibration)?,
        }
        if stats.samples == 0 {
            return Err(ExecError::Option("there is no sample to learn from (hint: give the training split a share of the data)".into()));
        }
        Ok(stats)
    }

    fn collect_gradients(
        &mut self,
        executor: &mut dyn Executor,
        layers: &[Layer<'_>],
        calibration: &dyn Calibration,
        loss: Loss,
    ) -> Result<(), ExecError> {
        let classes = calibration.classes().unwrap_or_default();
        for batch in calibration.batches(1) {
            let batch = batch?;
            if batch.labels.is_none() && batch.targets.is_none() {
                return Err(ExecError::Option("gradients need data with labels (hint: --labels FILE, or a criterion without them)".into()));
            }
            let found = executor.gradients(&batch.inputs, &loss.target(&batch, classes)?, &loss)?;
            for layer in layers {
                let gradient = found.by_weight.get(&layer.id).and_then(Tensor::to_f32);
                // A weight that the loss does not depend on has no gradient.
                let gradient = gradient.unwrap_or_else(|| vec![0.0; layer.values.len()].into());
                self.gradients.entry(layer.id).or_default().add(&gradient);
            }
            self.samples += 1;
        }
        Ok(())
    }

    fn collect_activations(
        &mut self,
        executor: &mut dyn Executor,
        layers: &[Layer<'_>],
        calibration: &dyn Calibration,
    ) -> Result<(), ExecError> {
        let wanted: BTreeSet<(ValueId, FeatureAxis)> = layers.iter().filter_map(|l| Some(l.matrix.as_ref()?.input())).collect();
        let fetch: Vec<ValueId> = wanted.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>().into_iter().collect();
        for batch in calibration.batches(BATCH) {
            let batch = batch?;
            let values: BTreeMap<ValueId, Tensor> = fetch.iter().copied().zip(executor.run(&batch.inputs, &fetch)?).collect();
            for key in &wanted {
                if let Some(value) = values.get(&key.0) {
                    self.activations.entry(*key).or_default().add(value, key.1);
                }
            }
            self.samples += batch.indices.len();
        }
        Ok(())
    }

    /// How many samples were seen.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Seed for what is drawn.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The gradients of a layer's weight.
    ///
    /// # Errors
    /// When none were collected.
    pub fn gradients(&self, layer: &Layer<'_>) -> Result<&GradientMoments, PruneError> {
        let known = self.gradients.get(&layer.id).filter(|g| g.sum.len() == layer.values.len());
        known.ok_or_else(|| PruneError::NotCollected { what: "gradients", weight: layer.name.into() })
    }

    /// The features of what a layer's weight is multiplied with.
    ///
    /// # Errors
    /// When none were collected, or there are fewer than the weight needs.
    pub fn inputs(&self, layer: &Layer<'_>) -> Result<&FeatureMoments, PruneError> {
        let missing = || PruneError::NotCollected { what: "activations", weight: layer.name.into() };
        let matrix = layer.matrix.as_ref().ok_or_else(missing)?;
        let moments = self.activations.get(&matrix.input()).ok_or_else(missing)?;
        if moments.squared.len() < matrix.groups() * matrix.run() { Err(missing()) } else { Ok(moments) }
    }

    /// What was found for one layer.
    #[cfg(test)]
    pub(crate) fn of_layer(layer: &Layer<'_>, samples: usize, moments: GradientMoments, norms: Vec<f32>) -> Stats {
        let input = layer.matrix.as_ref().expect("a matrix").input();
        let inputs = FeatureMoments { squared: norms.iter().map(|n| f64::from(*n).powi(2)).collect(), ..FeatureMoments::default() };
        Stats { seed: 0, samples, gradients: BTreeMap::from([(layer.id, moments)]), activations: BTreeMap::from([(input, inputs)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::layers;
    use penjing_exec::cpu_executor;
    use penjing_exec::data::Batch;
    use penjing_graph::ops::{Conv, MatMul, Window};
    use penjing_graph::{DataType, Dim, GraphBuilder};

    fn batch(dims: &[usize], x: &[f32], label: u32) -> Batch {
        Batch { inputs: vec![Tensor::new(dims, x.to_vec())], labels: Some(vec![label]), targets: None, indices: vec![0] }
    }

    const CROSS_ENTROPY: Loss = Loss::CrossEntropy { smoothing: 0.0 };

    #[test]
    fn gradients_of_single_samples_by_hand() {
        let mut b = GraphBuilder::new("logits");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into()]);
        let w = b.tensor("w", Tensor::new([1, 2], vec![0.0f32, 0.0]));
        let y = b.node("y", MatMul, &[x, w]);
        let graph = b.output(y).finish().expect("valid");
        let samples = vec![batch(&[1, 1], &[2.0], 0), batch(&[1, 1], &[4.0], 1)];
        let layers = layers(&graph).expect("layers");
        let mut executor = cpu_executor(&graph).expect("runs");
        let stats = Stats::collect(&mut *executor, &layers, &samples, Needs::Gradients, CROSS_ENTROPY, 0).expect("stats");
        // g = x·(softmax − one-hot), softmax = ½: (−1, 1) of the first sample, (2, −2) of the second.
        let moments = GradientMoments { sum: vec![1.0, -1.0], absolute: vec![3.0, 3.0], squared: vec![5.0, 5.0] };
        assert_eq!((stats.samples(), stats.gradients(&layers[0]).expect("gradients")), (2, &moments));
    }

    #[test]
    fn features_by_hand() {
        let mut b = GraphBuilder::new("channels");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into(), 2.into()]);
        let w = b.tensor("w", Tensor::new([1, 2, 1], vec![1.0f32, 1.0]));
        let y = b.node("y", Conv { window: Window::default(), group: 1 }, &[x, w]);
        let graph = b.output(y).finish().expect("valid");
        let samples = vec![batch(&[1, 2, 2], &[1.0, 2.0, 6.0, 0.0], 0), batch(&[1, 2, 2], &[2.0, 4.0, 0.0, 8.0], 0)];
        let layers = layers(&graph).expect("layers");
        let mut executor = cpu_executor(&graph).expect("runs");
        let stats = Stats::collect(&mut *executor, &layers, &samples, Needs::Activations, CROSS_ENTROPY, 0).expect("stats");
        // √(1 + 4 + 4 + 16) = 5, √(36 + 64) = 10.
        let found = stats.inputs(&layers[0]).expect("features");
        assert_eq!(found.norms(), [5.0, 10.0]);
        let moments = FeatureMoments { count: 4, absolute: vec![9.0, 14.0], squared: vec![25.0, 100.0], zeros: vec![0, 2] };
        assert_eq!(found, &moments);
    }

    #[test]
    fn no_samples_are_an_error() {
        let built = crate::prune::testing::layer(1, 1, &[1.0]);
        let mut executor = cpu_executor(&built.graph).expect("runs");
        for needs in [Needs::Gradients, Needs::Activations] {
            assert!(Stats::collect(&mut *executor, &[built.layer()], &Vec::new(), needs, CROSS_ENTROPY, 0).is_err());
        }
    }
}
