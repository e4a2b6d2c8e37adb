//! What was gained: bytes of a model's files, as they are and after a general compressor.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use penjing_graph::Graph;
use penjing_graph::onnx::{self, WriteOptions};
use serde::Serialize;

use crate::run::RunError;

/// Level at which sizes after zstd are stated.
const ZSTD_LEVEL: i32 = 19;
/// More bytes are not compressed: the level manages a few megabytes a second.
const MAX_COMPRESSED: u64 = 1 << 30;

/// Bytes of a model: of its file, and of those beside it that hold its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// As they are.
    pub bytes: u64,
    /// After `zstd -19`, each file on its own; `None` of more than 1 GiB, which would take many minutes.
    pub zstd: Option<u64>,
}

impl FileSize {
    /// Size of files, all together. They are read in pieces.
    ///
    /// # Errors
    /// When one cannot be read, or the compressor fails for want of memory.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<FileSize, RunError> {
        let open = |path: &'a Path| {
            let file = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
            file.map(|(len, file)| (path, len, file)).map_err(|source| RunError::Read { path: path.into(), source })
        };
        let files = files.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let bytes = files.iter().map(|(_, len, _)| len).sum();
        let compressed = |(path, len, file): (&Path, u64, File)| {
            compressed(len, file).map_err(|source| RunError::Compressor { path: path.into(), source })
        };
        let zstd = match bytes <= MAX_COMPRESSED {
            true => Some(files.into_iter().map(compressed).sum::<Result<u64, _>>()?),
            false => None,
        };
        Ok(FileSize { bytes, zstd })
    }

    /// Size of a graph with all its tensors written out, for which it is written into `folder` and removed again.
    ///
    /// # Errors
    /// When it cannot be written or compressed.
    pub fn of_dense(graph: &Graph, folder: &Path) -> Result<FileSize, RunError> {
        let written = onnx::write(graph, folder.join("dense.onnx"), WriteOptions { overwrite: true, ..WriteOptions::default() })?;
        let size = FileSize::of(written.files.iter().map(|path| path.as_path()));
        // What stays behind costs space, nothing else.
        written.files.iter().for_each(|path| drop(fs::remove_file(path)));
        size
    }
}

/// Bytes that a file of `len` bytes takes after the compressor.
fn compressed(len: u64, mut file: File) -> io::Result<u64> {
    let mut encoder = zstd::Encoder::new(Counter(0), ZSTD_LEVEL)?;
    // The length in advance gives the same parameters as compressing all at once.
    encoder.set_pledged_src_size(Some(len))?;
    io::copy(&mut file, &mut encoder)?;
    Ok(encoder.finish()?.0)
}

/// Counts what is written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).expect("written"));
        folder
    }

    #[test]
    fn files_count_together() {
        let text = b"bonsai ".repeat(1000);
        let folder = folder(&[("a", &text), ("b", &text[..70])]);
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let size = |files: &[&Path]| FileSize::of(files.iter().copied()).expect("a size");
        let (first, second, both) = (size(&[&a]), size(&[&b]), size(&[&a, &b]));
        assert_eq!((first.bytes, second.bytes, both.bytes), (7000, 70, 7070));
        assert_eq!(both.zstd, first.zstd.zip(second.zstd).map(|(a, b)| a + b));
        let at_once = zstd::bulk::compress(&text, ZSTD_LEVEL).expect("compressed").len() as u64;
        assert_eq!(first.zstd, Some(at_once));
        assert!(at_once < 100, "{at_once}");
    }

    #[test]
    fn what_takes_too_long_is_not_compressed() {
        let folder = folder(&[("a", b"x")]);
        let path = folder.path().join("a");
        // A hole in a file takes no space on the disk.
        File::options().write(true).open(&path).and_then(|file| file.set_len(MAX_COMPRESSED + 1)).expect("a hole");
        assert_eq!(FileSize::of([path.as_path()]).expect("a size"), FileSize { bytes: (1 << 30) + 1, zstd: None });
        let missing = FileSize::of([folder.path().join("b").as_path()]).expect_err("no file").to_string();
        assert!(missing.starts_with("cannot read `"), "{missing}");
    }
}
