//! Operators, one file per family: attributes, reading and writing ONNX, shape rule, cost.
//!
//! A typed operator keeps the form that its opset has: what is an attribute before some version and an input from
//! then on (`Clip`'s bounds, `Squeeze`'s axes) is an `Option` here, `None` where the input counts.

mod activation;
mod conv;
mod elementwise;
mod matmul;
mod movement;
mod normalization;
mod opaque;
mod pool;
mod reduce;

pub use activation::{Activation, Softmax};
pub use conv::{AutoPad, Conv, ConvTranspose, Window};
pub use elementwise::{Binary, Cast, Clip, Dropout, Identity, Unary, Variadic, Where};
pub use matmul::{Gemm, MatMul};
pub use movement::{
    Concat, ConstantOfShape, DepthToSpace, Expand, Flatten, Gather, Pad, PadMode, Range, Reshape, ScatterElements, Shape, Slice,
    SliceBounds, Split, Squeeze, Tile, Transpose, Unsqueeze,
};
pub use normalization::{BatchNormalization, InstanceNormalization, LayerNormalization};
pub use opaque::Opaque;
pub use pool::{AveragePool, GlobalPool, MaxPool};
pub use reduce::{ArgReduce, CumSum, Reduce, ReduceKind};

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
pub enum Op {
    Conv(Conv),
    ConvTranspose(ConvTranspose),
    Gemm(Gemm),
    MatMul(MatMul),
    BatchNormalization(BatchNormalization),
    LayerNormalization(LayerNormalization),
    InstanceNormalization(InstanceNormalization),
    Activation(Activation),
    Softmax(Softmax),
    MaxPool(MaxPool),
    AveragePool(AveragePool),
    GlobalPool(GlobalPool),
    Unary(Unary),
    Binary(Binary),
    Variadic(Variadic),
    Where(Where),
    Clip(Clip),
    Cast(Cast),
    Identity(Identity),
    Dropout(Dropout),
    Reduce(Reduce),
    ArgReduce(ArgReduce),
    CumSum(CumSum),
    Reshape(Reshape),
    Flatten(Flatten),
    Transpose(Transpose),
    Squeeze(Squeeze),
    Unsqueeze(Unsqueeze),
    Concat(Concat),
    Split(Split),
    Slice(Slice),
    Gather(Gather),
    ScatterElements(ScatterElements),
    Pad(Pad),
    Expand(Expand),
    Tile(Tile),
    Shape(Shape),
    ConstantOfShape(ConstantOfShape),
    Range(Range),
    DepthToSpace(DepthToSpace),
    Opaque(Opaque),
}

macro_rules! into_op {
    ($($op:ident),* $(,)?) => { $(impl From<$op> for Op { fn from(op: $op) -> Op { Op::$op(op) } })* };
}
into_op! {
    Conv, ConvTranspose, Gemm, MatMul, BatchNormalization, LayerNormalization, InstanceNormalization, Activation, Softmax, MaxPool,
    AveragePool, GlobalPool, Unary, Binary, Variadic, Where, Clip, Cast, Identity, Dropout, Reduce, ArgReduce, CumSum, Reshape, Flatten,
    Transpose, Squeeze, Unsqueeze, Concat, Split, Slice, Gather, ScatterElements, Pad, Expand, Tile, Shape, ConstantOfShape, Range,
    DepthToSpace, Opaque,
}
