//! Reductions along axes, and running sums.

/// What a `Reduce…` operator computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "ONNX names")]
pub enum ReduceKind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

/// `ReduceSum`, `ReduceMean`, … From opset 13 (`ReduceSum`) or 18 (others) the axes are the second input.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// Axes before they became an input; `None`: all, or the input counts.
    pub axes: Option<Vec<i64>>,
    /// Reduced axes stay with size 1.
    pub keepdims: bool,
    /// No axes means no reduction.
    pub noop_with_empty_axes: bool,
}

/// `ArgMax` and `ArgMin`: int64 positions along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArgReduce {
    /// Position of the largest, else of the smallest.
    pub max: bool,
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// The axis stays with size 1.
    pub keepdims: bool,
    /// Among equals the last one.
    pub select_last_index: bool,
}

/// `CumSum` along the axis in the second input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CumSum {
    /// The element itself is left out of its sum.
    pub exclusive: bool,
    /// Sums run from the end.
    pub reverse: bool,
}
