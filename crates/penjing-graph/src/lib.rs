//! A neural network as data: ONNX reader and writer, typed operators, shape inference, cost, architectures.
//!
//! No kernels, no algorithms, no printing: [`Graph`] is read, costed and rewritten here and run elsewhere.

mod builder;
pub mod channels;
mod codes;
mod cost;
mod error;
mod graph;
mod infer;
pub mod onnx;
pub mod ops;
mod partial;
pub mod passes;
mod roles;
mod shape;
pub mod small_float;
mod tensor;
pub mod weights;
mod whole_file;
pub mod zoo;

pub use builder::GraphBuilder;
pub use cost::{NodeCost, node_costs};
pub use error::GraphError;
pub use graph::{Edit, Graph, NEWEST_OPSET, Node, NodeId, OLDEST_OPSET, Value, ValueId};
pub use partial::{PartialInt, PartialValue};
pub use roles::{Role, roles};
pub use shape::Dim;
pub use small_float::SmallFloat;
pub use tensor::{DataType, Element, Tensor, element_count};
pub use whole_file::write_whole;
