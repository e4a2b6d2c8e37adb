//! Tensors that are made of shapes and numbers alone.

use super::attributes::{AttributeList, Attributes};
use super::slice::Stride;
use super::{Op, Operator};
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands, unknown_shape};
use crate::partial::{PartialInt, PartialValue};
use crate::{DataType, Dim, Node, Tensor};

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

impl Operator for Shape {
    const NAMES: &'static [(&'static str, i64)] = &[("Shape", 1)];

    fn name(&self) -> &'static str {
        "Shape"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Shape, String> {
        if attributes.opset < 15 {
            return Ok(Shape { start: 0, end: None });
        }
        Ok(Shape { start: attributes.int("start", 0)?, end: attributes.int_or_none("end")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("end", self.end);
        attributes.int("start", self.start, 0);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let dtype = Some(DataType::Int64);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, Some(vec![Dim::Unknown]))]) };
        let taken = Stride::new(x.len(), self.start, self.end.unwrap_or(i64::MAX), 1)?;
        let elements = taken.positions().map(|i| PartialInt::from(&x[i])).collect();
        Ok(vec![Fact::integers(dtype, PartialValue { scalar: false, elements })])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        // Sizes that are known are constants by now; where only others are read on, nothing counts these.
        let fixed = |node: &Node| match &node.op {
            Op::Gather(_) | Op::Slice(_) => {
                let partial = node.output(0).and_then(|y| ties.graph().value(y).partial.as_ref());
                partial.is_none_or(|p| p.elements.iter().any(|n| n.known().is_some()))
            }
            _ => true,
        };
        let counted = ties.readers(0).any(fixed);
        for axis in 0..ties.shape(0).len() {
            if counted {
                ties.stays(Place::In(0, axis), "its size is computed with");
            } else {
                ties.free(Place::In(0, axis));
            }
        }
        Ok(())
    }
}

impl Operator for ConstantOfShape {
    const NAMES: &'static [(&'static str, i64)] = &[("ConstantOfShape", 9)];

    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<ConstantOfShape, String> {
        Ok(ConstantOfShape { value: attributes.tensor("value")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.tensor("value", self.value.as_ref());
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        inputs.ranked(0, 1)?;
        if let Some(value) = self.value.as_ref().filter(|value| value.len() != 1) {
            return Err(format!("attribute `value` has {} elements but needs 1", value.len()));
        }
        let dtype = Some(self.value.as_ref().map_or(DataType::Float, Tensor::dtype));
        let shape = inputs.partial(0).map(PartialValue::to_shape).or_else(|| unknown_shape(inputs.vector_len(0)?));
        if let Some(n) = inputs.partial(0).and_then(|p| p.elements.iter().filter_map(PartialInt::known).find(|n| *n < 0)) {
            return Err(format!("{n} is no dimension"));
        }
        let element = self.value.as_ref().and_then(PartialValue::of).map(|value| value.elements[0].clone());
        let partial = match (element, shape.as_deref()) {
            (Some(element), Some([])) => Some(PartialValue::scalar(element)),
            (Some(element), Some([Dim::Fixed(n)])) => {
                PartialValue::unknown(*n).map(|all| PartialValue { elements: vec![element; all.elements.len()], ..all })
            }
            _ => None,
        };
        Ok(vec![Fact::new(dtype, shape).with(partial)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        if ties.output_shape(0).iter().all(|dim| dim.fixed().is_some()) {
            (0..ties.output_shape(0).len()).for_each(|axis| ties.free(Place::Out(0, axis)));
        }
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let sizes = cut.output_after(0).iter().map(|dim| dim.fixed().map(|n| n as i64)).collect::<Option<Vec<i64>>>();
        cut.integers(0, "shape", &sizes.ok_or("its shape is computed")?);
        Ok(self.clone().into())
    }
}

impl Operator for Range {
    const NAMES: &'static [(&'static str, i64)] = &[("Range", 11)];

    fn name(&self) -> &'static str {
        "Range"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<Range, String> {
        Ok(Range)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(3, 3)?;
        let dtype = inputs.common_type(0..3)?;
        let bound = |i| inputs.partial(i).and_then(|p| p.elements.first().cloned()).unwrap_or(PartialInt::Unknown);
        let (start, limit, delta) = (bound(0), bound(1), bound(2));
        let count = match (&start, &limit, &delta) {
            (_, _, PartialInt::Known(0)) => return Err("the step is 0".into()),
            (PartialInt::Known(start), PartialInt::Known(limit), PartialInt::Known(delta)) => {
                let (span, delta) = (i128::from(*limit) - i128::from(*start), i128::from(*delta));
                let whole = span / delta + i128::from(span % delta != 0 && (span > 0) == (delta > 0));
                usize::try_from(whole.max(0)).map_or(Dim::Unknown, Dim::Fixed)
            }
            (PartialInt::Known(0), limit, PartialInt::Known(1)) => limit.to_dim(),
            _ => Dim::Unknown,
        };
        let steps = match (&count, start.known(), delta.known()) {
            (Dim::Fixed(n), Some(start), Some(delta)) => PartialValue::unknown(*n).map(|all| PartialValue {
                elements: (0..all.elements.len() as i64).map(|i| i.checked_mul(delta).and_then(|d| start.checked_add(d)).into()).collect(),
                ..all
            }),
            _ => None,
        };
        Ok(vec![Fact::new(dtype, Some(vec![count])).with(steps)])
    }

    fn couple(&self, _: &mut Ties<'_>) -> Result<(), String> {
        Err("it counts".into())
    }
}
