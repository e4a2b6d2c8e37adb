//! Tables of numbers as CSV with a header.

use std::fs::File;
use std::path::Path;

use penjing_graph::DataType;

use super::array::{Array, ByteOrder};
use super::labels::numbered;
use super::{Contents, Format, Parts, Samples};
use crate::ExecError;

/// Names, in any case, of the column that holds the class.
const LABEL_COLUMNS: [&str; 3] = ["label", "class", "y"];

/// One sample a row. The column named `label`, `class` or `y` is the class, a number or a name; every other column is a number.
/// The first row is a header if anything in it is not a number; without a header there are no classes.
pub(super) fn open(path: &Path) -> Result<Contents, ExecError> {
    let file = File::open(path).map_err(ExecError::reading(path))?;
    let mut rows = ::csv::ReaderBuilder::new().has_headers(false).trim(::csv::Trim::All).from_reader(file);
    let mut columns: Option<Vec<String>> = None;
    let mut label_column = None;
    let (mut octets, mut labels, mut count) = (vec![], vec![], 0);
    for (i, row) in rows.records().enumerate() {
        let row = row.map_err(|e| match e.into_kind() {
            ::csv::ErrorKind::Io(source) => ExecError::Read { path: path.into(), source },
            ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                ExecError::data(path, format!("row {} has {len} columns, the first has {expected_len}", i + 1))
            }
            _ => ExecError::data(path, format!("row {} is no UTF-8 text", i + 1)),
        })?;
        if i == 0 && row.iter().any(|field| field.parse::<f32>().is_err()) {
            label_column = label_position(row.iter(), path)?;
            columns = Some(row.iter().map(String::from).collect());
            continue;
        }
        for (c, field) in row.iter().enumerate() {
            if Some(c) == label_column {
                labels.push(field.to_string());
                continue;
            }
            let number = field.parse::<f32>().ok().filter(|v| v.is_finite()).ok_or_else(|| {
                let column = columns.as_ref().map_or(format!("{}", c + 1), |names| format!("`{}`", names[c]));
                let hint = "(hint: encode text as numbers, and fill in or remove what is missing)";
                ExecError::data(path, format!("row {}, column {column}: `{field}` is no number {hint}", i + 1))
            })?;
            octets.extend(number.to_le_bytes());
        }
        count += 1;
    }
    if count == 0 || octets.is_empty() {
        return Err(ExecError::data(path, "holds no rows of numbers"));
    }
    let width = octets.len() / size_of::<f32>() / count;
    let samples = Array::in_memory(path, DataType::Float, ByteOrder::Little, vec![count, width], octets)?;
    let (labels, class_names) = match label_column {
        Some(_) => numbered(&labels, path).map(|(labels, names)| (Some(labels), names))?,
        None => (None, None),
    };
    Ok(Contents {
        format: Format::Csv,
        samples: Samples::Numbers(vec![samples]),
        labels,
        targets: None,
        class_names,
        parts: Parts::pool(count),
    })
}

fn label_position<'a>(header: impl Iterator<Item = &'a str>, path: &Path) -> Result<Option<usize>, ExecError> {
    let found: Vec<(usize, &str)> =
        header.enumerate().filter(|(_, name)| LABEL_COLUMNS.contains(&name.to_ascii_lowercase().as_str())).collect();
    match found[..] {
        [] => Ok(None),
        [(column, _)] => Ok(Some(column)),
        [(_, one), (_, another), ..] => {
            Err(ExecError::data(path, format!("has two columns of classes, `{one}` and `{another}` (hint: rename or remove one)")))
        }
    }
}
