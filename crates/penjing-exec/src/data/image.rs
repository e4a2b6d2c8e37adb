//! What is done to one image before a model sees it, on planes of `f32`.

use serde::{Deserialize, Serialize};

/// How a new size is computed. When an image shrinks, every filter stretches so that every pixel counts, as in Pillow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle of radius 1.
    #[default]
    Bilinear,
    /// Cubic convolution of radius 2 with a = −½ (Keys 1981).
    Bicubic,
}

impl Filter {
    /// Where it ends, in pixels of the smaller of the two images.
    fn radius(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    /// Its height at `x` from its centre, |x| within the radius.
    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::Bicubic => 0.0,
        }
    }
}

/// One image: planes [C, H, W].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planes {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
    /// Whole numbers from 0 to 255, which stay so: each step rounds, as in Pillow, and cuts off what a filter overshoots.
    pub(super) octets: bool,
}

impl Planes {
    pub(super) fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// The whole image in another size.
    pub(super) fn resized(self, height: usize, width: usize, filter: Filter) -> Planes {
        // Along each row first and then along each column, as the filter is a product of the two.
        self.widened(width, filter).heightened(height, filter)
    }

    fn widened(self, width: usize, filter: Filter) -> Planes {
        if width == self.width {
            return self;
        }
        let values = resample(&self.values, self.channels * self.height, self.width, 1, width, filter);
        Planes { width, values, ..self }.rounded()
    }

    fn heightened(self, height: usize, filter: Filter) -> Planes {
        if height == self.height {
            return self;
        }
        let values = resample(&self.values, self.channels, self.height, self.width, height, filter);
        Planes { height, values, ..self }.rounded()
    }

    fn rounded(mut self) -> Planes {
        if self.octets {
            self.values.iter_mut().for_each(|v| *v = (*v + 0.5).floor().clamp(0.0, 255.0));
        }
        self
    }

    /// The part of that size in the middle, where it fits.
    pub(super) fn cropped(self, height: usize, width: usize) -> Planes {
        let (top, left) = ((self.height - height) / 2, (self.width - width) / 2);
        let mut values = Vec::with_capacity(self.channels * height * width);
        for row in (0..self.channels).flat_map(|c| (top..top + height).map(move |y| c * self.height + y)) {
            values.extend_from_slice(&self.values[row * self.width + left..][..width]);
        }
        Planes { height, width, values, ..self }
    }

    /// Grey → RGB repeats the plane; RGB → grey is luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).
    pub(super) fn with_channels(self, channels: usize) -> Planes {
        let plane = self.height * self.width;
        let values = match (self.channels, channels) {
            (1, 3) => self.values.repeat(3),
            (3, 1) => {
                (0..plane).map(|i| 0.299 * self.values[i] + 0.587 * self.values[plane + i] + 0.114 * self.values[2 * plane + i]).collect()
            }
            _ => return self,
        };
        Planes { channels, values, ..self }.rounded()
    }
}

/// Resamples the middle axis of [outer, from, inner] to `to` positions.
fn resample(values: &[f32], outer: usize, from: usize, inner: usize, to: usize, filter: Filter) -> Vec<f32> {
    let step = from as f64 / to as f64;
    let stretch = step.max(1.0);
    let reach = filter.radius() * stretch;
    let taps: Vec<(usize, Vec<f32>)> = (0..to)
        .map(|o| {
            let centre = (o as f64 + 0.5) * step;
            let first = (centre - reach).floor().max(0.0) as usize;
            let last = ((centre + reach).ceil() as usize).min(from);
            let weights: Vec<f64> = (first..last).map(|i| filter.weight((i as f64 + 0.5 - centre) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|w| (w / sum) as f32).collect())
        })
        .collect();
    let mut out = vec![0.0; outer * to * inner];
    for (block, source) in out.chunks_exact_mut(to * inner).zip(values.chunks_exact(from * inner)) {
        for (row, (first, weights)) in block.chunks_exact_mut(inner).zip(&taps) {
            for (weight, line) in weights.iter().zip(source[first * inner..].chunks_exact(inner)) {
                for (sum, value) in row.iter_mut().zip(line) {
                    *sum += weight * value;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grey(height: usize, width: usize, values: &[f32]) -> Planes {
        Planes { channels: 1, height, width, values: values.to_vec(), octets: false }
    }

    #[test]
    fn shrinking_by_two_weighs_the_neighbours() {
        // Centre 1, reach 2: weights 3/4, 3/4, 1/4 on pixels 0, 1, 2; sum 7/4.
        let small = grey(1, 4, &[0.0, 7.0, 14.0, 21.0]).resized(1, 2, Filter::Bilinear);
        assert_eq!(small.values, [(0.75 * 7.0 + 0.25 * 14.0) / 1.75, (0.25 * 7.0 + 0.75 * 14.0 + 0.75 * 21.0) / 1.75]);
    }

    #[test]
    fn growing_interpolates_between_centres() {
        // Centres of the new pixels stand at 1/4, 3/4, 5/4, 7/4 of the old ones, whose centres are 1/2 and 3/2.
        let wide = grey(1, 2, &[0.0, 4.0]).resized(1, 4, Filter::Bilinear);
        assert_eq!(wide.values, [0.0, 1.0, 3.0, 4.0]);
        let tall = grey(2, 1, &[0.0, 4.0]).resized(4, 1, Filter::Bilinear);
        assert_eq!(tall.values, [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn bicubic_overshoots_and_octets_cut_it_off() {
        // At 1/4 before pixel 1: weights −0.0234, 0.2266, 0.8672, −0.0703 on pixels −1 to 2; −1 is missing, so they are divided by their sum.
        let edge = [0.0, 255.0, 255.0, 255.0];
        let at_pixel_1 = 255.0 * (0.867_187_5 - 0.070_312_5) / (0.867_187_5 - 0.070_312_5 + 0.226_562_5);
        let smooth = grey(1, 4, &edge).resized(1, 8, Filter::Bicubic);
        assert!((smooth.values[2] - at_pixel_1).abs() < 1e-3, "{smooth:?}");
        assert!(smooth.values.iter().any(|v| *v > 255.0));
        let bytes = Planes { octets: true, ..grey(1, 4, &edge) }.resized(1, 8, Filter::Bicubic);
        assert_eq!(bytes.values, smooth.values.iter().map(|v| v.round().clamp(0.0, 255.0)).collect::<Vec<_>>());
    }

    #[test]
    fn the_middle_is_cut_out() {
        let image = Planes { channels: 2, height: 3, width: 3, values: (0..18).map(|v| v as f32).collect(), octets: true };
        assert_eq!(image.cropped(1, 2).values, [3.0, 4.0, 12.0, 13.0]);
    }

    #[test]
    fn grey_and_colour() {
        assert_eq!(grey(1, 2, &[1.0, 2.0]).with_channels(3).values, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let rgb = Planes { channels: 3, height: 1, width: 1, values: vec![100.0, 10.0, 1.0], octets: false };
        assert_eq!(rgb.clone().with_channels(1).values, [29.9 + 5.87 + 0.114]);
        assert_eq!(Planes { octets: true, ..rgb }.with_channels(1).values, [36.0]);
    }

    proptest! {
        #[test]
        fn a_flat_image_stays_flat(h in 1usize..20, w in 1usize..20, to_h in 1usize..20, to_w in 1usize..20, cubic: bool) {
            let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
            let image = grey(h, w, &vec![3.0; h * w]).resized(to_h, to_w, filter);
            prop_assert_eq!(image.shape(), [1, to_h, to_w]);
            prop_assert!(image.values.iter().all(|v| (v - 3.0).abs() < 1e-5));
        }
    }
}
