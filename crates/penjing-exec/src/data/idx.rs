//! IDX, the format of MNIST (<http://yann.lecun.com/exdb/mnist/>): 0, 0, element type, rank, big-endian u32 dimensions, elements. Gzip or not.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use penjing_graph::DataType;

use super::array::{Array, ByteOrder, byte_count};
use super::bounded::{read_declared, read_header};
use super::{Contents, Format, Parts, Samples};
use crate::ExecError;

const IMAGES: &str = "images-idx3-ubyte";
const LABELS: &str = "labels-idx1-ubyte";

/// Reads the folder's `train-…` files, and `t10k-…` or `test-…` as its own test set.
pub(super) fn open_folder(folder: &Path) -> Result<Contents, ExecError> {
    let train = pair(folder, &["train-"])?.ok_or_else(|| ExecError::data(folder, format!("holds no `train-{IMAGES}`")))?;
    let test = pair(folder, &["t10k-", "test-"])?;
    let parts = Parts { train: train.0.len(), validation: 0, test: test.as_ref().map_or(0, |(x, _)| x.len()) };
    let (images, labels): (Vec<_>, Vec<_>) = std::iter::once(train).chain(test).unzip();
    if images.iter().any(|x| x.dims()[1..] != images[0].dims()[1..]) {
        return Err(ExecError::data(folder, "training and test images differ in size"));
    }
    Ok(Contents {
        format: Format::Idx,
        samples: Samples::Pixels(images),
        labels: Some(labels.concat()),
        targets: None,
        class_names: None,
        parts,
    })
}

/// Reads one file of images, with the labels of the file beside it if there is one.
pub(super) fn open_file(path: &Path) -> Result<Contents, ExecError> {
    let images = images(path)?;
    let beside =
        path.file_name().and_then(|n| n.to_str()).map(|n| path.with_file_name(n.replace("images", "labels").replace("idx3", "idx1")));
    let labels = match beside.filter(|p| p != path && p.is_file()) {
        Some(p) => Some(labels(&p, images.len())?),
        None => None,
    };
    let parts = Parts::pool(images.len());
    Ok(Contents { format: Format::Idx, samples: Samples::Pixels(vec![images]), labels, targets: None, class_names: None, parts })
}

/// Whether a file has IDX's kind of name: `…-images-idx3-ubyte`, with `.` for `-` and `.gz` as they come.
pub(super) fn recognises(path: &Path) -> bool {
    plain_name(path).is_some_and(|n| n.ends_with(IMAGES))
}

/// Whether a folder holds the training images of such a set.
pub(super) fn recognises_folder(folder: &Path) -> bool {
    matches!(find(folder, &["train-"], IMAGES), Ok(Some(_)) | Err(ExecError::Data { .. }))
}

fn plain_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.replace('.', "-");
    Some(name.strip_suffix("-gz").unwrap_or(&name).to_string())
}

fn find(folder: &Path, prefixes: &[&str], kind: &str) -> Result<Option<PathBuf>, ExecError> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).map_err(ExecError::reading(folder))? {
        let path = entry.map_err(ExecError::reading(folder))?.path();
        if plain_name(&path).is_some_and(|name| prefixes.iter().any(|p| name.ends_with(&format!("{p}{kind}")))) {
            found.push(path);
        }
    }
    found.sort();
    // The same file twice, packed and unpacked: the unpacked one sorts first.
    found.dedup_by(|later, first| plain_name(later) == plain_name(first));
    match &found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [one, another, ..] => Err(ExecError::data(
            folder,
            format!("holds several sets: `{}`, `{}` (hint: one folder for each)", one.display(), another.display()),
        )),
    }
}

fn pair(folder: &Path, prefixes: &[&str]) -> Result<Option<(Array, Vec<u32>)>, ExecError> {
    let Some(x) = find(folder, prefixes, IMAGES)? else { return Ok(None) };
    let y = find(folder, prefixes, LABELS)?
        .ok_or_else(|| ExecError::data(&x, format!("has no labels beside it (hint: put `{}{LABELS}` there)", prefixes[0])))?;
    let x = images(&x)?;
    let y = labels(&y, x.len())?;
    Ok(Some((x, y)))
}

/// [N, H, W] → [N, 1, H, W].
fn images(path: &Path) -> Result<Array, ExecError> {
    let (dims, octets) = read(path)?;
    let [n, h, w] = dims[..] else {
        return Err(ExecError::data(path, format!("holds {} axes, but images have 3: count, rows, columns", dims.len())));
    };
    Array::in_memory(path, DataType::Uint8, ByteOrder::Big, vec![n, 1, h, w], octets)
}

fn labels(path: &Path, expected: usize) -> Result<Vec<u32>, ExecError> {
    let (dims, octets) = read(path)?;
    if dims != [expected] {
        return Err(ExecError::data(path, format!("holds {dims:?} labels for {expected} images")));
    }
    Ok(octets.into_iter().map(u32::from).collect())
}

fn read(path: &Path) -> Result<(Vec<usize>, Vec<u8>), ExecError> {
    let file = File::open(path).map_err(ExecError::reading(path))?;
    let stored = file.metadata().map_err(ExecError::reading(path))?.len();
    let mut start = [0; 2];
    let (mut file, peeked) = (BufReader::new(file), path.to_path_buf());
    file.read_exact(&mut start).map_err(|_| ExecError::data(&peeked, "is too short for an IDX file"))?;
    let whole = start.as_slice().chain(file);
    if start == [0x1f, 0x8b] { elements(MultiGzDecoder::new(whole), stored, path) } else { elements(whole, stored, path) }
}

fn elements(mut reader: impl Read, stored: u64, path: &Path) -> Result<(Vec<usize>, Vec<u8>), ExecError> {
    let [zero, zero_too, element, rank] = read_header(&mut reader, path)?;
    if (zero, zero_too) != (0, 0) || !(1..=4).contains(&rank) {
        return Err(ExecError::data(path, "is no IDX file: it does not start with 0, 0, element type, rank"));
    }
    if element != 0x08 {
        return Err(ExecError::data(path, format!("holds elements of type {element:#04x}, but images and labels are bytes (0x08)")));
    }
    let mut dims = vec![];
    for _ in 0..rank {
        dims.push(u32::from_be_bytes(read_header(&mut reader, path)?) as usize);
    }
    let declared = byte_count(path, DataType::Uint8, &dims)?;
    Ok((dims, read_declared(reader, declared, stored, path)?))
}
