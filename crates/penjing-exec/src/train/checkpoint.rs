//! A training that was put down: one safetensors file from which it goes on to the same bits.
//!
//! Tensors are named `weight/…` (running statistics included), `optimizer/…` and, with early stopping, `best/…`. The header's one
//! metadata entry is JSON: version, digest, settings, position. Draws need no saving: order and augmentation follow from seed, epoch and
//! sample.
//! Masks are not in it: whoever set them sets them again before the training goes on.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use penjing_graph::{DataType, Tensor, ValueId, write_whole};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TrainSettings;
use super::trainer::EpochSummary;
use crate::{ExecError, Executor};

const VERSION: u64 = 2;
const KEY: &str = "penjing.checkpoint";

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Position {
    /// Epochs that are done.
    pub epoch: u64,
    /// Steps of the next epoch that are done.
    pub step: u64,
    /// Σ loss · samples of those steps.
    #[serde(with = "bits")]
    pub loss_sum: f64,
    /// Samples of those steps.
    pub samples: u64,
    /// The epochs that are done.
    pub history: Vec<EpochSummary>,
}

/// All that a training needs to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The settings that it was started with.
    pub settings: TrainSettings,
    /// Number of training samples that it was started with.
    pub samples: u64,
    /// Where it stands.
    pub position: Position,
    weights: BTreeMap<String, Tensor>,
    best: Option<BTreeMap<String, Tensor>>,
    optimizer_steps: u64,
    optimizer: BTreeMap<String, Tensor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Header {
    version: u64,
    /// SHA-256 of all that the checkpoint says, see [`Checkpoint::digest`].
    sha256: String,
    settings: TrainSettings,
    samples: u64,
    position: Position,
    optimizer_steps: u64,
    keeps_best: bool,
}

impl Checkpoint {
    /// Takes down the state of a training.
    pub(super) fn capture(
        executor: &dyn Executor,
        settings: TrainSettings,
        samples: u64,
        position: Position,
        best: Option<BTreeMap<String, Tensor>>,
    ) -> Result<Checkpoint, ExecError> {
        let (optimizer_steps, optimizer) = executor.optimizer_state();
        Ok(Checkpoint { settings, samples, position, weights: weights(executor)?, best, optimizer_steps, optimizer })
    }

    /// The weights of the best epoch so far, where early stopping keeps them.
    pub(super) fn best(&self) -> Option<&BTreeMap<String, Tensor>> {
        self.best.as_ref()
    }

    /// Puts weights, running statistics and the optimizer's memory into an executor of the same model.
    ///
    /// # Errors
    /// When it is another model.
    pub fn restore(&self, executor: &mut dyn Executor) -> Result<(), ExecError> {
        restore_weights(executor, &self.weights)?;
        executor.set_optimizer_state(self.optimizer_steps, &self.optimizer)
    }

    /// Writes to a temporary file beside `path`, flushes it to the disk and renames it: there is a whole checkpoint at any moment.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ExecError> {
        let failed = |source: io::Error| ExecError::Write { path: path.into(), source };
        write_whole(path, &self.to_bytes().map_err(failed)?).map_err(failed)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// When it cannot be read, is cut off or damaged, is no checkpoint, or is one of another version.
    pub fn read(path: &Path) -> Result<Checkpoint, ExecError> {
        let bytes = Bytes::from(fs::read(path).map_err(|source| ExecError::Read { path: path.into(), source })?);
        Checkpoint::from_bytes(&bytes).map_err(|reason| ExecError::Checkpoint { path: path.into(), reason })
    }

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let header = self.header(self.digest()?);
        // One entry only: the order of several would be that of a hash map.
        let metadata = HashMap::from([(KEY.to_string(), serde_json::to_string(&header)?)]);
        safetensors::serialize(self.tensors(), Some(metadata)).map_err(io::Error::other)
    }

    fn header(&self, sha256: String) -> Header {
        Header {
            version: VERSION,
            sha256,
            settings: self.settings,
            samples: self.samples,
            position: self.position.clone(),
            optimizer_steps: self.optimizer_steps,
            keeps_best: self.best.is_some(),
        }
    }

    /// Every tensor by its name in the file.
    fn tensors(&self) -> impl Iterator<Item = (String, Stored<'_>)> {
        let groups = [("weight", Some(&self.weights)), ("best", self.best.as_ref()), ("optimizer", Some(&self.optimizer))];
        groups.into_iter().flat_map(|(group, tensors)| {
            tensors.into_iter().flatten().filter_map(move |(name, tensor)| Some((format!("{group}/{name}"), Stored::new(tensor)?)))
        })
    }

    /// SHA-256, in hexadecimal, of the header with an empty digest and of each tensor: name, type, shape, elements. The file's own
    /// checks find what is cut off; only this finds a bit that flipped.
    fn digest(&self) -> io::Result<String> {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_string(&self.header(String::new()))?);
        for (name, stored) in self.tensors() {
            hash.update(format!("\n{name} {:?} {:?}\n", stored.dtype, stored.tensor.dims()));
            hash.update(stored.bytes);
        }
        Ok(hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect())
    }

    fn from_bytes(bytes: &Bytes) -> Result<Checkpoint, String> {
        const AFRESH: &str = "(hint: start the training afresh)";
        let broken = |e: &dyn std::fmt::Display| format!("is damaged or cut off: {e} {AFRESH}");
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| broken(&e))?;
        let header = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
        let header = header.ok_or("is a safetensors file, but no checkpoint of a training (hint: `--weights` reads weights)")?;
        let header: serde_json::Value = serde_json::from_str(header).map_err(|e| broken(&e))?;
        match header.get("version").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => {}
            Some(version) => return Err(format!("has version {version}, but this program reads version {VERSION} {AFRESH}")),
            None => return Err(broken(&"it states no version")),
        }
        let header: Header = serde_json::from_value(header).map_err(|e| broken(&e))?;
        let mut groups: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(|e| broken(&e))?.tensors() {
            let (group, name) = name.split_once('/').ok_or_else(|| broken(&format!("unknown tensor `{name}`")))?;
            let dtype = onnx_type(view.dtype()).ok_or_else(|| broken(&format!("`{name}` is {:?}", view.dtype())))?;
            let raw = Bytes::copy_from_slice(view.data());
            let tensor = Tensor::from_raw(dtype, view.shape().to_vec(), raw).map_err(|e| broken(&e))?;
            groups.entry(group.into()).or_default().insert(name.into(), tensor);
        }
        let mut group = |name| groups.remove(name).unwrap_or_default();
        let checkpoint = Checkpoint {
            settings: header.settings,
            samples: header.samples,
            position: header.position,
            weights: group("weight"),
            best: header.keeps_best.then(|| group("best")),
            optimizer_steps: header.optimizer_steps,
            optimizer: group("optimizer"),
        };
        if checkpoint.digest().map_err(|e| broken(&e))? != header.sha256 {
            return Err(broken(&"what it holds is not what was written"));
        }
        Ok(checkpoint)
    }
}

/// The float initializers of a model as they are now, by name, running statistics included.
pub(super) fn weights(executor: &dyn Executor) -> Result<BTreeMap<String, Tensor>, ExecError> {
    let graph = executor.to_graph()?;
    let floats = graph.initializers().filter(|(_, tensor)| stored_type(tensor.dtype()).is_some());
    Ok(floats.map(|(id, tensor)| (graph.value(id).name.clone(), tensor.clone())).collect())
}

/// Puts weights back by name. Nothing changes unless all fit.
pub(super) fn restore_weights(executor: &mut dyn Executor, weights: &BTreeMap<String, Tensor>) -> Result<(), ExecError> {
    let graph = executor.to_graph()?;
    let mut placed: Vec<(ValueId, &Tensor)> = vec![];
    for (id, now) in graph.initializers().filter(|(_, tensor)| stored_type(tensor.dtype()).is_some()) {
        let name = &graph.value(id).name;
        let other = |found: String| {
            ExecError::Option(format!(
                "the checkpoint belongs to another model: `{name}` is {} {:?} here and {found} there (hint: give the model that the \
                 training started from, or start afresh)",
                now.dtype().name(),
                now.dims()
            ))
        };
        match weights.get(name) {
            Some(saved) if (saved.dtype(), saved.dims()) == (now.dtype(), now.dims()) => placed.push((id, saved)),
            Some(saved) => return Err(other(format!("{} {:?}", saved.dtype().name(), saved.dims()))),
            None => return Err(other("missing".into())),
        }
    }
    if placed.len() != weights.len() {
        return Err(ExecError::Option(format!(
            "the checkpoint belongs to another model: it has {} weights, this one {} (hint: give the model that the training started from, \
             or start afresh)",
            weights.len(),
            placed.len()
        )));
    }
    placed.into_iter().try_for_each(|(id, tensor)| executor.set_weight(id, tensor))
}

/// A tensor as safetensors takes it.
struct Stored<'a> {
    dtype: Dtype,
    tensor: &'a Tensor,
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    fn new(tensor: &'a Tensor) -> Option<Stored<'a>> {
        Some(Stored { dtype: stored_type(tensor.dtype())?, tensor, bytes: tensor.raw()? })
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The types that weights can have.
const TYPES: [(DataType, Dtype); 4] =
    [(DataType::Float, Dtype::F32), (DataType::Float16, Dtype::F16), (DataType::Bfloat16, Dtype::BF16), (DataType::Double, Dtype::F64)];

fn stored_type(dtype: DataType) -> Option<Dtype> {
    TYPES.iter().find(|(onnx, _)| *onnx == dtype).map(|(_, stored)| *stored)
}

fn onnx_type(dtype: Dtype) -> Option<DataType> {
    TYPES.iter().find(|(_, stored)| *stored == dtype).map(|(onnx, _)| *onnx)
}

/// A float as its bits: decimal text can be off by the last one.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Linear;
    use super::*;

    fn sample() -> Result<Checkpoint, ExecError> {
        let position = Position { epoch: 1, step: 2, loss_sum: 0.1 + 0.2, samples: 32, history: vec![] };
        Checkpoint::capture(&Linear::new(2, 3), TrainSettings::default(), 100, position, None)
    }

    #[test]
    fn read_gives_what_was_written_and_the_bytes_repeat() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("train.safetensors");
        let checkpoint = sample()?;
        checkpoint.write(&path)?;
        assert_eq!(Checkpoint::read(&path)?, checkpoint);
        let first = fs::read(&path)?;
        sample()?.write(&path)?;
        assert_eq!(fs::read(&path)?, first);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1); // no temporary file is left
        Ok(())
    }

    #[test]
    fn no_prefix_of_the_file_passes_for_it() -> Result<(), Box<dyn std::error::Error>> {
        let bytes = Bytes::from(sample()?.to_bytes()?);
        for length in 0..bytes.len() {
            let reason = Checkpoint::from_bytes(&bytes.slice(..length)).expect_err("cut off");
            assert!(reason.starts_with("is damaged or cut off") && reason.ends_with("(hint: start the training afresh)"), "{reason}");
        }
        Ok(())
    }

    #[test]
    fn no_flipped_bit_passes() -> Result<(), Box<dyn std::error::Error>> {
        let whole = sample()?;
        let bytes = whole.to_bytes()?;
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // What does not change the meaning, such as a space between two entries, may pass.
            if let Ok(read) = Checkpoint::from_bytes(&Bytes::from(flipped)) {
                assert_eq!(read, whole, "bit {bit}");
            }
        }
        let elements = bytes.len() - 4;
        let flipped = [&bytes[..elements], &[!bytes[elements]], &bytes[elements + 1..]].concat();
        let reason = Checkpoint::from_bytes(&Bytes::from(flipped)).expect_err("other elements");
        assert_eq!(reason, "is damaged or cut off: what it holds is not what was written (hint: start the training afresh)");
        Ok(())
    }

    #[test]
    fn other_files_and_versions_are_refused() -> Result<(), Box<dyn std::error::Error>> {
        let with = |key: &str, json: &str| {
            let metadata = HashMap::from([(key.to_string(), json.to_string())]);
            let none: [(String, Stored<'_>); 0] = [];
            safetensors::serialize(none, Some(metadata)).map(|bytes| Checkpoint::from_bytes(&Bytes::from(bytes)))
        };
        let reason = with(KEY, "{\"version\":99}")?.expect_err("version 99");
        assert_eq!(reason, "has version 99, but this program reads version 2 (hint: start the training afresh)");
        let reason = with("format", "pt")?.expect_err("plain weights");
        assert!(reason.starts_with("is a safetensors file, but no checkpoint"), "{reason}");
        assert!(with(KEY, "{}")?.is_err() && with(KEY, "[")?.is_err() && with(KEY, "{\"version\":2}")?.is_err());
        Ok(())
    }

    #[test]
    fn another_model_is_named_and_left_alone() -> Result<(), ExecError> {
        let checkpoint = sample()?;
        let mut wider = Linear::new(2, 4);
        let before = weights(&wider)?;
        let text = checkpoint.restore(&mut wider).expect_err("another model").to_string();
        assert!(
            text.starts_with("the checkpoint belongs to another model: `weight` is float32 [2, 4] here and float32 [2, 3] there"),
            "{text}"
        );
        assert_eq!(weights(&wider)?, before);
        Ok(())
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_the_path() -> Result<(), ExecError> {
        let text = sample()?.write(Path::new("/nowhere/at/all.safetensors")).expect_err("no folder").to_string();
        assert_eq!(text, "cannot write `/nowhere/at/all.safetensors`");
        Ok(())
    }
}
