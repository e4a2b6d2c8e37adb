//! One score for each channel, of what its weights say.

use std::collections::BTreeMap;

use penjing_graph::channels::{ChannelGroup, Channels};
use penjing_graph::{Graph, Role, ValueId, roles};
use serde::{Deserialize, Serialize};

use super::criteria::{ChannelChoice, MemberWeight};
use crate::prune::{Layer, PruneError, Stats, layers};

/// How the scores that a channel has by each of its weights become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// Their mean.
    #[default]
    Mean,
    /// The largest.
    Max,
    /// Their sum.
    Sum,
}

/// What makes scores of different groups comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Divided by the group's mean.
    #[default]
    Mean,
    /// Divided by the group's largest.
    Max,
    /// As they are.
    None,
}

impl Reduce {
    fn of(self, scores: &[f32]) -> f32 {
        match self {
            Reduce::Mean => scores.iter().sum::<f32>() / scores.len().max(1) as f32,
            Reduce::Max => scores.iter().copied().fold(0.0, f32::max),
            Reduce::Sum => scores.iter().sum(),
        }
    }
}

impl Normalize {
    fn apply(self, scores: &mut [f32]) {
        let divisor = match self {
            Normalize::Mean => scores.iter().sum::<f32>() / scores.len().max(1) as f32,
            Normalize::Max => scores.iter().copied().fold(0.0, f32::max),
            Normalize::None => 1.0,
        };
        if divisor > 0.0 {
            scores.iter_mut().for_each(|s| *s /= divisor);
        }
    }
}

/// Scores of the channels of every group, and the groups about which the criterion says nothing.
///
/// # Errors
/// When `stats` do not hold what the criterion needs, or a weight or a score is not finite.
pub fn scores(
    graph: &Graph,
    channels: &Channels,
    choice: ChannelChoice,
    (reduce, normalize): (Reduce, Normalize),
    stats: &Stats,
) -> Result<Vec<Option<Vec<f32>>>, PruneError> {
    let layers = layers(graph)?;
    let layers: BTreeMap<ValueId, &Layer<'_>> = layers.iter().map(|layer| (layer.id, layer)).collect();
    let roles = roles(graph);
    channels.groups.iter().map(|group| group_scores(graph, group, choice, (reduce, normalize), stats, &layers, &roles)).collect()
}

fn group_scores(
    graph: &Graph,
    group: &ChannelGroup,
    choice: ChannelChoice,
    (reduce, normalize): (Reduce, Normalize),
    stats: &Stats,
    layers: &BTreeMap<ValueId, &Layer<'_>>,
    roles: &BTreeMap<ValueId, Role>,
) -> Result<Option<Vec<f32>>, PruneError> {
    let mut by_weight = vec![];
    for member in &group.members {
        let Some(role) = roles.get(&member.axis.value).copied() else { continue };
        let layer = layers.get(&member.axis.value).copied();
        let weight = MemberWeight { graph, member, channels: group.channels, role, layer, group: &group.name };
        by_weight.extend(choice.score(&weight, stats)?);
    }
    if by_weight.is_empty() {
        return Ok(None);
    }
    let of = |channel: usize| reduce.of(&by_weight.iter().map(|scores| scores[channel]).collect::<Vec<f32>>());
    let mut scores: Vec<f32> = (0..group.channels).map(of).collect();
    normalize.apply(&mut scores);
    Ok(Some(scores))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::criteria::Needs;
    use crate::prune::structured::criteria::ALL;
    use penjing_graph::ops::{Activation, Conv, Flatten, Gemm, GlobalPool, Window};
    use penjing_graph::{DataType, Dim, GraphBuilder, Tensor};

    /// Two channels between a convolution and a product.
    fn two_channels() -> Graph {
        let mut b = GraphBuilder::new("two");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into(), 2.into(), 2.into()]);
        let w = b.tensor("w", Tensor::new([2, 1, 1, 2], vec![1.0f32, -2.0, 0.0, 4.0]));
        let c = b.node("c", Conv { window: Window::default(), group: 1 }, &[x, w]);
        let r = b.node("r", Activation::Relu, &[c]);
        let p = b.node("p", GlobalPool::Average, &[r]);
        let f = b.node("f", Flatten { axis: 1 }, &[p]);
        let v = b.tensor("v", Tensor::new([3, 2], vec![1.0f32, 0.0, -1.0, 0.0, 1.0, 3.0]));
        let y = b.node("y", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[f, v]);
        b.output(y).finish().expect("valid")
    }

    fn scored(name: &str, reduce: Reduce, normalize: Normalize) -> Vec<f32> {
        let graph = two_channels();
        let channels = Channels::find(&graph, false);
        let choice = name.parse().expect("a criterion");
        let mut all = scores(&graph, &channels, choice, (reduce, normalize), &Stats::seeded(1)).expect("scores");
        assert_eq!(all.len(), 1);
        all.remove(0).expect("says something")
    }

    #[test]
    fn by_hand() {
        // w: |1|+|−2| = 3 and 4; v by columns: |1|+|−1|+|1| = 3 and 3.
        assert_eq!(scored("l1", Reduce::Sum, Normalize::None), [6.0, 7.0]);
        assert_eq!(scored("l1", Reduce::Mean, Normalize::None), [3.0, 3.5]);
        assert_eq!(scored("l1", Reduce::Max, Normalize::None), [3.0, 4.0]);
        assert_eq!(scored("l1", Reduce::Max, Normalize::Max), [0.75, 1.0]);
        // √5 and 4; √3 and 3.
        let l2 = scored("l2", Reduce::Sum, Normalize::None);
        assert!((l2[0] - (5f32.sqrt() + 3f32.sqrt())).abs() < 1e-6 && (l2[1] - 7.0).abs() < 1e-6);
        // (1, −2) and (0, 4) are √37 apart, the columns (1, −1, 1) and (0, 0, 3) of v √6, each from the other.
        let fpgm = scored("fpgm", Reduce::Sum, Normalize::None);
        assert!(fpgm.iter().all(|s| (s - (37f32.sqrt() + 6f32.sqrt())).abs() < 1e-5), "{fpgm:?}");
    }

    #[test]
    fn every_criterion_scores_every_channel_or_says_what_it_lacks() {
        let graph = two_channels();
        let channels = Channels::find(&graph, false);
        for choice in ALL {
            let scored = scores(&graph, &channels, *choice, (Reduce::Mean, Normalize::Mean), &Stats::seeded(1));
            assert_eq!(scored.is_ok(), choice.needs() == Needs::Weights, "{}", choice.name());
            for scores in scored.into_iter().flatten().flatten() {
                assert!(scores.len() == 2 && scores.iter().all(|s| s.is_finite() && *s >= 0.0), "{}: {scores:?}", choice.name());
            }
            assert_eq!(choice.name().parse::<ChannelChoice>().expect("known"), *choice);
        }
    }
}
