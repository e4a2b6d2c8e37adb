//! Images per second of the built-in executor on random data: forward pass, and whole training step with SGD and momentum.
//!
//! usage: throughput [--models=lenet-5,resnet-20,mobilenet-v2] [--batch=64] [--threads=2] [--seconds=3] [--json]
//!
//! Prints one row for each model and mode; with `--json` a list of {"model", "mode", "batch", "parameters", "images_per_s"}.

use std::time::Instant;

use penjing_exec::{Loss, Objective, Target, UpdateRule, cpu_executor};
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{Tensor, element_count};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    models: Vec<String>,
    batch: usize,
    threads: usize,
    seconds: f64,
    json: bool,
}

fn options() -> Result<Options, Failure> {
    let models = ["lenet-5", "resnet-20", "mobilenet-v2"].map(String::from).into();
    let mut options = Options { models, batch: 64, threads: 2, seconds: 3.0, json: false };
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match key {
            "--models" => options.models = value.split(',').map(String::from).collect(),
            "--batch" => options.batch = value.parse()?,
            "--threads" => options.threads = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--json" => options.json = true,
            _ => return Err(format!("`{argument}` is unknown (hint: --models=, --batch=, --threads=, --seconds=, --json)").into()),
        }
    }
    Ok(options)
}

/// Throughput of `step` over at least `seconds`, after a third of that to warm up.
fn images_per_s(batch: usize, seconds: f64, mut step: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut speed = 0.0;
    for limit in [seconds / 3.0, seconds] {
        let (start, mut steps) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < limit {
            step()?;
            steps += 1;
        }
        speed = (steps * batch) as f64 / start.elapsed().as_secs_f64();
    }
    Ok(speed)
}

/// Numbers between −1 and 1.
fn noise(dims: &[usize]) -> Tensor {
    let n = element_count(dims).unwrap_or(0);
    Tensor::new(dims, (0..n).map(|i| ((i * 7919) as f32 * 0.618_034).sin()).collect::<Vec<f32>>())
}

fn measure(name: &str, options: &Options) -> Result<Vec<serde_json::Value>, Failure> {
    let input = if name.starts_with("lenet") { [1, 28, 28] } else { [3, 32, 32] };
    let graph = zoo::build(name, &ZooOptions { classes: Some(10), input: Some(input), ..ZooOptions::default() })?;
    let mut executor = cpu_executor(&graph)?;
    let parameters: usize = executor.trainable().into_iter().filter_map(|id| graph.tensor(id)).map(Tensor::len).sum();
    let x = [noise(&[&[options.batch], &input[..]].concat())];
    let target = Target::Classes((0..options.batch as u32).map(|i| i % 10).collect());
    let rule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let objective = Objective { loss: Loss::CrossEntropy { smoothing: 0.0 }, rule, learning_rate: 1e-3, clip_norm: None };
    let outputs = graph.outputs().to_vec();
    let row = |mode: &str, speed: f64| serde_json::json!({"model": name, "mode": mode, "batch": options.batch, "parameters": parameters, "images_per_s": speed});
    let forward = images_per_s(options.batch, options.seconds, || Ok(executor.run(&x, &outputs).map(|_| ())?))?;
    let train = images_per_s(options.batch, options.seconds, || Ok(executor.train_step(&x, &target, &objective).map(|_| ())?))?;
    Ok(vec![row("forward", forward), row("train", train)])
}

#[allow(clippy::print_stdout, reason = "the measurement is what this program is for")]
fn main() -> Result<(), Failure> {
    let options = options()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let mut rows = vec![];
    for model in &options.models {
        rows.extend(pool.install(|| measure(model, &options))?);
    }
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
        return Ok(());
    }
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        println!("{:<14} {:<8} {:>10.0} images/s", text("model"), text("mode"), row["images_per_s"].as_f64().unwrap_or(0.0));
    }
    Ok(())
}
