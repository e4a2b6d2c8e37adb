use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::{Criterion, Needs};
use crate::prune::{Layer, PruneError, Scope, Stats};

/// A number drawn for each weight that is not zero: the control that every other criterion has to beat.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl Criterion for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn needs(&self) -> Needs {
        Needs::Weights
    }

    fn scope(&self) -> Scope {
        Scope::Global
    }

    fn score(&self, layer: &Layer<'_>, stats: &Stats) -> Result<Vec<f32>, PruneError> {
        // Each layer has its own stream, so that no other layer changes what is drawn.
        let key = Sha256::new().chain_update(stats.seed().to_le_bytes()).chain_update(layer.name).finalize();
        let mut random = ChaCha8Rng::from_seed(key.into());
        // (0, 1], a multiple of 2⁻²⁴.
        let mut draw = || ((random.next_u32() >> 8) + 1) as f32 / (1u32 << 24) as f32;
        Ok(layer.values.iter().map(|w| draw() * f32::from(u8::from(*w != 0.0))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;

    #[test]
    fn the_seed_decides() {
        let built = layer(4, 4, &[1.0; 16]);
        let of = |seed| Random.score(&built.layer(), &Stats::seeded(seed)).expect("scores");
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert!(of(3).iter().all(|s| 0.0 < *s && *s <= 1.0));
    }
}
