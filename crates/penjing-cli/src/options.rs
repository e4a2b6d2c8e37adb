//! Options that several commands share.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use penjing_compress::floor::{Certainty, Floor, Limit};
use penjing_compress::{DataSource, ModelSource};
use penjing_exec::Loss;
use penjing_exec::data::{Augment, Preprocess, Split, SplitOptions};
use penjing_exec::runtime::{OnnxRuntime, RuntimeKind};
use penjing_exec::train::{Optimizer, Schedule, TrainSettings};
use penjing_graph::{Graph, onnx, zoo};

use crate::progress::warn;

/// The command line asks for what cannot be: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The accuracy that must hold.
#[derive(Args)]
pub(crate) struct FloorOptions {
    /// Go as far as the accuracy stays within so many percentage points of the original's
    #[arg(long, value_name = "POINTS", conflicts_with = "min_accuracy")]
    max_drop: Option<f64>,
    /// Go as far as the accuracy stays at so many percent
    #[arg(long, value_name = "PERCENT")]
    min_accuracy: Option<f64>,
    /// How surely the floor must hold: point estimate, or lower end of its 95 % interval
    #[arg(long, value_enum, default_value = "point")]
    floor: FloorName,
    /// Your own measure, the higher the better: given a model's path, this command prints one number. --max-drop and
    /// --min-accuracy then mean that number, in its unit, instead of the accuracy
    #[arg(long, value_name = "COMMAND")]
    pub(crate) metric_command: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloorName {
    Point,
    Strict,
}

impl FloorOptions {
    /// Whether one is.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.max_drop.is_some() || self.min_accuracy.is_some()
    }

    /// The floor that is asked for.
    pub(crate) fn floor(&self) -> Result<Option<Floor>> {
        let limit = match (self.max_drop, self.min_accuracy) {
            (Some(points), _) => Limit::MaxDrop(points),
            (None, Some(percent)) => Limit::MinAccuracy(percent),
            (None, None) => return Ok(None),
        };
        let certainty = match self.floor {
            FloorName::Point => Certainty::Point,
            FloorName::Strict => Certainty::Strict,
        };
        let floor = Floor { limit, certainty };
        let sound = match self.metric_command {
            Some(_) => floor.judge_metric(0.0, 0.0).map(|_| ()),
            None => floor.check(),
        };
        sound.map_err(|e| Usage(e.to_string()))?;
        Ok(Some(floor))
    }
}

/// How to train.
#[derive(Args)]
#[command(next_help_heading = "Training")]
pub(crate) struct TrainOptions {
    /// Passes over the training split [default: 10]
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Samples in a step [default: 64]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// sgd, nesterov, adam or adamw
    #[arg(long, value_name = "NAME", default_value = "sgd")]
    optimizer: Optimizer,
    /// Learning rate [default: 0.1 for every 256 samples of the batch; 0.001 for Adam]
    #[arg(long, value_name = "RATE")]
    lr: Option<f32>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "FRACTION")]
    momentum: Option<f32>,
    /// Weight decay [default: 0.0005 for SGD, 0 for Adam, 0.01 for AdamW]
    #[arg(long, value_name = "FACTOR")]
    weight_decay: Option<f32>,
    /// constant, step:EPOCHS:FACTOR, cosine or one-cycle, each with +warmup:STEPS if wanted
    #[arg(long, value_name = "SCHEDULE", default_value = "cosine")]
    schedule: Schedule,
    /// cross-entropy, cross-entropy:SMOOTHING or mse
    #[arg(long, value_name = "LOSS", default_value = "cross-entropy")]
    loss: Loss,
    /// Scale gradients down to at most this norm
    #[arg(long, value_name = "NORM")]
    clip_norm: Option<f32>,
    /// Stop after so many epochs without a better validation accuracy
    #[arg(long, value_name = "EPOCHS")]
    early_stopping: Option<u64>,
}

impl TrainOptions {
    /// The same for a network that is trained already: a tenth of the learning rate where none is given.
    pub(crate) fn gentle(&self, seed: u64) -> Result<TrainSettings> {
        let settings = self.settings(seed)?;
        Ok(TrainSettings { learning_rate: self.lr.unwrap_or(GENTLE * settings.learning_rate), ..settings })
    }

    pub(crate) fn settings(&self, seed: u64) -> Result<TrainSettings> {
        let usage = |e: penjing_exec::ExecError| Usage(e.to_string());
        let batch = self.batch.unwrap_or(TrainSettings::default().batch);
        let settings = TrainSettings {
            epochs: self.epochs.unwrap_or(TrainSettings::default().epochs),
            batch,
            optimizer: self.optimizer.rule(self.momentum, self.weight_decay).map_err(usage)?,
            learning_rate: self.lr.unwrap_or(self.optimizer.default_learning_rate(batch)),
            schedule: self.schedule,
            loss: self.loss,
            clip_norm: self.clip_norm,
            early_stopping: self.early_stopping,
            seed,
        };
        settings.check().map_err(usage)?;
        Ok(settings)
    }
}

/// Share of the usual learning rate where a trained network is trained on.
const GENTLE: f32 = 0.1;

/// Where the data come from.
#[derive(Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct DataOptions {
    /// Data set: folder of IDX files, of images or of CIFAR batches; .npz, .npy, .safetensors or .csv
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// imagenet, tf, none or a TOML file [default: what the model's metadata say, else images are fitted to its input]
    #[arg(long, value_name = "NAME|FILE")]
    preprocess: Option<String>,
    /// Classes of a set that has none of its own
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Mirror half of the training images
    #[arg(long)]
    flip: bool,
    /// Move training images by up to so many pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    crop_padding: usize,
    /// Blank a square of this side in each training image
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    cutout: usize,
}

impl DataOptions {
    pub(crate) fn source(&self, seed: u64) -> Result<Option<DataSource>> {
        let Some(path) = self.data.clone() else { return Ok(None) };
        Ok(Some(DataSource {
            path,
            preprocess: self.preprocess.as_deref().map(Preprocess::from_option).transpose()?,
            labels: self.labels.clone(),
            split_seed: seed,
            augment: Augment { flip: self.flip, crop_padding: self.crop_padding, cutout: self.cutout },
        }))
    }

    pub(crate) fn required(&self, seed: u64) -> Result<DataSource> {
        self.source(seed)?.ok_or_else(|| Usage("this needs data (hint: --data PATH)".into()).into())
    }
}

/// Samples to measure on.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SplitName {
    Train,
    Validation,
    Test,
    /// Every sample of the set, whatever its split
    All,
}

impl SplitName {
    /// The split to read; with `all`, every sample is a test sample.
    pub(crate) fn split(self) -> Split {
        match self {
            SplitName::Train => Split::Train,
            SplitName::Validation => Split::Validation,
            SplitName::Test | SplitName::All => Split::Test,
        }
    }

    /// How the set is shared out.
    pub(crate) fn options(self, source: &DataSource) -> SplitOptions {
        match self {
            SplitName::All => SplitOptions::all_test(),
            SplitName::Train | SplitName::Validation | SplitName::Test => source.split(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            SplitName::Train => "train",
            SplitName::Validation => "validation",
            SplitName::Test => "test",
            SplitName::All => "all",
        }
    }
}

/// What runs models.
#[derive(Args)]
#[command(next_help_heading = "Runtime")]
pub(crate) struct RuntimeOptions {
    /// What runs the model; auto: ONNX Runtime where it is found, else the built-in executor
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto")]
    runtime: RuntimeName,
    /// ONNX Runtime's library or its folder [default: ORT_DYLIB_PATH, then python3's onnxruntime, then the system's]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuntimeName {
    Auto,
    Builtin,
    Onnxruntime,
}

impl RuntimeOptions {
    /// What is to run models, said on stderr.
    pub(crate) fn find(&self) -> Result<RuntimeKind> {
        let found = || OnnxRuntime::find(self.onnxruntime.as_deref());
        let hint = "hint: `pip install onnxruntime`, or --onnxruntime PATH";
        let kind = match self.runtime {
            RuntimeName::Builtin if self.onnxruntime.is_some() => {
                return Err(Usage("--runtime builtin needs no ONNX Runtime (hint: leave --onnxruntime out)".into()).into());
            }
            RuntimeName::Builtin => RuntimeKind::Builtin,
            RuntimeName::Onnxruntime => {
                RuntimeKind::OnnxRuntime(found()?.ok_or_else(|| anyhow!("the library of ONNX Runtime was not found ({hint})"))?)
            }
            RuntimeName::Auto => found()?.map_or(RuntimeKind::Builtin, RuntimeKind::OnnxRuntime),
        };
        match (self.runtime, kind) {
            (_, RuntimeKind::OnnxRuntime(runtime)) => warn(&format!("runtime: ONNX Runtime, {}", runtime.library().display())),
            (RuntimeName::Auto, RuntimeKind::Builtin) => {
                warn(&format!("runtime: built-in executor, as the library of ONNX Runtime was not found ({hint})"));
            }
            (RuntimeName::Builtin | RuntimeName::Onnxruntime, RuntimeKind::Builtin) => warn("runtime: built-in executor"),
        }
        Ok(kind)
    }
}

/// A network of the zoo.
#[derive(Args)]
#[command(next_help_heading = "New networks")]
pub(crate) struct ZooOptions {
    /// Number of classes [default: those of --data where there are data, else the architecture's own]
    #[arg(long, value_name = "N")]
    pub(crate) classes: Option<usize>,
    /// Input as channels x height x width, e.g. 3x32x32 [default: the architecture's own]
    #[arg(long, value_name = "CxHxW", value_parser = input_shape)]
    pub(crate) input: Option<[usize; 3]>,
}

/// A count of at least 1.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "not a whole number from 1".into())
}

fn input_shape(text: &str) -> Result<[usize; 3], String> {
    let parts: Option<Vec<usize>> = text.split('x').map(|p| p.parse().ok()).collect();
    parts.and_then(|p| p.try_into().ok()).ok_or_else(|| "not channels x height x width, such as 3x32x32".into())
}

/// Reads a model.
pub(crate) fn read_model(path: &Path) -> Result<Graph> {
    check_model(path)?;
    if let (false, Ok(architecture)) = (path.exists(), zoo::find(&path.to_string_lossy())) {
        let name = architecture.name;
        return Err(Usage(format!("`{name}` is an architecture, not a file (hint: `penjing new {name} -o {name}.onnx` writes one)")).into());
    }
    Ok(onnx::read(path)?)
}

/// A folder is no model.
pub(crate) fn check_model(path: &Path) -> Result<(), Usage> {
    if path.is_dir() { Err(Usage(format!("`{}` is a folder (hint: name the ONNX file)", path.display()))) } else { Ok(()) }
}

/// A file if there is one of that name, else an architecture of the zoo.
pub(crate) fn model_source(model: &Path, zoo_options: &ZooOptions, seed: u64) -> Result<ModelSource> {
    check_model(model)?;
    if model.exists() || model.extension().is_some_and(|e| e == "onnx") {
        if zoo_options.classes.is_some() || zoo_options.input.is_some() {
            let name = model.display();
            return Err(Usage(format!("--classes and --input are for new networks, but `{name}` is a file (hint: leave them out)")).into());
        }
        return Ok(ModelSource::File { path: model.into() });
    }
    let name = model.to_string_lossy();
    zoo::find(&name).map_err(|e| Usage(format!("no file is called `{name}`, and {e}")))?;
    Ok(ModelSource::New { architecture: name.into(), classes: zoo_options.classes, input: zoo_options.input, seed })
}

/// Whether a result may be written to `output`, asked before hours of work: a file, in a folder that is there, other than the
/// `model` that comes in and than the `state` that the work keeps beside it.
pub(crate) fn check_output(output: &Path, model: &Path, state: Option<&Path>, force: bool) -> Result<()> {
    let shown = output.display();
    let usage = |text: String| Err(Usage(text).into());
    if output.is_dir() {
        return usage(format!("`{shown}` is a folder (hint: name a file, such as -o {})", output.join("model.onnx").display()));
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return usage(format!("cannot write `{shown}`: there is no folder `{}` (hint: make it first)", folder.display()));
    }
    if let (Ok(output), Ok(model)) = (output.canonicalize(), model.canonicalize())
        && output == model
    {
        return usage(format!("`{shown}` is the model that comes in, which is never changed (hint: another name after -o)"));
    }
    if state == Some(output) {
        return usage(format!("`{shown}` is where unfinished work is kept (hint: another name after -o, such as model.onnx)"));
    }
    if output.exists() && !force {
        return Err(anyhow!("`{shown}` exists already (hint: another name after -o, or --force to replace it)"));
    }
    Ok(())
}
