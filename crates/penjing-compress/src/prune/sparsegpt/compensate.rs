//! The sweep over the columns of a matrix: choose which weights go, and let those not yet passed make up for them.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::prune::select::keep_largest_few;
use crate::prune::{Pattern, Sparsity, WeightMatrix, keep_largest};

/// Columns whose zeros are chosen together, before any of them is passed.
const BLOCK: usize = 128;

/// Prunes rows of weights in place and says which stay. `u`: the factor of [`Gram`](super::gram::Gram), n by n; `dead`: columns
/// that nothing is ever multiplied with, whose weights become zero.
///
/// A weight w of column j that goes costs (w / U_jj)², and the columns c > j of its row move by −w / U_jj · U_jc (eq. 3 and 4).
pub(super) fn compensate(
    weights: &mut [f32],
    keep: &mut [bool],
    u: &[f32],
    dead: &BTreeSet<usize>,
    pattern: Pattern,
    matrix: &WeightMatrix,
    sparsity: Sparsity,
) {
    let n = matrix.columns();
    for row in weights.chunks_mut(n) {
        dead.iter().for_each(|j| row[*j] = 0.0);
    }
    let starts: BTreeSet<usize> = match pattern {
        Pattern::NOfM(group) => group.groups(matrix).collect(),
        Pattern::Unstructured | Pattern::Block(_) => BTreeSet::new(),
    };
    let width = match pattern {
        Pattern::Block(block) => BLOCK.div_ceil(block.size().1).saturating_mul(block.size().1),
        Pattern::Unstructured | Pattern::NOfM(_) => BLOCK,
    };
    for start in (0..n).step_by(width) {
        let end = start.saturating_add(width).min(n);
        match pattern {
            Pattern::Unstructured => choose(weights, keep, u, n, (1, 1), start..end, sparsity),
            Pattern::Block(block) => choose(weights, keep, u, n, block.size(), start..end, sparsity),
            Pattern::NOfM(_) => {}
        }
        weights.par_chunks_mut(n).zip(keep.par_chunks_mut(n)).for_each(|(w, keep)| {
            for j in start..end {
                if let Pattern::NOfM(group) = pattern
                    && starts.contains(&j)
                {
                    let costs: Vec<f32> = (j..j + group.of()).map(|c| w[c] / u[c * n + c]).collect();
                    keep[j..j + group.of()].copy_from_slice(&keep_largest_few(&costs, group.of() - group.kept()));
                }
                if !keep[j] {
                    let error = w[j] / u[j * n + j];
                    w[j..].iter_mut().zip(&u[j * n + j..(j + 1) * n]).for_each(|(w, u)| *w -= error * u);
                    w[j] = 0.0;
                }
            }
        });
    }
}

/// Chooses which rectangles of some columns go, so that as many are gone as the sparsity asks for up to there.
fn choose(
    weights: &[f32],
    keep: &mut [bool],
    u: &[f32],
    n: usize,
    (high, wide): (usize, usize),
    span: std::ops::Range<usize>,
    s: Sparsity,
) {
    let rows = weights.len() / n;
    let (down, across) = (rows.div_ceil(high), span.len().div_ceil(wide));
    let before = span.start / wide;
    let cells = |d: usize, a: usize| {
        let columns = span.start + a * wide..span.start.saturating_add((a + 1).saturating_mul(wide)).min(span.end);
        (d * high..(d + 1).saturating_mul(high).min(rows)).flat_map(move |r| columns.clone().map(move |c| (r, c)))
    };
    let cost = |(d, a)| {
        let (sum, count) =
            cells(d, a).fold((0.0, 0), |(sum, count), (r, c)| (sum + (weights[r * n + c] / u[c * n + c]).powi(2), count + 1));
        sum / count.max(1) as f32
    };
    let blocks = || (0..down).flat_map(|d| (0..across).map(move |a| (d, a)));
    let costs: Vec<f32> = blocks().map(cost).collect();
    let count = s.count(down * (before + across)) - s.count(down * before);
    for ((d, a), stays) in blocks().zip(keep_largest(&[&costs], count).remove(0)) {
        cells(d, a).for_each(|(r, c)| keep[r * n + c] = stays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::sparsegpt::gram::Gram;
    use crate::prune::testing::layer;

    /// Solves Ax = b by Gaussian elimination with pivoting.
    fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
        let n = b.len();
        for i in 0..n {
            let pivot = (i..n).max_by(|p, q| a[*p][i].abs().total_cmp(&a[*q][i].abs())).expect("a row");
            a.swap(i, pivot);
            b.swap(i, pivot);
            for r in (0..n).filter(|r| *r != i) {
                let factor = a[r][i] / a[i][i];
                let row = a[i].clone();
                a[r].iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
                b[r] -= factor * b[i];
            }
        }
        (0..n).map(|i| b[i] / a[i][i]).collect()
    }

    /// The optimal brain surgeon, solved from its definition: of all changes of the columns not yet passed, the one of least
    /// δᵀHδ that brings the weight to zero, i.e. H_RR δ_R = −H_Rj δ_j with R the columns after j.
    #[test]
    fn the_change_is_the_optimal_one() {
        let (n, samples) = (6, 40);
        let x: Vec<f32> = (0..n * samples).map(|i| (i as f32 * 0.83).sin() + (i as f32 / n as f32).floor().cos()).collect();
        let weight: Vec<f32> = (0..n).map(|i| (i as f32 * 2.1).cos()).collect();
        let built = layer(n, 1, &weight);
        let matrix = built.layer().matrix.expect("a matrix");
        let mut gram = Gram::new(n);
        gram.add(&x);
        let mut h: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| x.chunks(n).map(|x| f64::from(x[i]) * f64::from(x[j])).sum()).collect()).collect();
        let damping = 0.01 * (0..n).map(|i| h[i][i]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| h[i][i] += damping);

        let (mut found, mut keep) = (weight.clone(), vec![true; n]);
        let u = gram.factor().expect("a factor");
        compensate(&mut found, &mut keep, &u, &BTreeSet::new(), Pattern::Unstructured, &matrix, Sparsity(0.5));
        assert_eq!(keep.iter().filter(|k| !**k).count(), 3);

        let mut expected: Vec<f64> = weight.iter().map(|w| f64::from(*w)).collect();
        for j in (0..n).filter(|j| !keep[*j]) {
            let rest: Vec<usize> = (j + 1..n).collect();
            let delta = -expected[j];
            let a = rest.iter().map(|r| rest.iter().map(|c| h[*r][*c]).collect()).collect();
            let change = solve(a, rest.iter().map(|r| -h[*r][j] * delta).collect());
            rest.iter().zip(change).for_each(|(r, change)| expected[*r] += change);
            expected[j] = 0.0;
        }
        for (found, expected) in found.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} and {expected}");
        }
    }

    #[test]
    fn features_that_never_come_go_first() {
        let built = layer(4, 1, &[9.0, 1.0, 1.0, 1.0]);
        let matrix = built.layer().matrix.expect("a matrix");
        let mut gram = Gram::new(4);
        gram.add(&[0.0, 1.0, 2.0, 3.0, 0.0, 3.0, -1.0, 1.0]);
        let dead: BTreeSet<usize> = gram.dead().collect();
        let (mut weights, mut keep) = (vec![9.0, 1.0, 1.0, 1.0], vec![true; 4]);
        compensate(&mut weights, &mut keep, &gram.factor().expect("a factor"), &dead, Pattern::Unstructured, &matrix, Sparsity(0.25));
        assert_eq!((weights, keep), (vec![0.0, 1.0, 1.0, 1.0], vec![false, true, true, true]));
    }
}
