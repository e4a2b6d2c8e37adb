//! Operators that move, copy or describe elements without computing on them.

use crate::Tensor;

/// `Reshape`: the new shape is the second input; 0 copies a dimension (unless `allow_zero`), −1 is inferred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reshape {
    /// 0 means a dimension of no elements (opset 14).
    pub allow_zero: bool,
}

/// `Flatten`: [d0·…·d(axis−1), d(axis)·…].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flatten {
    /// First axis of the second dimension; negative counts from the end.
    pub axis: i64,
}

/// `Transpose`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// Axis of the input that each output axis shows; `None`: reversed.
    pub perm: Option<Vec<usize>>,
}

/// `Squeeze`: drops axes of size 1. From opset 13 the axes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Squeeze {
    /// Axes before opset 13.
    pub axes: Option<Vec<i64>>,
}

/// `Unsqueeze`: inserts axes of size 1. From opset 13 the axes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsqueeze {
    /// Axes before opset 13.
    pub axes: Option<Vec<i64>>,
}

/// `Concat` along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Concat {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// `Split` along one axis. From opset 13 the sizes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Sizes before opset 13; `None`: equal parts.
    pub sizes: Option<Vec<i64>>,
    /// Number of parts, the last may be smaller (opset 18).
    pub num_outputs: Option<usize>,
}

/// `Slice`. From opset 10 starts, ends, axes and steps are inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Starts, ends and axes before opset 10.
    pub bounds: Option<SliceBounds>,
}

/// Where a `Slice` before opset 10 cuts.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceBounds {
    /// First position of each axis.
    pub starts: Vec<i64>,
    /// Position after the last of each axis.
    pub ends: Vec<i64>,
    /// The axes; `None`: 0, 1, …
    pub axes: Option<Vec<i64>>,
}

/// `Gather`: picks positions of one axis; output rank = data rank − 1 + indices rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gather {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// `ScatterElements`: data with `updates` written at `indices` along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterElements {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// How an update meets what is there: `none`, `add`, `mul`, `max`, `min`.
    pub reduction: String,
}

/// What `Pad` fills with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// A constant.
    Constant,
    /// A mirror image without the edge.
    Reflect,
    /// The edge.
    Edge,
    /// The other side (opset 19).
    Wrap,
}

/// `Pad`. From opset 11 widths and constant are inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// What the new cells hold.
    pub mode: PadMode,
    /// Widths before opset 11: begins of all axes, then ends.
    pub pads: Option<Vec<i64>>,
    /// The constant before opset 11.
    pub value: Option<f32>,
}

/// `Expand`: broadcast to the shape in the second input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expand;

/// `Tile`: repeats along each axis as the second input says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile;

/// `Shape`: the dimensions `start..end` as int64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// First dimension (opset 15).
    pub start: i64,
    /// Dimension after the last (opset 15); `None`: all.
    pub end: Option<i64>,
}

/// `ConstantOfShape`: a tensor of the shape in the input, every element the same.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantOfShape {
    /// One element; `None`: float 0.
    pub value: Option<Tensor>,
}

/// `Range`: start, start + delta, … below limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range;

/// `DepthToSpace`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthToSpace {
    /// Side of the block.
    pub block_size: usize,
    /// Column-row-depth order instead of depth-column-row.
    pub crd: bool,
}
