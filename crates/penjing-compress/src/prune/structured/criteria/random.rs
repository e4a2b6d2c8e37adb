use penjing_graph::Role;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::{ChannelCriterion, MemberWeight};
use crate::prune::{PruneError, Stats};

/// A number drawn for each channel: the control that every other criterion has to beat.
#[derive(Clone, Copy, Debug)]
pub struct RandomChannel;

impl ChannelCriterion for RandomChannel {
    fn name(&self) -> &'static str {
        "random"
    }

    fn score(&self, weight: &MemberWeight<'_>, stats: &Stats) -> Result<Option<Vec<f32>>, PruneError> {
        if weight.role != Role::Weight {
            return Ok(None);
        }
        // Each group has its own stream and each of its weights the same one, so that a channel has one number.
        let key = Sha256::new().chain_update(stats.seed().to_le_bytes()).chain_update(weight.group).finalize();
        let mut random = ChaCha8Rng::from_seed(key.into());
        Ok(Some((0..weight.channels).map(|_| (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32).collect()))
    }
}
