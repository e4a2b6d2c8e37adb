use rayon::prelude::*;

use super::{ChannelCriterion, MemberWeight};
use crate::prune::{PruneError, Stats};

/// Σ ‖w_i − w_j‖₂ over the other channels' weights: how far a channel is from the geometric median, which the others can make up
/// for. He et al. 2019, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration".
#[derive(Clone, Copy, Debug)]
pub struct Fpgm;

impl ChannelCriterion for Fpgm {
    fn name(&self) -> &'static str {
        "fpgm"
    }

    fn score(&self, weight: &MemberWeight<'_>, _: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        let (Some(layer), Some(tensor)) = (weight.layer, weight.graph.tensor(weight.member.axis.value)) else { return Ok(None) };
        let axis = weight.member.axis.axis;
        let (outer, along) = (tensor.dims()[..axis].iter().product::<usize>(), tensor.dims()[axis]);
        let inner: usize = tensor.dims()[axis + 1..].iter().product();
        let gathered = |channel: usize| {
            let mut elements = vec![];
            for (block, position) in (0..outer).flat_map(|block| weight.member.positions(channel).iter().map(move |p| (block, *p))) {
                let first = (block * along + position as usize) * inner;
                elements.extend_from_slice(&layer.values[first..first + inner]);
            }
            elements
        };
        let filters: Vec<Vec<f32>> = (0..weight.channels).map(gathered).collect();
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        Ok(Some(filters.par_iter().map(|a| filters.iter().map(|b| distance(a, b)).sum()).collect()))
    }
}
