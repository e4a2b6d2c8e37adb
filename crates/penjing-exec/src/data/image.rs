//! What is done to one image before a model sees it, on planes of `f32`.

/// One image: planes [C, H, W].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planes {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

impl Planes {
    pub(super) fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Triangle filter, stretched when shrinking so that every pixel counts: what Pillow calls bilinear.
    pub(super) fn resized(self, height: usize, width: usize) -> Planes {
        if (height, width) == (self.height, self.width) {
            return self;
        }
        // Rows first and then columns, as the filter is a product of the two.
        let across = resample(&self.values, self.channels * self.height, self.width, 1, width);
        let values = resample(&across, self.channels, self.height, width, height);
        Planes { height, width, values, ..self }
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
        Planes { channels, values, ..self }
    }
}

/// Resamples the middle axis of [outer, from, inner] to `to` positions.
fn resample(values: &[f32], outer: usize, from: usize, inner: usize, to: usize) -> Vec<f32> {
    let step = from as f32 / to as f32;
    let reach = step.max(1.0);
    let taps: Vec<(usize, Vec<f32>)> = (0..to)
        .map(|o| {
            let centre = (o as f32 + 0.5) * step;
            let first = (centre - reach).floor().max(0.0) as usize;
            let last = ((centre + reach).ceil() as usize).min(from);
            let weights: Vec<f32> = (first..last).map(|i| (1.0 - (i as f32 + 0.5 - centre).abs() / reach).max(0.0)).collect();
            let sum: f32 = weights.iter().sum();
            (first, weights.into_iter().map(|w| w / sum).collect())
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
        Planes { channels: 1, height, width, values: values.to_vec() }
    }

    #[test]
    fn shrinking_by_two_weighs_the_neighbours() {
        // Centre 1, reach 2: weights 3/4, 3/4, 1/4 on pixels 0, 1, 2; sum 7/4.
        let small = grey(1, 4, &[0.0, 7.0, 14.0, 21.0]).resized(1, 2);
        assert_eq!(small.values, [(0.75 * 7.0 + 0.25 * 14.0) / 1.75, (0.25 * 7.0 + 0.75 * 14.0 + 0.75 * 21.0) / 1.75]);
    }

    #[test]
    fn growing_interpolates_between_centres() {
        // Centres of the new pixels stand at 1/4, 3/4, 5/4, 7/4 of the old ones, whose centres are 1/2 and 3/2.
        let wide = grey(1, 2, &[0.0, 4.0]).resized(1, 4);
        assert_eq!(wide.values, [0.0, 1.0, 3.0, 4.0]);
        let tall = grey(2, 1, &[0.0, 4.0]).resized(4, 1);
        assert_eq!(tall.values, [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn the_middle_is_cut_out() {
        let image = Planes { channels: 2, height: 3, width: 3, values: (0..18).map(|v| v as f32).collect() };
        assert_eq!(image.cropped(1, 2).values, [3.0, 4.0, 12.0, 13.0]);
    }

    #[test]
    fn grey_and_colour() {
        assert_eq!(grey(1, 2, &[1.0, 2.0]).with_channels(3).values, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let rgb = Planes { channels: 3, height: 1, width: 1, values: vec![100.0, 10.0, 1.0] };
        assert_eq!(rgb.with_channels(1).values, [29.9 + 5.87 + 0.114]);
    }

    proptest! {
        #[test]
        fn a_flat_image_stays_flat(h in 1usize..20, w in 1usize..20, to_h in 1usize..20, to_w in 1usize..20) {
            let image = grey(h, w, &vec![3.0; h * w]).resized(to_h, to_w);
            prop_assert_eq!(image.shape(), [1, to_h, to_w]);
            prop_assert!(image.values.iter().all(|v| (v - 3.0).abs() < 1e-5));
        }
    }
}
