//! Classes from a file of their own, and class names that stand as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::samples::Samples;
use super::{Contents, npy};
use crate::ExecError;

/// Gives a set without classes those of `path`: `.npy` numbers; `.csv` rows `file,label`; else one label a line in the order of the
/// samples, files sorted by name. Labels are numbers, or names, which are then numbered in sorted order.
pub(super) fn attach(contents: &mut Contents, path: &Path) -> Result<(), ExecError> {
    if contents.labels.is_some() {
        return Err(ExecError::data(path, "labels a set that has labels of its own (hint: leave out `--labels`)"));
    }
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if extension == "npy" {
        contents.labels = Some(npy::open(path)?.classes()?);
    } else {
        let text = fs::read_to_string(path).map_err(ExecError::reading(path))?;
        let written = if extension == "csv" { by_file(&text, &contents.samples, path)? } else { text.lines().map(String::from).collect() };
        let (labels, names) = numbered(&written, path)?;
        (contents.labels, contents.class_names) = (Some(labels), names);
    }
    let found = contents.labels.as_ref().map_or(0, Vec::len);
    if found != contents.samples.len() {
        return Err(ExecError::data(path, format!("has {found} labels for {} samples", contents.samples.len())));
    }
    Ok(())
}

/// Numbers as they are; names numbered in sorted order.
pub(super) fn numbered(written: &[String], path: &Path) -> Result<(Vec<u32>, Option<Vec<String>>), ExecError> {
    if let Some(i) = written.iter().position(|w| w.trim().is_empty()) {
        return Err(ExecError::data(path, format!("label {} is empty", i + 1)));
    }
    let numbers: Result<Vec<u32>, _> = written.iter().map(|w| w.trim().parse()).collect();
    if let Ok(numbers) = numbers {
        return Ok((numbers, None));
    }
    let names: BTreeSet<&str> = written.iter().map(|w| w.trim()).collect();
    // Numbers among names: what is meant to be a number and is none, or a name that slipped in.
    let odd = names.iter().find(|name| name.parse::<u32>().is_err());
    if let (true, Some(odd)) = (names.iter().any(|name| name.parse::<f64>().is_ok()), odd) {
        return Err(ExecError::data(path, format!("label `{odd}` is no class (hint: all whole numbers from 0, or all names)")));
    }
    let number: BTreeMap<&str, u32> = names.iter().copied().zip(0..).collect();
    Ok((written.iter().map(|w| number[w.trim()]).collect(), Some(names.into_iter().map(String::from).collect())))
}

/// `file,label` rows in any order → labels in the order of the samples.
fn by_file(text: &str, samples: &Samples, path: &Path) -> Result<Vec<String>, ExecError> {
    let Samples::Files(files) = samples else {
        return Err(ExecError::data(path, "labels files by name, but the samples are no files (hint: one label a line, in a .txt file)"));
    };
    let mut label_of: BTreeMap<String, String> = BTreeMap::new();
    let mut rows = ::csv::ReaderBuilder::new().has_headers(false).trim(::csv::Trim::All).from_reader(text.as_bytes());
    for (i, row) in rows.records().enumerate() {
        let row = row.map_err(|e| ExecError::data(path, format!("is no CSV: {e}")))?;
        let [file, label] = [0, 1].map(|c| row.get(c).unwrap_or_default().to_string());
        if row.len() != 2 {
            return Err(ExecError::data(path, format!("row {} has {} columns (hint: `file,label`)", i + 1, row.len())));
        }
        if i == 0 && file == "file" {
            continue;
        }
        if label_of.insert(file.clone(), label).is_some() {
            return Err(ExecError::data(path, format!("labels `{file}` twice")));
        }
    }
    let mut labels = vec![];
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        labels.push(label_of.remove(&*name).ok_or_else(|| ExecError::data(path, format!("has no label for `{name}`")))?);
    }
    match label_of.keys().next() {
        Some(unknown) => Err(ExecError::data(path, format!("labels `{unknown}`, which is not in the set"))),
        None => Ok(labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_names_are_numbered() {
        let read = |labels: &[&str]| numbered(&labels.iter().map(|l| (*l).to_string()).collect::<Vec<_>>(), Path::new("l")).ok();
        assert_eq!(read(&["7", "0"]), Some((vec![7, 0], None)));
        assert_eq!(read(&["dog", "cat", "dog"]), Some((vec![1, 0, 1], Some(vec!["cat".into(), "dog".into()]))));
        assert_eq!(read(&["0", ""]), None);
    }

    #[test]
    fn the_label_that_is_wrong_is_named() {
        for (labels, odd) in
            [(["0", "-1", "2"], "-1"), (["0", "1.5", "1"], "1.5"), (["0", "1", "4294967296"], "4294967296"), (["0", "1", "cat"], "cat")]
        {
            let refused = numbered(&labels.map(String::from), Path::new("l")).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains(&format!("label `{odd}` is no class (hint: ")), "{refused}");
        }
    }
}
