use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// w² / Σ v², v the weights of the layer with |v| ≥ |w|: magnitudes made comparable between layers, so that one threshold finds each
/// layer's sparsity. Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning".
#[derive(Clone, Copy, Debug)]
pub struct Lamp;

impl Criterion for Lamp {
    fn name(&self) -> &'static str {
        "lamp"
    }

    fn needs(&self) -> Needs {
        Needs::Weights
    }

    fn scope(&self) -> Scope {
        Scope::Global
    }

    fn score(&self, layer: &Layer<'_>, _: &Stats) -> Result<Vec<f32>, PruneError> {
        let squared = |i: usize| f64::from(layer.values[i]).powi(2);
        let mut order: Vec<usize> = (0..layer.values.len()).collect();
        order.sort_by(|a, b| layer.values[*b].abs().total_cmp(&layer.values[*a].abs()));
        let mut scores = vec![0.0; order.len()];
        let mut larger = 0.0;
        for equal in order.chunk_by(|a, b| layer.values[*a].abs() == layer.values[*b].abs()) {
            larger += equal.iter().map(|i| squared(*i)).sum::<f64>();
            if larger > 0.0 {
                equal.iter().for_each(|i| scores[*i] = (squared(*i) / larger) as f32);
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;

    #[test]
    fn by_hand() {
        let built = layer(1, 5, &[1.0, -2.0, 2.0, 0.0, 4.0]);
        // 4²/16 = 1; 2²/(16 + 4 + 4) = 1/6 for both; 1²/25.
        assert_eq!(Lamp.score(&built.layer(), &Stats::default()).expect("scores"), [0.04, 1.0 / 6.0, 1.0 / 6.0, 0.0, 1.0]);
    }
}
