//! What ONNX Runtime makes of a model on this machine.

use std::path::Path;

use ort::logging::LogLevel;
use ort::session::Session;
use penjing_graph::{Graph, onnx};

use super::{OnnxRuntime, SessionOptions, failed};
use crate::ExecError;

impl OnnxRuntime {
    /// The graph that ONNX Runtime runs in place of the model at `path`: after all its optimisations for this machine, its fused
    /// operators in the domains `com.microsoft` and `com.microsoft.nchwc`. Shows which kernels are really taken.
    ///
    /// # Errors
    /// When ONNX Runtime refuses the model, or what it writes cannot be read.
    pub fn optimized(&self, path: &Path, threads: usize) -> Result<Graph, ExecError> {
        let what = format!("see what ONNX Runtime makes of `{}`", path.display());
        let folder = tempfile::tempdir().map_err(failed(what.clone()))?;
        let written = folder.path().join("optimized.onnx");
        let options = SessionOptions { threads, optimize: true };
        let save = || -> ort::Result<Session> {
            // That the file holds for this machine alone is what is wanted, and no reason for a warning.
            let mut builder = self.builder(options)?.with_log_level(LogLevel::Error)?.with_optimized_model_path(&written)?;
            builder.commit_from_file(path)
        };
        save().map_err(failed(what))?;
        Ok(onnx::read(&written)?)
    }
}
