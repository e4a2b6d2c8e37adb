use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// |w|: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks".
#[derive(Clone, Copy, Debug)]
pub struct Magnitude;

impl Criterion for Magnitude {
    fn name(&self) -> &'static str {
        "magnitude"
    }

    fn needs(&self) -> Needs {
        Needs::Weights
    }

    fn scope(&self) -> Scope {
        Scope::Global
    }

    fn score(&self, layer: &Layer<'_>, _: &Stats) -> Result<Vec<f32>, PruneError> {
        Ok(layer.values.iter().map(|w| w.abs()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;

    #[test]
    fn by_hand() {
        let built = layer(1, 3, &[0.5, -2.0, 0.0]);
        assert_eq!(Magnitude.score(&built.layer(), &Stats::default()).expect("scores"), [0.5, 2.0, 0.0]);
    }
}
