//! Convolutions and products of codes. Both operands are shifted by their zero points; sums are of 32 bits.

use super::attributes::{AttributeList, Attributes};
use super::conv::{Conv, ConvInputs, Window, conv_macs};
use super::matmul::{couple_product, product_macs, product_shape};
use super::{Op, Operator};
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands};
use crate::{DataType, Dim};

/// `ConvInteger`: the sums of a convolution of codes. Inputs X [N, C, D1…], W [M, C/group, k1…], zero point of X?, of W?.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvInteger {
    /// The sliding window; what it adds around the input stands for zero.
    pub window: Window,
    /// Channels are split into that many independent groups.
    pub group: usize,
}

/// `QLinearConv`: a convolution of codes whose sums, and B of their scale, become codes again. Inputs X, scale, zero point; W,
/// scale, zero point, one or M each; scale and zero point of Y; B [M]?.
#[derive(Clone, Debug, PartialEq)]
pub struct QLinearConv {
    /// The sliding window; what it adds around the input stands for zero.
    pub window: Window,
    /// Channels are split into that many independent groups.
    pub group: usize,
}

/// `MatMulInteger`: the sums of a product of codes, numpy's `matmul`. Inputs A, B, zero point of A (one, or one a row)?, of B
/// (one, or one a column)?.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMulInteger;

/// `QLinearMatMul`: a product of codes whose sums become codes again. Inputs A, scale, zero point (one, or one a row); B, scale,
/// zero point (one, or one a column); scale and zero point of Y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QLinearMatMul;

impl ConvInteger {
    const INPUTS: ConvInputs = ConvInputs { weight: 1, bias: None, zero: Some(2) };

    fn conv(&self) -> Conv {
        Conv { window: self.window.clone(), group: self.group }
    }
}

impl From<Conv> for ConvInteger {
    fn from(Conv { window, group }: Conv) -> ConvInteger {
        ConvInteger { window, group }
    }
}

impl QLinearConv {
    const INPUTS: ConvInputs = ConvInputs { weight: 3, bias: Some(8), zero: Some(2) };

    fn conv(&self) -> Conv {
        Conv { window: self.window.clone(), group: self.group }
    }
}

impl From<Conv> for QLinearConv {
    fn from(Conv { window, group }: Conv) -> QLinearConv {
        QLinearConv { window, group }
    }
}

/// Checks that codes and their zero point, inputs of these numbers, are of one type of 8 bits.
fn check_codes(inputs: &Operands<'_>, codes: usize, zero: usize) -> Result<(), String> {
    let octet = |dtype: &DataType| dtype.bits() == Some(8) && *dtype != DataType::Bool && *dtype != DataType::Float8E8M0;
    match inputs.common_type([codes, zero])?.filter(|dtype| !octet(dtype)) {
        Some(dtype) => Err(format!("input {codes} is of type {} where codes of 8 bits are needed", dtype.name())),
        None => Ok(()),
    }
}

/// Ties what holds for a whole operand, or for each position of its axis `along`, to that axis: [], [1], [M], or the operand's
/// rank with 1 elsewhere.
fn couple_parameter(ties: &mut Ties<'_>, input: usize, (operand, along): (usize, usize)) {
    let shape = ties.shape(input);
    let rank = ties.shape(operand).len();
    for (axis, dim) in shape.iter().enumerate() {
        if *dim == Dim::Fixed(1) {
            ties.free(Place::In(input, axis));
        } else if shape.len() == 1 {
            ties.same(Place::In(input, axis), Place::In(operand, along));
        } else if shape.len() == rank {
            ties.same(Place::In(input, axis), Place::In(operand, axis));
        }
    }
}

/// Whether an input is left out, or one number that can be broadcast to any shape.
fn is_single(ties: &Ties<'_>, input: usize) -> bool {
    ties.shape(input).iter().all(|dim| *dim == Dim::Fixed(1))
}

/// A product of A and B, where the code of A that stands for zero is the same everywhere or nothing of K can go.
fn couple_codes(ties: &mut Ties<'_>, (a, b): (usize, usize), zero: usize) -> Result<(), String> {
    couple_product(ties, (a, b), Some(zero))?;
    if !is_single(ties, zero) {
        ties.stays(Place::In(a, ties.shape(a).len() - 1), "each of its rows has another zero");
    }
    Ok(())
}

impl Operator for ConvInteger {
    const NAMES: &'static [(&'static str, i64)] = &[("ConvInteger", 10)];

    fn name(&self) -> &'static str {
        "ConvInteger"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<ConvInteger, String> {
        Conv::read_attributes(attributes).map(ConvInteger::from)
    }

    fn write(&self, attributes: &mut AttributeList) {
        self.conv().write_attributes(attributes);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 4)?;
        check_codes(inputs, 0, 2)?;
        check_codes(inputs, 1, 3)?;
        Ok(vec![Fact::new(Some(DataType::Int32), self.conv().output(inputs, Self::INPUTS)?)])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        conv_macs(inputs, Self::INPUTS, output)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_parameter(ties, 2, (0, 1));
        couple_parameter(ties, 3, (1, 0));
        self.conv().couple_inputs(ties, Self::INPUTS)
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        Ok(ConvInteger::from(self.conv().without_channels(cut, Self::INPUTS)?).into())
    }
}

impl Operator for QLinearConv {
    const NAMES: &'static [(&'static str, i64)] = &[("QLinearConv", 10)];

    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<QLinearConv, String> {
        Conv::read_attributes(attributes).map(QLinearConv::from)
    }

    fn write(&self, attributes: &mut AttributeList) {
        self.conv().write_attributes(attributes);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(8, 9)?;
        check_codes(inputs, 0, 2)?;
        check_codes(inputs, 3, 5)?;
        check_codes(inputs, 7, 7)?;
        Ok(vec![Fact::new(inputs.dtype(7), self.conv().output(inputs, Self::INPUTS)?)])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        conv_macs(inputs, Self::INPUTS, output)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        [1, 2].into_iter().for_each(|input| couple_parameter(ties, input, (0, 1)));
        [4, 5].into_iter().for_each(|input| couple_parameter(ties, input, (3, 0)));
        self.conv().couple_inputs(ties, Self::INPUTS)
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        Ok(QLinearConv::from(self.conv().without_channels(cut, Self::INPUTS)?).into())
    }
}

impl Operator for MatMulInteger {
    const NAMES: &'static [(&'static str, i64)] = &[("MatMulInteger", 10)];

    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<MatMulInteger, String> {
        Ok(MatMulInteger)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 4)?;
        check_codes(inputs, 0, 2)?;
        check_codes(inputs, 1, 3)?;
        Ok(vec![Fact::new(Some(DataType::Int32), product_shape(inputs, (0, 1))?)])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        product_macs(inputs, output)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_codes(ties, (0, 1), 2)?;
        couple_parameter(ties, 2, (0, ties.shape(0).len() - 2));
        couple_parameter(ties, 3, (1, ties.shape(1).len() - 1));
        Ok(())
    }
}

impl Operator for QLinearMatMul {
    const NAMES: &'static [(&'static str, i64)] = &[("QLinearMatMul", 10)];

    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<QLinearMatMul, String> {
        Ok(QLinearMatMul)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(8, 8)?;
        check_codes(inputs, 0, 2)?;
        check_codes(inputs, 3, 5)?;
        check_codes(inputs, 7, 7)?;
        Ok(vec![Fact::new(inputs.dtype(7), product_shape(inputs, (0, 3))?)])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        product_macs(inputs, output)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_codes(ties, (0, 3), 2)?;
        let (row, column) = (ties.shape(0).len() - 2, ties.shape(3).len() - 1);
        [1, 2].into_iter().for_each(|input| couple_parameter(ties, input, (0, row)));
        [4, 5].into_iter().for_each(|input| couple_parameter(ties, input, (3, column)));
        Ok(())
    }
}
