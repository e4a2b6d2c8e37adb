//! Training and measuring: schedules, the loop over epochs, checkpoints, metrics and their intervals.

mod checkpoint;
mod eval;
mod inner_values;
mod loss;
mod metric_command;
mod progress;
mod schedule;
mod settings;
mod side_by_side;
mod similarity;
pub mod statistics;
#[cfg(test)]
mod testing;
mod trainer;

pub use checkpoint::{Checkpoint, Position};
pub use eval::{Evaluation, Tally, evaluate, squared_error};
pub use inner_values::{InnerSimilarity, InnerValues, inner_values};
pub use metric_command::metric_command;
pub use progress::{Event, Progress, Silent};
pub use schedule::{Length, Schedule, Shape};
pub use settings::{Optimizer, TrainSettings};
pub use side_by_side::{Portion, SideBySide, side_by_side};
pub use similarity::{Similarity, similarity};
pub use trainer::{Ended, EpochSummary, FitReport, Penalty, StopFlag, Trainer, fit};
