//! A pruner made with the fraction returns a pruned copy; the original is untouched.
//!
//! `cargo run --example prune` prunes half of the weights of a small convolutional network.

use penjing_compress::prune::{Pruner, layer_sparsities};
use penjing_graph::zoo::{ZooOptions, build};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = build("convnet-cifar", &ZooOptions::default())?;
    let pruned = Pruner::new(0.5)?.prune(&network)?;
    let left = |graph| layer_sparsities(graph).iter().map(|l| l.left).sum::<usize>();
    assert_eq!((left(&network), left(&pruned.graph)), (61_770, 30_885));
    Ok(())
}
