//! Data sets: one file per format, transforms, splits, batches.
//!
//! [`open`] recognises the format from the path. Every format gives the same [`Dataset`]: samples that are read when they are
//! needed, classes, and a stated train/validation/test split.

mod array;
mod augment;
mod batch;
mod bounded;
mod cifar;
mod csv;
mod dataset;
mod idx;
mod image;
mod image_folder;
mod inputs;
mod labels;
mod npy;
mod npz;
mod preprocess;
mod random;
mod safetensors;
mod samples;
mod split;
mod targets;

use std::path::{Path, PathBuf};

use penjing_graph::Graph;
use serde::Serialize;

pub use augment::Augment;
pub use batch::{Batch, Batches, Order};
pub use dataset::{Dataset, Description, PartDescription};
pub use image::Filter;
use inputs::Signature;
pub use preprocess::{Preprocess, Resize};
use samples::Samples;
use split::Parts;
pub use split::{Split, SplitOptions};
use targets::Targets;

use crate::ExecError;

/// How to read a data set. The default takes it as it is.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// From the samples of the file to the numbers that the model takes. `None`: 8-bit images to 0..1, numbers as they are.
    pub preprocess: Option<Preprocess>,
    /// [C, H, W] of the model: where `preprocess` is `None`, images of another shape are resized and converted to it.
    pub fit_to: Option<[usize; 3]>,
    /// Name and type of each input of the model, where all are known: a set may have an array for each.
    pub signature: Option<Vec<(String, penjing_graph::DataType)>>,
    /// Classes of a set that has none of its own.
    pub labels: Option<PathBuf>,
    /// How samples are shared out.
    pub split: SplitOptions,
    /// What may happen to training images.
    pub augment: Augment,
}

impl DataOptions {
    /// The same for a model: where nothing is said about preprocessing, the model's metadata decide; where they say nothing, images
    /// are fitted to its input.
    ///
    /// # Errors
    /// When the metadata cannot be understood.
    pub fn for_model(mut self, graph: &Graph) -> Result<DataOptions, ExecError> {
        if self.preprocess.is_none() {
            self.preprocess = Preprocess::from_metadata(graph)?;
        }
        self.fit_to = dataset::image_input(graph);
        self.signature = inputs::signature(graph);
        Ok(self)
    }
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
    /// Arrays in a safetensors file.
    #[serde(rename = "safetensors")]
    Safetensors,
    /// A table of numbers.
    #[serde(rename = "CSV")]
    Csv,
    /// CIFAR-10's binary files.
    #[serde(rename = "CIFAR-10")]
    Cifar10,
    /// CIFAR-100's binary files, fine labels.
    #[serde(rename = "CIFAR-100")]
    Cifar100,
    /// PNG and JPEG files.
    #[serde(rename = "image folder")]
    ImageFolder,
}

impl Format {
    /// Name as the field writes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Idx => "IDX",
            Format::Npz => "npz",
            Format::Npy => "npy",
            Format::Safetensors => "safetensors",
            Format::Csv => "CSV",
            Format::Cifar10 => "CIFAR-10",
            Format::Cifar100 => "CIFAR-100",
            Format::ImageFolder => "image folder",
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
    /// What outputs are to come near to, where `y` holds no classes.
    targets: Option<Targets>,
    class_names: Option<Vec<String>>,
    parts: Parts,
}

/// Opens a data set, whatever its format.
///
/// # Errors
/// When the path is no data set of a known format, the files contradict themselves, a class is empty, a label is out of range, or
/// the options do not fit the samples.
pub fn open(path: &Path, options: &DataOptions) -> Result<Dataset, ExecError> {
    let signature = options.signature.as_ref();
    let mut contents = if path.is_dir() { open_folder(path, signature)? } else { open_file(path, signature)? };
    if let Some(labels) = &options.labels {
        labels::attach(&mut contents, labels)?;
    }
    Dataset::new(path, contents, options)
}

fn open_folder(path: &Path, signature: Option<&Signature>) -> Result<Contents, ExecError> {
    if idx::recognises_folder(path) {
        idx::open_folder(path)
    } else if cifar::recognises_folder(path) {
        cifar::open_folder(path)
    } else if npz::recognises_folder(path, signature) {
        npz::open_folder(path, signature)
    } else {
        image_folder::open(path)
    }
}

fn open_file(path: &Path, signature: Option<&Signature>) -> Result<Contents, ExecError> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        _ if idx::recognises(path) => idx::open_file(path),
        "npz" => npz::open(path, signature),
        "npy" => npz::open_file(path),
        "safetensors" => safetensors::open(path, signature),
        "csv" => csv::open(path),
        _ => {
            // A path that is not there says so.
            std::fs::metadata(path).map_err(ExecError::reading(path))?;
            let hint = "(hint: `…-images-idx3-ubyte`, .npz, .npy, .safetensors, .csv, or a folder)";
            Err(ExecError::data(path, format!("is no data set of a known format {hint}")))
        }
    }
}
