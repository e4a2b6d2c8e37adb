//! What VPMADDUBSW loses: AVX2 without VNNI multiplies unsigned by signed bytes in pairs and adds both products in 16 bits, so that a sum
//! beyond them is cut and the result is wrong without a word. Pairs are neighbours along the sum that a product of matrices is.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 2, PMADDUBSW. With weights from −64 to 64
//! it cannot happen.

use serde::{Deserialize, Serialize};

use super::{Format, Granularity, QuantError, Range, Scheme};
use crate::prune::WeightMatrix;

/// How many of the sums of two products do not fit 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Saturation {
    /// Sums of two products.
    pub sums: u64,
    /// Those that are cut.
    pub saturated: u64,
}

impl Saturation {
    /// Of products of rows of activations [M, K] and rows of weights [N, K], K = `depth`, both in the order in which the kernel adds up.
    /// With an odd K the last product stands alone.
    ///
    /// # Errors
    /// When either is not whole rows.
    pub fn of(activations: &[u8], weights: &[i8], depth: usize) -> Result<Saturation, QuantError> {
        check_rows("activations", activations.len(), depth)?;
        check_rows("weights", weights.len(), depth)?;
        let mut found = Saturation::default();
        for a in activations.chunks_exact(depth) {
            for w in weights.chunks_exact(depth) {
                let saturated = pair_sums(a, w).filter(|sum| i16::try_from(*sum).is_err()).count();
                found.sums += depth.div_ceil(2) as u64;
                found.saturated += saturated as u64;
            }
        }
        Ok(found)
    }

    /// Fraction of the sums that are cut, 0 to 1. 0 of none.
    pub fn share(&self) -> f64 {
        self.saturated as f64 / self.sums.max(1) as f64
    }
}

/// Σ a·w of one row each as the instruction gives it: pairs of products added and cut at 16 bits, these added in 32 bits.
pub fn saturating_dot(activations: &[u8], weights: &[i8]) -> i32 {
    pair_sums(activations, weights).map(|sum| sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX))).sum()
}

fn pair_sums(activations: &[u8], weights: &[i8]) -> impl Iterator<Item = i32> {
    let product = |(a, w): (&u8, &i8)| i32::from(*a) * i32::from(*w);
    activations.chunks(2).zip(weights.chunks(2)).map(move |(a, w)| a.iter().zip(w).map(product).sum())
}

/// What activations could do to weights, which are all that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SaturationBound {
    /// Pairs of neighbouring weights.
    pub pairs: u64,
    /// Pairs that activations from 0 to 255 can saturate: 255 times their weights of one sign exceeds 32,767, or 32,768 below zero.
    pub unsafe_pairs: u64,
    /// Rows in which two weights, neighbours or not, could: those that are safe in no order of the sum.
    pub unsafe_rows: u64,
}

impl SaturationBound {
    /// Of rows of weights [N, K], K = `depth`.
    ///
    /// # Errors
    /// When they are not whole rows.
    pub fn of(weights: &[i8], depth: usize) -> Result<SaturationBound, QuantError> {
        check_rows("weights", weights.len(), depth)?;
        let mut bound = SaturationBound::default();
        for row in weights.chunks_exact(depth) {
            bound.pairs += depth.div_ceil(2) as u64;
            bound.unsafe_pairs += row.chunks(2).filter(|pair| can_saturate(pair)).count() as u64;
            let sorted = {
                let mut row = row.to_vec();
                row.sort_unstable();
                row
            };
            let ends = [&sorted[..depth.min(2)], &sorted[depth.saturating_sub(2)..]];
            bound.unsafe_rows += u64::from(ends.into_iter().any(can_saturate));
        }
        Ok(bound)
    }

    /// Whether no activations can saturate any pair, in whatever order the kernel adds up.
    pub fn is_safe(&self) -> bool {
        self.unsafe_rows == 0
    }
}

/// Whether some activations make the sum of a pair's products leave 16 bits: 255 where the weight has the sign, 0 elsewhere.
fn can_saturate(pair: &[i8]) -> bool {
    let sum = |keep: fn(i32) -> bool| 255 * pair.iter().map(|w| i32::from(*w)).filter(|w| keep(*w)).sum::<i32>();
    sum(|w| w > 0) > i32::from(i16::MAX) || sum(|w| w < 0) < i32::from(i16::MIN)
}

fn check_rows(what: &'static str, given: usize, depth: usize) -> Result<(), QuantError> {
    let expected = if depth == 0 { 0 } else { given.next_multiple_of(depth) };
    if depth > 0 && given == expected { Ok(()) } else { Err(QuantError::Length { what, given, expected }) }
}

/// Whether 255 times two codes of a symmetric scheme can leave 16 bits.
pub(super) fn can_leave_16_bits(scheme: &Scheme) -> bool {
    match scheme.format() {
        Format::Integer(codes) => 2 * 255 * codes.half() > i32::from(i16::MAX),
        Format::Float(_) => false,
    }
}

/// The range of each row of a weight, or of all rows together, in which no sum of two neighbouring products with codes of 8 bits, 0 to
/// 255, leaves 16 bits: |w₁ + w₂| stands for at most 127, so that two rounded codes sum to at most 128, and 128 · 255 < 2¹⁵. Kernels sum
/// along the kernel first or along the channels first: neighbours in either order are kept apart.
pub(super) fn unsaturated(matrix: &WeightMatrix, values: &[f32], granularity: Granularity) -> Vec<Range> {
    let extent = |row: usize| {
        let along_channels: Vec<usize> = (0..matrix.columns()).map(|column| matrix.index(row, column)).collect();
        let mut along_kernel = along_channels.clone();
        along_kernel.sort_unstable();
        let pairs = [along_channels, along_kernel];
        let sums = pairs.iter().flat_map(|order| order.windows(2).map(|pair| (values[pair[0]] + values[pair[1]]).abs()));
        let single = pairs[0].iter().map(|i| values[*i].abs());
        sums.chain(single).fold(0.0, f32::max)
    };
    let extents: Vec<f32> = (0..matrix.rows()).map(extent).collect();
    let range = |extent: f32| Range { min: -extent, max: extent };
    match granularity {
        Granularity::Channel { .. } => extents.into_iter().map(range).collect(),
        Granularity::Tensor | Granularity::Block { .. } => vec![range(extents.into_iter().fold(0.0, f32::max))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_leave_room_for_neighbours() {
        let mut b = penjing_graph::GraphBuilder::new("neighbours");
        let x = b.input("x", penjing_graph::DataType::Float, [1.into(), 4.into()]);
        // The first row's neighbours add up to 2, the second's cancel each other.
        let values = [1.0f32, 1.0, 0.5, -0.5, 1.0, -1.0, 1.0, -1.0];
        let w = b.tensor("w", penjing_graph::Tensor::new([2, 4], values.to_vec()));
        let y = b.node("y", penjing_graph::ops::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w]);
        let graph = b.output(y).finish().expect("valid");
        let matrix = WeightMatrix::of(&graph, &graph.consumers(), w).expect("a matrix");
        let channel = Granularity::Channel { axis: 0 };
        assert_eq!(unsaturated(&matrix, &values, channel), [Range { min: -2.0, max: 2.0 }, Range { min: -1.0, max: 1.0 }]);
        assert_eq!(unsaturated(&matrix, &values, Granularity::Tensor), [Range { min: -2.0, max: 2.0 }]);

        let scheme = crate::quant::Scheme::new(crate::quant::Number::Int8, channel, crate::quant::Symmetry::Symmetric);
        let saturated = |quantizer: crate::quant::Quantizer| {
            let codes: Vec<i8> = quantizer.quantize(&values).expect("codes").iter().map(|c| *c as i8).collect();
            Saturation::of(&[255; 4], &codes, 4).expect("rows").saturated
        };
        let plain = crate::quant::Quantizer::fit(scheme, &[2, 4], &values, crate::quant::Fit::MinMax).expect("fits");
        assert_eq!(saturated(plain), 1);
        let roomy = crate::quant::Quantizer::new(scheme, &[2, 4], &unsaturated(&matrix, &values, channel)).expect("fits");
        assert_eq!(saturated(roomy), 0);
    }
    use proptest::prelude::*;

    #[test]
    fn a_layer_that_saturates_and_one_of_seven_bits_that_cannot() {
        // 255·100 + 255·100 = 51,000 > 32,767; 255·(−100) + 100·100 = −15,500 fits; 255·(−70) + 255·(−70) = −35,700 < −32,768.
        let weights = [100, 100, -100, 100, -70, -70];
        let activations = [255, 255, 255, 100, 255, 255];
        assert_eq!(Saturation::of(&activations, &weights, 6), Ok(Saturation { sums: 3, saturated: 2 }));
        assert_eq!(saturating_dot(&activations, &weights), 32_767 - 15_500 - 32_768);
        let bound = SaturationBound::of(&weights, 6).expect("one row");
        assert_eq!(bound, SaturationBound { pairs: 3, unsafe_pairs: 2, unsafe_rows: 1 });
        // 255·(64 + 64) = 32,640 and its negative fit.
        let seven_bits = [64, 64, -64, -64];
        assert!(SaturationBound::of(&seven_bits, 4).expect("one row").is_safe());
        assert_eq!(Saturation::of(&[255; 4], &seven_bits, 4).expect("rows").saturated, 0);
    }

    #[test]
    fn seven_bits_leave_room_for_every_pair() {
        // 2 · 255 · 127 = 64,770 > 32,767; 2 · 255 · 63 = 32,130.
        let scheme = |bits: u8| crate::quant::Scheme {
            bits: crate::quant::Bits::try_from(bits).ok(),
            ..crate::quant::Scheme::new(crate::quant::Number::Int8, Granularity::Tensor, crate::quant::Symmetry::Symmetric)
        };
        assert_eq!([8, 7, 4].map(|bits| can_leave_16_bits(&scheme(bits))), [true, false, false]);
    }

    #[test]
    fn another_order_can_saturate_what_this_one_does_not() {
        let bound = SaturationBound::of(&[100, -1, 100, -1, 1, 1, 1, 1], 4).expect("two rows");
        assert_eq!(bound, SaturationBound { pairs: 4, unsafe_pairs: 0, unsafe_rows: 1 });
    }

    #[test]
    fn odd_rows_end_alone_and_broken_ones_are_errors() {
        assert_eq!(saturating_dot(&[255, 255, 255], &[127, 127, 127]), 32_767 + 255 * 127);
        assert_eq!(Saturation::of(&[0; 3], &[0; 6], 3).map(|found| found.sums), Ok(4));
        assert_eq!(SaturationBound::of(&[0; 5], 3), Err(QuantError::Length { what: "weights", given: 5, expected: 6 }));
        assert!(Saturation::of(&[], &[], 0).is_err());
    }

    proptest! {
        /// What cannot saturate does not, and where nothing saturates the sum is the exact one.
        #[test]
        fn the_bound_holds(rows in prop::collection::vec(prop::collection::vec((any::<u8>(), any::<i8>()), 1..12), 1..8)) {
            for row in rows {
                let (a, w): (Vec<u8>, Vec<i8>) = row.into_iter().unzip();
                let found = Saturation::of(&a, &w, w.len()).expect("a row");
                let bound = SaturationBound::of(&w, w.len()).expect("a row");
                prop_assert!(found.saturated <= bound.unsafe_pairs);
                prop_assert!(bound.unsafe_pairs == 0 || bound.unsafe_rows == 1);
                let exact: i32 = a.iter().zip(&w).map(|(a, w)| i32::from(*a) * i32::from(*w)).sum();
                prop_assert!(found.saturated > 0 || saturating_dot(&a, &w) == exact);
                let halved: Vec<i8> = w.iter().map(|w| (*w).clamp(-64, 64)).collect();
                prop_assert!(SaturationBound::of(&halved, halved.len()).expect("a row").is_safe());
            }
        }
    }
}
