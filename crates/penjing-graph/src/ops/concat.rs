//! Joining tensors along an axis and taking them apart again.

use super::attributes::{AttributeList, Attributes};
use super::{Op, Operator, Raise};
use crate::Dim;
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands, axis, meet};
use crate::partial::{PartialInt, PartialValue};

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

impl Operator for Concat {
    const NAMES: &'static [(&'static str, i64)] = &[("Concat", 4)];

    fn name(&self) -> &'static str {
        "Concat"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Concat, String> {
        Ok(Concat { axis: attributes.required_int("axis")? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("axis", Some(self.axis));
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        let n = inputs.inputs();
        inputs.count(n.max(1), usize::MAX)?;
        let dtype = inputs.common_type(0..n)?;
        let Some(rank) = (0..n).find_map(|i| inputs.shape(i)).map(<[Dim]>::len) else { return Ok(vec![Fact::new(dtype, None)]) };
        let along = axis(self.axis, rank)?;
        let mut shape = inputs.ranked(0, rank)?;
        for i in 1..n {
            for (a, (ours, theirs)) in shape.iter_mut().zip(inputs.ranked(i, rank)?).enumerate() {
                if a == along {
                    *ours = ours.plus(&theirs);
                } else {
                    *ours =
                        meet(ours, &theirs).ok_or_else(|| format!("input {i} has size {theirs} along axis {a}, those before it {ours}"))?;
                }
            }
        }
        let partial = (rank == 1).then(|| (0..n).map(|i| inputs.integers(i)).collect::<Option<Vec<_>>>()).flatten();
        let fact = Fact::new(dtype, Some(shape));
        Ok(vec![fact.with(partial.and_then(|parts| PartialValue::vector(parts.concat())))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let rank = ties.output_shape(0).len();
        let along = axis(self.axis, rank)?;
        let mut first = 0;
        for input in 0..ties.inputs() {
            (0..rank).filter(|axis| *axis != along).for_each(|axis| ties.same(Place::In(input, axis), Place::Out(0, axis)));
            let size = ties.shape(input).get(along).and_then(Dim::fixed).ok_or("the size of one of its inputs is not known")?;
            (0..size).for_each(|i| ties.tie(Place::In(input, along), i, Place::Out(0, along), first + i));
            first += size;
        }
        Ok(())
    }
}

impl Split {
    /// Size of each of `parts` parts of an axis of size `whole`.
    fn sizes(&self, inputs: &Operands<'_>, whole: &Dim) -> Result<Vec<Dim>, String> {
        let parts = inputs.outputs();
        if let Some(named) = self.num_outputs.filter(|n| *n != parts) {
            return Err(format!("attribute `num_outputs` is {named} but there are {parts} outputs"));
        }
        let given = if inputs.opset() < 13 {
            self.sizes.as_ref().map(|sizes| sizes.iter().map(|n| PartialInt::Known(*n)).collect())
        } else {
            inputs.given(1).then(|| inputs.integers(1).unwrap_or_else(|| vec![PartialInt::Unknown; parts]))
        };
        let Some(given) = given else {
            return match whole {
                Dim::Fixed(n) if self.num_outputs.is_some() => {
                    let part = n.div_ceil(parts);
                    Ok((0..parts).map(|i| Dim::Fixed(part.min(n.saturating_sub(i.saturating_mul(part))))).collect())
                }
                Dim::Fixed(n) if n % parts != 0 => Err(format!("{n} positions cannot be split into {parts} equal parts")),
                _ => Ok(vec![whole.divided_by(&parts.into()); parts]),
            };
        };
        if given.len() != parts {
            return Err(format!("{} sizes are given for {parts} outputs", given.len()));
        }
        if let Some(n) = given.iter().filter_map(PartialInt::known).find(|n| *n < 0) {
            return Err(format!("{n} is no size"));
        }
        let sizes: Vec<Dim> = given.iter().map(PartialInt::to_dim).collect();
        let sum = sizes.iter().fold(Dim::Fixed(0), |sum, n| sum.plus(n));
        if !sum.compatible(whole) {
            return Err(format!("the sizes add up to {sum}, the axis has {whole} positions"));
        }
        Ok(sizes)
    }
}

impl Operator for Split {
    const NAMES: &'static [(&'static str, i64)] = &[("Split", 2)];

    fn name(&self) -> &'static str {
        "Split"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Split, String> {
        let opset = attributes.opset;
        Ok(Split {
            axis: attributes.int("axis", 0)?,
            sizes: if opset < 13 { attributes.ints("split")? } else { None },
            num_outputs: if opset >= 18 { Some(attributes.count("num_outputs", 0)?).filter(|n| *n > 0) } else { None },
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 0);
        attributes.ints("split", self.sizes.as_deref());
        attributes.int_or_none("num_outputs", self.num_outputs.map(|n| n as i64));
    }

    fn raise(&self, node: &mut Raise<'_>) -> Result<Op, String> {
        let mut op = Split { sizes: node.ints_until(13, 1, "split", self.sizes.as_ref()), ..self.clone() };
        // Parts whose sizes nobody states must be counted.
        if node.crosses(18) && !node.has_input(1) {
            op.num_outputs = Some(node.outputs());
        }
        Ok(op.into())
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, if inputs.opset() < 13 { 1 } else { 2 })?;
        let dtype = inputs.dtype(0);
        let parts = inputs.outputs();
        if parts == 0 {
            return Err("has no outputs".into());
        }
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None); parts]) };
        let axis = axis(self.axis, x.len())?;
        let mut facts = Vec::with_capacity(parts);
        let mut elements = inputs.partial(0).filter(|_| x.len() == 1).map(|partial| partial.elements.iter());
        for size in self.sizes(inputs, &x[axis])? {
            let partial = elements.as_mut().zip(size.fixed()).map(|(rest, n)| rest.take(n).cloned().collect());
            // Behind a part of unknown size nobody knows which integers follow.
            elements = elements.filter(|_| size.fixed().is_some());
            let mut shape = x.to_vec();
            shape[axis] = size;
            facts.push(Fact::new(dtype, Some(shape)).with(partial.and_then(PartialValue::vector)));
        }
        Ok(facts)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let rank = ties.shape(0).len();
        let along = axis(self.axis, rank)?;
        let mut first = 0;
        for output in 0..ties.outputs() {
            (0..rank).filter(|axis| *axis != along).for_each(|axis| ties.same(Place::In(0, axis), Place::Out(output, axis)));
            let size = ties.output_shape(output).get(along).and_then(Dim::fixed).ok_or("the size of one of its outputs is not known")?;
            (0..size).for_each(|i| ties.tie(Place::In(0, along), first + i, Place::Out(output, along), i));
            first += size;
        }
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let along = axis(self.axis, cut.shape(0).len())?;
        if cut.kept(0, along).is_none() {
            return Ok(self.clone().into());
        }
        let sizes = (0..cut.outputs()).map(|output| cut.output_size(output, along).and_then(|n| i64::try_from(n).ok()));
        let sizes = sizes.collect::<Option<Vec<i64>>>().ok_or("the size of one of its outputs is not known")?;
        if cut.operands().opset() < 13 {
            return Ok(Split { sizes: Some(sizes), ..self.clone() }.into());
        }
        cut.integers(1, "split", &sizes);
        Ok(Split { num_outputs: None, ..self.clone() }.into())
    }
}
