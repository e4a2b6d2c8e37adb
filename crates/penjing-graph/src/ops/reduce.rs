//! Reductions along axes, and running sums.

use super::attributes::{AttributeList, Attributes};
use super::{Op, Operator, Raise};
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands, axes, axis};
use crate::partial::{PartialInt, PartialValue};
use crate::{DataType, Dim};

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

impl ReduceKind {
    const ALL: &'static [ReduceKind] = &[
        ReduceKind::Sum,
        ReduceKind::Mean,
        ReduceKind::Max,
        ReduceKind::Min,
        ReduceKind::Prod,
        ReduceKind::L1,
        ReduceKind::L2,
        ReduceKind::LogSum,
        ReduceKind::LogSumExp,
        ReduceKind::SumSquare,
    ];

    fn name(self) -> &'static str {
        match self {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::L1 => "ReduceL1",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::LogSum => "ReduceLogSum",
            ReduceKind::LogSumExp => "ReduceLogSumExp",
            ReduceKind::SumSquare => "ReduceSumSquare",
        }
    }

    /// The opset from which on the axes are an input.
    pub fn axes_are_input_from(self) -> i64 {
        if self == ReduceKind::Sum { 13 } else { 18 }
    }

    /// Whether a zero is the same to it as nothing.
    fn ignores_zeros(self) -> bool {
        match self {
            ReduceKind::Sum | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::SumSquare => true,
            ReduceKind::Mean | ReduceKind::Max | ReduceKind::Min | ReduceKind::Prod | ReduceKind::LogSumExp => false,
        }
    }

    /// The integers reduced to one; unknown where it is not worked out.
    fn of_ints(self, elements: &[PartialInt]) -> PartialInt {
        match self {
            ReduceKind::Prod => elements.iter().fold(PartialInt::Known(1), |product, n| product.times(n)),
            ReduceKind::Sum => elements.iter().fold(PartialInt::Known(0), |sum, n| sum.plus(n)),
            ReduceKind::Mean
            | ReduceKind::Max
            | ReduceKind::Min
            | ReduceKind::L1
            | ReduceKind::L2
            | ReduceKind::LogSum
            | ReduceKind::LogSumExp
            | ReduceKind::SumSquare => PartialInt::Unknown,
        }
    }
}

/// Axes of input 0 that are not reduced are axes of output 0.
fn couple_rest(ties: &mut Ties<'_>, keepdims: bool, reduced: impl Fn(usize) -> bool) {
    let mut out = 0;
    for axis in 0..ties.shape(0).len() {
        if !reduced(axis) {
            ties.same(Place::In(0, axis), Place::Out(0, out));
        }
        out += usize::from(keepdims || !reduced(axis));
    }
}

/// `shape` without the axes that `reduced` picks, or with size 1 there.
fn reduce(shape: &[Dim], keepdims: bool, reduced: impl Fn(usize) -> bool) -> Vec<Dim> {
    let kept = |i: usize, dim: &Dim| match (reduced(i), keepdims) {
        (false, _) => Some(dim.clone()),
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
    };
    shape.iter().enumerate().filter_map(|(i, dim)| kept(i, dim)).collect()
}

impl Operator for Reduce {
    const NAMES: &'static [(&'static str, i64)] = &[
        ("ReduceSum", 1),
        ("ReduceMean", 1),
        ("ReduceMax", 1),
        ("ReduceMin", 1),
        ("ReduceProd", 1),
        ("ReduceL1", 1),
        ("ReduceL2", 1),
        ("ReduceLogSum", 1),
        ("ReduceLogSumExp", 1),
        ("ReduceSumSquare", 1),
    ];

    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn read(name: &str, attributes: &mut Attributes<'_>) -> Result<Reduce, String> {
        let kind = ReduceKind::ALL.iter().find(|kind| kind.name() == name).ok_or_else(|| format!("`{name}` is no reduction"))?;
        let input = attributes.opset >= kind.axes_are_input_from();
        Ok(Reduce {
            kind: *kind,
            axes: if input { None } else { attributes.ints("axes")? },
            keepdims: attributes.flag("keepdims", true)?,
            noop_with_empty_axes: input && attributes.flag("noop_with_empty_axes", false)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.ints("axes", self.axes.as_deref());
        attributes.flag("keepdims", self.keepdims, true);
        attributes.flag("noop_with_empty_axes", self.noop_with_empty_axes, false);
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        let axes = node.ints_until(self.kind.axes_are_input_from(), 1, "axes", self.axes.as_ref());
        Ok(Reduce { axes, ..self.clone() }.into())
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let input = inputs.opset() >= self.kind.axes_are_input_from();
        inputs.count(1, if input { 2 } else { 1 })?;
        let dtype = inputs.dtype(0);
        let Some(shape) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let named = if input && inputs.given(1) {
            let Some(named) = inputs.known(1) else {
                return Ok(vec![Fact::new(dtype, self.keepdims.then(|| vec![Dim::Unknown; shape.len()]))]);
            };
            named
        } else {
            self.axes.clone().unwrap_or_default()
        };
        if named.is_empty() && self.noop_with_empty_axes {
            return Ok(vec![Fact::new(dtype, Some(shape.to_vec()))]);
        }
        let named = axes(&named, shape.len())?;
        let reduced = reduce(shape, self.keepdims, |i| named.is_empty() || named.contains(&i));
        let fact = Fact::new(dtype, Some(reduced));
        // All of a vector becomes one number, with or without an axis around it.
        let whole = shape.len() == 1;
        let partial = inputs.partial(0).filter(|_| whole).map(|partial| {
            let element = self.kind.of_ints(&partial.elements);
            PartialValue { scalar: !self.keepdims, elements: vec![element] }
        });
        Ok(vec![fact.with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let inputs = ties.operands();
        let rank = ties.shape(0).len();
        let named = if ties.given(1) { inputs.known(1).ok_or("its axes are computed")? } else { self.axes.clone().unwrap_or_default() };
        let none = named.is_empty() && self.noop_with_empty_axes;
        let named = axes(&named, rank)?;
        let reduced = |axis: usize| !none && (named.is_empty() || named.contains(&axis));
        couple_rest(ties, self.keepdims, reduced);
        for axis in (0..rank).filter(|axis| reduced(*axis)) {
            if self.kind.ignores_zeros() {
                ties.summed(0, axis);
            } else {
                ties.stays_if_exact(Place::In(0, axis), "it is reduced over all its positions");
            }
        }
        Ok(())
    }
}

impl Operator for ArgReduce {
    const NAMES: &'static [(&'static str, i64)] = &[("ArgMax", 1), ("ArgMin", 1)];

    fn name(&self) -> &'static str {
        if self.max { "ArgMax" } else { "ArgMin" }
    }

    fn read(name: &str, attributes: &mut Attributes<'_>) -> Result<ArgReduce, String> {
        Ok(ArgReduce {
            max: name == "ArgMax",
            axis: attributes.int("axis", 0)?,
            keepdims: attributes.flag("keepdims", true)?,
            select_last_index: attributes.opset >= 12 && attributes.flag("select_last_index", false)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 0);
        attributes.flag("keepdims", self.keepdims, true);
        attributes.flag("select_last_index", self.select_last_index, false);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let dtype = Some(DataType::Int64);
        let Some(shape) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let axis = axis(self.axis, shape.len())?;
        Ok(vec![Fact::new(dtype, Some(reduce(shape, self.keepdims, |i| i == axis)))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let along = axis(self.axis, ties.shape(0).len())?;
        couple_rest(ties, self.keepdims, |axis| axis == along);
        Ok(())
    }
}

impl Operator for CumSum {
    const NAMES: &'static [(&'static str, i64)] = &[("CumSum", 11)];

    fn name(&self) -> &'static str {
        "CumSum"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<CumSum, String> {
        Ok(CumSum { exclusive: attributes.flag("exclusive", false)?, reverse: attributes.flag("reverse", false)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.flag("exclusive", self.exclusive, false);
        attributes.flag("reverse", self.reverse, false);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        let shape = inputs.shape(0);
        if let (Some(shape), Some([along])) = (shape, inputs.known(1).as_deref()) {
            axis(*along, shape.len())?;
        }
        Ok(vec![Fact::new(inputs.dtype(0), shape.map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let along = ties.operands().known(1).ok_or("its axis is computed")?;
        let along = axis(*along.first().ok_or("it has no axis")?, ties.shape(0).len())?;
        (0..ties.shape(0).len()).filter(|axis| *axis != along).for_each(|axis| ties.same(Place::In(0, axis), Place::Out(0, axis)));
        Ok(())
    }
}
