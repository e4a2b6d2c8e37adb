//! Samples that a method learns from before it changes a network.

use penjing_exec::ExecError;
use penjing_exec::data::{Batch, Dataset, Order, Split};

/// Samples that can be gone through more than once, each time in the same order.
pub trait Calibration {
    /// The samples, at most so many at a time.
    fn batches(&self, most: usize) -> Box<dyn Iterator<Item = Result<Batch, ExecError>> + '_>;

    /// How many classes the labels tell apart.
    fn classes(&self) -> Option<usize>;
}

/// Some samples of the training split, drawn with a seed, as they are without augmentation.
#[derive(Clone, Copy, Debug)]
pub struct TrainingSamples<'a> {
    /// The set.
    pub data: &'a Dataset,
    /// How many samples, or all if there are fewer.
    pub samples: usize,
    /// Draws them.
    pub seed: u64,
}

impl Calibration for TrainingSamples<'_> {
    fn batches(&self, most: usize) -> Box<dyn Iterator<Item = Result<Batch, ExecError>> + '_> {
        // A divisor, so that whole batches make up the number.
        let batch = (1..=most.min(self.samples)).rev().find(|batch| self.samples.is_multiple_of(*batch)).unwrap_or(1);
        let order = Order::Shuffled { seed: self.seed, epoch: 0 };
        Box::new(self.data.batches(Split::Train, batch, order, false).take(self.samples / batch))
    }

    fn classes(&self) -> Option<usize> {
        self.data.classes()
    }
}

/// All samples of a split, in its order.
#[derive(Clone, Copy, Debug)]
pub struct SplitSamples<'a> {
    /// The set.
    pub data: &'a Dataset,
    /// The split.
    pub split: Split,
}

impl Calibration for SplitSamples<'_> {
    fn batches(&self, most: usize) -> Box<dyn Iterator<Item = Result<Batch, ExecError>> + '_> {
        Box::new(self.data.batches(self.split, most, Order::Sequential, false))
    }

    fn classes(&self) -> Option<usize> {
        self.data.classes()
    }
}

/// Batches that are there already; they come as they are.
impl Calibration for Vec<Batch> {
    fn batches(&self, _: usize) -> Box<dyn Iterator<Item = Result<Batch, ExecError>> + '_> {
        Box::new(self.iter().cloned().map(Ok))
    }

    fn classes(&self) -> Option<usize> {
        self.iter().filter_map(|batch| batch.labels.as_ref()?.iter().max()).max().map(|class| *class as usize + 1)
    }
}
