use super::{ChannelCriterion, MemberWeight};
use crate::prune::criteria::Needs;
use crate::prune::{FeatureMoments, PruneError, Stats};

/// Mean |a| over what reaches the layers that read a channel.
/// Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference", compare it with others.
#[derive(Clone, Copy, Debug)]
pub struct MeanActivation;

/// Share of what reaches the layers that read a channel that is not zero: 1 − APoZ, the average percentage of zeros.
/// Hu et al. 2016, "Network Trimming".
#[derive(Clone, Copy, Debug)]
pub struct Apoz;

impl ChannelCriterion for MeanActivation {
    fn name(&self) -> &'static str {
        "mean-activation"
    }

    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn score(&self, weight: &MemberWeight<'_>, stats: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        by_feature(weight, stats, |moments, feature| moments.absolute[feature] / moments.count.max(1) as f64)
    }
}

impl ChannelCriterion for Apoz {
    fn name(&self) -> &'static str {
        "apoz"
    }

    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn score(&self, weight: &MemberWeight<'_>, stats: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        by_feature(weight, stats, |moments, feature| 1.0 - moments.zeros[feature] as f64 / moments.count.max(1) as f64)
    }
}

/// For each channel the mean over its features, where they are what the weight is multiplied with.
fn by_feature(
    weight: &MemberWeight<'_>,
    stats: &Stats,
    of: impl Fn(&FeatureMoments, usize) -> f64,
) -> Result<Option<Vec<f32>>, PruneError> {
    let member = weight.member;
    let Some((layer, tensor)) = weight.layer.zip(weight.graph.tensor(member.axis.value)) else { return Ok(None) };
    let stride: usize = tensor.dims()[member.axis.axis + 1..].iter().product();
    if !layer.matrix.as_ref().is_some_and(|matrix| matrix.runs_along(member.size, stride)) {
        return Ok(None);
    }
    let moments = stats.inputs(layer)?;
    let mean = |channel: usize| {
        let positions = member.positions(channel);
        positions.iter().map(|p| of(moments, *p as usize)).sum::<f64>() / positions.len().max(1) as f64
    };
    Ok(Some((0..weight.channels).map(|channel| mean(channel) as f32).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::structured::criteria::ChannelChoice;
    use crate::prune::structured::{Normalize, Reduce, scores};
    use crate::prune::{Stats, layers};
    use penjing_exec::data::Batch;
    use penjing_exec::{Loss, cpu_executor};
    use penjing_graph::channels::Channels;
    use penjing_graph::ops::{Activation, MatMul};
    use penjing_graph::{DataType, Dim, GraphBuilder, Tensor};

    #[test]
    fn by_hand() {
        // x · [[1, −1, 2]] gives (x, −x, 2x); ReLU; a product reads the three units.
        let mut b = GraphBuilder::new("units");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 1.into()]);
        let v = b.tensor("v", Tensor::new([1, 3], vec![1.0f32, -1.0, 2.0]));
        let h = b.node("h", MatMul, &[x, v]);
        let r = b.node("r", Activation::Relu, &[h]);
        let w = b.tensor("w", Tensor::new([3, 2], vec![1.0f32; 6]));
        let y = b.node("y", MatMul, &[r, w]);
        let graph = b.output(y).finish().expect("valid");
        let samples = vec![Batch {
            inputs: vec![Tensor::new([4, 1], vec![1.0f32, 2.0, 3.0, -2.0])],
            labels: None,
            targets: None,
            indices: vec![0, 1, 2, 3],
        }];
        let layers = layers(&graph).expect("layers");
        let loss = Loss::CrossEntropy { smoothing: 0.0 };
        let mut executor = cpu_executor(&graph).expect("runs");
        let stats = Stats::collect(&mut *executor, &layers, &samples, Needs::Activations, loss, 0).expect("stats");
        let channels = Channels::find(&graph, false);
        let scored = |name: &str| {
            let choice: ChannelChoice = name.parse().expect("a criterion");
            scores(&graph, &channels, choice, (Reduce::Mean, Normalize::None), &stats).expect("scores").remove(0).expect("says something")
        };
        // Units: (1, 2, 3, 0), (0, 0, 0, 2), (2, 4, 6, 0).
        assert_eq!(scored("mean-activation"), [1.5, 0.5, 3.0]);
        assert_eq!(scored("apoz"), [0.75, 0.25, 0.75]);
    }
}
