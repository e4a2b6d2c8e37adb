//! Executes a recipe: measure the original, apply the steps, verify the result, measure the gain, write.

mod opening;
mod quantizing;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use penjing_exec::data::{Dataset, Description, Preprocess, Split};
use penjing_exec::runtime::{Builtin, OnnxRuntime, RuntimeKind, SessionOptions};
use penjing_exec::train::statistics::Interval;
use penjing_exec::train::{
    Checkpoint, Ended, Evaluation, Event, Penalty, StopFlag, TrainSettings, Trainer, evaluate, metric_command, similarity,
};
use penjing_exec::{ExecError, Loss, cpu_executor};
use penjing_graph::onnx::WriteOptions;
use penjing_graph::ops::Op;
use penjing_graph::{Edit, Graph, GraphError, Tensor, onnx};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compare::fixed_batch;
use crate::fastest::{self, Tried};
use crate::floor::{Floor, FloorVerdict};
use crate::gain::FileSize;
use crate::journal::{INPUT, Journal, hexadecimal};
use crate::outcome::{Accuracy, BeforeAfter, CostChange, Likeness, MetricChange, OUTCOME_VERSION, Outcome, Round, SizeChange, Verdict};
use crate::prune::criteria::Needs;
use crate::prune::structured::{Budget, Cost, GroupChannels, GroupSensitivity};
use crate::prune::{self, Calibration, Masks, PruneError, Pruning, Stats, TrainingSamples};
use crate::quant::{self, ConversionReport, Kernels, QuantizationReport, QuantizeError, Reverting};
use crate::recipe::{ChannelGoal, ChannelPruning, ModelSource, PruneGoal, Recipe, Step};
use crate::speed::{SpeedUp, speed_ups, time_left};
use crate::verify::{made_up_inputs, sample_inputs, verify};

use opening::commonest_share;
pub(crate) use opening::no_accuracy;
pub use opening::{build_for, open_all, open_data, open_inputs};

/// Samples at a time where nothing is trained, if they are small.
const EVALUATION_BATCH: usize = 256;
/// Samples at a time where statistics are taken batch by batch.
const STATISTICS_BATCH: usize = 64;

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
    /// A cut network does not compute what the masked one does.
    #[error("cutting changed what the network computes: {0} (hint: this is a defect of penjing; nothing was written)")]
    NotCut(String),
    /// The general compressor that sizes are stated with failed.
    #[error("cannot compress `{}` to state its size", path.display())]
    Compressor {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Quantization refused.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
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
    Data {
        /// They.
        description: &'a Description,
        /// Why outputs are compared instead of accuracies; `None` where the accuracy counts.
        unmeasured: Option<&'a str>,
        /// Whether the network is retrained on them.
        trained: bool,
    },
    /// The original was measured on validation.
    Baseline(&'a Evaluation),
    /// A sparsity was tried.
    Round(&'a Round),
    /// A form of the network's numbers was tried.
    Tried(&'a Tried),
    /// A quantized network was measured with some of its layers in float.
    Reverting(&'a Reverting),
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
    /// Digest of the weights that it left.
    weights: String,
}

/// Runs a recipe in the folder of `journal` to its end, or onwards to it after a kill. With `overwrite`, a file at the
/// recipe's output is replaced.
///
/// # Errors
/// When something cannot be read, trained, verified or written. What was finished stays in the folder; of a run that fails before
/// anything was, nothing does.
pub fn execute(recipe: &Recipe, overwrite: bool, journal: &mut Journal, context: &mut Context<'_>) -> Result<Outcome, RunError> {
    let outcome = run(recipe, overwrite, journal, context);
    if outcome.is_err() {
        journal.withdraw();
    }
    outcome
}

fn run(recipe: &Recipe, overwrite: bool, journal: &mut Journal, context: &mut Context<'_>) -> Result<Outcome, RunError> {
    if !overwrite && recipe.output.exists() {
        return Err(GraphError::Exists { path: recipe.output.clone() }.into());
    }
    let mut workshop = Workshop::open(recipe, journal, context)?;
    let original = workshop.original(recipe)?;
    workshop.check_goals(recipe)?;
    let baseline = workshop.baseline(&original)?;
    let metric = workshop.metric("original", &original)?;
    let measure = match (metric, &baseline) {
        (Some(metric), _) => Some(Baseline::Metric(metric)),
        (None, Some(evaluation)) => Some(Baseline::Accuracy(evaluation)),
        (None, None) => None,
    };
    let mut work = Work::new(original.clone());
    for step in &recipe.steps {
        match step {
            Step::Prune(step) => Pruning::weights(step, &original, measure, &mut workshop, &mut work)?,
            Step::PruneChannels(step) => Pruning::channels(step, &original, measure, &mut workshop, &mut work)?,
            Step::Quantize(step) => workshop.quantize(step, measure, &mut work)?,
            Step::Convert(step) => workshop.convert(step, &mut work)?,
            Step::Fastest(step) => fastest::choose(step, measure, &mut workshop, &mut work)?,
        }
    }
    workshop.finish(recipe, overwrite, &original, Measured { evaluation: baseline, metric }, work)
}

/// The original's measure, which a floor holds results against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Baseline<'a> {
    /// Its accuracy on validation, sample by sample.
    Accuracy(&'a Evaluation),
    /// The user's own metric of it.
    Metric(f64),
}

/// What a network scores where choices are made, and whether a floor holds for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    /// Accuracy in percent, or the metric.
    pub(crate) score: f64,
    pub(crate) verdict: FloorVerdict,
}

impl Baseline<'_> {
    /// Accuracy in percent, or the metric.
    pub(crate) fn score(&self) -> f64 {
        match self {
            Baseline::Accuracy(evaluation) => 100.0 * evaluation.accuracy(),
            Baseline::Metric(metric) => *metric,
        }
    }

    /// The original against itself: what it has to spare above the floor.
    pub(crate) fn spare(&self, floor: Floor) -> Result<f64, ExecError> {
        let verdict = match self {
            Baseline::Accuracy(evaluation) => floor.judge(evaluation, evaluation, Split::Validation)?,
            Baseline::Metric(metric) => floor.judge_metric(*metric, *metric)?,
        };
        Ok(verdict.spare())
    }
}

/// How one training of a run goes.
#[derive(Default)]
struct Fit<'a> {
    settings: TrainSettings,
    /// Weights that stay at zero.
    masks: Option<&'a Masks>,
    /// What pulls weights towards zero.
    penalty: Option<Arc<dyn Penalty>>,
    /// End after so many epochs of all that the settings ask for.
    until: Option<u64>,
}

/// All that is known of the original.
struct Measured {
    evaluation: Option<Evaluation>,
    metric: Option<f64>,
}

/// The network as the steps change it, and what they learned.
pub(crate) struct Work {
    pub(crate) graph: Graph,
    pub(crate) rounds: Vec<Round>,
    /// What a reader of the record should know.
    pub(crate) notes: Vec<String>,
    /// Why a step's goal was missed.
    pub(crate) missed: Option<String>,
    /// The floor that holds for the result.
    pub(crate) floor: Option<Floor>,
    /// The groups of channels that were cut, so that the result may be faster.
    pub(crate) channels: Vec<GroupChannels>,
    /// What the accuracy loses where one group is cut alone.
    pub(crate) sensitivity: Vec<GroupSensitivity>,
    /// What became integers.
    pub(crate) quantization: Option<QuantizationReport>,
    /// What got another form.
    pub(crate) conversion: Option<ConversionReport>,
    /// Forms that were tried to find the fastest.
    pub(crate) tried: Vec<Tried>,
}

impl Work {
    /// A network to which nothing was done.
    pub(crate) fn new(graph: Graph) -> Work {
        Work {
            graph,
            rounds: vec![],
            notes: vec![],
            missed: None,
            floor: None,
            channels: vec![],
            sensitivity: vec![],
            quantization: None,
            conversion: None,
            tried: vec![],
        }
    }
}

/// All that a method may use: data, training, measuring, memory.
pub(crate) struct Workshop<'a, 'c> {
    data: Option<Dataset>,
    /// Why no accuracy can be measured on the data, if none can.
    unmeasured: Option<String>,
    /// A network of the zoo as it was before it was trained.
    initial: Option<Graph>,
    retrain: TrainSettings,
    train: TrainSettings,
    metric_command: Option<&'a str>,
    /// How often a candidate's time was taken.
    timed: usize,
    pub(crate) journal: &'a mut Journal,
    context: &'a mut Context<'c>,
}

impl<'a, 'c> Workshop<'a, 'c> {
    fn open(recipe: &'a Recipe, journal: &'a mut Journal, context: &'a mut Context<'c>) -> Result<Workshop<'a, 'c>, RunError> {
        let train = recipe.train.unwrap_or_default();
        let metric_command = recipe.metric_command.as_deref();
        let retrain = recipe.retrain.unwrap_or(train);
        Ok(Workshop { data: None, unmeasured: None, initial: None, train, retrain, metric_command, timed: 0, journal, context })
    }

    /// Whether accuracy can be measured.
    pub(crate) fn has_labels(&self) -> bool {
        self.data.is_some() && self.unmeasured.is_none()
    }

    /// Whether anything can be trained: towards classes, or towards the numbers that the data give.
    pub(crate) fn can_train(&self) -> bool {
        let towards_numbers = |data: &Dataset| data.target_shape().is_some() && self.retrain.loss == Loss::Mse;
        self.data.as_ref().is_some_and(|data| self.unmeasured.is_none() || towards_numbers(data))
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
                    let data = open_inputs(source, source.split(), &graph)?;
                    let unmeasured = no_accuracy(&data, &graph);
                    if unmeasured.is_none() || data.target_shape().is_some() {
                        data.check_against(&graph)?;
                    }
                    self.use_data(data, unmeasured);
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
                let unmeasured = no_accuracy(&data, &graph);
                self.use_data(data, unmeasured);
                self.initial = Some(graph.clone());
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

    fn use_data(&mut self, data: Dataset, unmeasured: Option<String>) {
        let description = data.describe();
        (self.data, self.unmeasured) = (Some(data), unmeasured);
        let (unmeasured, trained) = (self.unmeasured.clone(), self.can_train());
        self.tell(RunEvent::Data { description: &description, unmeasured: unmeasured.as_deref(), trained });
    }

    /// Refuses an accuracy floor for a model that has labelled data, but tells no classes apart.
    fn check_goals(&self, recipe: &Recipe) -> Result<(), RunError> {
        let floor = |step: &Step| match step {
            Step::Prune(step) => matches!(step.goal, PruneGoal::Floor { .. }),
            Step::PruneChannels(step) => matches!(step.goal, ChannelGoal::Floor { .. }),
            Step::Quantize(step) => step.floor.is_some(),
            Step::Fastest(step) => step.floor.is_some(),
            Step::Convert(_) => false,
        };
        let wanted = self.metric_command.is_none() && recipe.steps.iter().any(floor);
        let labelled = self.data.as_ref().is_some_and(|data| data.classes().is_some());
        match &self.unmeasured {
            Some(reason) if wanted && labelled => {
                let hint = "(hint: a --metric-command, or --sparsity)";
                Err(RunError::Recipe(format!("no accuracy can be measured for a floor: {reason} {hint}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers which file the run started from; a resume from another one is refused.
    fn pin_input(&mut self, path: &Path) -> Result<(), RunError> {
        let hash = sha256(path).map_err(|source| RunError::Read { path: path.into(), source })?;
        match self.journal.recall::<String>(INPUT) {
            Some(known) if known == hash => Ok(()),
            Some(_) => Err(RunError::Folder {
                path: path.into(),
                reason: "has changed since the run began (hint: bring the original back, or start the run anew with --force)".into(),
            }),
            None => self.journal.note(INPUT, &hash),
        }
    }

    /// The original on validation; an error where it predicts no better than chance.
    fn baseline(&mut self, original: &Graph) -> Result<Option<Evaluation>, RunError> {
        if !self.has_labels() {
            return Ok(None);
        }
        let evaluation = self.evaluate(original, Split::Validation)?;
        let chance = self.data.as_ref().map_or(0.0, |data| commonest_share(data, Split::Validation));
        if self.metric_command.is_none() && evaluation.top1.interval().low <= chance {
            let percent = 100.0 * evaluation.accuracy();
            return Err(RunError::AtChance { percent, chance: 100.0 * chance, samples: evaluation.samples() });
        }
        self.tell(RunEvent::Baseline(&evaluation));
        Ok(Some(evaluation))
    }

    /// What a criterion needs to know of a network, from so many training samples.
    pub(crate) fn statistics(&mut self, graph: &Graph, criterion: &str, needs: Needs, samples: usize) -> Result<Stats, RunError> {
        let seed = self.retrain.seed;
        if needs == Needs::Weights {
            return Ok(Stats::seeded(seed));
        }
        let calibration = self.calibration(criterion, samples)?;
        let layers = prune::layers(graph)?;
        Ok(Stats::collect(&mut *cpu_executor(graph)?, &layers, &calibration, needs, self.retrain.loss, seed)?)
    }

    /// Some inputs to run a network on; `None` where their shape is not known.
    pub(crate) fn sample_inputs(&self, graph: &Graph) -> Result<Option<Vec<Tensor>>, RunError> {
        sample_inputs(graph, self.data.as_ref())
    }

    /// How much faster the result is than the original, one sample at a time, in each runtime that is there. Remembered.
    fn speed(&mut self, original: &Graph, result: &Path) -> Result<Vec<SpeedUp>, RunError> {
        const STAGE: &str = "speed";
        if let Some(speed) = self.journal.recall::<Vec<SpeedUp>>(STAGE) {
            return Ok(speed);
        }
        self.tell(RunEvent::Stage(STAGE));
        let before = self.journal.folder().join("measured.onnx");
        onnx::write(original, &before, WriteOptions { overwrite: true, ..WriteOptions::default() })?;
        let speed = match made_up_inputs(original, 1, 128)? {
            Some(inputs) => speed_ups(&before, result, &inputs, self.context.onnxruntime, self.context.threads)?,
            None => vec![],
        };
        // What stays behind costs space, nothing else.
        drop(std::fs::remove_file(&before));
        self.journal.note(STAGE, &speed)?;
        Ok(speed)
    }

    /// The fraction of the original's time that a candidate takes for one sample. Remembered.
    pub(crate) fn latency(&mut self, original: &Graph, candidate: &Graph) -> Result<f64, RunError> {
        self.timed += 1;
        let stage = format!("latency-{}", self.timed);
        if let Some(fraction) = self.journal.recall::<f64>(&stage) {
            return Ok(fraction);
        }
        self.tell(RunEvent::Stage(&stage));
        let unknown = "no time can be measured: the shape or type of an input is not known (hint: --macs 0.5)";
        let inputs = made_up_inputs(original, 1, 128)?.ok_or_else(|| RunError::Recipe(unknown.into()))?;
        let files = [(original, "measured.onnx"), (candidate, "candidate.onnx")];
        let paths = files.map(|(graph, name)| (graph, self.journal.folder().join(name)));
        for (graph, path) in &paths {
            onnx::write(graph, path, WriteOptions { overwrite: true, ..WriteOptions::default() })?;
        }
        let [(_, before), (_, after)] = &paths;
        let fraction = time_left(before, after, &inputs, self.context.onnxruntime, self.context.threads)?;
        // What stays behind costs space, nothing else.
        paths.iter().for_each(|(_, path)| drop(std::fs::remove_file(path)));
        self.journal.note(&stage, &fraction)?;
        Ok(fraction)
    }

    /// The network with the running statistics of its batch normalisations as they are over so many training samples; as it is
    /// without data.
    pub(crate) fn reestimated(&mut self, graph: Graph, samples: usize) -> Result<Graph, RunError> {
        let normalised = graph.nodes().any(|(_, node)| matches!(node.op, Op::BatchNormalization(_)));
        let Some(data) = self.data.as_ref().filter(|_| normalised && samples > 0) else { return Ok(graph) };
        let mut executor = cpu_executor(&graph)?;
        let mut seen = 0;
        for batch in (TrainingSamples { data, samples, seed: self.retrain.seed }).batches(STATISTICS_BATCH) {
            let batch = batch?;
            // One sample has no variance.
            if batch.indices.len() > 1 {
                seen += 1;
                executor.update_statistics(&batch.inputs, 1.0 / seen as f32)?;
            }
        }
        Ok(executor.to_graph()?)
    }

    /// The network trained with weights pulled towards zero. Remembered.
    pub(crate) fn trained_sparsely(&mut self, graph: &Graph, penalty: Arc<dyn Penalty>) -> Result<Graph, RunError> {
        if !self.can_train() {
            return Err(RunError::Recipe("sparse training needs data with labels (hint: --data PATH, or without --regularize)".into()));
        }
        let settings = self.retrain;
        self.fit_as("sparse-training", graph, Fit { settings, penalty: Some(penalty), ..Fit::default() })
    }

    /// Training samples for a criterion to learn from.
    pub(crate) fn calibration(&self, criterion: &str, samples: usize) -> Result<TrainingSamples<'_>, RunError> {
        let missing =
            || RunError::Recipe(format!("the criterion {criterion} needs data to look at (hint: --data, or --criterion magnitude)"));
        Ok(TrainingSamples { data: self.data.as_ref().ok_or_else(missing)?, samples, seed: self.retrain.seed })
    }

    /// Measures a network on one split.
    pub(crate) fn evaluate(&mut self, graph: &Graph, split: Split) -> Result<Evaluation, RunError> {
        let data = self.data.as_ref().ok_or_else(|| RunError::Recipe("nothing can be measured without data (hint: --data)".into()))?;
        let listener = &mut *self.context.listener;
        let mut progress = |event: Event<'_>| listener(RunEvent::Training(event));
        // What computes on codes is measured as it will be run, with what its runtime makes of it.
        let on_codes = graph.nodes().any(|(_, node)| quant::on_codes(&node.op));
        let runtime = self.context.onnxruntime.filter(|_| on_codes).map_or(RuntimeKind::Builtin, RuntimeKind::OnnxRuntime);
        let mut model = runtime.load(graph, SessionOptions { threads: self.context.threads, optimize: true })?;
        let batch = evaluation_batch(graph);
        Ok(evaluate(&mut *model, data, split, batch, &mut progress)?)
    }

    /// What the user's own metric says of a network; `None` where there is none. Remembered under `stage`.
    pub(crate) fn metric(&mut self, stage: &str, graph: &Graph) -> Result<Option<f64>, RunError> {
        let Some(command) = self.metric_command else { return Ok(None) };
        let stage = format!("{stage}-metric");
        if let Some(metric) = self.journal.recall::<f64>(&stage) {
            return Ok(Some(metric));
        }
        self.tell(RunEvent::Stage(&stage));
        let path = self.journal.folder().join("measured.onnx");
        let written = onnx::write(graph, &path, WriteOptions { overwrite: true, ..WriteOptions::default() })?;
        let metric = metric_command(command, &path)?;
        // What stays behind costs space, nothing else.
        written.files.iter().for_each(|path| drop(std::fs::remove_file(path)));
        self.journal.note(&stage, &metric)?;
        Ok(Some(metric))
    }

    /// Holds a network against the original, by the measure that `baseline` has. Remembered under `stage`.
    pub(crate) fn judge(&mut self, stage: &str, graph: &Graph, baseline: Baseline<'_>, floor: Floor) -> Result<Judged, RunError> {
        match (baseline, self.metric(stage, graph)?) {
            (Baseline::Metric(original), Some(score)) => Ok(Judged { score, verdict: floor.judge_metric(original, score)? }),
            (Baseline::Metric(_), None) => Err(RunError::Recipe("there is no metric command to judge by".into())),
            (Baseline::Accuracy(original), _) => {
                let evaluation = self.evaluate(graph, Split::Validation)?;
                let verdict = floor.judge(original, &evaluation, Split::Validation)?;
                Ok(Judged { score: 100.0 * evaluation.accuracy(), verdict })
            }
        }
    }

    /// The network trained again with some weights held at zero, where there are labels to train on. Remembered under `stage`.
    pub(crate) fn retrain(&mut self, stage: &str, graph: Graph, masks: &Masks) -> Result<Graph, RunError> {
        if !self.can_train() {
            return Ok(graph);
        }
        let settings = self.retrain;
        self.fit(stage, &graph, Some(masks), settings)
    }

    /// The original as it was after so many epochs of its training, to the bit. 0: before it.
    pub(crate) fn rewound(&mut self, epoch: u64) -> Result<Graph, RunError> {
        let Some(initial) = self.initial.clone().filter(|_| self.can_train()) else {
            let reason = "weights can be rewound only where the network is trained in this run (hint: name an architecture, and data \
                          with labels)";
            return Err(RunError::Recipe(reason.into()));
        };
        let settings = self.train;
        match epoch {
            0 => Ok(initial),
            _ if epoch > settings.epochs => Err(RunError::Recipe(format!(
                "the training has {} epochs, so that there is no epoch {epoch} to rewind to (hint: a smaller --rewind-epoch)",
                settings.epochs
            ))),
            _ => self.fit_as(&format!("rewound-{epoch}"), &initial, Fit { settings, until: Some(epoch), ..Fit::default() }),
        }
    }

    fn fit(&mut self, stage: &str, graph: &Graph, masks: Option<&Masks>, settings: TrainSettings) -> Result<Graph, RunError> {
        self.fit_as(stage, graph, Fit { settings, masks, ..Fit::default() })
    }

    /// Trains as `fit` says. Remembered under `stage`.
    fn fit_as(&mut self, stage: &str, graph: &Graph, fit: Fit<'_>) -> Result<Graph, RunError> {
        if let Some(trained) = self.journal.recall::<Trained>(stage) {
            return self.journal.load_weights(stage, &trained.weights, graph);
        }
        (self.context.listener)(RunEvent::Stage(stage));
        let data = self.data.as_ref().ok_or_else(|| RunError::Recipe("nothing can be trained without data (hint: --data)".into()))?;
        let checkpoint = self.journal.checkpoint(stage);
        let mut executor = cpu_executor(graph)?;
        for (id, keep) in fit.masks.into_iter().flatten() {
            executor.set_mask(*id, Some(keep))?;
        }
        let trainer = Trainer {
            settings: fit.settings,
            until: fit.until,
            penalty: fit.penalty,
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
        let weights = self.journal.save_weights(stage, &trained)?;
        self.journal.note(stage, &Trained { epochs: report.epochs, weights })?;
        Ok(trained)
    }

    /// Verifies, measures and writes the result.
    fn finish(mut self, recipe: &Recipe, overwrite: bool, original: &Graph, before: Measured, mut work: Work) -> Result<Outcome, RunError> {
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

        let validation = match before.evaluation {
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
        let likeness = match validation {
            Some(_) => None,
            None => self.likeness(original, &result)?,
        };
        let metric = match (before.metric, self.metric("result", &result)?) {
            (Some(original), Some(result)) => Some(MetricChange { original, result }),
            _ => None,
        };
        let timed = |step: &Step| match step {
            Step::Prune(_) => false,
            Step::PruneChannels(_) | Step::Quantize(_) | Step::Fastest(_) => true,
            Step::Convert(step) => step.untimed().is_none(),
        };
        let speed = if recipe.steps.iter().any(timed) { self.speed(original, &candidate)? } else { vec![] };
        let (mut quantization, mut conversion) = (work.quantization, work.conversion);
        let left_in_float = quantization.iter().flat_map(|report| &report.float);
        let returned: Vec<String> = left_in_float.map(|left| left.node.clone()).collect();
        let kernels = [quantization.as_mut().map(|report| &mut report.kernels), conversion.as_mut().map(|report| &mut report.kernels)];
        if let (Some(kernels), Some(runtime)) = (kernels.into_iter().flatten().next(), self.context.onnxruntime) {
            match runtime.optimized(&candidate, self.context.threads) {
                Ok(optimized) => {
                    *kernels = Some(Kernels::of(&optimized));
                    work.notes.extend(
                        returned
                            .iter()
                            .filter(|node| quant::computes_on_codes(&optimized, node))
                            .map(|node| format!("ONNX Runtime computes `{node}` in integers all the same, which stayed in float")),
                    );
                }
                Err(error) => work.notes.push(format!("the kernels that ONNX Runtime takes are not known: {error}")),
            }
        }
        let untrained = self.unmeasured.as_ref().filter(|_| !self.can_train()).map(|reason| format!("not retrained: {reason}"));
        let sparse_tensors = written.tensors.iter().filter(|t| t.sparse).count();
        let size_of_result = FileSize::of(written.files.iter().map(PathBuf::as_path))?;
        let size = SizeChange {
            original: match &recipe.model {
                ModelSource::File { path } => FileSize::of(std::iter::once(path.as_path()).chain(original.external_files()))?,
                ModelSource::New { .. } => FileSize::of_dense(original, self.journal.folder())?,
            },
            dense: match sparse_tensors {
                0 => size_of_result,
                _ => FileSize::of_dense(&result, self.journal.folder())?,
            },
            result: size_of_result,
            sparse_tensors,
        };
        let refuted = || {
            let FloorVerdict { holds, measured, interval, limit } = test.as_ref()?.floor?;
            let Interval { low, high } = interval;
            (!holds)
                .then(|| format!("the test split contradicts the floor: {measured:.2} ({low:.2} to {high:.2}) where {limit:.2} must hold"))
        };
        let too_slow = || too_slow(&recipe.steps, speed.first()?);
        let verdict = match work
            .missed
            .or_else(refuted)
            .or_else(too_slow)
            .or_else(|| no_gain(&size, recipe.dense, quantization.is_some() || conversion.is_some()))
        {
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
            likeness,
            metric,
            layers: prune::layer_sparsities(&result),
            channels: work.channels,
            cost: CostChange { original: Cost::of(original), result: Cost::of(&result) },
            speed,
            sensitivity: work.sensitivity,
            quantization,
            conversion,
            tried: work.tried,
            rounds: work.rounds,
            size,
            verification,
            output: recipe.output.clone(),
            notes: work.notes.into_iter().chain(written.sparse_refused).chain(untrained).collect(),
        };
        let text = serde_json::to_string_pretty(&outcome).map_err(|e| RunError::Write { path: "outcome.json".into(), source: e.into() })?;
        crate::journal::write_atomically(&self.journal.folder().join("outcome.json"), text.as_bytes())?;
        self.journal.tidy();
        Ok(outcome)
    }

    /// The original as it was measured on a split, and the result on the same samples.
    fn compare(&mut self, before: &Evaluation, result: &Graph, split: Split, floor: Option<Floor>) -> Result<BeforeAfter, RunError> {
        let after = self.evaluate(result, split)?;
        let floor = floor.map(|floor| floor.judge(before, &after, split)).transpose()?;
        Ok(BeforeAfter::of(before, &after, floor)?)
    }

    /// The outputs of both on the test split, or on validation where nothing tests. `None` without data.
    fn likeness(&mut self, original: &Graph, result: &Graph) -> Result<Option<Likeness>, RunError> {
        let Some(data) = &self.data else { return Ok(None) };
        let split = if data.is_empty(Split::Test) { Split::Validation } else { Split::Test };
        let listener = &mut *self.context.listener;
        let mut progress = |event: Event<'_>| listener(RunEvent::Training(event));
        let batch = evaluation_batch(original);
        let (mut original, mut result) = (Builtin::new(original)?, Builtin::new(result)?);
        let outputs = similarity(&mut original, &mut result, data, split, batch, &mut progress)?;
        Ok(Some(Likeness { split, samples: data.len(split), outputs }))
    }
}

/// How many samples of a network are evaluated at a time: as many as it takes, else as memory allows.
fn evaluation_batch(graph: &Graph) -> usize {
    fixed_batch(graph).unwrap_or_else(|| quant::samples_at_once(graph, EVALUATION_BATCH))
}

/// Why a budget of time was missed, where the result is surely slower than it asks for.
fn too_slow(steps: &[Step], speed: &SpeedUp) -> Option<String> {
    let asked = steps.iter().rev().find_map(|step| match step {
        Step::PruneChannels(ChannelPruning { goal: ChannelGoal::Remove { budget: Budget::Latency, fraction, .. }, .. }) => {
            Some(1.0 - fraction.value())
        }
        Step::PruneChannels(_) | Step::Prune(_) | Step::Quantize(_) | Step::Convert(_) | Step::Fastest(_) => None,
    })?;
    let least = 1.0 / speed.interval.high;
    (least > asked).then(|| {
        format!("the result takes {:.0} % of the original's time where {:.0} % was asked for", 100.0 / speed.speed_up, 100.0 * asked)
    })
}

pub(crate) fn percent(interval: Interval) -> Interval {
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
            return Ok(hexadecimal(&hash.finalize()));
        }
        hash.update(piece);
        let read = piece.len();
        reader.consume(read);
    }
}

/// Why the result is no gain, if it is none. Zeros alone make nothing faster, so the file must be smaller.
fn no_gain(size: &SizeChange, dense: bool, quantized: bool) -> Option<String> {
    if quantized {
        return (size.result.bytes >= size.original.bytes)
            .then(|| "the file is not smaller: codes are stored one by one, the original's zeros were not stored at all".to_string());
    }
    if dense {
        match (size.original.zstd, size.result.zstd) {
            (Some(original), Some(result)) if result < original => None,
            (Some(_), Some(_)) => Some("the file is not smaller, not even after zstd (zeros are stored densely)".into()),
            (_, _) => Some("the file is not smaller, and too large to be compressed to show a gain (zeros are stored densely)".into()),
        }
    } else {
        (size.result.bytes >= size.original.bytes).then(|| {
            "the file is not smaller: with so few zeros, positions take as much as they save (hint: a sparsity above about 0.25)"
                .to_string()
        })
    }
}
