//! Biases that make up for what quantization adds to the mean of each output channel.

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::{ExecError, cpu_executor};
use penjing_graph::ops::Op;
use penjing_graph::{Graph, NodeId, Tensor, ValueId};

use super::calibrate::batch_size;
use super::plan::{Plan, QuantizedLayer};
use crate::prune::Calibration;

/// What each layer has to add to its output channels so that their means over some samples are those of the float network: one layer
/// after the other, each with those before it corrected. Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and
/// Bias Correction", section 4.2, with means from samples.
///
/// `quantized` is the network with codes and with the biases of `graph`. One pass through each is enough: a layer's output is
/// corrected as soon as it is computed, and what follows sees it so.
///
/// # Errors
/// When a sample cannot be read or run.
pub fn corrections(
    graph: &Graph,
    quantized: &Graph,
    plan: &Plan,
    calibration: &dyn Calibration,
) -> Result<BTreeMap<NodeId, Vec<f32>>, ExecError> {
    let correctable = |layer: &&QuantizedLayer| matches!(graph.node(layer.node).op, Op::Conv(_) | Op::Gemm(_));
    let layers: BTreeMap<ValueId, NodeId> = plan.layers.iter().filter(correctable).map(|l| (l.output, l.node)).collect();
    let watched: BTreeSet<ValueId> = layers.keys().copied().collect();
    let mut corrections = BTreeMap::new();
    // The samples have to go through together: a correction must be known before the next layer sees any of them.
    let Some(batch) = calibration.batches(batch_size(graph)).next() else { return Ok(corrections) };
    let batch = batch?;
    let mut expected: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
    cpu_executor(graph)?.run_watched(&batch.inputs, &watched, &mut |id, value| {
        expected.insert(id, channel_means(&value));
        Ok(None)
    })?;
    cpu_executor(quantized)?.run_watched(&batch.inputs, &watched, &mut |id, value| {
        let Some((node, expected)) = layers.get(&id).zip(expected.get(&id)) else { return Ok(None) };
        let correction: Vec<f32> = expected.iter().zip(channel_means(&value)).map(|(float, codes)| (float - codes) as f32).collect();
        let corrected = plus(&value, &correction);
        corrections.insert(*node, correction);
        Ok(Some(corrected))
    })?;
    Ok(corrections)
}

/// Elements of each channel that follow one another: values are [N, C, …].
fn inner(value: &Tensor) -> usize {
    value.dims().iter().skip(2).product::<usize>().max(1)
}

/// Mean over all elements of each channel of a value [N, C, …].
fn channel_means(value: &Tensor) -> Vec<f64> {
    let channels = value.dims().get(1).copied().unwrap_or(0);
    let mut sums = vec![0.0f64; channels];
    let values = value.to_f32().unwrap_or_default();
    for (row, elements) in values.chunks_exact(inner(value)).enumerate() {
        sums[row % channels] += elements.iter().map(|x| f64::from(*x)).sum::<f64>();
    }
    let count = (values.len() / channels.max(1)).max(1) as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// A value [N, C, …] with a number added to each channel.
fn plus(value: &Tensor, added: &[f32]) -> Tensor {
    let mut values = value.to_f32().unwrap_or_default().into_owned();
    for (row, elements) in values.chunks_exact_mut(inner(value)).enumerate() {
        elements.iter_mut().for_each(|x| *x += added[row % added.len()]);
    }
    Tensor::new(value.dims(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_channels_by_hand() {
        let value = Tensor::new([2, 2, 2], vec![1.0f32, 3.0, 10.0, 20.0, 5.0, 7.0, 0.0, 10.0]);
        assert_eq!(channel_means(&value), [4.0, 10.0]);
        let corrected = plus(&value, &[1.0, -1.0]);
        assert_eq!(corrected.values::<f32>().expect("floats").to_vec(), [2.0, 4.0, 9.0, 19.0, 6.0, 8.0, -1.0, 9.0]);
    }
}
