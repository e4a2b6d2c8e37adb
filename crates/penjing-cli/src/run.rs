//! Runs of recipes: options that all of them share, how they go on, what they found.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use penjing_compress::prune::structured::{GroupChannels, GroupSensitivity};
use penjing_compress::prune::{LayerSparsity, Mark};
use penjing_compress::quant::correct_output::Quality;
use penjing_compress::quant::{
    Bits, Codes, ConversionReport, ConvertedLayer, Kernels, LayerDamage, LeftInFloat, QualityChange, QuantizationReport, Reverting,
};
use penjing_compress::{
    BeforeAfter, Context, CostChange, Journal, MetricChange, Outcome, Recipe, Round, RunEvent, SpeedUp, Tried, Verdict, execute,
};
use penjing_exec::runtime::OnnxRuntime;
use penjing_exec::train::{Progress, StopFlag};

use crate::Goal;
use crate::options::check_output;
use crate::progress::{Display, warn};
use crate::similarity::similarity_line;
use crate::table::{grouped, print, table};

/// What every run has
#[derive(Args)]
pub(crate) struct RunOptions {
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
    pub(crate) seed: u64,
    /// ONNX Runtime's library or its folder [default: ORT_DYLIB_PATH, then python3's onnxruntime, then the system's]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Print the whole record as JSON
    #[arg(long)]
    json: bool,
}

impl RunOptions {
    /// Executes what `recipe` gives, or the run that is to go on, and prints what it found.
    pub(crate) fn execute(
        &self,
        model: Option<&Path>,
        recipe: impl FnOnce() -> Result<Recipe>,
        stop: StopFlag,
        threads: usize,
    ) -> Result<Goal> {
        if let Some(folder) = &self.resume
            && let Some(record) = Journal::record(folder)?
        {
            return self.finished(folder, &record);
        }
        let (mut journal, recipe) = match &self.resume {
            Some(folder) => Journal::resume(folder)?,
            None => {
                let recipe = recipe()?;
                let folder = self.run.clone().unwrap_or_else(|| recipe.output.with_extension("run"));
                check_output(&recipe.output, model.unwrap_or(Path::new("")), Some(&folder), self.force)?;
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

    /// Says what a run found that is over already.
    fn finished(&self, folder: &Path, record: &serde_json::Value) -> Result<Goal> {
        let missed = record["verdict"]["missed"].as_str();
        let verdict = missed.map_or("the goal was met".into(), |reason| format!("the goal was missed: {reason}"));
        let result = record["output"].as_str().unwrap_or_default();
        print(&match self.json {
            true => serde_json::to_string_pretty(record)?,
            false => format!("`{}` is finished, {verdict}; the result is `{result}`, the record `outcome.json`", folder.display()),
        })?;
        Ok(if missed.is_some() { Goal::Missed } else { Goal::Met })
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
        RunEvent::Data { description, unmeasured, trained } => {
            display.line(&description.to_string());
            let untrained = if trained { "" } else { "nothing is retrained, and " };
            if let Some(reason) = unmeasured {
                display.line(&format!("{untrained}outputs are compared with the original's: {reason}"));
            }
            if trained {
                display.line(&format!("training: {}", recipe.retrain.or(recipe.train).unwrap_or_default()));
            }
        }
        RunEvent::Baseline(evaluation) => display.line(&format!("original: validation {:.2} %", 100.0 * evaluation.accuracy())),
        RunEvent::Round(round) => display.line(&round_line(round)),
        RunEvent::Tried(tried) => display.line(&tried_line(tried)),
        RunEvent::Reverting(reverting) => display.line(&reverting_line(reverting)),
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
    let left = match round.macs {
        Some(macs) => format!("{} parameters and {} MACs left", grouped(round.left as u64), grouped(macs)),
        None => format!("{} weights left, sparsity {:.2} %", grouped(round.left as u64), 100.0 * round.sparsity),
    };
    format!("round {}: {left}{accuracy}{metric}{mark}", round.round)
}

fn tried_line(Tried { form, time, score, against }: &Tried) -> String {
    let time = time.map_or(String::new(), |time| format!(" {:.0} % of the time,", 100.0 * time));
    let score = score.map_or(String::new(), |score| format!(" validation {score:.2},"));
    format!("{form}:{time}{score} {}", against.as_deref().unwrap_or("the fastest so far"))
}

fn reverting_line(Reverting { float, score, holds }: &Reverting) -> String {
    let verdict = if *holds { "held" } else { "broke" };
    format!("{float} layers back in float: validation {score:.2}: {verdict}")
}

/// What a run found, for people.
pub(crate) fn summary(outcome: &Outcome) -> String {
    let mut lines = vec![];
    lines.extend(forms(&outcome.tried));
    match (&outcome.quantization, &outcome.conversion, outcome.channels.is_empty()) {
        (Some(report), _, _) => lines.extend(codes(report)),
        (None, Some(report), _) => lines.extend(converted(report)),
        (None, None, true) => lines.extend(weights_left(&outcome.layers)),
        (None, None, false) => lines.extend(channels_left(outcome)),
    }
    if !outcome.sensitivity.is_empty() {
        lines.push(sensitivity_table(&outcome.sensitivity));
    }
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
    if outcome.channels.is_empty() && outcome.quantization.is_none() && outcome.conversion.is_none() {
        lines.push("Zeros alone make nothing faster: a runtime multiplies by them all the same.".into());
    }
    lines.extend(outcome.speed.iter().map(speed_line));
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

/// The zeros of every weight, and of all together.
fn weights_left(layers: &[LayerSparsity]) -> Vec<String> {
    let row = |l: &LayerSparsity| {
        vec![l.weight.clone(), grouped(l.total as u64), grouped(l.left as u64), format!("{:.1} %", 100.0 * l.sparsity())]
    };
    let sum = |of: fn(&LayerSparsity) -> usize| layers.iter().map(of).sum::<usize>();
    let (total, left) = (sum(|l| l.total), sum(|l| l.left));
    let pruned = total - left;
    vec![
        table(&["weight", "before", "left", "sparsity"], &layers.iter().map(row).collect::<Vec<_>>()),
        format!("Pruned {pruned} of {total} weights ({:.1} %)", 100.0 * pruned as f64 / total.max(1) as f64),
    ]
}

/// What became codes, and what stayed in float.
fn codes(report: &QuantizationReport) -> Vec<String> {
    let row = |l: &penjing_compress::quant::LayerCodes| {
        let corrected = l.largest_correction.map_or("-".into(), |c| format!("{c:.3e}"));
        vec![l.node.clone(), l.operator.clone(), format!("{:.1} dB", l.weight_sqnr), l.all_zero.to_string(), corrected]
    };
    let head = ["in integers", "operator", "weights' SQNR", "channels of zeros", "largest bias correction"];
    let mut lines = vec![table(&head, &report.layers.iter().map(row).collect::<Vec<_>>())];
    lines.extend(left_in_float(&report.float));
    let widened: usize = report.layers.iter().map(|l| l.widened).sum();
    if widened > 0 {
        let layers = report.layers.iter().filter(|l| l.widened > 0).count();
        lines.push(format!("Scales widened, so that no sum of two products saturates 16 bits: {widened} channels of {layers} layers"));
    }
    if let Some(output) = &report.output {
        lines.push(format!(
            "Outputs corrected ({}, {} validation samples): {:.5} → {:.5} nats, agreement with the float model {:.2} → {:.2} %",
            output.correction,
            grouped(output.samples as u64),
            output.before,
            output.after,
            100.0 * output.agreement_before,
            100.0 * output.agreement_after
        ));
    }
    if let Some(QualityChange { float, quantized, corrected }) = report.output.as_ref().and_then(|output| output.quality) {
        let line =
            |name: &str, of: fn(&Quality) -> f64| format!("{name} {:.4} → {:.4} → {:.4}", of(&float), of(&quantized), of(&corrected));
        lines.push(format!(
            "Probabilities of float, quantized and corrected model (the same samples): {}, {}, {}",
            line("calibration error", |q| q.ece),
            line("NLL", |q| q.nll),
            line("Brier score", |q| q.brier)
        ));
    }
    lines.extend(damages(&report.damages));
    lines.extend(report.reverting.iter().filter(|_| !report.damages.is_empty()).map(reverting_line));
    lines.extend(report.kernels.as_ref().map(kernels_line));
    let reconstructed: Vec<_> = report.layers.iter().filter_map(|l| l.reconstruction).collect();
    if !reconstructed.is_empty() {
        let left = reconstructed.iter().map(|r| if r.nearest > 0.0 { (r.rounded / r.nearest).ln() } else { 0.0 }).sum::<f64>();
        lines.push(format!(
            "Weights of {} layers rounded up or down, so that each gives what it gave in float: of the squared error of its outputs with the \
             nearest codes {:.0} % are left in the geometric mean",
            reconstructed.len(),
            100.0 * (left / reconstructed.len() as f64).exp()
        ));
    }
    if report.qat {
        lines.push("Trained with weights and activations rounded to their codes".into());
    }
    if report.weight_bits < Bits::default() {
        let most = Codes { low: -128, high: 127 }.of_bits(report.weight_bits).high;
        lines.push(format!(
            "Weights of {} bits, held in codes of 8: -{most} to {most} alone, as convolutions have no kernels for less (smaller once compressed)",
            report.weight_bits
        ));
    }
    lines.push(format!(
        "Quantized {} layers and {} activations for {}, calibrated with {} samples",
        report.layers.len(),
        report.activations.len(),
        String::from(report.target),
        grouped(report.samples as u64)
    ));
    lines
}

/// The forms that were tried, and the one that was taken.
fn forms(tried: &[Tried]) -> Option<String> {
    let row = |t: &Tried| {
        let time = t.time.map_or("-".into(), |time| format!("{:.0} %", 100.0 * time));
        let score = t.score.map_or("-".into(), |score| format!("{score:.2}"));
        vec![t.form.to_string(), time, score, t.against.clone().unwrap_or_else(|| "taken".into())]
    };
    let rows: Vec<Vec<String>> = tried.iter().map(row).collect();
    (!rows.is_empty()).then(|| table(&["form", "time", "validation", ""], &rows))
}

/// How many of the layers that do the outputs most damage are listed; the record holds all.
const WORST: usize = 10;

/// What each layer alone does to the outputs.
fn damages(damages: &[LayerDamage]) -> Option<String> {
    let row = |d: &LayerDamage| vec![d.node.clone(), format!("{:.1} dB", d.output_sqnr)];
    let rows: Vec<Vec<String>> = damages.iter().take(WORST).map(row).collect();
    (!rows.is_empty()).then(|| table(&["alone in integers, the worst first", "outputs' SQNR"], &rows))
}

/// What stayed in float, and why.
fn left_in_float(float: &[LeftInFloat]) -> Option<String> {
    let row = |f: &LeftInFloat| vec![f.node.clone(), f.operator.clone(), f.reason.clone()];
    (!float.is_empty()).then(|| table(&["in float", "operator", "why"], &float.iter().map(row).collect::<Vec<_>>()))
}

/// Which kernels ONNX Runtime takes.
fn kernels_line(kernels: &Kernels) -> String {
    let list =
        |of: &std::collections::BTreeMap<String, usize>| of.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ");
    let integer = if kernels.integer.is_empty() { "nothing".into() } else { list(&kernels.integer) };
    format!("ONNX Runtime computes in integers here: {integer}; beside them {}", list(&kernels.other))
}

/// What has another form, and what stayed in float.
fn converted(report: &ConversionReport) -> Vec<String> {
    let row = |l: &ConvertedLayer| vec![l.node.clone(), l.operator.clone(), l.stored.clone(), format!("{:.1} dB", l.weight_sqnr)];
    let mut lines = vec![table(&["layer", "operator", "weights", "their SQNR"], &report.layers.iter().map(row).collect::<Vec<_>>())];
    lines.extend(left_in_float(&report.float));
    lines.extend(report.kernels.as_ref().map(kernels_line));
    let computing = if report.nodes > 0 { format!("{} nodes and ", report.nodes) } else { String::new() };
    let seen = if report.samples > 0 { format!(", looking at {} samples", grouped(report.samples as u64)) } else { String::new() };
    lines.push(format!("Converted {computing}the weights of {} layers{seen}", report.layers.len()));
    lines
}

/// The channels of every group, and what the network costs without those that went.
fn channels_left(outcome: &Outcome) -> Vec<String> {
    let row = |g: &GroupChannels| vec![g.group.clone(), grouped(g.total as u64), grouped(g.left as u64)];
    let rows: Vec<Vec<String>> = outcome.channels.iter().map(row).collect();
    let sum = |of: fn(&GroupChannels) -> usize| outcome.channels.iter().map(of).sum::<usize>();
    let (total, left) = (sum(|g| g.total), sum(|g| g.left));
    let CostChange { original, result } = outcome.cost;
    let of = |before: u64, after: u64| {
        format!("{} → {} ({:.1} %)", grouped(before), grouped(after), 100.0 * after as f64 / before.max(1) as f64)
    };
    // Free dimensions other than the batch leave them unknown.
    let macs = if original.macs == 0 { "not known".into() } else { of(original.macs, result.macs) };
    vec![
        table(&["channels of", "before", "left"], &rows),
        format!("Removed {} of {total} channels ({:.1} %)", total - left, 100.0 * (total - left) as f64 / total.max(1) as f64),
        format!("MACs {}, parameters {}", macs, of(original.parameters as u64, result.parameters as u64)),
    ]
}

/// What the accuracy loses where one group is cut alone: a row for each group, a column for each ratio.
fn sensitivity_table(groups: &[GroupSensitivity]) -> String {
    let ratios = groups.first().map(|g| g.points.iter().map(|p| format!("{:.0} % gone", 100.0 * p.ratio)).collect()).unwrap_or_default();
    let head: Vec<String> = [vec!["cut alone, points and loss".to_string(), "channels".into()], ratios].concat();
    let row = |g: &GroupSensitivity| {
        let points = g
            .points
            .iter()
            .map(|p| format!("{:+.2} ({:+.2} to {:+.2}), {:.3}", p.change, p.change_interval.low, p.change_interval.high, p.loss));
        [g.group.clone(), grouped(g.channels as u64)].into_iter().chain(points).collect()
    };
    table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &groups.iter().map(row).collect::<Vec<_>>())
}

fn speed_line(speed: &SpeedUp) -> String {
    let SpeedUp { runtime, rounds, original_ms, result_ms, speed_up, interval } = speed;
    format!(
        "Time in {runtime}: {original_ms:.3} → {result_ms:.3} ms, {speed_up:.2}x as fast (95 % {:.2} to {:.2}; one input at a time, {rounds} \
         rounds in turn)",
        interval.low, interval.high
    )
}

/// Three digits; what rounds to nothing is said to be less than the least of them.
fn probability(p: f64) -> String {
    if p < 0.0005 { "< 0.001".into() } else { format!("{p:.3}") }
}

pub(crate) fn accuracy_line(name: &str, split: &BeforeAfter) -> String {
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
