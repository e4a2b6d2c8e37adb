//! Time and memory of finding one threshold over all weights of a model and masking those below it.
//!
//! usage: select MODEL [--sparsity=0.9] [--threads=2] [--json]
//!
//! With `--json` prints {"weights", "pruned", "seconds", "rss_before_bytes", "rss_peak_bytes"}. Reading the model is not timed.

use std::time::Instant;

use penjing_compress::prune::{Pruner, layer_sparsities, prunable};
use penjing_graph::{Tensor, onnx};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    model: String,
    sparsity: f64,
    threads: usize,
    json: bool,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { model: String::new(), sparsity: 0.9, threads: 2, json: false };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("--sparsity", fraction) => options.sparsity = fraction.parse()?,
            ("--threads", threads) => options.threads = threads.parse()?,
            ("--json", "") => options.json = true,
            (model, "") if !model.starts_with('-') && options.model.is_empty() => options.model = model.to_owned(),
            _ => return Err(format!("`{argument}` is unknown (hint: MODEL --sparsity= --threads= --json)").into()),
        }
    }
    if options.model.is_empty() {
        return Err("no model is named (hint: MODEL --sparsity= --threads= --json)".into());
    }
    Ok(options)
}

/// A line of Linux's account of this process in bytes: `VmRSS` what is resident now, `VmHWM` the most there ever was.
fn memory(entry: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    Ok(1024 * kilobytes.ok_or_else(|| format!("/proc/self/status does not say `{entry}`"))?.parse::<u64>()?)
}

#[allow(clippy::print_stdout, reason = "the measurement is what this program is for")]
fn main() -> Result<(), Failure> {
    let options = options()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let graph = onnx::read(&options.model)?;
    let pruner = Pruner::new(options.sparsity)?;

    // Weights lie in the mapped file; counting those that are zero already brings them into memory.
    let prunable: Vec<&Tensor> = prunable(&graph).into_iter().filter_map(|id| graph.tensor(id)).collect();
    let weights: usize = prunable.iter().map(|tensor| tensor.len()).sum();
    let zeros = |graph| layer_sparsities(graph).iter().map(|layer| layer.total - layer.left).sum::<usize>();
    let zeros_before = zeros(&graph);

    let rss_before = memory("VmRSS")?;
    let start = Instant::now();
    let pruned = pool.install(|| pruner.prune(&graph))?;
    let seconds = start.elapsed().as_secs_f64();
    let rss_peak = memory("VmHWM")?;

    let removed = pruned.masks.values().flatten().filter(|keep| !**keep).count();
    if zeros(&pruned.graph) < removed.max(zeros_before) {
        return Err("weights that the masks do not keep are not zero".into());
    }
    if options.json {
        let record = serde_json::json!({
            "weights": weights, "pruned": removed, "seconds": seconds, "rss_before_bytes": rss_before, "rss_peak_bytes": rss_peak,
        });
        println!("{record}");
    } else {
        let added = (rss_peak - rss_before) as f64 / 1e6;
        println!("{removed} of {weights} weights in {:.1} ms, {added:.0} MB more memory at the peak", 1000.0 * seconds);
    }
    Ok(())
}
