//! Operators, one file per family: attributes, reading and writing ONNX, shape rule, cost.
//!
//! A typed operator keeps the form that its opset has: what is an attribute before some version and an input from
//! then on (`Clip`'s bounds, `Squeeze`'s axes) is an `Option` here, `None` where the input counts. How it gets from
//! one form to the next is its rule `raise`, which [`passes::raise_opset`](crate::passes::raise_opset) applies.

mod activation;
mod attributes;
mod concat;
mod conv;
mod elementwise;
mod expand;
mod gather;
mod integer;
mod matmul;
mod normalization;
mod opaque;
mod pad;
mod pool;
mod quantize;
mod raise;
mod reduce;
mod reshape;
mod shape;
mod slice;
mod transpose;

use bytes::Bytes;

use crate::channels::{Cut, Ties};
use crate::infer::{Fact, Operands};
use crate::onnx::proto::{AttributeProto, NodeProto};
use crate::{NEWEST_OPSET, OLDEST_OPSET};
use attributes::{AttributeList, Attributes};
pub(crate) use raise::Raise;

pub use activation::{Activation, Softmax};
pub use concat::{Concat, Split};
pub use conv::{AutoPad, Conv, ConvTranspose, Window, WindowAxis};
pub use elementwise::{Binary, Cast, Clip, Dropout, Identity, Unary, Variadic, Where};
pub use expand::{Expand, Tile};
pub use gather::{Gather, ScatterElements};
pub use integer::{ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul};
pub use matmul::{Gemm, MatMul};
pub use normalization::{BatchNormalization, InstanceNormalization, LayerNormalization};
pub use opaque::Opaque;
pub use pad::{Pad, PadMode};
pub use pool::{AveragePool, GlobalPool, MaxPool};
pub use quantize::{DequantizeLinear, DynamicQuantizeLinear, Granularity, QuantizeLinear};
pub use reduce::{ArgReduce, CumSum, Reduce, ReduceKind};
pub use reshape::{Flatten, Reshape, Squeeze, Unsqueeze};
pub use shape::{ConstantOfShape, Range, Shape};
pub use slice::{Slice, SliceBounds};
pub use transpose::{DepthToSpace, Transpose};

/// What one family of operators knows about itself. A reason in an `Err` completes "node `x` (Op): …".
pub(crate) trait Operator: Clone + Into<Op> {
    /// ONNX names of the family, each with the opset that brought it (1: older than any that is read).
    const NAMES: &'static [(&'static str, i64)];

    /// ONNX name of this member.
    fn name(&self) -> &'static str;

    /// Reads the attributes of `name` as its opset has them; leaves those unread that the opset does not have.
    fn read(name: &str, attributes: &mut Attributes<'_>) -> Result<Self, String>;

    /// Writes the attributes that are not at their default.
    fn write(&self, attributes: &mut AttributeList);

    /// Types, shapes and integers of the outputs, as far as they follow from the inputs. May list more than the node has.
    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String>;

    /// Which positions of its inputs and outputs are the same channel. Axes that are not mentioned stay as they are; after an
    /// error, all do.
    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String>;

    /// The operation after `cut`, which takes what an input counted.
    fn cut(&self, _cut: &mut Cut<'_>) -> Result<Op, String> {
        Ok(self.clone().into())
    }

    /// The operation as a later opset has it; `node` takes what became an input.
    fn raise(&self, _node: &mut Raise<'_>) -> Result<Op, String> {
        Ok(self.clone().into())
    }

    /// Multiplications that are each followed by an addition; `None` where a dimension is unknown.
    fn macs(&self, _inputs: &Operands<'_>, _output: &[crate::Dim]) -> Option<u64> {
        Some(0)
    }
}

macro_rules! operators {
    ($($op:ident),* $(,)?) => {
        /// What a node computes.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is documented at its type")]
        pub enum Op {
            $($op($op),)*
            Opaque(Opaque),
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Op {
                Op::$op(op)
            }
        })*

        impl Op {
            fn read_typed(name: &str, attributes: &mut Attributes<'_>) -> Result<Op, String> {
                $(if let Some((_, since)) = $op::NAMES.iter().find(|(known, _)| *known == name) {
                    if attributes.opset < *since {
                        return Err(format!("the operator exists from opset {since} on"));
                    }
                    return $op::read(name, attributes).map(Op::$op);
                })*
                Err("unknown operator".into())
            }

            /// ONNX name of the operator.
            pub fn op_type(&self) -> &str {
                match self {
                    $(Op::$op(op) => op.name(),)*
                    Op::Opaque(op) => &op.op_type,
                }
            }

            /// The opset that brought the operator; 1 where it is older than any that is read.
            pub fn since(&self) -> i64 {
                match self {
                    $(Op::$op(op) => $op::NAMES.iter().find(|(name, _)| *name == op.name()).map_or(1, |(_, since)| *since),)*
                    Op::Opaque(_) => 1,
                }
            }

            /// Attributes as the file has them, those at their default left out; none for an opaque node, which is kept whole.
            pub(crate) fn attributes(&self) -> Vec<AttributeProto> {
                let mut list = AttributeList::default();
                match self {
                    $(Op::$op(op) => op.write(&mut list),)*
                    Op::Opaque(_) => {}
                }
                list.0
            }

            pub(crate) fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
                match self {
                    $(Op::$op(op) => op.infer(inputs),)*
                    Op::Opaque(_) => Ok(vec![Fact::default(); inputs.outputs()]),
                }
            }

            /// Which positions of inputs and outputs are the same channel; of an opaque operator nothing is known.
            pub(crate) fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
                match self {
                    $(Op::$op(op) => op.couple(ties),)*
                    Op::Opaque(op) => Err(op.reason.clone()),
                }
            }

            /// The operation after some positions of its inputs and outputs are gone.
            pub(crate) fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
                match self {
                    $(Op::$op(op) => op.cut(cut),)*
                    Op::Opaque(op) => Err(op.reason.clone()),
                }
            }

            /// The operation as a later opset has it; an opaque one is not known there.
            pub(crate) fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
                match self {
                    $(Op::$op(op) => op.raise(node),)*
                    Op::Opaque(op) => Err(op.reason.clone()),
                }
            }

            pub(crate) fn macs(&self, inputs: &Operands<'_>, output: &[crate::Dim]) -> Option<u64> {
                match self {
                    $(Op::$op(op) => op.macs(inputs, output),)*
                    Op::Opaque(_) => None,
                }
            }
        }
    };
}

operators! {
    Conv, ConvTranspose, Gemm, MatMul, BatchNormalization, LayerNormalization, InstanceNormalization, Activation, Softmax, MaxPool,
    AveragePool, GlobalPool, Unary, Binary, Variadic, Where, Clip, Cast, Identity, Dropout, Reduce, ArgReduce, CumSum, Reshape, Flatten,
    Transpose, Squeeze, Unsqueeze, Concat, Split, Slice, Gather, ScatterElements, Pad, Expand, Tile, Shape, ConstantOfShape, Range,
    DepthToSpace, QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger,
}

impl From<Opaque> for Op {
    fn from(op: Opaque) -> Op {
        Op::Opaque(op)
    }
}

impl Op {
    /// The operation of a node whose encoded form is `raw`, under version `opset` of ONNX's own operator set. What is not
    /// understood becomes opaque and says why.
    pub(crate) fn read(node: &NodeProto, opset: i64, raw: Bytes) -> Op {
        typed(node, opset)
            .unwrap_or_else(|reason| Op::Opaque(Opaque { domain: node.domain.clone(), op_type: node.op_type.clone(), raw, reason }))
    }
}

fn typed(node: &NodeProto, opset: i64) -> Result<Op, String> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Err(format!("operator set `{}` is unknown", node.domain));
    }
    if !(OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
        return Err(format!("opset {opset} is not one of {OLDEST_OPSET} to {NEWEST_OPSET}"));
    }
    let mut attributes = Attributes::new(node, opset);
    let op = Op::read_typed(&node.op_type, &mut attributes)?;
    attributes.finish()?;
    Ok(op)
}
