//! Seeded changes of training images that keep their class.

use std::fmt;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::image::Planes;
use super::random::{Purpose, random};

/// What may happen to an image of the training split, drawn anew in each epoch. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Augment {
    /// Left and right change places in half of the images.
    pub flip: bool,
    /// The image moves by up to this many pixels each way; black comes in (He et al. 2016 use 4 on CIFAR).
    pub crop_padding: usize,
    /// Side of a square set to zero after normalisation, its centre anywhere in the image (DeVries and Taylor 2017: 16 on CIFAR-10).
    pub cutout: usize,
}

impl Augment {
    /// Whether nothing happens.
    pub fn is_none(&self) -> bool {
        *self == Augment::default()
    }

    /// Changes an image that is normalised already. `black`: what 0 became, by channel. The draw depends on the three numbers only.
    pub(super) fn apply(&self, image: &mut Planes, black: impl Fn(usize) -> f32, seed: u64, epoch: u64, sample: u64) {
        let mut random = random(seed, epoch, sample, Purpose::Augment);
        // All are drawn, used or not, so that switching one on leaves the others as they were.
        let flip: bool = random.random();
        let [down, right, y, x] = [(); 4].map(|()| random.random::<f64>());
        if self.flip && flip {
            image.values.chunks_exact_mut(image.width).for_each(<[f32]>::reverse);
        }
        if self.crop_padding > 0 {
            let offset = |draw: f64| (draw * (2 * self.crop_padding + 1) as f64) as isize - self.crop_padding as isize;
            shift(image, offset(down), offset(right), black);
        }
        if self.cutout > 0 {
            cut_out(image, (y * image.height as f64) as usize, (x * image.width as f64) as usize, self.cutout);
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut changes = vec![];
        changes.extend(self.flip.then(|| "flip".to_string()));
        changes.extend((self.crop_padding > 0).then(|| format!("shift by up to {} pixels", self.crop_padding)));
        changes.extend((self.cutout > 0).then(|| format!("cut out {0}×{0}", self.cutout)));
        f.write_str(&if changes.is_empty() { "none".into() } else { changes.join(", ") })
    }
}

/// Moves every pixel `down` and `right`.
fn shift(image: &mut Planes, down: isize, right: isize, black: impl Fn(usize) -> f32) {
    let (height, width) = (image.height, image.width);
    let plane = height * width;
    let mut moved = Vec::with_capacity(image.values.len());
    for (channel, values) in image.values.chunks_exact(plane).enumerate() {
        let black = black(channel);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let (from_y, from_x) = (y.wrapping_add_signed(-down), x.wrapping_add_signed(-right));
            moved.push(if from_y < height && from_x < width { values[from_y * width + from_x] } else { black });
        }
    }
    image.values = moved;
}

/// Sets the part of a square that lies in the image to zero.
fn cut_out(image: &mut Planes, y: usize, x: usize, side: usize) {
    let span = |centre: usize, end: usize| centre.saturating_sub(side / 2)..(centre + side.div_ceil(2)).min(end);
    let (rows, columns) = (span(y, image.height), span(x, image.width));
    for plane in image.values.chunks_exact_mut(image.height * image.width) {
        for row in rows.clone() {
            plane[row * image.width..][columns.clone()].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image() -> Planes {
        Planes { channels: 1, height: 2, width: 3, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], octets: false }
    }

    #[test]
    fn shifts_bring_in_black() {
        let mut moved = image();
        shift(&mut moved, 1, -1, |_| -9.0);
        assert_eq!(moved.values, [-9.0, -9.0, -9.0, 2.0, 3.0, -9.0]);
    }

    #[test]
    fn cutouts_are_clipped_at_the_border() {
        let mut cut = image();
        cut_out(&mut cut, 0, 2, 2);
        assert_eq!(cut.values, [1.0, 0.0, 0.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn half_of_the_images_are_flipped() {
        let flips = (0..1000).filter(|sample| {
            let mut flipped = image();
            Augment { flip: true, ..Augment::default() }.apply(&mut flipped, |_| 0.0, 7, 0, *sample);
            assert!(flipped == image() || flipped.values == [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
            flipped != image()
        });
        assert!((430..570).contains(&flips.count())); // within 4.4 standard deviations of 500
    }

    proptest! {
        #[test]
        fn the_draw_depends_on_seed_epoch_and_sample_only(seed: u64, epoch: u64, sample: u64, crop_padding in 0usize..4, cutout in 0usize..4) {
            let augment = Augment { flip: true, crop_padding, cutout };
            let [mut a, mut b] = [image(), image()];
            augment.apply(&mut a, |_| 0.0, seed, epoch, sample);
            augment.apply(&mut b, |_| 0.0, seed, epoch, sample);
            prop_assert_eq!(a, b);
        }
    }
}
