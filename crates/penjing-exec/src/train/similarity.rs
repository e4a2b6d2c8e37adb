//! How near the outputs of a model are to the original's, where no accuracy can be measured.

use penjing_graph::Tensor;
use serde::Serialize;

use super::progress::Progress;
use super::side_by_side::{Portion, side_by_side};
use super::statistics::Proportion;
use crate::ExecError;
use crate::data::{Dataset, Split};
use crate::runtime::Runtime;

/// How near one output is to the original's of the same name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Similarity {
    /// Name of the output.
    pub output: String,
    /// Mean over the samples of a·b / (|a|·|b|), −1 to 1; 1 where both are zero.
    pub cosine: f64,
    /// Signal to quantization noise in dB: 10·log₁₀(Σa² / Σ(a − b)²), a the original's. Infinite (in JSON: null) where nothing differs.
    pub sqnr: f64,
    /// Largest |a − b|.
    pub largest_difference: f64,
    /// Largest |a − b| divided by the largest |a|; 0 where nothing differs.
    pub relative_difference: f64,
    /// Samples whose highest element is at the same place; `None` unless the output is [N, C] with C > 1.
    pub agreement: Option<Proportion>,
}

/// Runs both models on one split and compares their float outputs, one by one. `batch`: samples at a time. Labels are not needed.
///
/// # Errors
/// When the models have different outputs or none to compare, the split has no samples, or one cannot be run.
pub fn similarity(
    original: &mut dyn Runtime,
    result: &mut dyn Runtime,
    data: &Dataset,
    split: Split,
    batch: usize,
    progress: &mut dyn Progress,
) -> Result<Vec<Similarity>, ExecError> {
    Ok(side_by_side(original, result, data, Portion::whole(split, batch), false, progress)?.outputs)
}

/// Sums over the rows of one value so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Comparison {
    rows: u64,
    cosines: f64,
    signal: f64,
    noise: f64,
    largest: f64,
    largest_difference: f64,
    agreed: u64,
    classes: bool,
}

impl Comparison {
    /// Rows are those of the first axis where it counts the samples; else the output is one row.
    pub(super) fn add(&mut self, a: &Tensor, b: &Tensor, samples: usize) -> Result<(), String> {
        if (a.dtype().is_float(), a.dims()) != (b.dtype().is_float(), b.dims()) {
            return Err(format!("is {} {:?} in the original and {} {:?} now", a.dtype().name(), a.dims(), b.dtype().name(), b.dims()));
        }
        let (Some(a_values), Some(b_values)) = (a.to_f32(), b.to_f32()) else { return Ok(()) };
        let rows = if a.dims().first() == Some(&samples) { samples } else { 1 };
        let width = (a_values.len() / rows.max(1)).max(1);
        self.classes = a.dims().len() == 2 && rows == samples && width > 1;
        for (a, b) in a_values.chunks_exact(width).zip(b_values.chunks_exact(width)) {
            let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum::<f64>();
            let (aa, bb, ab) = (sum(&|a, _| a * a), sum(&|_, b| b * b), sum(&|a, b| a * b));
            self.rows += 1;
            self.cosines += if aa == 0.0 && bb == 0.0 { 1.0 } else { ab / (aa * bb).sqrt().max(f64::MIN_POSITIVE) };
            self.signal += aa;
            self.noise += sum(&|a, b| (a - b) * (a - b));
            let (a64, b64) = (a.iter().map(|x| f64::from(*x)), b.iter().map(|x| f64::from(*x)));
            self.largest = a64.clone().map(f64::abs).fold(self.largest, larger);
            self.largest_difference = a64.zip(b64).map(|(a, b)| (a - b).abs()).fold(self.largest_difference, larger);
            self.agreed += u64::from(highest(a) == highest(b));
        }
        Ok(())
    }

    /// The result; `None` of no floats.
    pub(super) fn finish(self, output: String) -> Option<Similarity> {
        (self.rows > 0).then(|| Similarity {
            output,
            cosine: self.cosines / self.rows as f64,
            sqnr: if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() },
            largest_difference: self.largest_difference,
            relative_difference: if self.largest_difference == 0.0 { 0.0 } else { self.largest_difference / self.largest },
            agreement: self.classes.then_some(Proportion { successes: self.agreed, trials: self.rows }),
        })
    }
}

/// The larger of two, NaN counting as larger than any number: an output that is NaN is not near to anything.
fn larger(x: f64, y: f64) -> f64 {
    if y > x || y.is_nan() { y } else { x }
}

/// Place of the highest element, the first of several.
fn highest(row: &[f32]) -> usize {
    let higher = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).fold(0, higher)
}

#[cfg(test)]
mod tests {
    use super::super::Silent;
    use super::super::testing::{Linear, clusters};
    use super::*;
    use crate::runtime::Builtin;

    fn compare(dims: &[usize], a: Vec<f32>, b: Vec<f32>, samples: usize) -> Result<Similarity, String> {
        let mut count = Comparison::default();
        count.add(&Tensor::new(dims, a), &Tensor::new(dims, b), samples)?;
        count.finish("y".into()).ok_or_else(|| "no rows".into())
    }

    #[test]
    fn two_rows_by_hand() -> Result<(), String> {
        // cos: 24/25 and 0; Σa² = 25 + 4, Σ(a−b)² = 1 + 1 + 4 + 1; the highest is at another place in both
        let s = compare(&[2, 2], vec![3.0, 4.0, 2.0, 0.0], vec![4.0, 3.0, 0.0, 1.0], 2)?;
        assert!((s.cosine - 0.48).abs() < 1e-12 && (s.sqnr - 10.0 * (29f64 / 7.0).log10()).abs() < 1e-12, "{s:?}");
        // The largest |a − b| is 2, of a largest |a| of 4.
        assert_eq!((s.largest_difference, s.relative_difference), (2.0, 0.5));
        assert_eq!(s.agreement, Some(Proportion { successes: 0, trials: 2 }));
        Ok(())
    }

    #[test]
    fn equal_and_zero_outputs() -> Result<(), String> {
        let same = compare(&[1, 2], vec![0.0, 0.0], vec![0.0, 0.0], 1)?;
        assert_eq!((same.cosine, same.sqnr, same.relative_difference), (1.0, f64::INFINITY, 0.0));
        assert_eq!(same.agreement, Some(Proportion { successes: 1, trials: 1 }));
        let other = compare(&[1, 2], vec![0.0, 0.0], vec![1.0, 0.0], 1)?;
        assert_eq!((other.cosine, other.largest_difference, other.relative_difference), (0.0, 1.0, f64::INFINITY));
        assert_eq!(compare(&[2, 1, 2], vec![1.0; 4], vec![1.0; 4], 2)?.agreement, None);
        Ok(())
    }

    #[test]
    fn nan_is_near_to_nothing() -> Result<(), String> {
        let s = compare(&[1, 2], vec![1.0, 2.0], vec![f32::NAN, 2.0], 1)?;
        assert!(s.cosine.is_nan() && s.sqnr.is_nan() && s.largest_difference.is_nan() && s.relative_difference.is_nan(), "{s:?}");
        Ok(())
    }

    #[test]
    fn shapes_that_differ_are_refused() {
        let mut count = Comparison::default();
        let refusal = count.add(&Tensor::new([1, 2], vec![0.0f32; 2]), &Tensor::new([2], vec![0.0f32; 2]), 1);
        assert_eq!(refusal, Err("is float32 [1, 2] in the original and float32 [2] now".into()));
    }

    #[test]
    fn a_model_is_like_itself() -> Result<(), Box<dyn std::error::Error>> {
        let (_folder, data) = clusters(40)?;
        let [mut a, mut b] = [Linear::new(2, 3), Linear::new(2, 3)];
        let compared = similarity(&mut Builtin(&mut a), &mut Builtin(&mut b), &data, Split::Test, 3, &mut Silent)?;
        assert_eq!((compared.len(), compared[0].output.as_str(), compared[0].sqnr), (1, "y", f64::INFINITY));
        assert!((compared[0].cosine - 1.0).abs() < 1e-12);
        Ok(())
    }
}
