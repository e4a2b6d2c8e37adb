//! Time that was gained: original and result, run in turn.

use std::path::Path;
use std::time::Duration;

use penjing_exec::runtime::OnnxRuntime;
use penjing_exec::train::statistics::Interval;
use penjing_exec::{ExecError, cpu_executor};
use penjing_graph::{Tensor, onnx};
use serde::{Deserialize, Serialize};

use crate::run::RunError;
use crate::timing::{self, Median, PATIENCE, Run, SHORT_PATIENCE, in_turn};

/// How much faster a result is than the original, both run in turn on the same input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    /// What ran them.
    pub runtime: String,
    /// Times that each was run.
    pub rounds: usize,
    /// Median time of the original in milliseconds.
    pub original_ms: f64,
    /// Median time of the result in milliseconds.
    pub result_ms: f64,
    /// Median over the rounds of the original's time divided by the result's.
    pub speed_up: f64,
    /// Its 95 % interval, from order statistics.
    pub interval: Interval,
}

/// The fraction of the original's time that a candidate takes, in ONNX Runtime where it is there, else in the built-in executor.
///
/// # Errors
/// When a file cannot be read or run.
pub(crate) fn time_left(
    original: &Path,
    candidate: &Path,
    inputs: &[Tensor],
    onnxruntime: Option<OnnxRuntime>,
    threads: usize,
) -> Result<f64, RunError> {
    let measured = match onnxruntime {
        Some(runtime) => in_onnxruntime(runtime, original, candidate, inputs, threads, SHORT_PATIENCE)?,
        None => {
            let (before, after) = (onnx::read(original)?, onnx::read(candidate)?);
            let (mut a, mut b) = (cpu_executor(&before)?, cpu_executor(&after)?);
            let (first, second) = (|| a.run(inputs, before.outputs()).map(drop), || b.run(inputs, after.outputs()).map(drop));
            measure("built-in executor", SHORT_PATIENCE, Box::new(first), Box::new(second))?
        }
    };
    Ok(1.0 / measured.speed_up)
}

fn in_onnxruntime(
    runtime: OnnxRuntime,
    original: &Path,
    result: &Path,
    inputs: &[Tensor],
    threads: usize,
    patience: Duration,
) -> Result<SpeedUp, RunError> {
    let (mut before, mut after) = (runtime.open(original, threads)?, runtime.open(result, threads)?);
    let (first, second) = (|| before.run(inputs).map(drop), || after.run(inputs).map(drop));
    measure("ONNX Runtime", patience, Box::new(first), Box::new(second))
}

/// Runs two models in turn, in ONNX Runtime where it is there and in the built-in executor where that can run them.
///
/// # Errors
/// When a file cannot be read, or ONNX Runtime does not run it.
pub(crate) fn speed_ups(
    original: &Path,
    result: &Path,
    inputs: &[Tensor],
    onnxruntime: Option<OnnxRuntime>,
    threads: usize,
) -> Result<Vec<SpeedUp>, RunError> {
    let mut found = vec![];
    if let Some(runtime) = onnxruntime {
        found.push(in_onnxruntime(runtime, original, result, inputs, threads, PATIENCE)?);
    }
    let (before, after) = (onnx::read(original)?, onnx::read(result)?);
    if let (Ok(mut a), Ok(mut b)) = (cpu_executor(&before), cpu_executor(&after))
        && a.run(inputs, before.outputs()).is_ok()
    {
        let (first, second) = (|| a.run(inputs, before.outputs()).map(drop), || b.run(inputs, after.outputs()).map(drop));
        found.push(measure("built-in executor", PATIENCE, Box::new(first), Box::new(second))?);
    }
    Ok(found)
}

fn measure<'a>(runtime: &str, patience: Duration, original: Run<'a, ExecError>, result: Run<'a, ExecError>) -> Result<SpeedUp, RunError> {
    let mut times = in_turn(&mut [original, result], patience)?.into_iter();
    let [before, after] = [(); 2].map(|()| times.next().unwrap_or_default());
    let (rounds, Median { median: speed_up, interval }) = (before.len(), timing::speed_up(&before, &after));
    let [original_ms, result_ms] = [before, after].map(|times| Median::of(times).median);
    Ok(SpeedUp { runtime: runtime.into(), rounds, original_ms, result_ms, speed_up, interval })
}
