//! Samples as the files hold them, read one by one when they are needed.

use std::fs;
use std::path::{Path, PathBuf};

use ::image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits};
use rayon::prelude::*;

use super::array::Array;
use super::bounded::DEFLATE_LIMIT;
use super::image::Planes;
use super::inputs::Inputs;
use super::preprocess::{Preprocess, Resize};
use crate::ExecError;

/// Longest side of an image that is decoded: larger than any photograph, small enough for memory.
const LARGEST_SIDE: u32 = 1 << 16;
/// Octets that one bit can become: an entry of a palette in 1-bit PNG, RGB with 8 bits each, is 24 times as long.
const PALETTE_LIMIT: u64 = 32;

/// Where the samples are. Arrays stand one after the other.
#[derive(Debug)]
pub(super) enum Samples {
    /// 8-bit images [N, C, H, W].
    Pixels(Vec<Array>),
    /// Numbers [N, …], taken as they are.
    Numbers(Vec<Array>),
    /// Encoded images, one a file.
    Files(Vec<PathBuf>),
    /// An array for each input of a model.
    Inputs(Inputs),
}

/// One sample before preprocessing.
#[derive(Debug)]
pub(super) enum Sample {
    Image(Planes),
    Numbers(Vec<f32>),
}

impl Samples {
    pub(super) fn len(&self) -> usize {
        match self {
            Samples::Pixels(arrays) | Samples::Numbers(arrays) => arrays.iter().map(Array::len).sum(),
            Samples::Files(files) => files.len(),
            Samples::Inputs(inputs) => inputs.len(),
        }
    }

    /// Whether they are images of 8 bits a channel.
    pub(super) fn are_pixels(&self) -> bool {
        match self {
            Samples::Pixels(_) | Samples::Files(_) => true,
            Samples::Numbers(_) | Samples::Inputs(_) => false,
        }
    }

    /// What brings images to a model's [C, H, W]. Arrays of numbers are taken as they are; one [H, W] is a grey image for a model of those.
    pub(super) fn fitting(&self, shape: [usize; 3]) -> Preprocess {
        let [channels, height, width] = shape;
        let whole = Preprocess { resize: Some(Resize::Exact([height, width])), channels: Some(channels), ..Preprocess::default() };
        match self {
            _ if whole.check().is_err() => Preprocess::default(),
            // Photographs differ in size among themselves, so nothing can be left out.
            Samples::Files(_) => whole,
            Samples::Pixels(arrays) => {
                let own = &arrays[0].dims()[1..];
                Preprocess {
                    resize: whole.resize.filter(|_| own[1..] != shape[1..]),
                    channels: whole.channels.filter(|_| own[0] != channels),
                    ..whole
                }
            }
            Samples::Numbers(arrays) if channels == 1 && arrays[0].dims()[1..] == [height, width] => Preprocess { resize: None, ..whole },
            Samples::Numbers(_) | Samples::Inputs(_) => Preprocess::default(),
        }
    }

    /// Shape of every sample once `preprocess` is done; images of differing sizes must become equal by it.
    pub(super) fn shape_after(&self, preprocess: &Preprocess, path: &Path) -> Result<Vec<usize>, ExecError> {
        let after = |shape: [usize; 3], path: &Path| preprocess.image_shape(shape).map_err(|reason| ExecError::data(path, reason));
        match self {
            Samples::Pixels(arrays) => after(image_dims(&arrays[0].dims()[1..]).unwrap_or_default(), path).map(Vec::from),
            Samples::Numbers(arrays) if preprocess.needs_images() => {
                let dims = &arrays[0].dims()[1..];
                let shape = image_dims(dims).ok_or_else(|| {
                    let hint = "(hint: images are [channels, height, width] or [height, width])";
                    ExecError::data(path, format!("the preprocessing is for images, but a sample has the shape {dims:?} {hint}"))
                })?;
                after(shape, path).map(Vec::from)
            }
            Samples::Numbers(arrays) => {
                preprocess.image_shape([1, 1, 1]).map_err(|reason| ExecError::data(path, reason))?;
                Ok(arrays[0].dims()[1..].to_vec())
            }
            Samples::Inputs(_) if *preprocess != Preprocess::default().resolved(false) => {
                let reason = "holds an array for each input, which is taken as it is (hint: --preprocess none)";
                Err(ExecError::data(path, reason))
            }
            Samples::Inputs(inputs) => Ok(inputs.shape().to_vec()),
            Samples::Files(files) => {
                let first = after(file_shape(&files[0])?, &files[0])?;
                if !(preprocess.fixes_size() && preprocess.channels.is_some()) {
                    files.par_iter().try_for_each(|file| match after(file_shape(file)?, file)? {
                        shape if shape == first => Ok(()),
                        shape => Err(differs(file, shape, &first)),
                    })?;
                }
                Ok(first.to_vec())
            }
        }
    }

    /// The arrays of each input, where there are any.
    pub(super) fn inputs(&self) -> Option<&Inputs> {
        match self {
            Samples::Inputs(inputs) => Some(inputs),
            Samples::Pixels(_) | Samples::Numbers(_) | Samples::Files(_) => None,
        }
    }

    /// Sample `index`; an image if `as_image` or if it always is one.
    pub(super) fn load(&self, index: usize, as_image: bool) -> Result<Sample, ExecError> {
        let (arrays, as_image) = match self {
            Samples::Files(files) => return decode(&files[index]).map(Sample::Image),
            Samples::Pixels(arrays) => (arrays, true),
            Samples::Numbers(arrays) => (arrays, as_image),
            Samples::Inputs(_) => unreachable!("the arrays of several inputs are read batch by batch"),
        };
        let (array, index) = locate(arrays, index);
        let values = array.sample(index)?;
        Ok(match image_dims(&array.dims()[1..]).filter(|_| as_image) {
            Some([channels, height, width]) => Sample::Image(Planes { channels, height, width, values, octets: self.are_pixels() }),
            None => Sample::Numbers(values),
        })
    }

    /// What errors about sample `index` name.
    pub(super) fn origin(&self, index: usize) -> &Path {
        match self {
            Samples::Pixels(arrays) | Samples::Numbers(arrays) => locate(arrays, index).0.path(),
            Samples::Files(files) => &files[index],
            Samples::Inputs(inputs) => inputs.origin(),
        }
    }
}

/// An image that does not become what the first one does.
pub(super) fn differs(file: &Path, shape: [usize; 3], first: &[usize]) -> ExecError {
    let hint = "(hint: bring them to one size by `--preprocess` with `resize = [height, width]`, to one kind with `channels`)";
    ExecError::data(file, format!("is an image of {shape:?}, but the first of the set is {first:?} {hint}"))
}

pub(super) fn locate(arrays: &[Array], mut index: usize) -> (&Array, usize) {
    for array in arrays {
        if index < array.len() {
            return (array, index);
        }
        index -= array.len();
    }
    unreachable!("the index is smaller than the number of samples")
}

/// [C, H, W] of an array's sample, if it can be an image.
fn image_dims(dims: &[usize]) -> Option<[usize; 3]> {
    match *dims {
        [h, w] => Some([1, h, w]),
        [c, h, w] => Some([c, h, w]),
        _ => None,
    }
}

fn reader(path: &Path) -> Result<impl ImageDecoder, ExecError> {
    let stored = fs::metadata(path).map_err(ExecError::reading(path))?.len();
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(ExecError::reading(path))?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(LARGEST_SIDE), Some(LARGEST_SIDE));
    reader.limits(limits.clone());
    let decoder = reader.into_decoder().map_err(|e| not_an_image(path, &e))?;
    let ((width, height), octets) = (decoder.dimensions(), decoder.total_bytes());
    if octets > stored.saturating_mul(DEFLATE_LIMIT * PALETTE_LIMIT) || limits.reserve(octets).is_err() {
        return Err(ExecError::data(path, format!("declares {width}×{height} pixels in a file of {stored} octets")));
    }
    Ok(decoder)
}

fn not_an_image(path: &Path, e: &::image::ImageError) -> ExecError {
    ExecError::data(path, format!("cannot be decoded as PNG or JPEG: {e}"))
}

fn channels(color: ColorType) -> usize {
    if color.has_color() { 3 } else { 1 }
}

/// [C, H, W] from the header alone.
fn file_shape(path: &Path) -> Result<[usize; 3], ExecError> {
    let decoder = reader(path)?;
    let (width, height) = decoder.dimensions();
    Ok([channels(decoder.color_type()), height as usize, width as usize])
}

/// Grey or RGB, 8 bits a channel; transparency is left out.
fn decode(path: &Path) -> Result<Planes, ExecError> {
    let image = DynamicImage::from_decoder(reader(path)?).map_err(|e| not_an_image(path, &e))?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let channels = channels(image.color());
    let interleaved = if channels == 3 { image.into_rgb8().into_raw() } else { image.into_luma8().into_raw() };
    let plane = |c: usize| interleaved.iter().skip(c).step_by(channels).map(|v| f32::from(*v));
    Ok(Planes { channels, height, width, values: (0..channels).flat_map(plane).collect(), octets: true })
}
