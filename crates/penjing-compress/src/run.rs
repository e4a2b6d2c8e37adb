//! Executes a recipe: measure the original, apply the steps, verify the result, measure the gain, write.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use penjing_exec::data::{DataOptions, Dataset, Description, Preprocess, Split, SplitOptions};
use penjing_exec::runtime::OnnxRuntime;
use penjing_exec::train::statistics::Interval;
use penjing_exec::train::{Checkpoint, Ended, Evaluation, Event, StopFlag, TrainSettings, Trainer, evaluate};
use penjing_exec::{ExecError, cpu_executor};
use penjing_graph::onnx::WriteOptions;
use penjing_graph::zoo::ZooOptions;
use penjing_graph::{Edit, Graph, GraphError, onnx, zoo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::floor::{Floor, FloorVerdict};
use crate::gain::FileSize;
use crate::journal::Journal;
use crate::outcome::{Accuracy, BeforeAfter, OUTCOME_VERSION, Outcome, Round, SizeChange, Verdict};
use crate::prune::{self, Masks, PruneError, Pruning};
use crate::recipe::{DataSource, ModelSource, PruneGoal, Recipe, Step};
use crate::verify::verify;

/// Samples at a time where nothing is trained.
const EVALUATION_BATCH: usize = 256;

/// What can go wrong with a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A run's folder cannot be used.
    #[error("`{}` {reason}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Why, and what would work.
        reason: String,
    },
    /// It was asked to stop; what was done is kept.
    #[error("interrupted; all that was done is in `{}` (hint: go on with --resume {})", path.display(), path.display())]
    Interrupted {
        /// The run's folder.
        path: PathBuf,
    },
    /// The recipe asks for what cannot be.
    #[error("{0}")]
    Recipe(String),
    /// The original predicts no better than chance.
    #[error(
        "the original is right for {percent:.1} % of {samples} validation samples, and the commonest class alone makes {chance:.1} %: \
         train it first, or the labels or the preprocessing do not match (hint: `penjing train`, or --preprocess)"
    )]
    AtChance {
        /// Its accuracy.
        percent: f64,
        /// Share of the commonest class.
        chance: f64,
        /// Samples measured.
        samples: u64,
    },
    /// The written file is not what was meant to be written.
    #[error("the written model differs from the one in memory: {0} (hint: this is a defect of penjing; nothing was written)")]
    NotVerified(String),
    /// The general compressor that sizes are stated with failed.
    #[error("cannot compress the model to state its size")]
    Compressor(#[source] std::io::Error),
    /// Pruning refused.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// The graph refused.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Running or training failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// Something is about to happen.
    Stage(&'a str),
    /// A training goes on.
    Training(Event<'a>),
    /// The data were opened.
    Data(&'a Description),
    /// The original was measured on validation.
    Baseline(&'a Evaluation),
    /// A sparsity was tried.
    Round(&'a Round),
}

/// What a run needs from outside its recipe.
pub struct Context<'a> {
    /// Listens.
    pub listener: &'a mut dyn FnMut(RunEvent<'_>),
    /// Asks to stop.
    pub stop: StopFlag,
    /// ONNX Runtime, where there is one.
    pub onnxruntime: Option<OnnxRuntime>,
    /// Threads for ONNX Runtime.
    pub threads: usize,
}

/// What was learned of a stage of training, as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Trained {
    epochs: Vec<penjing_exec::train::EpochSummary>,
}

/// Runs a recipe in the folder of `journal` to its end, or onwards to it after a kill. With `overwrite`, a file at the
/// recipe's output is replaced.
///
/// # Errors
/// When something cannot be read, trained, verified or written. What was finished stays in the folder.
pub fn execute(recipe: &Recipe, overwrite: bool, journal: &mut Journal, context: &mut Context<'_>) -> Result<Outcome, RunError> {
    if !overwrite && recipe.output.exists() {
        return Err(GraphError::Exists { path: recipe.output.clone() }.into());
    }
    let mut workshop = Workshop::open(recipe, journal, context)?;
    let original = workshop.original(recipe)?;
    let baseline = workshop.baseline(&original)?;
    let mut work = Work { graph: original.clone(), rounds: vec![], missed: None, floor: None };
    for step in &recipe.steps {
        match step {
            Step::Prune { scope, goal } => {
                if let PruneGoal::Floor { floor, .. } = goal {
                    floor.check()?;
                }
                let pruning = Pruning { scope: *scope, goal, original: &original, baseline: baseline.as_ref() };
                pruning.apply(&mut workshop, &mut work)?;
            }
        }
    }
    workshop.finish(recipe, overwrite, &original, baseline, work)
}

/// The network as the steps change it, and what they learned.
pub(crate) struct Work {
    pub(crate) graph: Graph,
    pub(crate) rounds: Vec<Round>,
    /// Why a step's goal was missed.
    pub(crate) missed: Option<String>,
    /// The floor that holds for the result.
    pub(crate) floor: Option<Floor>,
}

/// All that a method may use: data, training, measuring, memory.
pub(crate) struct Workshop<'a, 'c> {
    data: Option<Dataset>,
    retrain: TrainSettings,
    train: TrainSettings,
    pub(crate) journal: &'a mut Journal,
    context: &'a mut Context<'c>,
}

impl<'a, 'c> Workshop<'a, 'c> {
    fn open(recipe: &Recipe, journal: &'a mut Journal, context: &'a mut Context<'c>) -> Result<Workshop<'a, 'c>, RunError> {
        let train = recipe.train.unwrap_or_default();
        Ok(Workshop { data: None, train, retrain: recipe.retrain.unwrap_or(train), journal, context })
    }

    /// Whether anything can be trained and measured.
    pub(crate) fn has_data(&self) -> bool {
        self.data.is_some()
    }

    pub(crate) fn tell(&mut self, event: RunEvent<'_>) {
        (self.context.listener)(event);
    }

    /// The network as it comes in: read, or initialised and trained.
    fn original(&mut self, recipe: &Recipe) -> Result<Graph, RunError> {
        match &recipe.model {
            ModelSource::File { path } => {
                self.pin_input(path)?;
                let graph = onnx::read(path)?;
                if let Some(source) = &recipe.data {
                    self.use_data(open_data(source, &graph)?);
                }
                Ok(graph)
            }
            ModelSource::New { architecture, classes, input, seed } => {
                let graph = build_for(architecture, *classes, *input, *seed, recipe.data.as_ref())?;
                let Some(source) = &recipe.data else { return Ok(graph) };
                let data = open_data(source, &graph)?;
                let mut edit = Edit::new(&graph, "note the preprocessing");
                edit.set_metadata(Preprocess::METADATA_KEY, Some(data.preprocess().to_metadata()));
                let mut graph = graph;
                graph.apply(edit)?;
                self.use_data(data);
                let settings = self.train;
                let graph = self.fit("original", &graph, None, settings)?;
                onnx::write(
                    &graph,
                    self.journal.folder().join("original.onnx"),
                    WriteOptions { overwrite: true, ..WriteOptions::default() },
                )?;
                Ok(graph)
            }
        }
    }

    fn use_data(&mut self, data: Dataset) {
        self.tell(RunEvent::Data(&data.describe()));
        self.data = Some(data);
    }

    /// Remembers which file the run started from; a resume from another one is refused.
    fn pin_input(&mut self, path: &Path) -> Result<(), RunError> {
        let hash = sha256(path).map_err(|source| RunError::Read { path: path.into(), source })?;
        match self.journal.recall::<String>("input") {
            Some(known) if known == hash => Ok(()),
            Some(_) => Err(RunError::Folder {
                path: path.into(),
                reason: "has changed since the run began (hint: bring the original back, or start the run anew with --force)".into(),
            }),
            None => self.journal.note("input", &hash),
        }
    }

    /// The original on validation; an error where it predicts no better than chance.
    fn baseline(&mut self, original: &Graph) -> Result<Option<Evaluation>, RunError> {
        if self.data.is_none() {
            return Ok(None);
        }
        let evaluation = self.evaluate(original, Split::Validation)?;
        let chance = self.data.as_ref().map_or(0.0, |data| commonest_share(data, Split::Validation));
        if evaluation.top1.interval().low <= chance {
            let percent = 100.0 * evaluation.accuracy();
            return Err(RunError::AtChance { percent, chance: 100.0 * chance, samples: evaluation.samples() });
        }
        self.tell(RunEvent::Baseline(&evaluation));
        Ok(Some(evaluation))
    }

    /// Measures a network on one split.
    pub(crate) fn evaluate(&mut self, graph: &Graph, split: Split) -> Result<Evaluation, RunError> {
        let data = self.data.as_ref().ok_or_else(|| RunError::Recipe("nothing can be measured without data (hint: --data)".into()))?;
        let listener = &mut *self.context.listener;
        let mut progress = |event: Event<'_>| listener(RunEvent::Training(event));
        Ok(evaluate(&mut *cpu_executor(graph)?, data, split, EVALUATION_BATCH, &mut progress)?)
    }

    /// The network trained again with some weights held at zero. Remembered under `stage`.
    pub(crate) fn retrain(&mut self, stage: &str, graph: &Graph, masks: &Masks) -> Result<Graph, RunError> {
        let settings = self.retrain;
        self.fit(stage, graph, Some(masks), settings)
    }

    fn fit(&mut self, stage: &str, graph: &Graph, masks: Option<&Masks>, settings: TrainSettings) -> Result<Graph, RunError> {
        if self.journal.recall::<Trained>(stage).is_some() {
            return self.journal.load_weights(stage, graph);
        }
        (self.context.listener)(RunEvent::Stage(stage));
        let data = self.data.as_ref().ok_or_else(|| RunError::Recipe("nothing can be trained without data (hint: --data)".into()))?;
        let checkpoint = self.journal.checkpoint(stage);
        let mut executor = cpu_executor(graph)?;
        for (id, keep) in masks.into_iter().flatten() {
            executor.set_mask(*id, Some(keep))?;
        }
        let trainer = Trainer {
            settings,
            validate: false,
            save: Some(checkpoint.clone()),
            resume: checkpoint.exists().then(|| Checkpoint::read(&checkpoint)).transpose()?,
            stop: self.context.stop.clone(),
        };
        let listener = &mut *self.context.listener;
        let report = trainer.fit(&mut *executor, data, &mut |event: Event<'_>| listener(RunEvent::Training(event)))?;
        if let Ended::Interrupted(_) = report.ended {
            return Err(RunError::Interrupted { path: self.journal.folder().into() });
        }
        let trained = executor.to_graph()?;
        self.journal.save_weights(stage, &trained)?;
        self.journal.note(stage, &Trained { epochs: report.epochs })?;
        Ok(trained)
    }

    /// Verifies, measures and writes the result.
    fn finish(
        mut self,
        recipe: &Recipe,
        overwrite: bool,
        original: &Graph,
        baseline: Option<Evaluation>,
        work: Work,
    ) -> Result<Outcome, RunError> {
        self.tell(RunEvent::Stage("verify"));
        let mut result = work.graph;
        let mut edit = Edit::new(&result, "note the maker");
        edit.set_metadata("penjing.version", Some(env!("CARGO_PKG_VERSION").into()));
        if let Some(data) = &self.data {
            edit.set_metadata(Preprocess::METADATA_KEY, Some(data.preprocess().to_metadata()));
        }
        result.apply(edit)?;
        let candidate = self.journal.folder().join("model.onnx");
        let written = onnx::write(&result, &candidate, WriteOptions { overwrite: true, sparse: !recipe.dense, external: false })?;
        let verification = verify(&result, &candidate, self.data.as_ref(), self.context.onnxruntime, self.context.threads)?;

        let validation = match baseline {
            Some(before) => Some(self.compare(&before, &result, Split::Validation, work.floor)?),
            None => None,
        };
        let test = match validation.is_some() && self.data.as_ref().is_some_and(|data| !data.is_empty(Split::Test)) {
            true => {
                let before = self.evaluate(original, Split::Test)?;
                Some(self.compare(&before, &result, Split::Test, work.floor)?)
            }
            false => None,
        };
        let size = SizeChange {
            original: match &recipe.model {
                ModelSource::File { path } => {
                    FileSize::of(&std::fs::read(path).map_err(|source| RunError::Read { path: path.clone(), source })?)?
                }
                ModelSource::New { .. } => FileSize::of_dense(original)?,
            },
            dense: FileSize::of_dense(&result)?,
            result: FileSize::of(&std::fs::read(&candidate).map_err(|source| RunError::Read { path: candidate.clone(), source })?)?,
            sparse_tensors: written.tensors.iter().filter(|t| t.sparse).count(),
        };
        let refuted = || {
            let FloorVerdict { holds, measured, interval, limit } = test.as_ref()?.floor?;
            let Interval { low, high } = interval;
            (!holds)
                .then(|| format!("the test split contradicts the floor: {measured:.2} ({low:.2} to {high:.2}) where {limit:.2} must hold"))
        };
        let verdict = match work.missed.or_else(refuted).or_else(|| no_gain(&size, recipe.dense)) {
            Some(reason) => Verdict::Missed(reason),
            None => Verdict::Met,
        };
        onnx::write(&result, &recipe.output, WriteOptions { overwrite, sparse: !recipe.dense, external: false })?;
        let outcome = Outcome {
            version: OUTCOME_VERSION,
            penjing: env!("CARGO_PKG_VERSION"),
            recipe: recipe.clone(),
            verdict,
            data: self.data.as_ref().map(Dataset::describe),
            validation,
            test,
            layers: prune::layer_sparsities(&result),
            rounds: work.rounds,
            size,
            verification,
            output: recipe.output.clone(),
            notes: written.sparse_refused.into_iter().collect(),
        };
        let text = serde_json::to_string_pretty(&outcome).map_err(|e| RunError::Write { path: "outcome.json".into(), source: e.into() })?;
        crate::journal::write_atomically(&self.journal.folder().join("outcome.json"), text.as_bytes())?;
        self.journal.tidy();
        Ok(outcome)
    }

    /// The original as it was measured on a split, and the result on the same samples.
    fn compare(&mut self, before: &Evaluation, result: &Graph, split: Split, floor: Option<Floor>) -> Result<BeforeAfter, RunError> {
        let after = self.evaluate(result, split)?;
        let paired = before.paired(&after)?;
        Ok(BeforeAfter {
            samples: before.samples(),
            original: accuracy(before),
            result: accuracy(&after),
            change: 100.0 * paired.difference(),
            change_interval: percent(paired.interval()),
            flipped: before.flips(&after)?,
            mcnemar_p: paired.mcnemar_mid_p(),
            floor: floor.map(|floor| floor.judge(before, &after, split)).transpose()?,
        })
    }
}

fn percent(interval: Interval) -> Interval {
    Interval { low: 100.0 * interval.low, high: 100.0 * interval.high }
}

/// An evaluation in percent.
pub fn accuracy(evaluation: &Evaluation) -> Accuracy {
    Accuracy { percent: 100.0 * evaluation.accuracy(), interval: percent(evaluation.top1.interval()), loss: evaluation.loss.mean }
}

/// Hexadecimal SHA-256 of a file, read in pieces.
fn sha256(path: &Path) -> std::io::Result<String> {
    let mut reader = std::io::BufReader::with_capacity(1 << 16, std::fs::File::open(path)?);
    let mut hash = Sha256::new();
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(piece);
        let read = piece.len();
        reader.consume(read);
    }
}

/// Why the result is no gain, if it is none. Zeros alone make nothing faster, so the file must be smaller.
fn no_gain(size: &SizeChange, dense: bool) -> Option<String> {
    if dense {
        (size.result.zstd >= size.original.zstd)
            .then(|| "the file is not smaller, not even after zstd (zeros are stored densely)".to_string())
    } else {
        (size.result.bytes >= size.original.bytes).then(|| {
            "the file is not smaller: with so few zeros, positions take as much as they save (hint: a sparsity above about 0.25)"
                .to_string()
        })
    }
}

/// Opens the data for a model as [`open_data`] does, all samples in the test split: nothing is chosen from them.
///
/// # Errors
/// When the data cannot be read or do not fit the model.
pub fn open_all(source: &DataSource, graph: &Graph) -> Result<Dataset, RunError> {
    checked(read_data(source, SplitOptions::all_test(), graph)?, graph)
}

/// Opens the data for a model: preprocessing as asked for, else as the model's metadata say, else images fitted to its input.
///
/// # Errors
/// When the data cannot be read or do not fit the model.
pub fn open_data(source: &DataSource, graph: &Graph) -> Result<Dataset, RunError> {
    checked(read_data(source, split_of(source), graph)?, graph)
}

fn checked(data: Dataset, graph: &Graph) -> Result<Dataset, RunError> {
    data.check_against(graph)?;
    Ok(data)
}

fn split_of(source: &DataSource) -> SplitOptions {
    SplitOptions { seed: source.split_seed, ..SplitOptions::default() }
}

fn read_data(source: &DataSource, split: SplitOptions, graph: &Graph) -> Result<Dataset, RunError> {
    let options = DataOptions {
        preprocess: source.preprocess.clone(),
        labels: source.labels.clone(),
        split,
        augment: source.augment,
        ..DataOptions::default()
    };
    Ok(penjing_exec::data::open(&source.path, &options.for_model(graph)?)?)
}

/// A fresh network of the zoo, with as many classes as the data have unless another number is asked for.
///
/// # Errors
/// When there is no such architecture or the data cannot be read.
pub fn build_for(
    architecture: &str,
    classes: Option<usize>,
    input: Option<[usize; 3]>,
    seed: u64,
    data: Option<&DataSource>,
) -> Result<Graph, RunError> {
    let options = ZooOptions { classes, input, seed, ..ZooOptions::default() };
    let graph = zoo::build(architecture, &options)?;
    let (None, Some(source)) = (classes, data) else { return Ok(graph) };
    // Images of many sizes are a set only once a model says which size they get.
    let classes = read_data(source, split_of(source), &graph)?.classes();
    Ok(zoo::build(architecture, &ZooOptions { classes, ..options })?)
}

/// Share of the commonest class in a split: what an answer that never changes scores.
fn commonest_share(data: &Dataset, split: Split) -> f64 {
    let description = data.describe();
    let Some(part) = description.parts.iter().find(|p| p.split == split) else { return 0.0 };
    part.class_counts.values().copied().max().unwrap_or(0) as f64 / part.samples.max(1) as f64
}
