//! A run's folder: the recipe, and what was finished, so that a run that was cut short goes on to the same bytes.
//!
//! A run is a deterministic program whose costly parts are remembered. On resume it runs from the start again, and every
//! stage that its journal holds is read back instead of done.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use penjing_graph::{DataType, Edit, Graph, Tensor, ValueId, write_whole};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::recipe::{RECIPE_VERSION, Recipe};
use crate::run::RunError;

/// A run's folder and what it remembers.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    log: File,
    finished: Vec<Entry>,
    /// Whether the run began here, not in an earlier process.
    new: bool,
    /// Held while the run goes on, so that two runs do not share a folder.
    _lock: File,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    stage: String,
    result: serde_json::Value,
}

/// The stage that notes which file the run started from.
pub(crate) const INPUT: &str = "input";

impl Journal {
    /// A new run in `folder`, which is made where it does not exist.
    ///
    /// # Errors
    /// When the folder holds a run already or cannot be written.
    pub fn create(folder: &Path, recipe: &Recipe) -> Result<Journal, RunError> {
        let write = |source| RunError::Write { path: folder.into(), source };
        if folder.join("recipe.toml").exists() {
            return Err(RunError::Folder {
                path: folder.into(),
                reason: "holds a run already (hint: --resume it, --force to start it anew, or name another with --run)".into(),
            });
        }
        let unwritable = |e| RunError::Recipe(format!("the recipe cannot be written down: {e} (hint: rename what it names)"));
        let text = toml::to_string_pretty(recipe).map_err(unwritable)?;
        std::fs::create_dir_all(folder).map_err(write)?;
        write_atomically(&folder.join("recipe.toml"), text.as_bytes())?;
        Ok(Journal { new: true, ..Journal::open(folder)? })
    }

    /// Removes what a run left in `folder`, and nothing else; a folder that holds no run is left alone.
    ///
    /// # Errors
    /// When another process is at the run, or something cannot be removed.
    pub fn discard(folder: &Path) -> Result<(), RunError> {
        if !folder.join("recipe.toml").exists() {
            return Ok(());
        }
        Journal::open(folder)?.erase()
    }

    /// Removes a new run of which nothing was finished and no training was begun: there is nothing to resume, and a second try
    /// shall not find the folder taken.
    pub(crate) fn withdraw(&self) {
        let begun = || self.files().any(|path| path.extension().is_some_and(|e| e == "checkpoint"));
        if !self.new || self.finished.iter().any(|entry| entry.stage != INPUT) || begun() {
            return;
        }
        // What cannot be removed is in nobody's way but a second try's, which says so.
        if self.erase().is_ok() {
            drop(std::fs::remove_file(self.folder.join("lock")));
            drop(std::fs::remove_dir(&self.folder));
        }
    }

    /// Removes what the run wrote.
    fn erase(&self) -> Result<(), RunError> {
        let folder = &self.folder;
        self.tidy();
        // The recipe goes last: a folder without it holds no run.
        let models = ["original.onnx", "model.onnx", "measured.onnx", "candidate.onnx", "most-accurate.onnx", "dense.onnx"];
        let with_data = models.iter().flat_map(|name| [name.to_string(), format!("{name}.data")]);
        for name in ["log.jsonl", "outcome.json"].map(String::from).into_iter().chain(with_data).chain(["recipe.toml".into()]) {
            let path = folder.join(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(RunError::Write { path, source }),
                _ => {}
            }
        }
        Ok(())
    }

    /// The record of the run in `folder`, if it is finished.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn record(folder: &Path) -> Result<Option<serde_json::Value>, RunError> {
        let path = folder.join("outcome.json");
        match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|e| RunError::Folder { path, reason: format!("is no record: {e}") })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RunError::Read { path, source }),
        }
    }

    /// The run in `folder` and its recipe, to go on with it.
    ///
    /// # Errors
    /// When there is no run, its recipe cannot be read, or another process is at it.
    pub fn resume(folder: &Path) -> Result<(Journal, Recipe), RunError> {
        let path = folder.join("recipe.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| RunError::Read { path: path.clone(), source })?;
        let recipe: Recipe = toml::from_str(&text).map_err(|e| RunError::Folder { path, reason: e.to_string() })?;
        if recipe.version != RECIPE_VERSION {
            let reason = format!("the recipe has version {}, this program reads {RECIPE_VERSION}", recipe.version);
            return Err(RunError::Folder { path: folder.into(), reason });
        }
        Ok((Journal::open(folder)?, recipe))
    }

    fn open(folder: &Path) -> Result<Journal, RunError> {
        let open = |name: &str| {
            let path = folder.join(name);
            let file = OpenOptions::new().create(true).append(true).read(true).open(&path);
            file.map_err(|source| RunError::Write { path, source })
        };
        let lock = open("lock")?;
        if lock.try_lock().is_err() {
            return Err(RunError::Folder {
                path: folder.into(),
                reason: "another process is at this run (hint: wait for it, or name another folder with --run)".into(),
            });
        }
        let log = open("log.jsonl")?;
        let mut finished = vec![];
        let mut whole = 0;
        let mut reader = BufReader::new(&log);
        let mut line = vec![];
        let failed = |source| RunError::Read { path: folder.join("log.jsonl"), source };
        // A line that was cut short by a kill, if only by its end, was never finished.
        while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { break };
            whole += line.len() as u64;
            finished.push(entry);
            line.clear();
        }
        log.set_len(whole).map_err(|source| RunError::Write { path: folder.join("log.jsonl"), source })?;
        Ok(Journal { folder: folder.into(), log, finished, new: false, _lock: lock })
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `stage` gave, if it is finished.
    pub fn recall<T: for<'a> Deserialize<'a>>(&self, stage: &str) -> Option<T> {
        let entry = self.finished.iter().find(|e| e.stage == stage)?;
        serde_json::from_value(entry.result.clone()).ok()
    }

    /// Notes that `stage` is finished and what it gave; on disk before this returns.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn note(&mut self, stage: &str, result: &impl Serialize) -> Result<(), RunError> {
        let failed = |source: std::io::Error| RunError::Write { path: self.folder.join("log.jsonl"), source };
        let result = serde_json::to_value(result).map_err(|e| failed(e.into()))?;
        let entry = Entry { stage: stage.into(), result };
        let mut line = serde_json::to_string(&entry).map_err(|e| failed(e.into()))?;
        line.push('\n');
        self.log.write_all(line.as_bytes()).and_then(|()| self.log.sync_data()).map_err(failed)?;
        self.finished.push(entry);
        Ok(())
    }

    /// Where the training of `stage` keeps its checkpoint.
    pub fn checkpoint(&self, stage: &str) -> PathBuf {
        self.folder.join(format!("{stage}.checkpoint"))
    }

    fn weights(&self, stage: &str) -> PathBuf {
        self.folder.join(format!("{stage}.weights"))
    }

    /// Keeps the float32 weights that `stage` left; gives their digest, by which [`Journal::load_weights`] knows them again.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save_weights(&self, stage: &str, graph: &Graph) -> Result<String, RunError> {
        let views = float_weights(graph).map(|(id, tensor)| {
            let raw = tensor.raw().map(|r| &r[..]).unwrap_or_default();
            Ok((graph.value(id).name.as_str(), TensorView::new(Dtype::F32, tensor.dims().to_vec(), raw)?))
        });
        let path = self.weights(stage);
        let failed = |e: SafeTensorError| RunError::Folder { path: path.clone(), reason: e.to_string() };
        let views = views.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let bytes = safetensors::serialize(views, None).map_err(failed)?;
        write_atomically(&path, &bytes)?;
        Ok(hexadecimal(&Sha256::digest(&bytes)))
    }

    /// The graph with the weights that `stage` left.
    ///
    /// # Errors
    /// When they cannot be read, are not those of that digest, or belong to another graph.
    pub fn load_weights(&self, stage: &str, digest: &str, graph: &Graph) -> Result<Graph, RunError> {
        let path = self.weights(stage);
        let bytes = Bytes::from(std::fs::read(&path).map_err(|source| RunError::Read { path: path.clone(), source })?);
        let refused =
            |what: &str| RunError::Folder { path: path.clone(), reason: format!("{what} (hint: start the run anew with --force)") };
        if hexadecimal(&Sha256::digest(&bytes)) != digest {
            return Err(refused("is damaged: it does not hold what was written"));
        }
        let damaged = || refused("does not fit the model");
        let stored = SafeTensors::deserialize(&bytes).map_err(|_| damaged())?;
        let mut edit = Edit::new(graph, format!("recall the weights of {stage}"));
        for (id, tensor) in float_weights(graph) {
            let view = stored.tensor(&graph.value(id).name).map_err(|_| damaged())?;
            if view.shape() != tensor.dims() || view.dtype() != Dtype::F32 {
                return Err(damaged());
            }
            edit.set_tensor(id, Tensor::from_raw(DataType::Float, tensor.dims().to_vec(), bytes.slice_ref(view.data()))?);
        }
        let mut graph = graph.clone();
        graph.apply(edit)?;
        Ok(graph)
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        std::fs::read_dir(&self.folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
    }

    /// Removes checkpoints and remembered weights of a run that is over.
    pub fn tidy(&self) {
        for path in self.files() {
            if path.extension().is_some_and(|e| e == "checkpoint" || e == "weights") {
                // What stays behind costs space, nothing else.
                drop(std::fs::remove_file(path));
            }
        }
    }
}

fn float_weights(graph: &Graph) -> impl Iterator<Item = (ValueId, &Tensor)> {
    graph.initializers().filter(|(_, t)| t.dtype() == DataType::Float)
}

/// Octets as text.
pub(crate) fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Writes a file of a run whole or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    write_whole(path, bytes).map_err(|source| RunError::Write { path: path.into(), source })
}
