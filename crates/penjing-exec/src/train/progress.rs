//! What a training tells while it runs. Libraries never print: whoever listens does.

use super::trainer::EpochSummary;
use crate::data::Split;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// An epoch starts, or goes on after a resume.
    EpochStarted {
        /// Number of the epoch, from 1.
        epoch: u64,
        /// Epochs in all.
        epochs: u64,
        /// Steps in an epoch.
        steps: u64,
        /// Steps of it that are done already.
        done: u64,
    },
    /// A step was taken.
    Step {
        /// Steps of the epoch that are done.
        done: u64,
        /// Steps in an epoch.
        steps: u64,
        /// Mean loss of the batch before the update.
        loss: f32,
        /// Learning rate of the step.
        learning_rate: f32,
        /// Training samples a second since the epoch started or was resumed.
        samples_per_second: f64,
    },
    /// Samples of a split were measured.
    Evaluated {
        /// Which.
        split: Split,
        /// Samples measured.
        done: u64,
        /// Samples of the split.
        samples: u64,
    },
    /// An epoch ended.
    EpochEnded(&'a EpochSummary),
    /// Validation did not get better any more; the weights are those of the best epoch.
    StoppedEarly {
        /// That epoch, from 1.
        best: u64,
    },
}

/// Listens.
pub trait Progress {
    /// Takes note.
    fn event(&mut self, event: Event<'_>);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&mut self, _: Event<'_>) {}
}

impl<F: FnMut(Event<'_>)> Progress for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}
