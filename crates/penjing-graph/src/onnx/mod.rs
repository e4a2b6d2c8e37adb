//! The ONNX file format: messages, reading, writing, external data.

pub mod proto;

/// What a file holds beside the graph that this crate models, kept as it is.
#[derive(Clone, Debug, Default)]
pub struct Kept {}
