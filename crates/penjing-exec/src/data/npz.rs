//! Named arrays: NumPy's `.npz`, and one `.npy` file for each name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use penjing_graph::DataType;
use zip::{CompressionMethod, ZipArchive};

use super::array::Array;
use super::inputs::{Inputs, Signature};
use super::{Contents, Format, Parts, Samples, Targets, npy};
use crate::ExecError;

/// Reads `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test`, taken as they are. `y` holds classes, or numbers that the outputs
/// are to come near to, and may be absent.
pub(super) fn open(path: &Path, signature: Option<&Signature>) -> Result<Contents, ExecError> {
    let file = File::open(path).map_err(ExecError::reading(path))?;
    let size = file.metadata().map_err(ExecError::reading(path))?.len();
    let mut archive = ZipArchive::new(file).map_err(|e| ExecError::data(path, format!("is no .npz file: {e}")))?;
    let names: Vec<String> = archive.file_names().flatten().map(|n| n.trim_end_matches(".npy").to_string()).collect();
    named_arrays(path, Format::Npz, &names, signature, |name| {
        let mut entry = archive.by_name(&format!("{name}.npy")).map_err(|e| ExecError::data(path, format!("cannot open `{name}`: {e}")))?;
        let (stored, inside) = (entry.compressed_size().min(size), path.join(name));
        match (entry.compression(), entry.encrypted(), entry.data_start()) {
            // As NumPy's `savez` writes it: the array can stay in the file once its checksum was found right.
            (CompressionMethod::Stored, false, Some(start)) => {
                io::copy(&mut entry, &mut io::sink()).map_err(ExecError::reading(&inside))?;
                npy::stay(path, start..start + stored, &inside)
            }
            _ => npy::read(entry, stored, &inside),
        }
    })
}

/// Reads `x.npy` and, if it is there, `y.npy`; or the four files of a set with its own test samples.
pub(super) fn open_folder(folder: &Path, signature: Option<&Signature>) -> Result<Contents, ExecError> {
    let inputs = signature.into_iter().flatten().map(|(name, _)| name.as_str());
    let names: Vec<String> = ["x", "y", "x_train", "y_train", "x_test", "y_test"]
        .into_iter()
        .chain(inputs)
        .filter(|n| npy_file(folder, n).is_file())
        .map(String::from)
        .collect();
    named_arrays(folder, Format::Npy, &names, signature, |name| npy::open(&npy_file(folder, name)))
}

/// Reads one `.npy` file: samples without classes.
pub(super) fn open_file(path: &Path) -> Result<Contents, ExecError> {
    let samples = npy::open(path)?;
    let parts = Parts::pool(samples.len());
    Ok(Contents { format: Format::Npy, samples: Samples::Numbers(vec![samples]), labels: None, targets: None, class_names: None, parts })
}

/// Whether a folder holds `x.npy`, `x_train.npy` or a file of a model's first input.
pub(super) fn recognises_folder(folder: &Path, signature: Option<&Signature>) -> bool {
    let first = signature.and_then(|inputs| inputs.first()).map(|(name, _)| name.as_str());
    ["x", "x_train"].into_iter().chain(first).any(|name| npy_file(folder, name).is_file())
}

fn npy_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.npy"))
}

/// Puts a set together from arrays that `array` gives by name.
pub(super) fn named_arrays(
    path: &Path,
    format: Format,
    names: &[String],
    signature: Option<&Signature>,
    mut array: impl FnMut(&str) -> Result<Array, ExecError>,
) -> Result<Contents, ExecError> {
    let has = |name: &str| names.iter().any(|n| n == name);
    if let Some(signature) = signature.filter(|inputs| by_name(inputs) && inputs.iter().all(|(name, _)| has(name))) {
        let inputs = Inputs::read(path, signature, &mut array)?;
        let answers = if has("y") { vec![array("y")?] } else { vec![] };
        let (labels, targets) = labels_or_targets(path, answers)?;
        let parts = Parts::pool(inputs.len());
        return Ok(Contents { format, samples: Samples::Inputs(inputs), labels, targets, class_names: None, parts });
    }
    let pairs: &[(&str, &str)] = match (has("x"), has("x_train"), has("x_test")) {
        (true, false, false) => &[("x", "y")],
        (false, true, false) => &[("x_train", "y_train")],
        (false, true, true) => &[("x_train", "y_train"), ("x_test", "y_test")],
        _ => {
            let found = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let hint = "(hint: name the samples `x`, or each as the model's input, their classes `y`; or `x_train`, `y_train`, `x_test`, \
                        `y_test`)";
            return Err(ExecError::data(path, format!("holds {found} {hint}")));
        }
    };
    let mut arrays: Vec<Array> = vec![];
    let mut answers: Vec<Array> = vec![];
    let answered = pairs.iter().all(|(_, y)| has(y));
    for (x, y) in pairs {
        let samples = array(x)?;
        if let Some(first) = arrays.first().filter(|a| a.dims()[1..] != samples.dims()[1..]) {
            return Err(ExecError::data(path, format!("samples of {:?} and {:?} in one set", first.dims(), samples.dims())));
        }
        if answered {
            let answer = array(y)?;
            if answer.len() != samples.len() {
                return Err(ExecError::data(path, format!("holds {} samples in `{x}`, but {} in `{y}`", samples.len(), answer.len())));
            }
            answers.push(answer);
        }
        arrays.push(samples);
    }
    let parts = Parts { train: arrays[0].len(), validation: 0, test: arrays.get(1).map_or(0, Array::len) };
    let (labels, targets) = labels_or_targets(path, answers)?;
    Ok(Contents { format, samples: Samples::Numbers(arrays), labels, targets, class_names: None, parts })
}

/// Whether the samples of a model are arrays of its inputs' names: those of several inputs, or of one that is not of floats.
fn by_name(signature: &Signature) -> bool {
    signature.len() > 1 || signature.iter().any(|(_, dtype)| *dtype != DataType::Float)
}

/// `y`: a class for each sample, or the numbers that outputs are to come near to.
fn labels_or_targets(path: &Path, answers: Vec<Array>) -> Result<(Option<Vec<u32>>, Option<Targets>), ExecError> {
    if answers.is_empty() {
        return Ok((None, None));
    }
    let mut classes = true;
    for answer in &answers {
        classes &= answer.holds_classes()?;
    }
    if classes {
        let labels: Vec<Vec<u32>> = answers.iter().map(Array::classes).collect::<Result<_, _>>()?;
        return Ok((Some(labels.concat()), None));
    }
    let targets = Targets::new(answers).ok_or_else(|| ExecError::data(path, "holds targets of different shapes in one set"))?;
    Ok((None, Some(targets)))
}
