//! CIFAR's binary files (<https://www.cs.toronto.edu/~kriz/cifar.html>): records of label octets and 3×32×32 pixels, plane after plane.

use std::fs;
use std::path::{Path, PathBuf};

use penjing_graph::DataType;

use super::array::{Array, ByteOrder};
use super::{Contents, Format, Parts, Samples};
use crate::ExecError;

const PIXELS: usize = 3 * 32 * 32;

/// One of the two sets.
struct Layout {
    format: Format,
    train: &'static [&'static str],
    test: &'static str,
    /// Octets before the pixels; the last is the class (CIFAR-100: the fine one).
    label_octets: usize,
    classes: u32,
    names: &'static str,
}

const CIFAR_10: Layout = Layout {
    format: Format::Cifar10,
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    label_octets: 1,
    classes: 10,
    names: "batches.meta.txt",
};

const CIFAR_100: Layout = Layout {
    format: Format::Cifar100,
    train: &["train.bin"],
    test: "test.bin",
    label_octets: 2,
    classes: 100,
    names: "fine_label_names.txt",
};

/// Whether a folder holds the first training file of one of the two sets.
pub(super) fn recognises_folder(folder: &Path) -> bool {
    layout(folder).is_some()
}

fn layout(folder: &Path) -> Option<Layout> {
    [CIFAR_10, CIFAR_100].into_iter().find(|l| folder.join(l.train[0]).is_file())
}

/// Reads all training files and the test file.
pub(super) fn open_folder(folder: &Path) -> Result<Contents, ExecError> {
    let layout = layout(folder).ok_or_else(|| ExecError::data(folder, format!("holds no `{}`", CIFAR_10.train[0])))?;
    let (mut arrays, mut labels) = (vec![], vec![]);
    for file in layout.train.iter().chain([&layout.test]) {
        let (images, classes) = records(&folder.join(file), &layout)?;
        arrays.push(images);
        labels.extend(classes);
    }
    let test = arrays.last().map_or(0, Array::len);
    let parts = Parts { train: labels.len() - test, validation: 0, test };
    let class_names = names(folder.join(layout.names), &labels)?;
    Ok(Contents { format: layout.format, samples: Samples::Pixels(arrays), labels: Some(labels), targets: None, class_names, parts })
}

fn records(path: &Path, layout: &Layout) -> Result<(Array, Vec<u32>), ExecError> {
    let octets = fs::read(path).map_err(ExecError::reading(path))?;
    let record = layout.label_octets + PIXELS;
    if octets.is_empty() || octets.len() % record != 0 {
        let reason = format!("has {} octets, which are no whole records of {record} (hint: fetch the file again)", octets.len());
        return Err(ExecError::data(path, reason));
    }
    let count = octets.len() / record;
    let (mut pixels, mut labels) = (Vec::with_capacity(count * PIXELS), Vec::with_capacity(count));
    for (i, record) in octets.chunks_exact(record).enumerate() {
        let (label, image) = record.split_at(layout.label_octets);
        let class = u32::from(label[layout.label_octets - 1]);
        if class >= layout.classes {
            return Err(ExecError::data(path, format!("label {class} of image {i} is out of range: there are {} classes", layout.classes)));
        }
        labels.push(class);
        pixels.extend_from_slice(image);
    }
    Ok((Array::in_memory(path, DataType::Uint8, ByteOrder::Little, vec![count, 3, 32, 32], pixels)?, labels))
}

/// One name a line, where the set's own file of names is there.
fn names(path: PathBuf, labels: &[u32]) -> Result<Option<Vec<String>>, ExecError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(ExecError::reading(&path))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    match labels.iter().max() {
        Some(highest) if *highest as usize >= names.len() => {
            Err(ExecError::data(&path, format!("names {} classes, but label {highest} occurs", names.len())))
        }
        _ => Ok(Some(names)),
    }
}
