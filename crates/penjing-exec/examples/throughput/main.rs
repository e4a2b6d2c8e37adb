//! Samples per second of the built-in executor on random data, in inference and in training; or the memory that training takes.
//!
//! usage: throughput [--models=lenet-5,resnet-20,mobilenet-v2,transformer-block] [--batch=64] [--threads=2] [--seconds=3] [--json]
//!        throughput --memory=STEPS --models=NAME [--batch=64] [--threads=2] [--json]
//!
//! `forward` is inference on a whole batch, `forward-1` on one sample, `train` one step with SGD and momentum. A sequence of
//! the transformer block stands for four images: its batch is a quarter of `--batch`, at least 1.
//!
//! Prints one row for each model and mode; with `--json` a list of {"model", "mode", "batch", "parameters", "samples_per_s"}.
//! With `--memory` the row of one model after STEPS steps: {"model", "mode", "batch", "parameters", "steps",
//! "rss_before_bytes", "rss_peak_bytes"}, what was resident before there was a model and the most there ever was.

mod transformer;

use std::time::Instant;

use penjing_exec::{Executor, Loss, Objective, Target, UpdateRule, cpu_executor};
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{Graph, GraphError, Tensor, ValueId, element_count};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLASSES: usize = 10;
const OBJECTIVE: Objective = Objective {
    loss: Loss::CrossEntropy { smoothing: 0.0 },
    rule: UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
    learning_rate: 1e-3,
    clip_norm: None,
};

struct Options {
    models: Vec<String>,
    batch: usize,
    threads: usize,
    seconds: f64,
    /// Training steps of the process whose memory is measured.
    memory: Option<usize>,
    json: bool,
}

fn options() -> Result<Options, Failure> {
    let models = ["lenet-5", "resnet-20", "mobilenet-v2", "transformer-block"].map(String::from).into();
    let mut options = Options { models, batch: 64, threads: 2, seconds: 3.0, memory: None, json: false };
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match key {
            "--models" => options.models = value.split(',').map(String::from).collect(),
            "--batch" => options.batch = value.parse()?,
            "--threads" => options.threads = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--memory" => options.memory = Some(value.parse()?),
            "--json" => options.json = true,
            _ => {
                let known = "--models=, --batch=, --threads=, --seconds=, --memory=, --json";
                return Err(format!("`{argument}` is unknown (hint: {known})").into());
            }
        }
    }
    if options.memory.is_some() && options.models.len() != 1 {
        return Err("the peak of a process says nothing about one model of several (hint: --models=NAME)".into());
    }
    Ok(options)
}

#[derive(Clone, Copy)]
enum Mode {
    Forward,
    ForwardOne,
    Train,
}

impl Mode {
    const ALL: [Mode; 3] = [Mode::Forward, Mode::ForwardOne, Mode::Train];

    fn name(self) -> &'static str {
        match self {
            Mode::Forward => "forward",
            Mode::ForwardOne => "forward-1",
            Mode::Train => "train",
        }
    }

    /// Samples of a step where a whole batch has `whole`.
    fn batch(self, whole: usize) -> usize {
        match self {
            Mode::Forward | Mode::Train => whole,
            Mode::ForwardOne => 1,
        }
    }
}

/// Numbers between −1 and 1.
fn noise(dims: &[usize]) -> Tensor {
    let n = element_count(dims).unwrap_or(0);
    Tensor::new(dims, (0..n).map(|i| ((i * 7919) as f32 * 0.618_034).sin()).collect::<Vec<f32>>())
}

/// The network, the shape of its samples, and its batch.
fn network(name: &str, batch: usize) -> Result<(Graph, Vec<usize>, usize), GraphError> {
    if name == "transformer-block" {
        return Ok((transformer::block(CLASSES)?, transformer::SAMPLE.to_vec(), (batch / 4).max(1)));
    }
    let input = if name.starts_with("lenet") { [1, 28, 28] } else { [3, 32, 32] };
    let graph = zoo::build(name, &ZooOptions { classes: Some(CLASSES), input: Some(input), ..ZooOptions::default() })?;
    Ok((graph, input.to_vec(), batch))
}

/// A network that is measured.
struct Subject {
    name: String,
    executor: Box<dyn Executor>,
    outputs: Vec<ValueId>,
    sample: Vec<usize>,
    batch: usize,
    parameters: usize,
}

impl Subject {
    fn new(name: &str, batch: usize) -> Result<Subject, Failure> {
        let (graph, sample, batch) = network(name, batch)?;
        let executor = cpu_executor(&graph)?;
        let parameters = executor.trainable().into_iter().filter_map(|id| graph.tensor(id)).map(Tensor::len).sum();
        Ok(Subject { name: name.into(), executor, outputs: graph.outputs().to_vec(), sample, batch, parameters })
    }

    /// One step of `mode`, on the same data each time.
    fn step(&mut self, mode: Mode) -> impl FnMut() -> Result<(), Failure> {
        let batch = mode.batch(self.batch);
        let x = [noise(&[&[batch], &self.sample[..]].concat())];
        let target = Target::Classes((0..batch as u32).map(|i| i % CLASSES as u32).collect());
        move || {
            match mode {
                Mode::Forward | Mode::ForwardOne => drop(self.executor.run(&x, &self.outputs)?),
                Mode::Train => _ = self.executor.train_step(&x, &target, &OBJECTIVE)?,
            }
            Ok(())
        }
    }
}

/// Steps per second over at least `seconds`, after a third of that to warm up.
fn steps_per_s(seconds: f64, mut step: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut speed = 0.0;
    for limit in [seconds / 3.0, seconds] {
        let (start, mut steps) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < limit {
            step()?;
            steps += 1;
        }
        speed = f64::from(steps) / start.elapsed().as_secs_f64();
    }
    Ok(speed)
}

/// A row for each mode.
fn speeds(name: &str, options: &Options) -> Result<Vec<Value>, Failure> {
    let mut subject = Subject::new(name, options.batch)?;
    let mut rows = vec![];
    for mode in Mode::ALL {
        let batch = mode.batch(subject.batch);
        let speed = batch as f64 * steps_per_s(options.seconds, subject.step(mode))?;
        let Subject { name, parameters, .. } = &subject;
        rows.push(json!({"model": name, "mode": mode.name(), "batch": batch, "parameters": parameters, "samples_per_s": speed}));
    }
    Ok(rows)
}

/// A line of Linux's account of this process in bytes: `VmRSS` what is resident now, `VmHWM` the most there ever was.
fn resident(entry: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    Ok(1024 * kilobytes.ok_or_else(|| format!("/proc/self/status does not say `{entry}`"))?.parse::<u64>()?)
}

/// The row of a process that does nothing but `steps` training steps of one model.
fn memory(name: &str, steps: usize, options: &Options) -> Result<Vec<Value>, Failure> {
    let before = resident("VmRSS")?;
    let mut subject = Subject::new(name, options.batch)?;
    let mut step = subject.step(Mode::Train);
    for _ in 0..steps {
        step()?;
    }
    drop(step);
    let Subject { name, batch, parameters, .. } = &subject;
    Ok(vec![json!({
        "model": name, "mode": Mode::Train.name(), "batch": batch, "parameters": parameters, "steps": steps,
        "rss_before_bytes": before, "rss_peak_bytes": resident("VmHWM")?,
    })])
}

#[allow(clippy::print_stdout, reason = "the measurement is what this program is for")]
fn main() -> Result<(), Failure> {
    let options = options()?;
    penjing_exec::keep_freed_memory();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let mut rows = vec![];
    for model in &options.models {
        rows.extend(pool.install(|| match options.memory {
            Some(steps) => memory(model, steps, &options),
            None => speeds(model, &options),
        })?);
    }
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
        return Ok(());
    }
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (value, unit) = match row["rss_peak_bytes"].as_f64() {
            Some(bytes) => (bytes / 1e6, "MB at the peak"),
            None => (row["samples_per_s"].as_f64().unwrap_or(0.0), "samples/s"),
        };
        println!("{:<18} {:<10} {:>4} {value:>10.0} {unit}", text("model"), text("mode"), row["batch"]);
    }
    Ok(())
}
