//! NumPy's `.npy` (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3): magic, header as a Python literal, elements.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use penjing_graph::DataType;

use super::array::{Array, ByteOrder, Store, byte_count};
use super::bounded::{read_declared, read_header};
use crate::ExecError;

/// A longer header would name no type and shape that we read.
const LONGEST_HEADER: usize = 1 << 16;

/// What stands before the elements.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: DataType,
    order: ByteOrder,
    fortran: bool,
    dims: Vec<usize>,
}

/// An array whose elements stay in the file, unless they stand in column-major order.
pub(super) fn open(path: &Path) -> Result<Array, ExecError> {
    let size = std::fs::metadata(path).map_err(ExecError::reading(path))?.len();
    stay(path, 0..size, path)
}

/// An array that stands in this part of a file, where its elements stay as those of [`open`] do; errors say `name`.
pub(super) fn stay(path: &Path, octets: Range<u64>, name: &Path) -> Result<Array, ExecError> {
    let mut reader = BufReader::new(File::open(path).map_err(ExecError::reading(path))?);
    reader.seek(SeekFrom::Start(octets.start)).map_err(ExecError::reading(path))?;
    let header = header(&mut reader, name)?;
    let start = reader.stream_position().map_err(ExecError::reading(path))?;
    let available = octets.end.saturating_sub(start);
    if header.fortran {
        return in_memory(header, reader.take(available), available, name);
    }
    Array::new(name, header.dtype, header.order, header.dims, Store::File(Mutex::new(reader.into_inner()), start), available)
}

/// An array out of a stream. `stored`: octets that it takes in the file.
pub(super) fn read(mut reader: impl Read, stored: u64, path: &Path) -> Result<Array, ExecError> {
    let header = header(&mut reader, path)?;
    in_memory(header, reader, stored, path)
}

fn in_memory(header: Header, reader: impl Read, stored: u64, path: &Path) -> Result<Array, ExecError> {
    let declared = byte_count(path, header.dtype, &header.dims)?;
    let mut octets = read_declared(reader, declared, stored, path)?;
    if header.fortran {
        octets = row_major(&octets, &header.dims, octets.len() / header.dims.iter().product::<usize>().max(1));
    }
    Array::in_memory(path, header.dtype, header.order, header.dims, octets)
}

fn header(reader: &mut impl Read, path: &Path) -> Result<Header, ExecError> {
    let magic: [u8; 8] = read_header(reader, path)?;
    let length = match magic {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0] => usize::from(u16::from_le_bytes(read_header(reader, path)?)),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, 0] => u32::from_le_bytes(read_header(reader, path)?) as usize,
        _ => return Err(ExecError::data(path, "is no .npy file of version 1, 2 or 3")),
    };
    if length > LONGEST_HEADER {
        return Err(ExecError::data(path, format!("declares a header of {length} octets")));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(|_| ExecError::data(path, "ends inside its header"))?;
    parse(&String::from_utf8_lossy(&text)).map_err(|reason| ExecError::data(path, reason))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28, 28), }`
fn parse(text: &str) -> Result<Header, String> {
    let field = |key: &str| {
        let after = text.split_once(&format!("'{key}':")).ok_or_else(|| format!("has no `{key}` in its header"))?.1;
        Ok::<&str, String>(after.trim_start())
    };
    let descr = field("descr")?;
    let Some(descr) = descr.strip_prefix('\'').and_then(|d| d.split('\'').next()) else {
        return Err("holds records of several fields (hint: save plain numbers)".into());
    };
    let (order, dtype) = element(descr).ok_or_else(|| {
        let why = if descr.contains('O') { " (hint: it pickles objects, which are never read; save numbers)" } else { "" };
        format!("holds elements of type `{descr}`, not numbers of 8 to 64 bits{why}")
    })?;
    let fortran = match field("fortran_order")? {
        f if f.starts_with("False") => false,
        f if f.starts_with("True") => true,
        _ => return Err("says neither True nor False for `fortran_order`".into()),
    };
    let shape = field("shape")?;
    let inside = shape.strip_prefix('(').and_then(|s| s.split_once(')')).ok_or("has no shape in its header")?.0;
    let dims = inside.split(',').map(str::trim).filter(|d| !d.is_empty()).map(str::parse).collect::<Result<_, _>>();
    let dims = dims.map_err(|_| format!("has the shape ({inside}), which is none"))?;
    Ok(Header { dtype, order, fortran, dims })
}

fn element(descr: &str) -> Option<(ByteOrder, DataType)> {
    let order = match descr.chars().next()? {
        '<' | '|' => ByteOrder::Little,
        '>' => ByteOrder::Big,
        _ => return None,
    };
    let dtype = match &descr[1..] {
        "f2" => DataType::Float16,
        "f4" => DataType::Float,
        "f8" => DataType::Double,
        "b1" => DataType::Bool,
        "u1" => DataType::Uint8,
        "i1" => DataType::Int8,
        "u2" => DataType::Uint16,
        "i2" => DataType::Int16,
        "u4" => DataType::Uint32,
        "i4" => DataType::Int32,
        "u8" => DataType::Uint64,
        "i8" => DataType::Int64,
        _ => return None,
    };
    Some((order, dtype))
}

/// Column-major → row-major: in the file the first axis runs fastest, afterwards the last.
fn row_major(octets: &[u8], dims: &[usize], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut position = vec![0; dims.len()];
    for _ in 0..octets.len() / width.max(1) {
        let at = position.iter().zip(dims).rev().fold(0, |offset, (p, d)| offset * d + p);
        out.extend_from_slice(&octets[at * width..(at + 1) * width]);
        for (p, d) in position.iter_mut().zip(dims).rev() {
            *p += 1;
            if *p < *d {
                break;
            }
            *p = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_by_hand() {
        let header = parse("{'descr': '>i2', 'fortran_order': True, 'shape': (3,), }");
        assert_eq!(header, Ok(Header { dtype: DataType::Int16, order: ByteOrder::Big, fortran: true, dims: vec![3] }));
        let header = parse("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 28, 28), }");
        assert_eq!(header, Ok(Header { dtype: DataType::Uint8, order: ByteOrder::Little, fortran: false, dims: vec![2, 28, 28] }));
        assert!(parse("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }").is_err_and(|e| e.contains("pickles")));
        assert!(parse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }").is_err());
        assert!(parse("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }").is_err());
        assert!(parse("{'descr': '€f4', 'fortran_order': False, 'shape': (1,), }").is_err());
    }

    #[test]
    fn column_major_is_turned() {
        // [[1 2 3] [4 5 6]] stands as 1 4 2 5 3 6.
        assert_eq!(row_major(&[1, 4, 2, 5, 3, 6], &[2, 3], 1), [1, 2, 3, 4, 5, 6]);
        assert_eq!(row_major(&[1, 0, 3, 0, 2, 0, 4, 0], &[2, 2], 2), [1, 0, 2, 0, 3, 0, 4, 0]);
    }
}
