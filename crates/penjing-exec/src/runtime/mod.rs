//! Runtimes that only run models: the one that users deploy, ONNX Runtime, where its library is found.

mod onnxruntime;

pub use onnxruntime::{OnnxRuntime, OnnxSession};
