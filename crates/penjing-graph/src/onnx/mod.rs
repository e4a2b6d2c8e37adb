//! The ONNX file format: messages, reading, writing, external data.

mod elements;
pub mod proto;
pub(crate) use elements::{tensor_from_proto, tensor_to_proto};

/// What a file holds beside the graph that this crate models, kept as it is.
#[derive(Clone, Debug, Default)]
pub struct Kept {}
