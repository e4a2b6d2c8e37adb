use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// |w·E[g]|: how much the mean loss depends on whether the weight is there, meant for a network that is not trained yet.
/// Lee et al. 2019, "SNIP: Single-shot Network Pruning based on Connection Sensitivity". Dividing by the sum over all weights, as
/// the paper does, changes no order and is left out.
#[derive(Clone, Copy, Debug)]
pub struct Snip;

impl Criterion for Snip {
    fn name(&self) -> &'static str {
        "snip"
    }

    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn scope(&self) -> Scope {
        Scope::Global
    }

    fn score(&self, layer: &Layer<'_>, stats: &Stats) -> Result<Vec<f32>, PruneError> {
        let n = stats.samples() as f32;
        let sum = &stats.gradients(layer)?.sum;
        Ok(layer.values.iter().zip(sum).map(|(w, sum)| (w * (sum / n)).abs()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::stats::GradientMoments;
    use crate::prune::testing::layer;

    #[test]
    fn by_hand() {
        let built = layer(1, 2, &[0.5, -2.0]);
        // Two samples with g = (3, 1) and (−1, −1): E[g] = (1, 0), so that the second connection does not matter.
        let moments = GradientMoments { sum: vec![2.0, 0.0], absolute: vec![4.0, 2.0], squared: vec![10.0, 2.0] };
        let stats = Stats::of_layer(&built.layer(), 2, moments, vec![]);
        assert_eq!(Snip.score(&built.layer(), &stats).expect("scores"), [0.5, 0.0]);
    }
}
