//! Operators that are kept, not understood.

use bytes::Bytes;

/// Any other node, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque {
    /// Operator set; empty: ONNX's own.
    pub domain: String,
    /// Name of the operator.
    pub op_type: String,
    /// The encoded `NodeProto` as it stood in the file.
    pub raw: Bytes,
    /// Why it is not understood: `unknown operator`, `attribute `x` is unknown`, …
    pub reason: String,
}
