//! Batches, prepared ahead on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use penjing_graph::Tensor;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::dataset::Inner;
use super::random::{Purpose, random};
use crate::ExecError;

/// Batches that wait, ready, while one is used.
const AHEAD: usize = 2;

/// In what order the samples of a split come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in the set. Draws of the augmentation are those of seed 0, epoch 0.
    Sequential,
    /// Shuffled anew in each epoch; the same for the same two numbers.
    Shuffled {
        /// Seeds the order and the augmentation.
        seed: u64,
        /// Number of the epoch.
        epoch: u64,
    },
}

/// Some samples, ready for a model.
#[derive(Clone, Debug)]
pub struct Batch {
    /// One tensor for each input of the model: `f32` [n, …].
    pub inputs: Vec<Tensor>,
    /// Class of each sample, where the set has classes.
    pub labels: Option<Vec<u32>>,
    /// What the outputs are to come near to, `f32` [n, …], where the set has numbers instead of classes.
    pub targets: Option<Tensor>,
    /// Number of each sample in the set.
    pub indices: Vec<usize>,
}

/// The batches of one pass over a split. Only the last may be smaller. Nothing comes after an error.
#[derive(Debug)]
pub struct Batches {
    remaining: usize,
    ready: Receiver<Result<Batch, ExecError>>,
    thread: Option<JoinHandle<()>>,
}

/// Order and draws of one pass.
pub(super) struct Pass {
    indices: Vec<usize>,
    seed: u64,
    epoch: u64,
    augment: bool,
}

impl Pass {
    pub(super) fn new(indices: &[usize], order: Order, augment: bool) -> Pass {
        let mut indices = indices.to_vec();
        let (seed, epoch) = match order {
            Order::Sequential => (0, 0),
            Order::Shuffled { seed, epoch } => {
                indices.shuffle(&mut random(seed, epoch, 0, Purpose::Shuffle));
                (seed, epoch)
            }
        };
        Pass { indices, seed, epoch, augment }
    }

    /// The same pass without its first samples.
    pub(super) fn after(mut self, samples: usize) -> Pass {
        self.indices.drain(..samples.min(self.indices.len()));
        self
    }
}

impl Batches {
    /// Starts to prepare. A batch of 0 counts as 1.
    pub(super) fn start(set: Arc<Inner>, pass: Pass, batch: usize) -> Batches {
        let batch = batch.max(1);
        let remaining = pass.indices.len().div_ceil(batch);
        let (send, ready) = sync_channel(AHEAD);
        let thread = thread::spawn(move || {
            for indices in pass.indices.chunks(batch) {
                let batch = prepare(&set, &pass, indices);
                let failed = batch.is_err();
                // The receiver is gone when nobody wants the rest.
                if send.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Batches { remaining, ready, thread: Some(thread) }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ExecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        match self.ready.recv() {
            Ok(batch) => {
                self.remaining = if batch.is_ok() { self.remaining - 1 } else { 0 };
                Some(batch)
            }
            // The thread ended before its work was done: it panicked, and so do we, rather than pass for the end of the data.
            Err(_) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                _ => None,
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining))
    }
}

fn prepare(set: &Inner, pass: &Pass, indices: &[usize]) -> Result<Batch, ExecError> {
    let inputs = match set.inputs() {
        Some(inputs) => inputs.batch(indices)?,
        None => vec![samples(set, pass, indices)?],
    };
    let targets = match &set.targets {
        None => None,
        Some(targets) => {
            let mut values = vec![];
            indices.iter().try_for_each(|index| targets.numbers(*index).map(|numbers| values.extend(numbers)))?;
            Some(Tensor::new([&[indices.len()], targets.dims()].concat(), values))
        }
    };
    Ok(Batch {
        inputs,
        labels: set.labels.as_ref().map(|labels| indices.iter().map(|i| labels[*i]).collect()),
        targets,
        indices: indices.to_vec(),
    })
}

/// The samples as one tensor [n, …].
fn samples(set: &Inner, pass: &Pass, indices: &[usize]) -> Result<Tensor, ExecError> {
    let size: usize = set.shape.iter().product();
    let mut values = vec![0.0; indices.len() * size];
    // Each sample has its place and its own draws, so threads cannot change a bit.
    values.par_chunks_exact_mut(size).with_min_len(8).zip(indices).try_for_each(|(place, &index)| {
        let draws = pass.augment.then_some((pass.seed, pass.epoch));
        set.prepare(index, draws).map(|sample| place.copy_from_slice(&sample))
    })?;
    Ok(Tensor::new([&[indices.len()], &set.shape[..]].concat(), values))
}
