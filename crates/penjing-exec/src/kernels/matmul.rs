//! Matrix products.

use penjing_graph::ops::Gemm;

use super::{Call, Done, Float, Kernels};
use crate::ExecError;

pub(super) fn gemm<B: Kernels>(op: Gemm, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (wants_a, wants_b, wants_c) = (call.wants(0), call.wants(1), call.wants(2));
    let (a, b, c) = (call.float(0)?, call.float(1)?, call.optional_float(2)?);
    let (da, db) = (a.dims(), b.dims());
    if da.len() != 2 || db.len() != 2 || da[usize::from(!op.trans_a)] != db[usize::from(op.trans_b)] {
        return Err(call.refuse(format!("matrices of shape {da:?} and {db:?} do not multiply")));
    }
    let (m, n) = (da[usize::from(op.trans_a)], db[usize::from(!op.trans_b)]);
    let transposed = |x: Float<B>, yes: bool| if yes { x.swap(0, 1) } else { x };
    let product = transposed(a.clone(), op.trans_a).matmul(transposed(b.clone(), op.trans_b));
    let mut y = scaled(product, op.alpha);
    let c_dims = c.as_ref().map(Float::dims);
    if let Some(c) = c {
        if super::broadcast(&c.dims(), &[m, n]).is_none_or(|dims| dims != [m, n]) {
            return Err(call.refuse(format!("a bias of shape {:?} does not broadcast to [{m}, {n}]", c.dims())));
        }
        y = y + scaled(c, op.beta);
    }
    Ok(Done::nary(y, move |dy| {
        // Y = α·A'·B' + β·C ⇒ dA' = α·dY·B'ᵀ, dB' = α·A'ᵀ·dY, dC = β·dY
        let da = wants_a.then(|| {
            let da = dy.clone().matmul(transposed(b, !op.trans_b));
            scaled(transposed(da, op.trans_a), op.alpha)
        });
        let dc = c_dims.filter(|_| wants_c).map(|dims| scaled(dy.clone(), op.beta).sum_to(&dims));
        let db = wants_b.then(|| {
            // The transposed product dB'ᵀ = dYᵀ·A' is already in the layout of a transposed B.
            let db = if op.trans_b { dy.swap(0, 1).matmul(transposed(a, op.trans_a)) } else { transposed(a, !op.trans_a).matmul(dy) };
            scaled(db, op.alpha)
        });
        vec![da, db, dc]
    }))
}

fn scaled<B: Kernels>(x: Float<B>, factor: f32) -> Float<B> {
    if factor == 1.0 { x } else { x * factor }
}

pub(super) fn matmul<B: Kernels>(mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let (wants_a, wants_b) = (call.wants(0), call.wants(1));
    let (a, b) = (call.float(0)?, call.float(1)?);
    let (a_dims, b_dims) = (a.dims(), b.dims());
    let refuse = || call.refuse(format!("tensors of shape {a_dims:?} and {b_dims:?} do not multiply"));
    if a_dims.is_empty() || b_dims.is_empty() {
        return Err(refuse());
    }
    // A vector is a row on the left and a column on the right, and that axis is dropped from the result.
    let mut left = if a_dims.len() == 1 { vec![1, a_dims[0]] } else { a_dims.clone() };
    let mut right = if b_dims.len() == 1 { vec![b_dims[0], 1] } else { b_dims.clone() };
    let rank = left.len().max(right.len());
    let [m, k] = [left[left.len() - 2], left[left.len() - 1]];
    let [l, n] = [right[right.len() - 2], right[right.len() - 1]];
    let mut y_dims = super::broadcast(&left[..left.len() - 2], &right[..right.len() - 2]).filter(|_| k == l).ok_or_else(refuse)?;
    y_dims.extend((a_dims.len() > 1).then_some(m));
    y_dims.extend((b_dims.len() > 1).then_some(n));
    let rank = if right.len() == 2 {
        // One matrix for all rows: a single product.
        left = vec![left[..left.len() - 1].iter().product(), k];
        2
    } else {
        left = super::float::with_rank(&left, rank);
        right = super::float::with_rank(&right, rank);
        rank
    };
    let (a, b) = (a.reshape(&left), b.reshape(&right));
    let y = a.clone().matmul(b.clone());
    let full = y.dims();
    Ok(Done::nary(y.reshape(&y_dims), move |dy| {
        // Y = A·B ⇒ dA = dY·Bᵀ, dB = Aᵀ·dY
        let dy = dy.reshape(&full);
        let da = wants_a.then(|| dy.clone().matmul(b.swap(rank - 2, rank - 1)).sum_to(&left).reshape(&a_dims));
        let db = wants_b.then(|| a.swap(rank - 2, rank - 1).matmul(dy).sum_to(&right).reshape(&b_dims));
        vec![da, db]
    }))
}
