//! Floats to codes and back.

use super::fit::{Fit, ranges};
use super::layout::{Layout, Segment};
use super::number::Format;
use super::{Grid, QuantError, Range, Scheme};

/// A scheme with its scales and zero points, for tensors of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantizer {
    scheme: Scheme,
    layout: Layout,
    scales: Vec<f32>,
    zero_points: Vec<i32>,
    all_zero: Vec<usize>,
}

impl Quantizer {
    /// For a tensor of shape `dims` of which each group of elements that shares a scale lies in its range: one for a tensor, one for
    /// each channel, or one for each block in row-major order of [`Quantizer::scale_dims`]. Per tensor, `dims` do not matter.
    ///
    /// # Errors
    /// When the axis or the number of ranges does not fit the shape, or an end is not finite.
    pub fn new(scheme: Scheme, dims: &[usize], ranges: &[Range]) -> Result<Quantizer, QuantError> {
        let layout = Layout::new(scheme.granularity, dims)?;
        if ranges.len() != layout.groups() {
            return Err(QuantError::Length { what: "ranges", given: ranges.len(), expected: layout.groups() });
        }
        if let Some(first) = ranges.iter().position(|range| !(range.min.is_finite() && range.max.is_finite())) {
            return Err(QuantError::NotFinite { count: 1, total: ranges.len(), first });
        }
        let grids = ranges.iter().map(|range| Grid::new(&scheme, *range));
        let (scales, zero_points) = grids.map(|grid| (grid.scale, grid.zero_point)).unzip();
        let all_zero = ranges.iter().enumerate().filter(|(_, range)| range.abs_max() == 0.0).map(|(group, _)| group).collect();
        Ok(Quantizer { scheme, layout, scales, zero_points, all_zero })
    }

    /// For the values of a tensor of shape `dims`.
    ///
    /// # Errors
    /// When they do not fit the shape or are not finite, or the axis does not exist.
    pub fn fit(scheme: Scheme, dims: &[usize], values: &[f32], fit: Fit) -> Result<Quantizer, QuantError> {
        let layout = Layout::new(scheme.granularity, dims)?;
        Quantizer::new(scheme, dims, &ranges(&scheme, &layout, values, fit)?)
    }

    /// The scheme.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// One for each group, positive and normal.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The code of zero in each group.
    pub fn zero_points(&self) -> &[i32] {
        &self.zero_points
    }

    /// The least number that a code of the first scale stands for.
    pub fn least(&self) -> f32 {
        let least = match self.scheme.format() {
            Format::Integer(codes) => (codes.low - self.zero_points[0]) as f32,
            Format::Float(format) => -format.largest(),
        };
        self.scales[0] * least
    }

    /// The same codes for values of which each group is multiplied with a factor, or all with one; where groups are fewer than factors, with
    /// the largest |factor|. A factor of zero leaves the scale as it is.
    #[must_use]
    pub fn scaled(&self, factors: &[f32]) -> Quantizer {
        let largest = factors.iter().fold(0.0f32, |m, f| m.max(f.abs()));
        let factor = |group: usize| if factors.len() == self.scales.len() { factors[group].abs() } else { largest };
        let scaled = |(group, scale): (usize, &f32)| match scale * factor(group) {
            scaled if scaled.is_normal() => scaled,
            _ => *scale,
        };
        Quantizer { scales: self.scales.iter().enumerate().map(scaled).collect(), ..self.clone() }
    }

    /// Dimensions of scales and zero points as QuantizeLinear-21 has them: [] per tensor, [C] per channel, per block those of the tensor
    /// with that of the axis divided by the size, rounded up.
    pub fn scale_dims(&self) -> Vec<usize> {
        self.layout.scale_dims()
    }

    /// The groups of which all values are zero, and whose scale is therefore a convention: [`super::ALL_ZERO_SCALE`].
    pub fn all_zero(&self) -> &[usize] {
        &self.all_zero
    }

    /// The codes of `values`, as QuantizeLinear gives them: integers, or the bits of floats.
    ///
    /// # Errors
    /// When the values do not fit the shape, are not finite, or are beyond the largest float16 or bfloat16.
    pub fn quantize(&self, values: &[f32]) -> Result<Vec<i32>, QuantError> {
        self.check(values)?;
        let mut codes = vec![0; values.len()];
        match self.scheme.format() {
            Format::Integer(used) => self.map(values, &mut codes, |x, scale, zero| used.encode(x / scale, zero)),
            Format::Float(format) => self.map(values, &mut codes, |x, scale, _| format.encode(x / scale)),
        }
        Ok(codes)
    }

    /// The numbers that codes stand for, as DequantizeLinear gives them.
    ///
    /// # Errors
    /// When they do not fit the shape.
    pub fn dequantize(&self, codes: &[i32]) -> Result<Vec<f32>, QuantError> {
        self.layout.check(codes.len())?;
        let mut values = vec![0.0; codes.len()];
        match self.scheme.format() {
            Format::Integer(_) => self.map(codes, &mut values, |code, scale, zero| (code - zero) as f32 * scale),
            Format::Float(format) => self.map(codes, &mut values, |code, scale, _| format.decode(code) * scale),
        }
        Ok(values)
    }

    /// Replaces values by those that their codes stand for.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`]; the values are then as they were.
    pub fn fake_quantize(&self, values: &mut [f32]) -> Result<(), QuantError> {
        self.check(values)?;
        match self.scheme.format() {
            Format::Integer(codes) => self.update(values, |x, scale, zero| codes.round(x / scale, zero) * scale),
            Format::Float(format) => self.update(values, |x, scale, _| format.round(x / scale) * scale),
        }
        Ok(())
    }

    fn check(&self, values: &[f32]) -> Result<(), QuantError> {
        self.layout.check(values.len())?;
        let range = Range::of(values)?;
        let number = self.scheme.number;
        if let Format::Float(format) = self.scheme.format()
            && !format.saturates()
            && range.is_some_and(|range| format.round(range.abs_max()).is_infinite())
            && let Some(index) = values.iter().position(|x| format.round(*x).is_infinite())
        {
            return Err(QuantError::Overflow { number, index, value: values[index] });
        }
        Ok(())
    }

    /// Sets each element of `to` to `f` of that of `from`, its scale and its zero point.
    #[inline(always)]
    fn map<A: Copy, B>(&self, from: &[A], to: &mut [B], f: impl Fn(A, f32, i32) -> B) {
        for segment in self.layout.segments(from.len()) {
            match segment {
                Segment::One { values, group } => {
                    let (scale, zero) = (self.scales[group], self.zero_points[group]);
                    to[values.clone()].iter_mut().zip(&from[values]).for_each(|(to, from)| *to = f(*from, scale, zero));
                }
                Segment::Each { values, groups } => {
                    let grids = self.scales[groups.clone()].iter().zip(&self.zero_points[groups]);
                    let elements = to[values.clone()].iter_mut().zip(&from[values]);
                    elements.zip(grids).for_each(|((to, from), (scale, zero))| *to = f(*from, *scale, *zero));
                }
            }
        }
    }

    /// The same in place.
    #[inline(always)]
    fn update(&self, all: &mut [f32], f: impl Fn(f32, f32, i32) -> f32) {
        for segment in self.layout.segments(all.len()) {
            match segment {
                Segment::One { values, group } => {
                    let (scale, zero) = (self.scales[group], self.zero_points[group]);
                    all[values].iter_mut().for_each(|x| *x = f(*x, scale, zero));
                }
                Segment::Each { values, groups } => {
                    let grids = self.scales[groups.clone()].iter().zip(&self.zero_points[groups]);
                    all[values].iter_mut().zip(grids).for_each(|(x, (scale, zero))| *x = f(*x, *scale, *zero));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{ALL_ZERO_SCALE, Bits, Granularity, Number, Symmetry};
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn symmetric(number: Number, granularity: Granularity) -> Scheme {
        Scheme::new(number, granularity, Symmetry::Symmetric)
    }

    fn every_scheme() -> impl Iterator<Item = Scheme> {
        Number::all().flat_map(|number| {
            let symmetries = [Symmetry::Symmetric, Symmetry::Asymmetric];
            let widths = [None, Bits::try_from(7).ok(), Bits::try_from(4).ok()];
            let every = symmetries.into_iter().flat_map(move |symmetry| widths.map(|bits| (symmetry, bits)));
            every.map(move |(symmetry, bits)| Scheme { number, granularity: Granularity::Tensor, symmetry, bits })
        })
    }

    #[test]
    fn per_channel_by_hand() {
        // [2, 3]: scales 254/127 = 2 and 12.7/127 = 0.1; the middle channel of the other axis would be [3].
        let w = [-254.0, 3.0, 1.0, 12.7, 0.05, -0.16];
        let int8 = Quantizer::fit(symmetric(Number::Int8, Granularity::Channel { axis: 0 }), &[2, 3], &w, Fit::MinMax).expect("fits");
        assert_eq!((int8.scales(), int8.zero_points(), int8.scale_dims()), (&[2.0, 0.1][..], &[0, 0][..], vec![2]));
        // 1.5 → 2 and 0.5 → 0: half to even.
        let codes = int8.quantize(&w).expect("codes");
        assert_eq!(codes, [-127, 2, 0, 127, 0, -2]);
        assert_eq!(int8.dequantize(&codes).expect("values"), [-254.0, 4.0, 0.0, 127.0 * 0.1, 0.0, -0.2]);
    }

    #[test]
    fn blocks_by_hand() {
        // Columns of [3, 2] in blocks of two rows: {7, 3}, {14, -14}, {1}, {0}.
        let w = [7.0, 14.0, 3.0, -14.0, 1.0, 0.0];
        let int4 =
            Quantizer::fit(symmetric(Number::Int4, Granularity::Block { axis: 0, size: 2 }), &[3, 2], &w, Fit::MinMax).expect("fits");
        assert_eq!(int4.scales(), [1.0, 2.0, 1.0 / 7.0, ALL_ZERO_SCALE]);
        assert_eq!(int4.all_zero(), [3]);
        assert_eq!(int4.quantize(&w).expect("codes"), [7, 7, 3, -7, 7, 0]);
    }

    #[test]
    fn a_channel_of_zeros_has_code_zero_and_says_so() {
        let w = [0.0, -0.0, 1.0, 2.0];
        let int8 = Quantizer::fit(symmetric(Number::Int8, Granularity::Channel { axis: 0 }), &[2, 2], &w, Fit::MinMax).expect("fits");
        assert_eq!((int8.all_zero(), int8.scales()[0]), (&[0usize][..], ALL_ZERO_SCALE));
        assert_eq!(int8.quantize(&w).expect("codes")[..2], [0, 0]);
    }

    #[test]
    fn scaled_values_keep_their_codes() {
        let w = [1.0, -7.0, 3.0, 0.5];
        let int4 = Quantizer::fit(symmetric(Number::Int4, Granularity::Channel { axis: 0 }), &[2, 2], &w, Fit::MinMax).expect("fits");
        let scaled = int4.scaled(&[2.0, -4.0]);
        assert_eq!(scaled.scales(), [2.0, 12.0 / 7.0]);
        assert_eq!(scaled.quantize(&[2.0, -14.0, -12.0, -2.0]).expect("codes"), [1, -7, -7, -1]);
        assert_eq!(int4.scaled(&[0.0, 1.0]), int4);
        let whole = Quantizer::fit(symmetric(Number::Int4, TENSOR), &[4], &w, Fit::MinMax).expect("fits");
        assert_eq!(whole.scaled(&[0.5, -3.0]).scales(), [3.0]);
    }

    #[test]
    fn what_cannot_be_quantized_says_where() {
        let scheme = symmetric(Number::Int8, Granularity::Tensor);
        let refused = Quantizer::fit(scheme, &[3], &[1.0, 2.0, f32::NAN], Fit::MinMax);
        assert_eq!(refused, Err(QuantError::NotFinite { count: 1, total: 3, first: 2 }));
        let half = Quantizer::new(symmetric(Number::Float16, Granularity::Tensor), &[2], &[Range { min: 0.0, max: 1.0 }]).expect("fits");
        assert_eq!(half.quantize(&[65_519.0, 1.0]).expect("fits"), [0x7BFF, 0x3C00]);
        let mut values = [1.0, -65_520.0];
        let refused = half.fake_quantize(&mut values).expect_err("too large");
        assert_eq!(refused, QuantError::Overflow { number: Number::Float16, index: 1, value: -65_520.0 });
        assert_eq!(refused.to_string(), "the 2nd value, -65520, is beyond the largest fp16, 65504 (hint: keep this tensor in float32)");
        let refused = Quantizer::new(scheme, &[3], &[]);
        assert_eq!(refused, Err(QuantError::Length { what: "ranges", given: 0, expected: 1 }));
        assert!(Quantizer::new(scheme, &[1], &[Range { min: f32::NAN, max: 1.0 }]).is_err());
    }

    /// 2¹⁶ numbers of the standard normal distribution, the same each time.
    fn normal_sample() -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut uniform = || (f64::from(random.next_u32()) + 0.5) / 4_294_967_296.0;
        let mut box_muller = || {
            let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
            [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
        };
        (0..1 << 15).flat_map(|_| box_muller()).collect()
    }

    /// √(Σ (x − dq(q(x)))² / n)
    fn rmse(scheme: Scheme, dims: &[usize], values: &[f32], fit: Fit) -> f64 {
        let quantizer = Quantizer::fit(scheme, dims, values, fit).expect("fits");
        let back = quantizer.dequantize(&quantizer.quantize(values).expect("codes")).expect("values");
        let squared: f64 = values.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        (squared / values.len() as f64).sqrt()
    }

    const BLOCK: Granularity = Granularity::Block { axis: 1, size: 32 };
    const CHANNEL: Granularity = Granularity::Channel { axis: 0 };
    const TENSOR: Granularity = Granularity::Tensor;

    const SYMMETRIC: Symmetry = Symmetry::Symmetric;
    const ASYMMETRIC: Symmetry = Symmetry::Asymmetric;

    /// The largest error of 2¹⁶ standard normal numbers as [256, 256].
    const MAX_RMSE: &[(Number, Granularity, Symmetry, Fit, f64)] = &[
        (Number::Int8, TENSOR, SYMMETRIC, Fit::MinMax, 0.0113),
        (Number::Int8, TENSOR, SYMMETRIC, Fit::Mse, 0.00971),
        (Number::Int8, CHANNEL, SYMMETRIC, Fit::MinMax, 0.00697),
        (Number::Int8, CHANNEL, SYMMETRIC, Fit::Mse, 0.00687),
        (Number::Int8, BLOCK, SYMMETRIC, Fit::MinMax, 0.00539),
        (Number::Uint8, TENSOR, ASYMMETRIC, Fit::MinMax, 0.0102),
        (Number::Uint8, TENSOR, ASYMMETRIC, Fit::Mse, 0.00970),
        (Number::Uint8, CHANNEL, ASYMMETRIC, Fit::MinMax, 0.00645),
        (Number::Int16, TENSOR, SYMMETRIC, Fit::MinMax, 0.0000436),
        (Number::Int16, CHANNEL, SYMMETRIC, Fit::MinMax, 0.0000271),
        (Number::Uint16, TENSOR, ASYMMETRIC, Fit::MinMax, 0.0000395),
        (Number::Int4, TENSOR, SYMMETRIC, Fit::MinMax, 0.204),
        (Number::Int4, TENSOR, SYMMETRIC, Fit::Mse, 0.110),
        (Number::Int4, CHANNEL, SYMMETRIC, Fit::MinMax, 0.127),
        (Number::Int4, CHANNEL, SYMMETRIC, Fit::Mse, 0.105),
        (Number::Int4, BLOCK, SYMMETRIC, Fit::MinMax, 0.0976),
        (Number::Int4, BLOCK, SYMMETRIC, Fit::Mse, 0.0866),
        (Number::Uint4, BLOCK, ASYMMETRIC, Fit::MinMax, 0.0831),
        (Number::Uint4, BLOCK, ASYMMETRIC, Fit::Mse, 0.0775),
        (Number::Int2, CHANNEL, SYMMETRIC, Fit::Mse, 0.387),
        (Number::Int2, BLOCK, SYMMETRIC, Fit::MinMax, 0.661),
        (Number::Int2, BLOCK, SYMMETRIC, Fit::Mse, 0.372),
        (Number::Uint2, BLOCK, ASYMMETRIC, Fit::MinMax, 0.521),
        (Number::Uint2, BLOCK, ASYMMETRIC, Fit::Mse, 0.336),
        (Number::Float16, TENSOR, SYMMETRIC, Fit::MinMax, 0.000209),
        (Number::Bfloat16, TENSOR, SYMMETRIC, Fit::MinMax, 0.00167),
        (Number::Float8E4M3Fn, TENSOR, SYMMETRIC, Fit::MinMax, 0.0266),
        (Number::Float8E4M3Fn, CHANNEL, SYMMETRIC, Fit::MinMax, 0.0262),
        (Number::Float8E5M2, TENSOR, SYMMETRIC, Fit::MinMax, 0.0530),
        (Number::Float8E5M2, CHANNEL, SYMMETRIC, Fit::MinMax, 0.0519),
    ];

    #[test]
    fn errors_are_within_their_budget() {
        let sample = normal_sample();
        for (number, granularity, symmetry, fit, budget) in MAX_RMSE {
            let error = rmse(Scheme::new(*number, *granularity, *symmetry), &[256, 256], &sample, *fit);
            assert!(error <= *budget && error > 0.98 * budget, "{number} {granularity} {symmetry} {fit:?}: {error:.6}, not {budget}");
        }
    }

    #[test]
    fn seven_bits_cost_one() {
        let sample = normal_sample();
        let full = symmetric(Number::Int8, TENSOR);
        let reduced = Scheme { bits: Bits::try_from(7).ok(), ..full };
        let ratio = rmse(reduced, &[1], &sample, Fit::MinMax) / rmse(full, &[1], &sample, Fit::MinMax);
        assert!((ratio - 127.0 / 63.0).abs() < 0.02, "{ratio}");
    }

    fn values() -> impl Strategy<Value = Vec<f32>> {
        let magnitude = prop_oneof![Just(1e-42f32), Just(1e-20), Just(1.0), Just(1e4), Just(1e30)];
        let offset = prop_oneof![Just(0.0f32), Just(1.0), Just(-1.0), -2.0f32..2.0];
        (magnitude, offset, prop::collection::vec(-1.0f32..1.0, 1..40))
            .prop_map(|(magnitude, offset, values)| values.into_iter().map(|x| (x + offset) * magnitude).collect())
    }

    proptest! {
        /// In the range a value moves by half a step at most; zero does not move; codes keep their order and are those of the format.
        #[test]
        fn integers_move_by_half_a_step(mut values in values()) {
            values.push(0.0);
            for scheme in every_scheme() {
                let Format::Integer(codes) = scheme.format() else { continue };
                let quantizer = Quantizer::fit(scheme, &[values.len()], &values, Fit::MinMax).expect("fits");
                let quantized = quantizer.quantize(&values).expect("codes");
                let back = quantizer.dequantize(&quantized).expect("values");
                let step = f64::from(quantizer.scales()[0]);
                for ((x, code), y) in values.iter().zip(&quantized).zip(&back) {
                    let room = step / 2.0 + f64::from(x.abs()) * 1e-6;
                    prop_assert!((f64::from(*x) - f64::from(*y)).abs() <= room, "{scheme}: {x} became {y}, step {step}");
                    prop_assert!((codes.low..=codes.high).contains(code), "{scheme}: {code}");
                    prop_assert!(*x != 0.0 || *y == 0.0, "{scheme}: zero became {y}");
                }
                let mut order: Vec<usize> = (0..values.len()).collect();
                order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
                prop_assert!(order.windows(2).all(|pair| quantized[pair[0]] <= quantized[pair[1]]), "{scheme}");
            }
        }

        /// Floats move by half of their last place, subnormals by half of the smallest.
        #[test]
        fn floats_move_by_half_of_their_last_place(values in prop::collection::vec(-300.0f32..300.0, 1..40)) {
            for (number, fraction, smallest) in [
                (Number::Float16, 10, -24), (Number::Bfloat16, 7, -126), (Number::Float8E4M3Fn, 3, -9), (Number::Float8E5M2, 2, -16),
            ] {
                let quantizer = Quantizer::fit(symmetric(number, TENSOR), &[values.len()], &values, Fit::MinMax).expect("fits");
                let back = quantizer.dequantize(&quantizer.quantize(&values).expect("codes")).expect("values");
                let scale = quantizer.scales()[0];
                for (x, y) in values.iter().zip(&back) {
                    let room = (x.abs() * 2f32.powi(-fraction - 1)).max(scale * 2f32.powi(smallest - 1)) * 1.000_01;
                    prop_assert!((x - y).abs() <= room, "{number}: {x} became {y}");
                }
            }
        }

        /// Fake quantization is quantizing and back, and doing it again changes nothing.
        #[test]
        fn fake_quantization_is_idempotent(values in values(), size in 1usize..9) {
            let rows = values.len();
            let doubled: Vec<f32> = values.iter().chain(&values).copied().collect();
            let granularities = [
                TENSOR, Granularity::Channel { axis: 0 }, Granularity::Channel { axis: 1 },
                Granularity::Block { axis: 0, size }, Granularity::Block { axis: 1, size },
            ];
            for (scheme, granularity) in every_scheme().flat_map(|scheme| granularities.map(|granularity| (scheme, granularity))) {
                let scheme = Scheme { granularity, ..scheme };
                let quantizer = Quantizer::fit(scheme, &[rows, 2], &doubled, Fit::MinMax).expect("fits");
                let Ok(codes) = quantizer.quantize(&doubled) else {
                    prop_assert!(!scheme.number.scaled());
                    continue;
                };
                let mut once = doubled.clone();
                quantizer.fake_quantize(&mut once).expect("fits");
                prop_assert_eq!(&quantizer.dequantize(&codes).expect("values"), &once, "{}", scheme);
                let mut twice = once.clone();
                quantizer.fake_quantize(&mut twice).expect("fits");
                prop_assert_eq!(&twice, &once, "{}", scheme);
            }
        }
    }
}
