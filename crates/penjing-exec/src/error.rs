use std::io;
use std::path::{Path, PathBuf};

use penjing_graph::GraphError;

/// What can go wrong while running, training or reading data. Texts name the thing and the way out; causes are in `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The graph holds something that the built-in executor cannot run.
    #[error("cannot run node `{node}` ({op_type}): {reason}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// Its operator.
        op_type: String,
        /// Why, and what would work.
        reason: String,
    },
    /// An input does not fit the graph.
    #[error("input `{input}`: {reason}")]
    Input {
        /// Name of the input.
        input: String,
        /// What does not fit.
        reason: String,
    },
    /// Training went astray.
    #[error("{what} at step {step}: {hint}")]
    Diverged {
        /// `the loss became NaN`, …
        what: String,
        /// Optimizer step, counted from 1.
        step: u64,
        /// The likely cause and what to try.
        hint: String,
    },
    /// A step of training failed; the weights are as they were before it.
    #[error("training stopped in epoch {epoch}, step {step} of {steps}")]
    Step {
        /// Epoch, counted from 1.
        epoch: u64,
        /// Step of the epoch, counted from 1.
        step: u64,
        /// Steps in an epoch.
        steps: u64,
        /// Why.
        source: Box<ExecError>,
    },
    /// A checkpoint cannot be used.
    #[error("checkpoint `{}`: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would work.
        reason: String,
    },
    /// The user's own metric gave no number.
    #[error("metric command `{command}`: {reason}")]
    Metric {
        /// The command, with the model's path.
        command: String,
        /// What it did instead.
        reason: String,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of data could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Data are not what the format says or the model needs.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what would work.
        reason: String,
    },
    /// ONNX Runtime cannot do what it was asked to.
    #[error("cannot {what}")]
    Runtime {
        /// What it was asked to do.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An option cannot be used.
    #[error("{0}")]
    Option(String),
    /// The graph refused.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl ExecError {
    /// `path` holds something that cannot be used, for `reason`.
    pub(crate) fn data(path: &Path, reason: impl Into<String>) -> ExecError {
        ExecError::Data { path: path.into(), reason: reason.into() }
    }

    /// Says which file an error of reading belongs to.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> ExecError {
        let path = path.to_path_buf();
        move |source| ExecError::Read { path, source }
    }
}
