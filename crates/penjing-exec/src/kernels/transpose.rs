//! The same elements in another order: the pullback is the inverse order.

use penjing_graph::ops::{DepthToSpace, Transpose};

use super::{Call, Done, Kernels};
use crate::ExecError;

pub(super) fn transpose<B: Kernels>(op: &Transpose, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let rank = x.dims().len();
    let perm = op.perm.clone().unwrap_or_else(|| (0..rank).rev().collect());
    let inverse: Option<Vec<usize>> = (0..rank).map(|axis| perm.iter().position(|p| *p == axis)).collect();
    let Some(inverse) = inverse.filter(|_| perm.len() == rank) else {
        return Err(call.refuse(format!("perm {perm:?} is not an order of {rank} axes")));
    };
    Ok(Done::nary(x.permute(&perm), move |dy| vec![Some(dy.permute(&inverse))]))
}

pub(super) fn depth_to_space<B: Kernels>(op: DepthToSpace, mut call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    let x = call.value(0)?;
    let dims = x.dims();
    let block = op.block_size;
    let [n, c, h, w] = dims[..] else {
        return Err(call.refuse(format!("an input of shape {dims:?} is not [N, C, H, W]")));
    };
    if block == 0 || !block.checked_mul(block).is_some_and(|cells| c.is_multiple_of(cells)) {
        return Err(call.refuse(format!("{c} channels do not make blocks of {block}×{block}")));
    }
    let depth = c / (block * block);
    let (split, perm): ([usize; 6], [usize; 6]) =
        if op.crd { ([n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3]) } else { ([n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2]) };
    let inverse: Vec<usize> = (0..6).map(|axis| perm.iter().position(|p| *p == axis).unwrap_or(axis)).collect();
    let moved: Vec<usize> = perm.iter().map(|axis| split[*axis]).collect();
    let y = x.reshape(&split).permute(&perm).reshape(&[n, depth, h * block, w * block]);
    Ok(Done::nary(y, move |dy| vec![Some(dy.reshape(&moved).permute(&inverse).reshape(&dims))]))
}
