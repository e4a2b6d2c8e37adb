//! The ONNX file format: messages, reading, writing, external data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::NodeId;

mod constant;
mod elements;
mod external;
mod inner;
mod mapped;
pub mod proto;
mod reader;
mod rope;
mod sparse_storage;
mod types;
mod writer;

pub(crate) use elements::{tensor_from_proto, tensor_to_proto};
pub use reader::{read, read_bytes};
pub use writer::{StoredTensor, WriteOptions, Written, to_bytes, write};

/// What a file holds beside the graph that this crate models, kept as it is.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The model without what [`Graph`](crate::Graph) has.
    model: proto::ModelProto,
    /// Nodes that stand for sparse initializers, and the encoded `SparseTensorProto`s.
    sparse_initializers: BTreeMap<NodeId, Bytes>,
    /// Files beside the model's that tensors lie in, sorted.
    external: Vec<PathBuf>,
    /// Mapped files that tensors lie in, the model's own among them.
    mapped: Vec<mapped::Mapping>,
}

impl Kept {
    /// The model around the graph.
    pub(crate) fn model(&self) -> &proto::ModelProto {
        &self.model
    }

    /// Files beside the model's that it had weights in when it was read.
    pub(crate) fn external_files(&self) -> impl Iterator<Item = &Path> {
        self.external.iter().map(PathBuf::as_path)
    }

    /// Whether the node stands for a sparse initializer of the file.
    pub(crate) fn is_sparse_initializer(&self, node: NodeId) -> bool {
        self.sparse_initializers.contains_key(&node)
    }
}
