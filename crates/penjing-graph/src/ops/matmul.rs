//! Matrix products.

use super::Operator;
use super::attributes::{AttributeList, Attributes};
use super::conv::count;
use super::elementwise::{broadcast, broadcast_to};
use crate::Dim;
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands};

/// `Gemm`: Y = alpha · A' · B' + beta · C, A' [M, K], B' [K, N], C broadcast to [M, N].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// A is given as [K, M].
    pub trans_a: bool,
    /// B is given as [N, K].
    pub trans_b: bool,
}

/// `MatMul`: numpy's `matmul`, [.., M, K] · [.., K, N] → [.., M, N], leading axes broadcast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatMul;

impl Operator for Gemm {
    const NAMES: &'static [(&'static str, i64)] = &[("Gemm", 1)];

    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Gemm, String> {
        Ok(Gemm {
            alpha: attributes.float("alpha", 1.0)?,
            beta: attributes.float("beta", 1.0)?,
            trans_a: attributes.int("transA", 0)? != 0,
            trans_b: attributes.int("transB", 0)? != 0,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.float("alpha", self.alpha, 1.0);
        attributes.float("beta", self.beta, 1.0);
        attributes.flag("transA", self.trans_a, false);
        attributes.flag("transB", self.trans_b, false);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(if inputs.opset() < 11 { 3 } else { 2 }, 3)?;
        let dtype = inputs.common_type(0..3)?;
        let (a, b) = (inputs.ranked(0, 2)?, inputs.ranked(1, 2)?);
        let (m, k) = if self.trans_a { (&a[1], &a[0]) } else { (&a[0], &a[1]) };
        let (n, depth) = if self.trans_b { (&b[0], &b[1]) } else { (&b[1], &b[0]) };
        check_depth(k, depth)?;
        let shape = vec![m.clone(), n.clone()];
        if let Some(c) = inputs.shape(2) {
            broadcast_to(c, &shape)?;
        }
        Ok(vec![Fact::new(dtype, Some(shape))])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        let k = inputs.shape(0)?.get(usize::from(!self.trans_a))?;
        count(output)?.checked_mul(count(std::slice::from_ref(k))?)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let (m, k) = if self.trans_a { (1, 0) } else { (0, 1) };
        let (n, depth) = if self.trans_b { (0, 1) } else { (1, 0) };
        ties.same(Place::In(0, m), Place::Out(0, 0));
        ties.same(Place::In(1, n), Place::Out(0, 1));
        ties.contracted((0, k), (1, depth));
        ties.broadcast([2]);
        Ok(())
    }
}

fn check_depth(a: &Dim, b: &Dim) -> Result<(), String> {
    if a.compatible(b) { Ok(()) } else { Err(format!("rows of {a} and columns of {b} numbers do not go together")) }
}

impl Operator for MatMul {
    const NAMES: &'static [(&'static str, i64)] = &[("MatMul", 1)];

    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<MatMul, String> {
        Ok(MatMul)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 2)?;
        let dtype = inputs.common_type(0..2)?;
        Ok(vec![Fact::new(dtype, product_shape(inputs, (0, 1))?)])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        product_macs(inputs, output)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_product(ties, (0, 1), None)
    }
}

/// Shape of the product of inputs `a` and `b`; `None` where not even a rank is known.
pub(super) fn product_shape(inputs: &Operands<'_>, (a, b): (usize, usize)) -> Result<Option<Vec<Dim>>, String> {
    let (Some(a), Some(b)) = (inputs.shape(a), inputs.shape(b)) else { return Ok(None) };
    let (Some((k, a)), Some((last, b))) = (a.split_last(), b.split_last()) else {
        return Err("an input has no dimensions".into());
    };
    // A vector on the left is a row, on the right a column; its axis of size 1 is dropped from the result.
    let (depth, n, outer_b) = match b.split_last() {
        Some((depth, outer)) => (depth, Some(last), outer),
        None => (last, None, b),
    };
    check_depth(k, depth)?;
    let (m, outer_a) = a.split_last().map_or((None, a), |(m, outer)| (Some(m), outer));
    let mut shape = broadcast(&[outer_a, outer_b])?;
    shape.extend(m.into_iter().chain(n).cloned());
    Ok(Some(shape))
}

/// Every output element is a sum over the last axis of input 0.
pub(super) fn product_macs(inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
    let k = inputs.shape(0)?.last()?;
    count(output)?.checked_mul(count(std::slice::from_ref(k))?)
}

/// Ties rows of input `a`, columns of input `b` and what is added up between them; input `zero` says which code of A is zero.
pub(super) fn couple_product(ties: &mut Ties<'_>, (a, b): (usize, usize), zero: Option<usize>) -> Result<(), String> {
    let (a_rank, b_rank) = (ties.shape(a).len(), ties.shape(b).len());
    if a_rank < 2 || b_rank < 2 {
        return Err("one of its inputs is a vector".into());
    }
    let rank = ties.output_shape(0).len();
    ties.contracted_codes((a, a_rank - 1), (b, b_rank - 2), zero);
    ties.same(Place::In(a, a_rank - 2), Place::Out(0, rank - 2));
    ties.same(Place::In(b, b_rank - 1), Place::Out(0, rank - 1));
    for (input, own) in [(a, a_rank), (b, b_rank)] {
        for axis in 0..own - 2 {
            let out = rank - own + axis;
            if ties.shape(input)[axis] == Dim::Fixed(1) && ties.output_shape(0)[out] != Dim::Fixed(1) {
                ties.free(Place::In(input, axis));
            } else {
                ties.same(Place::In(input, axis), Place::Out(0, out));
            }
        }
    }
    Ok(())
}
