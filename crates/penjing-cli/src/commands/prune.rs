//! `penjing prune`: removes the least important weights, down to a sparsity or to an accuracy floor.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use penjing_compress::floor::{Certainty, Floor, Limit};
use penjing_compress::prune::criteria::{Choice, Needs};
use penjing_compress::prune::{LayerSparsity, Mark, Pattern, Scope, Sparsity, Until};
use penjing_compress::{
    BeforeAfter, CALIBRATION_SAMPLES, Context, Journal, MetricChange, Outcome, PruneGoal, RECIPE_VERSION, Recipe, Round, RunEvent, Step,
    Verdict, WeightPruning, execute,
};
use penjing_exec::runtime::OnnxRuntime;
use penjing_exec::train::{Progress, StopFlag};

use crate::Goal;
use crate::options::{DataOptions, TrainOptions, Usage, ZooOptions, check_output, count, model_source};
use crate::progress::{Display, warn};
use crate::similarity::similarity_line;
use crate::table::{grouped, print, table};

/// Remove the weights of a model that matter least, retrain, and go on until the accuracy floor would break
#[derive(Args)]
pub(crate) struct Prune {
    /// The ONNX model, or the name of an architecture, which is initialised and trained first
    #[arg(required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// Where to write the pruned model
    #[arg(short, long, value_name = "FILE", required_unless_present = "resume")]
    output: Option<PathBuf>,
    /// Prune to exactly this fraction of zeros, 0 to 1
    #[arg(long, value_name = "FRACTION", conflicts_with_all = ["max_drop", "min_accuracy"])]
    sparsity: Option<f64>,
    /// Reach --sparsity in so many steps along a cubic schedule, retraining after each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    steps: usize,
    /// Prune as far as the accuracy stays within so many percentage points of the original's
    #[arg(long, value_name = "POINTS", conflicts_with = "min_accuracy")]
    max_drop: Option<f64>,
    /// Prune as far as the accuracy stays at so many percent
    #[arg(long, value_name = "PERCENT")]
    min_accuracy: Option<f64>,
    /// How surely the floor must hold: point estimate, or lower end of its 95 % interval
    #[arg(long, value_enum, default_value = "point")]
    floor: FloorName,
    /// When the search for the floor ends
    #[arg(long, value_enum, default_value = "floor")]
    until: UntilName,
    /// Rounds of the search at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    rounds: usize,
    /// One threshold for all weights, or the same sparsity in every layer or in every row (output) of a layer [default: that in which
    /// the criterion's scores can be compared; global for magnitude]
    #[arg(long, value_enum)]
    scope: Option<ScopeName>,
    /// The shape that zeros have: unstructured; N:M, such as 2:4, where N of every M weights along the inputs stay; or blocks of outputs
    /// x inputs, such as 4x1
    #[arg(long, value_name = "PATTERN", default_value = "unstructured")]
    pattern: Pattern,
    /// How weights are chosen: magnitude, taylor, fisher, snip, wanda, lamp, random or sparsegpt
    #[arg(long, value_name = "NAME", default_value = "magnitude")]
    criterion: Choice,
    /// Training samples that a criterion looks at, where it needs to
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_SAMPLES, value_parser = count)]
    calibration_samples: usize,
    /// Measure with this command too: it is given a model's path and prints one number, the higher the better. --max-drop and
    /// --min-accuracy then mean that number, in its unit, instead of the accuracy
    #[arg(long, value_name = "COMMAND")]
    metric_command: Option<String>,
    /// Write zeros densely even where that takes more bytes
    #[arg(long)]
    dense: bool,
    /// Folder of the run [default: the output's name with .run]
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
    /// Go on with an interrupted run, to the same bytes
    #[arg(long, value_name = "FOLDER", conflicts_with = "model")]
    resume: Option<PathBuf>,
    /// Replace files and runs that are there
    #[arg(long)]
    force: bool,
    /// Seed of initial weights, order, splits and augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// ONNX Runtime's library or its folder [default: ORT_DYLIB_PATH, then python3's onnxruntime, then the system's]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Print the whole record as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    train: TrainOptions,
    #[command(flatten)]
    zoo: ZooOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloorName {
    Point,
    Strict,
}

#[derive(Clone, Copy, ValueEnum)]
enum UntilName {
    Floor,
    Improved,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScopeName {
    Global,
    Layer,
    Row,
}

impl Prune {
    pub(crate) fn run(self, stop: StopFlag, threads: usize) -> Result<Goal> {
        let (mut journal, recipe) = match &self.resume {
            Some(folder) => Journal::resume(folder)?,
            None => {
                let recipe = self.recipe()?;
                let folder = self.run.clone().unwrap_or_else(|| recipe.output.with_extension("run"));
                check_output(&recipe.output, self.model.as_deref().unwrap_or(Path::new("")), Some(&folder), self.force)?;
                if self.force {
                    Journal::discard(&folder)?;
                }
                (Journal::create(&folder, &recipe)?, recipe)
            }
        };
        let onnxruntime = OnnxRuntime::find(self.onnxruntime.as_deref())?;
        let outcome = run_recipe(&recipe, self.force || self.resume.is_some(), &mut journal, stop, onnxruntime, threads)?;
        print(&if self.json { serde_json::to_string_pretty(&outcome)? } else { summary(&outcome) })?;
        Ok(match outcome.verdict {
            Verdict::Met => Goal::Met,
            Verdict::Missed(_) => Goal::Missed,
        })
    }

    fn recipe(&self) -> Result<Recipe> {
        let (Some(model), Some(output)) = (&self.model, &self.output) else {
            return Err(Usage("name a model and, with -o, where to write the result".into()).into());
        };
        let usage = |e: penjing_compress::prune::PruneError| Usage(e.to_string());
        let limit = match (self.max_drop, self.min_accuracy) {
            (Some(points), _) => Some(Limit::MaxDrop(points)),
            (None, Some(percent)) => Some(Limit::MinAccuracy(percent)),
            (None, None) => None,
        };
        let goal = match (self.sparsity, limit) {
            (Some(fraction), _) => PruneGoal::Sparsity { fraction: Sparsity::try_from(fraction).map_err(usage)?, steps: self.steps },
            (None, Some(limit)) => {
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
                let until = match self.until {
                    UntilName::Floor => Until::Floor,
                    UntilName::Improved => Until::Improved,
                };
                PruneGoal::Floor { floor, until, rounds: self.rounds }
            }
            (None, None) if self.pattern.sparsity().is_some() => PruneGoal::Pattern,
            (None, None) => return Err(Usage("how far? (hint: --sparsity 0.9, --max-drop 0.5 or --min-accuracy 98.5)".into()).into()),
        };
        let data = self.data.source(self.seed)?;
        let named = [Some(model), Some(output), self.data.data.as_ref(), self.data.labels.as_ref()];
        if let Some(path) = named.into_iter().flatten().find(|path| path.to_str().is_none()) {
            let name = path.display();
            return Err(Usage(format!("`{name}` is not UTF-8, so that no recipe can name it (hint: rename the file)")).into());
        }
        if data.is_none() && self.metric_command.is_none() && matches!(goal, PruneGoal::Floor { .. }) {
            return Err(Usage("an accuracy floor needs data to measure on (hint: --data PATH, or --sparsity without it)".into()).into());
        }
        let settings = self.train.settings(self.seed)?;
        let scope = match self.scope {
            None => self.criterion.scope(),
            Some(ScopeName::Global) => Scope::Global,
            Some(ScopeName::Layer) => Scope::Layer,
            Some(ScopeName::Row) => Scope::Row,
        };
        let (pattern, criterion) = (self.pattern, self.criterion);
        let step = WeightPruning { scope, pattern, criterion, calibration_samples: self.calibration_samples, goal };
        step.check().map_err(Usage)?;
        if data.is_none() && criterion.needs() != Needs::Weights {
            return Err(
                Usage(format!("the criterion {criterion} needs data to look at (hint: --data PATH, or --criterion magnitude)")).into()
            );
        }
        Ok(Recipe {
            version: RECIPE_VERSION,
            model: model_source(model, &self.zoo, self.seed)?,
            train: data.as_ref().map(|_| settings),
            retrain: data.as_ref().map(|_| settings),
            data,
            metric_command: self.metric_command.clone(),
            output: output.clone(),
            dense: self.dense,
            steps: vec![Step::Prune(step)],
        })
    }
}

/// Runs a recipe and shows on stderr how it goes on.
pub(crate) fn run_recipe(
    recipe: &Recipe,
    overwrite: bool,
    journal: &mut Journal,
    stop: StopFlag,
    onnxruntime: Option<OnnxRuntime>,
    threads: usize,
) -> Result<Outcome> {
    if recipe.data.is_none() {
        warn("without data: nothing is retrained, and no accuracy is measured (hint: --data PATH)");
    }
    let mut display = Display::new();
    let mut listener = |event: RunEvent<'_>| match event {
        RunEvent::Stage(stage) => display.line(&format!("── {stage}")),
        RunEvent::Training(event) => display.event(event),
        RunEvent::Data { description, untrained } => {
            display.line(&description.to_string());
            display.line(&match untrained {
                Some(reason) => format!("nothing is retrained, and outputs are compared with the original's: {reason}"),
                None => format!("training: {}", recipe.retrain.or(recipe.train).unwrap_or_default()),
            });
        }
        RunEvent::Baseline(evaluation) => display.line(&format!("original: validation {:.2} %", 100.0 * evaluation.accuracy())),
        RunEvent::Round(round) => display.line(&round_line(round)),
    };
    let mut context = Context { listener: &mut listener, stop, onnxruntime, threads };
    Ok(execute(recipe, overwrite, journal, &mut context)?)
}

fn mark_name(mark: Mark) -> &'static str {
    match mark {
        Mark::Improved => "improved",
        Mark::Held => "held",
        Mark::Broke => "broke",
    }
}

fn round_line(round: &Round) -> String {
    let accuracy = round.accuracy.map_or(String::new(), |a| format!(", validation {a:.2} %"));
    let metric = round.metric.map_or(String::new(), |m| format!(", metric {m}"));
    let mark = round.mark.map_or(String::new(), |m| format!(": {}", mark_name(m)));
    format!(
        "round {}: {} weights left, sparsity {:.2} %{accuracy}{metric}{mark}",
        round.round,
        grouped(round.left as u64),
        100.0 * round.sparsity
    )
}

/// What a run found, for people.
pub(crate) fn summary(outcome: &Outcome) -> String {
    let mut lines = vec![];
    let rows: Vec<Vec<String>> = outcome
        .layers
        .iter()
        .map(|l| vec![l.weight.clone(), grouped(l.total as u64), grouped(l.left as u64), format!("{:.1} %", 100.0 * l.sparsity())])
        .collect();
    lines.push(table(&["weight", "before", "left", "sparsity"], &rows));
    let sum = |of: fn(&LayerSparsity) -> usize| outcome.layers.iter().map(of).sum::<usize>();
    let (total, left) = (sum(|l| l.total), sum(|l| l.left));
    let pruned = total - left;
    lines.push(format!("Pruned {pruned} of {total} weights ({:.1} %)", 100.0 * pruned as f64 / total.max(1) as f64));
    for (name, split) in [("validation", &outcome.validation), ("test", &outcome.test)] {
        lines.extend(split.as_ref().map(|split| accuracy_line(name, split)));
    }
    if let Some(likeness) = &outcome.likeness {
        lines.push(format!("Outputs beside the original's, for {} samples:", grouped(likeness.samples as u64)));
        lines.extend(likeness.outputs.iter().map(similarity_line));
    }
    if let Some(MetricChange { original, result }) = outcome.metric {
        lines.push(format!("metric: {original} before, {result} after, change {:+}", result - original));
    }
    lines.push(size_line(outcome));
    lines.push("Zeros alone make nothing faster: a runtime multiplies by them all the same.".into());
    let checked = match (outcome.verification.builtin, outcome.verification.onnxruntime) {
        (Some(_), Some(difference)) => format!("read again, the same in the built-in executor, within {difference:.1e} in ONNX Runtime"),
        (Some(_), None) => "read again, the same in the built-in executor".into(),
        (None, _) => "read again, the same weights".into(),
    };
    lines.push(format!("Verified: {checked}"));
    lines.extend(outcome.verification.skipped.iter().chain(&outcome.notes).map(|note| format!("Note: {note}")));
    lines.push(match &outcome.verdict {
        Verdict::Met => format!("Goal met; written to {}", outcome.output.display()),
        Verdict::Missed(reason) => format!("Goal missed: {reason}; written to {}", outcome.output.display()),
    });
    lines.join("\n")
}

/// Three digits; what rounds to nothing is said to be less than the least of them.
fn probability(p: f64) -> String {
    if p < 0.0005 { "< 0.001".into() } else { format!("{p:.3}") }
}

fn accuracy_line(name: &str, split: &BeforeAfter) -> String {
    let percent = |a: &penjing_compress::Accuracy| format!("{:.2} % ({:.2} to {:.2})", a.percent, a.interval.low, a.interval.high);
    format!(
        "{name} ({} samples, 95 % intervals): {} before, {} after, change {:+.2} ({:+.2} to {:+.2}) points, {} predictions flipped, McNemar p {}",
        split.samples,
        percent(&split.original),
        percent(&split.result),
        split.change,
        split.change_interval.low,
        split.change_interval.high,
        split.flipped,
        probability(split.mcnemar_p)
    )
}

fn size_line(outcome: &Outcome) -> String {
    let size = &outcome.size;
    let verdict = if size.result.bytes < size.original.bytes {
        format!("{:.2}x smaller", size.original.bytes as f64 / size.result.bytes as f64)
    } else {
        "not smaller".into()
    };
    let stored = match size.sparse_tensors {
        0 => "zeros stored densely".to_string(),
        n => format!("{n} tensors stored as their non-zero values; {} with zeros written out", grouped(size.dense.bytes)),
    };
    let compressed = match (size.original.zstd, size.result.zstd) {
        (Some(original), Some(result)) => format!("after zstd -19: {} → {}", grouped(original), grouped(result)),
        (_, _) => "not compressed, which beyond 1 GiB takes many minutes".into(),
    };
    let (original, result) = (grouped(size.original.bytes), grouped(size.result.bytes));
    format!("File: {original} → {result} bytes, {verdict} ({stored}); {compressed}")
}
