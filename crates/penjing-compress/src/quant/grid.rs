//! The numbers that codes stand for: scale · (code − zero point).

use super::number::{Codes, Format};
use super::{Range, Scheme, Symmetry};

/// The scale where all values are zero. Any positive one stands for zero exactly; this one leaves a bias that is stored with the same
/// scale about as fine as one beside weights up to 1, where 1 would round it to whole steps of the input's scale.
pub const ALL_ZERO_SCALE: f32 = 1.0 / 128.0;

/// The smallest scale: smaller ones are subnormal, which some processors take for zero.
const SMALLEST_SCALE: f32 = f32::MIN_POSITIVE;

/// One scale and one zero point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of neighbouring codes: positive, normal and finite. For floats, what they are multiplied by.
    pub scale: f32,
    /// The code of zero; 0 for floats.
    pub zero_point: i32,
}

impl Grid {
    /// The grid that holds `range` and zero, so that no value in the range is further than half a step from it.
    ///
    /// Symmetric: scale = max |x| / half of the codes. Asymmetric: scale = (max − min) / all of the codes, zero point = lowest code −
    /// min / scale rounded half to even, and the scale widened by what that rounding took from either end.
    pub fn new(scheme: &Scheme, range: Range) -> Grid {
        let range = range.with_zero();
        let extent = f64::from(range.abs_max());
        match scheme.format() {
            Format::Integer(codes) => match scheme.symmetry {
                Symmetry::Asymmetric if extent == 0.0 => Grid { scale: ALL_ZERO_SCALE, zero_point: codes.low },
                Symmetry::Asymmetric => Grid::asymmetric(codes, range),
                Symmetry::Symmetric => {
                    Grid { scale: usable(extent / f64::from(codes.half()), codes.half() as f32), zero_point: codes.middle() }
                }
            },
            Format::Float(format) if format.saturates() => {
                Grid { scale: usable(extent / f64::from(format.largest()), format.largest()), zero_point: 0 }
            }
            Format::Float(_) => Grid { scale: 1.0, zero_point: 0 },
        }
    }

    fn asymmetric(codes: Codes, range: Range) -> Grid {
        let (min, max) = (f64::from(range.min), f64::from(range.max));
        let step = ((max - min) / f64::from(codes.steps())).max(f64::from(SMALLEST_SCALE));
        let below = (-min / step).round_ties_even().min(f64::from(codes.steps())) as i32;
        let above = codes.steps() - below;
        // An end without codes has to lie within half a step of zero.
        let needed = |distance: f64, steps: i32| if steps == 0 { 2.0 * distance } else { distance / f64::from(steps) };
        let step = needed(-min, below).max(needed(max, above)).max(f64::from(SMALLEST_SCALE));
        Grid { scale: usable(step, below.max(above) as f32), zero_point: codes.low + below }
    }
}

/// A step as a scale that can be used: positive and normal, its largest multiple finite.
fn usable(step: f64, largest: f32) -> f32 {
    if step == 0.0 {
        return ALL_ZERO_SCALE;
    }
    let scale = (step as f32).max(SMALLEST_SCALE);
    if (scale * largest).is_finite() { scale } else { scale.next_down() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Granularity, Number};

    fn grid(number: Number, symmetry: Symmetry, min: f32, max: f32) -> Grid {
        Grid::new(&Scheme::new(number, Granularity::Tensor, symmetry), Range { min, max })
    }

    #[test]
    fn symmetric_by_hand() {
        let symmetric = |number, min, max| grid(number, Symmetry::Symmetric, min, max);
        assert_eq!(symmetric(Number::Int8, -254.0, 100.0), Grid { scale: 2.0, zero_point: 0 });
        assert_eq!(symmetric(Number::Uint8, -254.0, 100.0), Grid { scale: 2.0, zero_point: 128 });
        assert_eq!(symmetric(Number::Int4, 1.0, 3.5), Grid { scale: 0.5, zero_point: 0 });
        assert_eq!(symmetric(Number::Int2, -0.25, 0.0), Grid { scale: 0.25, zero_point: 0 });
        assert_eq!(symmetric(Number::Float8E4M3Fn, -224.0, 3.0), Grid { scale: 0.5, zero_point: 0 });
        assert_eq!(symmetric(Number::Float16, -224.0, 3.0), Grid { scale: 1.0, zero_point: 0 });
    }

    #[test]
    fn asymmetric_by_hand() {
        let asymmetric = |number, min, max| grid(number, Symmetry::Asymmetric, min, max);
        // After a ReLU all codes are for what is positive.
        assert_eq!(asymmetric(Number::Uint8, 0.0, 510.0), Grid { scale: 2.0, zero_point: 0 });
        assert_eq!(asymmetric(Number::Int8, 0.0, 510.0), Grid { scale: 2.0, zero_point: -128 });
        assert_eq!(asymmetric(Number::Uint8, 5.0, 510.0), Grid { scale: 2.0, zero_point: 0 });
        assert_eq!(asymmetric(Number::Uint8, -255.0, 0.0), Grid { scale: 1.0, zero_point: 255 });
        assert_eq!(asymmetric(Number::Uint4, -5.0, 10.0), Grid { scale: 1.0, zero_point: 5 });
        // step 1/3, −min/step = 1.5 → 2, which leaves 1 code for 0.5 above: the scale grows from 1/3 to 1/2.
        assert_eq!(asymmetric(Number::Uint2, -0.5, 0.5), Grid { scale: 0.5, zero_point: 2 });
    }

    #[test]
    fn degenerate_ranges_have_a_positive_normal_scale() {
        for number in Number::all() {
            for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
                let all_zero = grid(number, symmetry, 0.0, 0.0);
                assert_eq!(all_zero.scale, if number.scaled() { ALL_ZERO_SCALE } else { 1.0 }, "{number}");
                for (min, max) in [(1e-45, 1e-45), (-1e-40, 0.0), (7.0, 7.0), (f32::MIN, f32::MAX), (0.0, f32::MAX), (-1e-45, f32::MAX)] {
                    let Grid { scale, .. } = grid(number, symmetry, min, max);
                    assert!(scale.is_normal() && scale > 0.0, "{number} {symmetry} {min} {max}: {scale}");
                }
            }
        }
    }
}
