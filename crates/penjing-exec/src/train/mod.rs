//! Training and measuring: schedules, the loop over epochs, checkpoints, metrics and their intervals.

mod loss;
mod schedule;
pub mod statistics;

pub use schedule::{Length, Schedule, Shape};
