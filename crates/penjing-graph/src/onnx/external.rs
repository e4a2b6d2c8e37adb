//! Elements in files beside the model: mapped, and never outside the model's folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::elements::{entry, type_and_dims};
use super::mapped::Mapping;
use super::proto::TensorProto;
use crate::{GraphError, Tensor};

/// The files that a model in `folder` keeps elements in, each mapped once.
#[derive(Debug)]
pub(super) struct ExternalFiles<'a> {
    folder: Option<&'a Path>,
    files: BTreeMap<PathBuf, Bytes>,
    mapped: Vec<Mapping>,
}

impl<'a> ExternalFiles<'a> {
    /// Nothing is opened before it is asked for; without a folder every external tensor is an error.
    pub(super) fn new(folder: Option<&'a Path>) -> ExternalFiles<'a> {
        ExternalFiles { folder, files: BTreeMap::new(), mapped: vec![] }
    }

    /// The files that tensors were taken from, by name, and their mappings.
    pub(super) fn into_parts(self) -> (Vec<PathBuf>, Vec<Mapping>) {
        (self.files.into_keys().collect(), self.mapped)
    }

    /// The tensor called `name` whose elements `external_data` points to. `checksum` covers the whole file and is not
    /// compared: that would read every page of it.
    pub(super) fn tensor(&mut self, name: &str, proto: &TensorProto) -> Result<Tensor, GraphError> {
        let location = entry(&proto.external_data, "location").unwrap_or_default();
        let refused =
            |(reason, source): Refusal| GraphError::ExternalData { tensor: name.into(), location: location.into(), reason, source };
        let number = |key: &str| match entry(&proto.external_data, key) {
            None => Ok(None),
            Some(text) => {
                text.parse::<usize>().map(Some).map_err(|_| refused((format!("has the {key} `{text}`, which is no number"), None)))
            }
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let (dtype, dims) = type_and_dims(proto).map_err(|reason| GraphError::Tensor { tensor: name.into(), reason })?;
        let needed = crate::element_count(&dims).and_then(|n| dtype.byte_len(n));
        let length = match (length, needed) {
            (length, Some(needed)) => length.unwrap_or(needed),
            (_, None) => return Err(refused(("cannot hold strings".into(), None))),
        };
        let file = self.file(location).map_err(refused)?;
        let end = offset.checked_add(length).filter(|end| *end <= file.len());
        let end = end.ok_or_else(|| refused((format!("has {} bytes, not {length} from {offset} on", file.len()), None)))?;
        Tensor::from_raw(dtype, dims, file.slice(offset..end))
            .map_err(|e| GraphError::Tensor { tensor: name.into(), reason: e.to_string() })
    }

    fn file(&mut self, location: &str) -> Result<Bytes, Refusal> {
        let folder = self.folder.ok_or(("cannot be found without knowing the model's folder".to_string(), None))?;
        let relative = Path::new(location);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(plain) {
            return Err(("is not a path below the model's folder".into(), None));
        }
        let found = |result: io::Result<PathBuf>| result.map_err(|e| ("cannot be found beside the model".to_string(), Some(e)));
        let home = found(folder.canonicalize())?;
        let path = found(folder.join(relative).canonicalize())?;
        if !path.starts_with(&home) {
            return Err(("leads out of the model's folder (hint: put the file itself there instead of a link)".into(), None));
        }
        if let Some(bytes) = self.files.get(&path) {
            return Ok(bytes.clone());
        }
        let map = Mapping::open(&path).map_err(|e| ("cannot be mapped".to_string(), Some(e)))?;
        let bytes = map.as_ref().map(Mapping::bytes).unwrap_or_default();
        self.mapped.extend(map);
        self.files.insert(path, bytes.clone());
        Ok(bytes)
    }
}

/// What a file does wrong, as the end of a sentence, and why.
type Refusal = (String, Option<io::Error>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::elements::new_entry;

    fn proto(entries: &[(&str, &str)]) -> TensorProto {
        let external_data = entries.iter().map(|(k, v)| new_entry(*k, *v)).collect();
        TensorProto { data_type: Some(1), dims: vec![2], data_location: Some(1), external_data, ..TensorProto::default() }
    }

    fn folder() -> io::Result<tempfile::TempDir> {
        let outer = tempfile::tempdir()?;
        std::fs::create_dir(outer.path().join("model"))?;
        std::fs::write(outer.path().join("secret"), [1; 64])?;
        std::fs::write(outer.path().join("model/w.bin"), [0u8, 0, 0x80, 0x3f].repeat(4))?;
        std::fs::write(outer.path().join("model/empty"), [])?;
        Ok(outer)
    }

    #[test]
    fn a_range_of_a_file_is_shared_not_copied() -> Result<(), Box<dyn std::error::Error>> {
        let outer = folder()?;
        let folder = outer.path().join("model");
        let mut files = ExternalFiles::new(Some(&folder));
        let a = files.tensor("a", &proto(&[("location", "w.bin"), ("offset", "0"), ("length", "8")]))?;
        let b = files.tensor("b", &proto(&[("location", "./w.bin"), ("offset", "8")]))?;
        assert_eq!(a.values::<f32>().as_deref(), Some(&[1.0, 1.0][..]));
        let start = |t: &Tensor| t.raw().map(|r| r.as_ptr() as usize);
        assert_eq!(start(&b), start(&a).map(|p| p + 8));
        let (paths, mapped) = files.into_parts();
        assert_eq!((paths, mapped.len()), (vec![folder.join("w.bin").canonicalize()?], 1));
        Ok(())
    }

    #[test]
    fn nothing_outside_the_folder_or_the_file_is_read() -> Result<(), Box<dyn std::error::Error>> {
        let outer = folder()?;
        let folder = outer.path().join("model");
        #[cfg(unix)]
        std::os::unix::fs::symlink(outer.path().join("secret"), folder.join("link"))?;
        let secret = outer.path().join("secret").display().to_string();
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("location", "../secret")], "is not a path below"),
            (&[("location", "a/../../secret")], "is not a path below"),
            (&[("location", &secret)], "is not a path below"),
            (&[("location", "")], "is not a path below"),
            (&[], "is not a path below"),
            #[cfg(unix)]
            (&[("location", "link")], "leads out of"),
            (&[("location", "missing")], "cannot be found"),
            (&[("location", ".")], "cannot be mapped"),
            (&[("location", "empty")], "has 0 bytes"),
            (&[("location", "w.bin"), ("offset", "12")], "has 16 bytes, not 8 from 12 on"),
            (&[("location", "w.bin"), ("offset", "18446744073709551615")], "has 16 bytes"),
            (&[("location", "w.bin"), ("offset", "-1")], "offset `-1`"),
            (&[("location", "w.bin"), ("length", "x")], "length `x`"),
            (&[("location", "w.bin"), ("length", "4")], "tensor `w`"),
        ];
        for (entries, expected) in cases {
            let message = ExternalFiles::new(Some(&folder)).tensor("w", &proto(entries)).err().map(|e| e.to_string());
            assert!(message.as_deref().is_some_and(|m| m.contains(expected)), "{entries:?}: {message:?}");
        }
        Ok(())
    }
}
