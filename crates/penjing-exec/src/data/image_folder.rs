//! Folders of PNG and JPEG images, decoded when they are needed.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Contents, Format, Parts, Samples};
use crate::ExecError;

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Images of these kinds are not read; leaving them out in silence would change the set.
const FOREIGN: [&str; 7] = ["webp", "bmp", "gif", "tif", "tiff", "ppm", "heic"];

/// `class/x.png`, the same within `train/`, `val/` and `test/`, or images alone. Class names are sorted, as numbers if all are.
pub(super) fn open(folder: &Path) -> Result<Contents, ExecError> {
    let folders = folders(folder)?;
    let part = |names: &[&str]| folders.iter().find(|f| names.contains(&name(f).as_str())).cloned();
    let [train, validation, test] = [part(&["train"]), part(&["val", "valid", "validation"]), part(&["test"])];
    match train {
        Some(train) if folders.iter().all(|f| [Some(&train), validation.as_ref(), test.as_ref()].contains(&Some(f))) => {
            shared_out(&train, validation.as_deref(), test.as_deref())
        }
        _ if folders.is_empty() => flat(folder),
        _ => {
            if let Some(image) = images(folder)?.first() {
                let hint = "(hint: every image in the folder of its class, or all in one folder)";
                return Err(ExecError::data(image, format!("stands beside the folders of classes {hint}")));
            }
            let classes = class_names(&folders);
            let (files, labels) = by_class(folder, &classes)?;
            let parts = Parts::pool(files.len());
            Ok(contents(files, Some(labels), Some(classes), parts))
        }
    }
}

fn contents(files: Vec<PathBuf>, labels: Option<Vec<u32>>, class_names: Option<Vec<String>>, parts: Parts) -> Contents {
    Contents { format: Format::ImageFolder, samples: Samples::Files(files), labels, targets: None, class_names, parts }
}

fn flat(folder: &Path) -> Result<Contents, ExecError> {
    let files = images(folder)?;
    if files.is_empty() {
        let hint = "(hint: IDX, CIFAR binary, .npz, .npy, .safetensors, .csv, or a folder of PNG or JPEG images)";
        return Err(ExecError::data(folder, format!("is no data set of a known format {hint}")));
    }
    let parts = Parts::pool(files.len());
    Ok(contents(files, None, None, parts))
}

fn shared_out(train: &Path, validation: Option<&Path>, test: Option<&Path>) -> Result<Contents, ExecError> {
    let classes = class_names(&folders(train)?);
    let (mut files, mut labels) = by_class(train, &classes)?;
    let mut part = |folder: Option<&Path>| -> Result<usize, ExecError> {
        let Some(folder) = folder else { return Ok(0) };
        if let Some(unknown) = folders(folder)?.iter().find(|f| !classes.contains(&name(f))) {
            return Err(ExecError::data(unknown, "is a class that has no training images"));
        }
        let (more, theirs) = by_class(folder, &classes)?;
        labels.extend(theirs);
        let count = more.len();
        files.extend(more);
        Ok(count)
    };
    let (validation, test) = (part(validation)?, part(test)?);
    let parts = Parts { train: files.len() - validation - test, validation, test };
    Ok(contents(files, Some(labels), Some(classes), parts))
}

/// The images of each class, in order.
fn by_class(folder: &Path, classes: &[String]) -> Result<(Vec<PathBuf>, Vec<u32>), ExecError> {
    let (mut files, mut labels) = (vec![], vec![]);
    if classes.is_empty() {
        return Err(ExecError::data(folder, "holds no folders of classes (hint: `class/image.png`)"));
    }
    for (class, name) in (0..).zip(classes) {
        let folder = folder.join(name);
        let found = if folder.is_dir() { images(&folder)? } else { vec![] };
        if found.is_empty() {
            return Err(ExecError::data(&folder, "is a class without PNG or JPEG images (hint: add some, or remove the folder)"));
        }
        labels.extend(std::iter::repeat_n(class, found.len()));
        files.extend(found);
    }
    Ok((files, labels))
}

/// `2` before `10` where every class is a number; the alphabet's order otherwise.
fn class_names(folders: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = folders.iter().map(|f| name(f)).collect();
    let numbers = names.iter().all(|n| n.parse::<u64>().is_ok());
    names.sort_by_key(|n| (numbers.then(|| n.parse::<u64>().ok()), n.clone()));
    names
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Everything in a folder but hidden files, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ExecError> {
    let entries = fs::read_dir(folder).map_err(ExecError::reading(folder))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths.map_err(ExecError::reading(folder))?;
    paths.retain(|p| !name(p).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, ExecError> {
    Ok(entries(folder)?.into_iter().filter(|p| p.is_dir()).collect())
}

fn images(folder: &Path) -> Result<Vec<PathBuf>, ExecError> {
    let ending = |p: &PathBuf| p.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let mut files = entries(folder)?;
    files.retain(|p| p.is_file());
    if let Some(foreign) = files.iter().find(|p| FOREIGN.contains(&ending(p).as_str())) {
        return Err(ExecError::data(foreign, "is an image of a kind that is not read (hint: convert it to PNG or JPEG)"));
    }
    files.retain(|p| ENDINGS.contains(&ending(p).as_str()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_numbers() {
        let sorted = |names: &[&str]| class_names(&names.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(sorted(&["10", "2", "1"]), ["1", "2", "10"]);
        assert_eq!(sorted(&["b", "10", "2"]), ["10", "2", "b"]);
    }
}
