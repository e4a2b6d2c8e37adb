//! Runs and trains a graph. What the rest of Penjing sees has no backend parameter: [`Executor`] is the border.

pub mod cpu;
pub mod data;
mod error;
mod executor;
pub mod train;

pub use error::ExecError;
pub use executor::{Executor, Gradients, Loss, Objective, StepReport, Target, UpdateRule};
