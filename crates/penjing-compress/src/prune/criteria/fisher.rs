use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// w²·E[g²]: the increase of the loss to second order, its Hessian taken as the diagonal of the empirical Fisher information.
/// LeCun et al. 1990, "Optimal Brain Damage"; Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning".
#[derive(Clone, Copy, Debug)]
pub struct Fisher;

impl Criterion for Fisher {
    fn name(&self) -> &'static str {
        "fisher"
    }

    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn scope(&self) -> Scope {
        Scope::Global
    }

    fn score(&self, layer: &Layer<'_>, stats: &Stats) -> Result<Vec<f32>, PruneError> {
        let n = stats.samples() as f32;
        let squared = &stats.gradients(layer)?.squared;
        // |w|·√E[g²] orders as its square does, and is in a float's range where the square is not.
        Ok(layer.values.iter().zip(squared).map(|(w, sum)| w.abs() * (sum / n).sqrt()).collect())
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
        // Two samples with g = (1, 7) and (1, 1): E[g²] = (1, 25); the scores are the roots of w²·E[g²] = (0.25, 100).
        let moments = GradientMoments { sum: vec![2.0, 8.0], absolute: vec![2.0, 8.0], squared: vec![2.0, 50.0] };
        let stats = Stats::of_layer(&built.layer(), 2, moments, vec![]);
        assert_eq!(Fisher.score(&built.layer(), &stats).expect("scores"), [0.5, 10.0]);
    }
}
