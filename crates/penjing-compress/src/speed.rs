//! Time that was gained: original and result, run in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use penjing_exec::cpu_executor;
use penjing_exec::runtime::OnnxRuntime;
use penjing_exec::train::statistics::Interval;
use penjing_graph::{Tensor, onnx};
use serde::{Deserialize, Serialize};

use crate::run::RunError;

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

/// Rounds at most, and how long they may take together.
const ROUNDS: usize = 201;
const PATIENCE: Duration = Duration::from_secs(4);
const LEAST_ROUNDS: usize = 11;

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
        let (mut before, mut after) = (runtime.open(original, threads)?, runtime.open(result, threads)?);
        found.push(measure("ONNX Runtime", || before.run(inputs).map(drop), || after.run(inputs).map(drop))?);
    }
    let (before, after) = (onnx::read(original)?, onnx::read(result)?);
    if let (Ok(mut a), Ok(mut b)) = (cpu_executor(&before), cpu_executor(&after))
        && a.run(inputs, before.outputs()).is_ok()
    {
        let (first, second) = (|| a.run(inputs, before.outputs()).map(drop), || b.run(inputs, after.outputs()).map(drop));
        found.push(measure("built-in executor", first, second)?);
    }
    Ok(found)
}

fn measure<E: Into<RunError>>(
    runtime: &str,
    mut original: impl FnMut() -> Result<(), E>,
    mut result: impl FnMut() -> Result<(), E>,
) -> Result<SpeedUp, RunError> {
    let timed = |run: &mut dyn FnMut() -> Result<(), E>| {
        let start = Instant::now();
        run().map_err(Into::into).map(|()| start.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..3 {
        timed(&mut original)?;
        timed(&mut result)?;
    }
    let (mut before, mut after) = (vec![], vec![]);
    let start = Instant::now();
    while before.len() < ROUNDS && (before.len() < LEAST_ROUNDS || start.elapsed() < PATIENCE) {
        before.push(timed(&mut original)?);
        after.push(timed(&mut result)?);
    }
    let ratios: Vec<f64> = before.iter().zip(&after).map(|(a, b)| a / b).collect();
    let (speed_up, interval) = median(ratios);
    let rounds = before.len();
    Ok(SpeedUp { runtime: runtime.into(), rounds, original_ms: median(before).0, result_ms: median(after).0, speed_up, interval })
}

/// The median, and the 95 % interval that order statistics give it: ranks n/2 ± 1.96·√n/2.
fn median(mut values: Vec<f64>) -> (f64, Interval) {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let rank = |r: f64| values[(r.max(0.0) as usize).min(values.len() - 1)];
    let half = 1.96 * n.sqrt() / 2.0;
    (rank((n - 1.0) / 2.0), Interval { low: rank(((n - 1.0) / 2.0 - half).floor()), high: rank(((n - 1.0) / 2.0 + half).ceil()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_its_interval_by_hand() {
        // Of 25 values the middle one is the 13th; 1.96 · 5 / 2 = 4.9 ranks around it, so the 8th and the 18th.
        let (middle, interval) = median((1..=25).rev().map(f64::from).collect());
        assert_eq!((middle, interval.low, interval.high), (13.0, 8.0, 18.0));
        let (middle, interval) = median(vec![3.0]);
        assert_eq!((middle, interval.low, interval.high), (3.0, 3.0, 3.0));
    }
}
