//! One stream of random numbers for each purpose, epoch and sample, so that no order of execution can change what is drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the numbers are for. The number is part of the seed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    TestSplit = 1,
    ValidationSplit = 2,
    Shuffle = 3,
    Augment = 4,
}

/// The stream of (`seed`, `epoch`, `item`) for one purpose.
pub(super) fn random(seed: u64, epoch: u64, item: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.as_chunks_mut::<8>().0.iter_mut().zip([seed, epoch, item, purpose as u64]) {
        *part = value.to_le_bytes();
    }
    ChaCha8Rng::from_seed(key)
}
