use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// E|w·g|: how much the loss of a sample changes to first order when the weight goes, g = ∂loss/∂w of that sample.
/// Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference".
#[derive(Clone, Copy, Debug)]
pub struct Taylor;

impl Criterion for Taylor {
    fn name(&self) -> &'static str {
        "taylor"
    }

    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn scope(&self) -> Scope {
        Scope::Global
    }

    fn score(&self, layer: &Layer<'_>, stats: &Stats) -> Result<Vec<f32>, PruneError> {
        let n = stats.samples() as f32;
        let absolute = &stats.gradients(layer)?.absolute;
        Ok(layer.values.iter().zip(absolute).map(|(w, sum)| w.abs() * (sum / n)).collect())
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
        // Two samples with g = (3, 1) and (−1, −1): E|g| = (2, 1).
        let moments = GradientMoments { sum: vec![2.0, 0.0], absolute: vec![4.0, 2.0], squared: vec![10.0, 2.0] };
        let stats = Stats::of_layer(&built.layer(), 2, moments, vec![]);
        assert_eq!(Taylor.score(&built.layer(), &stats).expect("scores"), [1.0, 2.0]);
    }
}
