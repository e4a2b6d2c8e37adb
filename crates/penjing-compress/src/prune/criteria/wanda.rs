use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// |w|·‖x‖₂, x all values of the input feature that the weight is multiplied with; weights of one output are compared.
/// Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models". The feature of a convolution is its input
/// channel. Where the graph brings a weight into form first, so that its features are not known, the score is |w|.
#[derive(Clone, Copy, Debug)]
pub struct Wanda;

impl Criterion for Wanda {
    fn name(&self) -> &'static str {
        "wanda"
    }

    fn needs(&self) -> Needs {
        Needs::Activations
    }

    fn scope(&self) -> Scope {
        Scope::Row
    }

    fn score(&self, layer: &Layer<'_>, stats: &Stats) -> Result<Vec<f32>, PruneError> {
        let mut scores: Vec<f32> = layer.values.iter().map(|w| w.abs()).collect();
        let Some(matrix) = &layer.matrix else { return Ok(scores) };
        let norms = stats.inputs(layer)?.norms();
        for row in 0..matrix.rows() {
            for column in 0..matrix.columns() {
                let score = &mut scores[matrix.index(row, column)];
                *score = (*score * norms[matrix.feature(row, column)]).min(f32::MAX);
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::stats::GradientMoments;
    use crate::prune::testing::layer;

    #[test]
    fn by_hand() {
        // [K, N] = [2, 2]: the first row meets feature 0 of norm 5, the second feature 1 of norm 2.
        let built = layer(2, 2, &[1.0, -3.0, 2.0, 4.0]);
        let stats = Stats::of_layer(&built.layer(), 1, GradientMoments::default(), vec![5.0, 2.0]);
        assert_eq!(Wanda.score(&built.layer(), &stats).expect("scores"), [5.0, 15.0, 4.0, 8.0]);
    }
}
