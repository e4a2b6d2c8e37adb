use penjing_graph::{Role, Tensor};

use super::{ChannelCriterion, MemberWeight};
use crate::prune::{PruneError, Stats};

/// |γ| of the normalisation that a channel goes through.
/// Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".
#[derive(Clone, Copy, Debug)]
pub struct BnScale;

impl ChannelCriterion for BnScale {
    fn name(&self) -> &'static str {
        "bn-scale"
    }

    fn score(&self, weight: &MemberWeight<'_>, _: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        if weight.role != Role::NormScale {
            return Ok(None);
        }
        let scale = weight.graph.tensor(weight.member.axis.value).and_then(Tensor::to_f32);
        Ok(scale.map(|scale| weight.sums(&scale.iter().map(|g| g.abs()).collect::<Vec<f32>>())))
    }
}
