//! Training and measuring: schedules, the loop over epochs, checkpoints, metrics and their intervals.

mod checkpoint;
mod eval;
mod loss;
mod progress;
mod schedule;
mod settings;
pub mod statistics;
#[cfg(test)]
mod testing;
mod trainer;

pub use checkpoint::{Checkpoint, Position};
pub use eval::{Evaluation, Tally, evaluate};
pub use progress::{Event, Progress, Silent};
pub use schedule::{Length, Schedule, Shape};
pub use settings::{Optimizer, TrainSettings};
pub use trainer::{Ended, EpochSummary, FitReport, StopFlag, Trainer, fit};
