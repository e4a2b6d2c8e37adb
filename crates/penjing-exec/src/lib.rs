//! Runs and trains a graph. What the rest of Penjing sees has no backend parameter: [`Executor`] is the border.

mod cpu;
pub mod data;
mod engine;
mod error;
mod executor;
mod kernels;
pub mod runtime;
pub mod train;

pub use cpu::matmul::{Matrix, products};
pub use cpu::memory::keep_freed_memory;
pub use engine::cpu_executor;
pub use error::ExecError;
pub use executor::{Executor, Gradients, Loss, Objective, StepReport, Target, UpdateRule, Watch};
