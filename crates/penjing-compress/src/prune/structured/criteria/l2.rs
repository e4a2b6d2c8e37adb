use super::{ChannelCriterion, MemberWeight};
use crate::prune::{PruneError, Stats};

/// ‖w‖₂ over the weights that a channel takes along.
/// Li et al. 2017, "Pruning Filters for Efficient ConvNets", with the Euclidean norm.
#[derive(Clone, Copy, Debug)]
pub struct L2;

impl ChannelCriterion for L2 {
    fn name(&self) -> &'static str {
        "l2"
    }

    fn score(&self, weight: &MemberWeight<'_>, _: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        let Some(layer) = weight.layer else { return Ok(None) };
        let squares: Vec<f32> = layer.values.iter().map(|w| w * w).collect();
        Ok(Some(weight.sums(&squares).into_iter().map(f32::sqrt).collect()))
    }
}
