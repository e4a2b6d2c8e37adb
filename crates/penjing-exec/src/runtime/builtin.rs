//! The built-in executor as a runtime.

use std::ops::DerefMut;

use penjing_graph::{Graph, Tensor, ValueId};

use super::Runtime;
use crate::{ExecError, Executor, cpu_executor};

pub(super) const NAME: &str = "built-in executor";

/// An executor that is only asked to run: owned (`Box<dyn Executor>`), or lent by a training that goes on (`&mut dyn Executor`).
#[derive(Debug)]
pub struct Builtin<E = Box<dyn Executor>>(pub E);

impl Builtin {
    /// An executor of its own for a graph, on the CPU.
    ///
    /// # Errors
    /// When an output depends on a node that the built-in executor cannot run.
    pub fn new(graph: &Graph) -> Result<Builtin, ExecError> {
        Ok(Builtin(cpu_executor(graph)?))
    }
}

impl<E: DerefMut<Target: Executor> + Send> Runtime for Builtin<E> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn graph(&self) -> &Graph {
        self.0.graph()
    }

    fn run(&mut self, inputs: &[Tensor], fetch: &[ValueId]) -> Result<Vec<Tensor>, ExecError> {
        self.0.run(inputs, fetch)
    }
}
