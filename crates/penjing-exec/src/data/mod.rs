//! Data sets: one file per format, transforms, splits, batches.
//!
//! [`open`] recognises the format from the path. Every format gives the same [`Dataset`]: samples that are read when they are
//! needed, classes, and a stated train/validation/test split.

mod array;
mod augment;
mod batch;
mod bounded;
mod dataset;
mod idx;
mod image;
mod npy;
mod npz;
mod preprocess;
mod random;
mod samples;
mod split;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use augment::Augment;
pub use batch::{Batch, Batches, Order};
pub use dataset::{Dataset, Description, PartDescription};
pub use preprocess::{Preprocess, Resize};
use samples::Samples;
use split::Parts;
pub use split::{Split, SplitOptions};

use crate::ExecError;

/// How to read a data set. The default takes it as it is.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// From the samples of the file to the numbers that the model takes. `None`: 8-bit images to 0..1, numbers as they are.
    pub preprocess: Option<Preprocess>,
    /// Classes of a set that has none of its own.
    pub labels: Option<PathBuf>,
    /// How samples are shared out.
    pub split: SplitOptions,
    /// What may happen to training images.
    pub augment: Augment,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Format {
    /// MNIST's IDX, gzip or not.
    #[serde(rename = "IDX")]
    Idx,
    /// NumPy arrays in a zip.
    #[serde(rename = "npz")]
    Npz,
    /// NumPy arrays, one a file.
    #[serde(rename = "npy")]
    Npy,
}

impl Format {
    /// Name as the field writes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Idx => "IDX",
            Format::Npz => "npz",
            Format::Npy => "npy",
        }
    }
}

/// What a format's reader gives.
#[derive(Debug)]
struct Contents {
    format: Format,
    samples: Samples,
    /// Class of each sample.
    labels: Option<Vec<u32>>,
    class_names: Option<Vec<String>>,
    parts: Parts,
}

/// Opens a data set, whatever its format.
///
/// # Errors
/// When the path is no data set of a known format, the files contradict themselves, a class is empty, a label is out of range, or
/// the options do not fit the samples.
pub fn open(path: &Path, options: &DataOptions) -> Result<Dataset, ExecError> {
    let contents = if path.is_dir() { open_folder(path)? } else { open_file(path)? };
    Dataset::new(path, contents, options)
}

fn open_folder(path: &Path) -> Result<Contents, ExecError> {
    if idx::recognises_folder(path) {
        idx::open_folder(path)
    } else if npz::recognises_folder(path) {
        npz::open_folder(path)
    } else {
        Err(ExecError::data(path, "is no data set of a known format"))
    }
}

fn open_file(path: &Path) -> Result<Contents, ExecError> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        _ if idx::recognises(path) => idx::open_file(path),
        "npz" => npz::open(path),
        "npy" => npz::open_file(path),
        _ => Err(ExecError::data(path, "is no data set of a known format")),
    }
}
