//! Reads that never hold more than the file justifies.

use std::io::{self, Read};
use std::path::Path;

use crate::ExecError;

/// Deflate cannot do better than 1032 octets for one: a pair of bits repeats a match of 258.
pub(crate) const DEFLATE_LIMIT: u64 = 1032;

/// Reads exactly `declared` octets and finds the end there. `stored`: octets that they take in the file, compressed or not.
///
/// Memory grows with what is really there, and a declaration that no stream of that length could fulfil is refused before.
pub(crate) fn read_declared(mut reader: impl Read, declared: u64, stored: u64, path: &Path) -> Result<Vec<u8>, ExecError> {
    if declared > stored.saturating_mul(DEFLATE_LIMIT) {
        return Err(ExecError::data(path, format!("declares {declared} octets, more than {stored} stored octets can hold")));
    }
    let mut octets = Vec::new();
    let read = (&mut reader).take(declared).read_to_end(&mut octets).map_err(broken(path))?;
    if (read as u64) < declared {
        return Err(ExecError::data(path, format!("ends after {read} of {declared} declared octets (hint: fetch the file again)")));
    }
    match reader.read(&mut [0]) {
        Ok(0) => Ok(octets),
        Ok(_) => Err(ExecError::data(path, format!("holds more than the {declared} octets that its header declares"))),
        Err(e) => Err(broken(path)(e)),
    }
}

/// A short header: exactly `N` octets.
pub(crate) fn read_header<const N: usize>(reader: &mut impl Read, path: &Path) -> Result<[u8; N], ExecError> {
    let mut header = [0; N];
    reader.read_exact(&mut header).map_err(broken(path))?;
    Ok(header)
}

/// Ends and damage inside a stream are the data's fault, all else is the system's.
fn broken(path: &Path) -> impl FnOnce(io::Error) -> ExecError {
    let path = path.to_path_buf();
    move |e| match e.kind() {
        io::ErrorKind::UnexpectedEof => ExecError::data(&path, "ends too early (hint: fetch the file again)"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            ExecError::data(&path, format!("is damaged: {e} (hint: fetch the file again)"))
        }
        _ => ExecError::Read { path, source: e },
    }
}
