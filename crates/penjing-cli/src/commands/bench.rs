//! `penjing bench`: what a model costs to run here, alone or beside another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use penjing_compress::Median;
use penjing_compress::bench::{self, BenchOptions, Memory, ModelBench};
use penjing_exec::runtime::RuntimeKind;

use crate::Goal;
use crate::options::{RuntimeOptions, check_model, count};
use crate::table::{grouped, print, table};

/// Measure latency, throughput, load time, memory and size of a model, or of two in turn
#[derive(Args)]
pub(crate) struct Bench {
    /// The ONNX model
    model: PathBuf,
    /// Another one, run in turn with the first
    other: Option<PathBuf>,
    /// Samples in a run [default: what the model fixes, else 1]
    #[arg(long, value_name = "N", value_parser = count)]
    batch: Option<usize>,
    /// Shape of an input whose free dimensions are not to be 128, such as tokens=1x64; once for each such input
    #[arg(long, value_name = "NAME=1x3x224x224", value_parser = named_shape)]
    shape: Vec<(String, Vec<usize>)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only load and run the model, and print the memory that this process took
    #[arg(long, hide = true, conflicts_with = "other")]
    only_memory: bool,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

fn named_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.rsplit_once('=').ok_or("not NAME=SHAPE, such as input=1x3x224x224")?;
    let dims = shape.split('x').map(|dim| dim.parse().ok().filter(|n| *n > 0)).collect::<Option<Vec<usize>>>();
    Ok((name.into(), dims.ok_or_else(|| format!("`{shape}` is not whole numbers from 1 with x between them, such as 1x3x224x224"))?))
}

impl Bench {
    pub(crate) fn run(self, threads: usize) -> Result<Goal> {
        let models: Vec<&Path> = std::iter::once(&self.model).chain(&self.other).map(PathBuf::as_path).collect();
        models.iter().try_for_each(|model| check_model(model))?;
        let shapes: BTreeMap<String, Vec<usize>> = self.shape.iter().cloned().collect();
        let options = BenchOptions { runtime: self.runtime.find()?, threads, batch: self.batch, shapes };
        if self.only_memory {
            print(&serde_json::to_string(&bench::memory(&self.model, &options)?)?)?;
            return Ok(Goal::Met);
        }
        let mut found = bench::bench(&models, &options)?;
        for model in &mut found.models {
            model.memory = self.memory(&model.model, &model_options(&options, model))?;
        }
        print(&if self.json { serde_json::to_string_pretty(&found)? } else { shown(&found) })?;
        Ok(Goal::Met)
    }

    /// Memory of a process of its own, which loads the model and runs it.
    fn memory(&self, model: &Path, options: &BenchOptions) -> Result<Option<Memory>> {
        let mut child = Command::new(std::env::current_exe().context("cannot find this program")?);
        child.args(["bench", "--only-memory", "--threads", &options.threads.to_string()]);
        match options.runtime {
            RuntimeKind::Builtin => child.args(["--runtime", "builtin"]),
            RuntimeKind::OnnxRuntime(runtime) => child.args(["--runtime", "onnxruntime", "--onnxruntime"]).arg(runtime.library()),
        };
        child.args(options.batch.iter().flat_map(|batch| ["--batch".to_string(), batch.to_string()]));
        for (name, shape) in &options.shapes {
            child.arg("--shape").arg(format!("{name}={}", joined(shape)));
        }
        let output = child.arg("--").arg(model).output().context("cannot start a process to measure memory in")?;
        if !output.status.success() {
            let says = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow!("the process that measures memory failed: {}", says.trim().lines().last().unwrap_or("it says nothing")));
        }
        serde_json::from_slice(&output.stdout).context("the process that measures memory said something else")
    }
}

/// The options for one model alone: shapes of inputs that it has.
fn model_options(options: &BenchOptions, model: &ModelBench) -> BenchOptions {
    let mut options = options.clone();
    options.shapes.retain(|name, _| model.inputs.iter().any(|input| input.name == *name));
    options
}

fn joined(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// What was measured, for people.
fn shown(found: &bench::Bench) -> String {
    let bench::Bench { runtime, threads, batch, rounds, models, speed_up } = found;
    let name = |model: &ModelBench| model.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut lines = vec![format!("{runtime}, threads: {threads}; samples in a run: {batch}; rounds: {rounds}")];
    for model in models {
        let inputs = model.inputs.iter().map(|input| format!("{} {} {}", input.name, input.dtype, joined(&input.shape)));
        lines.push(format!("{} on made-up {}", model.model.display(), inputs.collect::<Vec<_>>().join(", ")));
    }
    let row = |name: &str, value: &dyn Fn(&ModelBench) -> String| {
        std::iter::once(name.to_string()).chain(models.iter().map(value)).collect::<Vec<_>>()
    };
    let not_measured = || "not measured".to_string();
    let rows = [
        row("latency (95 % interval), ms", &|m| with_interval(m.latency_ms, 3)),
        row("throughput, samples/s", &|m| with_interval(m.throughput, 1)),
        row("load and first run, ms", &|m| with_interval(m.load_ms, 1)),
        row("peak memory of a process of its own, MB", &|m| m.memory.map_or_else(not_measured, |memory| megabytes(memory.peak))),
        row("of which before the model, MB", &|m| m.memory.map_or_else(not_measured, |memory| megabytes(memory.before))),
        row("file, bytes", &|m| grouped(m.size.bytes)),
        row("after zstd -19, bytes", &|m| m.size.zstd.map_or_else(not_measured, grouped)),
        row("energy of the processor for a run, mJ", &|m| m.energy_joules.map_or_else(not_measured, |j| format!("{:.2}", 1e3 * j))),
    ];
    let names: Vec<String> = models.iter().map(name).collect();
    let head: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    lines.push(table(&head, &rows));
    if let (Some(Median { median, interval }), [first, second]) = (speed_up, &models[..]) {
        let [first, second] = [first, second].map(|model| model.model.display());
        lines.push(format!("{second} is {median:.2}x as fast as {first} (95 % {:.2} to {:.2}; run in turn)", interval.low, interval.high));
    }
    lines.join("\n")
}

fn with_interval(Median { median, interval }: Median, digits: usize) -> String {
    format!("{median:.digits$} ({:.digits$} to {:.digits$})", interval.low, interval.high)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::named_shape;

    #[test]
    fn shapes_have_names() {
        assert_eq!(named_shape("pixel=values=1x3x8x8"), Ok(("pixel=values".into(), vec![1, 3, 8, 8])));
        assert_eq!(named_shape("x=7"), Ok(("x".into(), vec![7])));
        for (text, said) in [("1x3", "not NAME=SHAPE"), ("x=1x0", "`1x0` is not whole numbers"), ("x=", "`` is not"), ("x=1xN", "`1xN`")] {
            assert!(named_shape(text).is_err_and(|e| e.starts_with(said)), "{text}");
        }
    }
}
