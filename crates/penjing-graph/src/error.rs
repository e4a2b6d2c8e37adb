use std::path::PathBuf;

use crate::{DataType, Dim};

/// What can go wrong with a graph or its file. Texts name the thing and the way out; causes are in `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Bytes and shape of a tensor disagree.
    #[error("a {} tensor of shape {dims:?} needs {} but has {actual}", dtype.name(), expected.map_or("more than this machine can address".into(), |n| n.to_string()))]
    TensorSize {
        /// Element type.
        dtype: DataType,
        /// Declared dimensions.
        dims: Vec<usize>,
        /// Octets (strings: elements) that would fit; `None` on overflow.
        expected: Option<usize>,
        /// Octets (strings: elements) that are there.
        actual: usize,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write` or `map`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is there already and must not be replaced.
    #[error("`{}` exists already (hint: choose another name, or allow it to be overwritten)", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are not an ONNX model.
    #[error("`{}` is not an ONNX model that can be read: {reason}", path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The elements of a tensor cannot be read.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The elements of a tensor lie in a file beside the model, and cannot be had from there.
    #[error("tensor `{tensor}` lies in `{location}`, which {reason}")]
    ExternalData {
        /// Name of the tensor.
        tensor: String,
        /// The file as the model names it.
        location: String,
        /// What stands in the way.
        reason: String,
        /// Why, where the system said so.
        source: Option<std::io::Error>,
    },
    /// An edit would leave the graph in a state that is not a model.
    #[error("edit `{edit}` refused: {reason}")]
    EditRefused {
        /// The edit's label.
        edit: String,
        /// What stands in the way.
        reason: String,
    },
    /// Two statements about a node contradict each other.
    #[error("node `{node}` ({op_type}): {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// Its operator.
        op_type: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A declared shape contradicts the inferred one.
    #[error("value `{value}` is declared as [{}] but computes as [{}]", join(declared), join(inferred))]
    Shape {
        /// Name of the value.
        value: String,
        /// What the file says.
        declared: Vec<Dim>,
        /// What follows from the operators.
        inferred: Vec<Dim>,
    },
    /// The opset cannot be raised.
    #[error("cannot raise the opset from {from} to {to}: {reason}")]
    Opset {
        /// Version that the graph has.
        from: i64,
        /// Version that was asked for.
        to: i64,
        /// What stands in the way.
        reason: String,
    },
    /// A file of weights cannot be used.
    #[error("weights: {reason}")]
    Weights {
        /// What is wrong, with the tensor's name.
        reason: String,
    },
    /// An architecture that does not exist or cannot take these options.
    #[error("{reason}")]
    Architecture {
        /// What is wrong and what would work.
        reason: String,
    },
}

fn join(dims: &[Dim]) -> String {
    dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")
}
