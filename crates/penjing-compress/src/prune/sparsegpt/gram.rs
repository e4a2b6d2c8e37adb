//! H = XXᵀ of a layer's inputs, and the factor of its inverse.

use rayon::prelude::*;

/// Rows that are summed in single precision before they are added up in double.
const CHUNK: usize = 256;
/// λ as a share of the mean diagonal.
const DAMPING: f64 = 0.01;

/// Σ xxᵀ over rows x of inputs, its upper triangle.
#[derive(Clone, Debug)]
pub(crate) struct Gram {
    n: usize,
    sums: Vec<f64>,
}

impl Gram {
    pub(crate) fn new(n: usize) -> Gram {
        Gram { n, sums: vec![0.0; n * n] }
    }

    /// Adds rows of n numbers. Each element is one sum in a fixed order, at any number of threads.
    pub(crate) fn add(&mut self, rows: &[f32]) {
        let n = self.n;
        self.sums.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, sums)| {
            let mut partial = vec![0.0f32; n - i];
            for chunk in rows.chunks(n * CHUNK) {
                partial.fill(0.0);
                // Four rows at a time: a partial sum is read and written once for all of them.
                let mut fours = chunk.chunks_exact(4 * n);
                for four in &mut fours {
                    let (a, b, c, d) = (&four[i..n], &four[n + i..2 * n], &four[2 * n + i..3 * n], &four[3 * n + i..]);
                    let (a0, b0, c0, d0) = (a[0], b[0], c[0], d[0]);
                    for ((((sum, a), b), c), d) in partial.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        *sum += a0 * a + b0 * b + c0 * c + d0 * d;
                    }
                }
                for row in fours.remainder().chunks_exact(n) {
                    partial.iter_mut().zip(&row[i..]).for_each(|(sum, x)| *sum += row[i] * x);
                }
                sums[i..].iter_mut().zip(&partial).for_each(|(sum, partial)| *sum += f64::from(*partial));
            }
        });
    }

    /// Features that were always zero.
    pub(crate) fn dead(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.n).filter(|i| self.sums[i * self.n + i] == 0.0)
    }

    /// U, upper triangular and row by row, with (H + λI)⁻¹ = UᵀU. `None` where nothing was added, or not finite numbers.
    pub(crate) fn factor(mut self) -> Option<Vec<f32>> {
        let n = self.n;
        let diagonal = |i: usize| i * n + i;
        let mean = (0..n).map(|i| self.sums[diagonal(i)]).sum::<f64>() / n as f64;
        if !(mean > 0.0 && mean.is_finite()) {
            return None;
        }
        // With rows and columns in reverse, H = LLᵀ, so that L⁻¹ in reverse again is U.
        let mut l = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                l[i * n + j] = self.sums[(n - 1 - i) * n + (n - 1 - j)];
            }
            l[diagonal(i)] += if l[diagonal(i)] == 0.0 { mean } else { DAMPING * mean };
        }
        self.sums = vec![];
        cholesky(&mut l, n)?;
        let columns: Vec<Vec<f64>> = (0..n).into_par_iter().map(|j| inverse_column(&l, n, j)).collect();
        let mut u = vec![0.0f32; n * n];
        for (j, column) in columns.iter().enumerate() {
            for (i, x) in (j..n).zip(column) {
                u[(n - 1 - i) * n + (n - 1 - j)] = *x as f32;
            }
        }
        Some(u)
    }
}

/// Replaces the lower triangle of a symmetric matrix by L with LLᵀ. `None` where it is not positive definite.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for j in 0..n {
        let (above, below) = a.split_at_mut((j + 1) * n);
        let row = &mut above[j * n..];
        let pivot = row[j] - dot(&row[..j], &row[..j]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        row[j] = pivot.sqrt();
        let (row, root) = (&row[..j], row[j]);
        below.par_chunks_mut(n).with_min_len(16).for_each(|other| other[j] = (other[j] - dot(&other[..j], row)) / root);
    }
    Some(())
}

/// Elements j.. of column j of L⁻¹.
fn inverse_column(l: &[f64], n: usize, j: usize) -> Vec<f64> {
    let mut x = Vec::with_capacity(n - j);
    x.push(1.0 / l[j * n + j]);
    for i in j + 1..n {
        let sum = dot(&l[i * n + j..i * n + i], &x);
        x.push(-sum / l[i * n + i]);
    }
    x
}

/// a · b, in eight sums that are added at the end.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_feature_by_hand() {
        let mut gram = Gram::new(1);
        gram.add(&[1.0, 3.0]);
        // H = 10, λ = 0.1: U = 1/√10.1.
        assert!((gram.factor().expect("a factor")[0] - 1.0 / 10.1f32.sqrt()).abs() < 1e-7);
        assert_eq!(Gram::new(2).factor(), None);
    }

    #[test]
    fn the_factor_inverts() {
        let n = 13;
        let rows: Vec<f32> = (0..n * 37).map(|i| (i as f32 * 1.37).sin()).collect();
        let mut gram = Gram::new(n);
        gram.add(&rows);
        let h = |i: usize, j: usize| rows.chunks(n).map(|x| f64::from(x[i]) * f64::from(x[j])).sum::<f64>();
        let damping = 0.01 * (0..n).map(|i| h(i, i)).sum::<f64>() / n as f64;
        let u = gram.factor().expect("a factor");
        let inverse = |i: usize, j: usize| (0..n).map(|k| f64::from(u[k * n + i]) * f64::from(u[k * n + j])).sum::<f64>();
        for i in 0..n {
            for j in 0..n {
                let damped = |k: usize| h(i, k) + if i == k { damping } else { 0.0 };
                let product: f64 = (0..n).map(|k| damped(k) * inverse(k, j)).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-4, "{i}, {j}: {product}");
            }
            assert!(u[i * n..i * n + i].iter().all(|x| *x == 0.0), "upper");
        }
    }
}
