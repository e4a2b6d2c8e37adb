//! What runs a model forward, inner values included: the built-in executor, or ONNX Runtime, which users deploy.

mod builtin;
mod onnxruntime;

pub use builtin::Builtin;
pub use onnxruntime::{OnnxModel, OnnxRuntime, OnnxSession, SessionOptions};
use penjing_graph::{Graph, Tensor, ValueId};

use crate::ExecError;

/// Runs one graph in inference mode.
pub trait Runtime: Send {
    /// What runs it, for people: `ONNX Runtime`, `built-in executor`.
    fn name(&self) -> &'static str;

    /// The graph whose ids [`Runtime::run`] takes. Its weights may be older than those that are run.
    fn graph(&self) -> &Graph;

    /// Values `fetch` for one batch, outputs and inner values alike. One tensor for each of `Graph::inputs`.
    ///
    /// # Errors
    /// When an input does not fit, or a node or a type cannot be run.
    fn run(&mut self, inputs: &[Tensor], fetch: &[ValueId]) -> Result<Vec<Tensor>, ExecError>;
}

/// What can run models on this machine.
#[derive(Clone, Copy, Debug)]
pub enum RuntimeKind {
    /// The built-in executor.
    Builtin,
    /// ONNX Runtime, from this library.
    OnnxRuntime(OnnxRuntime),
}

impl RuntimeKind {
    /// What it is called: `ONNX Runtime`, `built-in executor`.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Builtin => builtin::NAME,
            RuntimeKind::OnnxRuntime(_) => onnxruntime::NAME,
        }
    }

    /// Takes a graph in. The options are ONNX Runtime's; the built-in executor computes on the threads of its pool.
    ///
    /// # Errors
    /// When the runtime cannot run the graph.
    pub fn load(self, graph: &Graph, options: SessionOptions) -> Result<Box<dyn Runtime>, ExecError> {
        Ok(match self {
            RuntimeKind::Builtin => Box::new(Builtin::new(graph)?),
            RuntimeKind::OnnxRuntime(runtime) => Box::new(runtime.load(graph, options)),
        })
    }
}
