//! A result beside the model it was made from: accuracy, outputs, and where inside they part.

use penjing_exec::data::{Dataset, Split};
use penjing_exec::runtime::{RuntimeKind, SessionOptions};
use penjing_exec::train::{InnerValues, Portion, Progress, Similarity, inner_values, side_by_side};
use penjing_graph::{Dim, Graph};
use serde::Serialize;

use crate::outcome::BeforeAfter;
use crate::run::{RunError, no_accuracy};

/// Samples at a time for models that leave it open.
pub const COMPARE_BATCH: usize = 256;
/// Inner values of so many samples at a time are in memory.
const INNER_BATCH: usize = 1;

/// How models are compared.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// What runs both.
    pub runtime: RuntimeKind,
    /// Threads for ONNX Runtime.
    pub threads: usize,
    /// The split to measure on.
    pub split: Split,
    /// Samples for the inner values; 0: these are left out.
    pub samples: usize,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Compared {
    /// What ran both.
    pub runtime: &'static str,
    /// The split.
    pub split: Split,
    /// Number of its samples.
    pub samples: usize,
    /// Both as classifiers; `None` where that cannot be measured.
    pub accuracy: Option<BeforeAfter>,
    /// Why it cannot.
    pub no_accuracy: Option<String>,
    /// Every float output of the result beside the original's.
    pub outputs: Vec<Similarity>,
    /// Inner values, the worst first. For them ONNX Runtime runs the nodes as they are written, without its own rewrites.
    pub inner: Option<InnerValues>,
    /// What ONNX Runtime's rewrites and kernels for this machine do to the result: its outputs beside those of the nodes as they are
    /// written, on the samples of the inner values. `None` where the model runs as it is written.
    pub optimization: Option<Vec<Similarity>>,
}

/// Compares two models on the same samples.
///
/// # Errors
/// When the data do not fit a model, their outputs differ in number or shape, or one cannot be run.
pub fn compare(
    original: &Graph,
    result: &Graph,
    data: &Dataset,
    options: CompareOptions,
    progress: &mut dyn Progress,
) -> Result<Compared, RunError> {
    let CompareOptions { runtime, threads, split, samples } = options;
    let no_accuracy = no_accuracy(data, original).or_else(|| no_accuracy(data, result));
    for graph in [original, result] {
        if no_accuracy.is_some() { data.check_input(graph)? } else { data.check_against(graph)? }
    }
    let load = |graph: &Graph, optimize: bool| runtime.load(graph, SessionOptions { threads, optimize });
    let batch = fixed_batch(original).or_else(|| fixed_batch(result));
    let whole = Portion::whole(split, batch.unwrap_or(COMPARE_BATCH));
    let (mut a, mut b) = (load(original, true)?, load(result, true)?);
    let found = side_by_side(&mut *a, &mut *b, data, whole, no_accuracy.is_none(), progress)?;
    let (mut inner, mut optimization) = (None, None);
    if samples > 0 {
        let portion = Portion { split, batch: batch.unwrap_or(INNER_BATCH), most: samples };
        let (mut a, mut as_written) = (load(original, false)?, load(result, false)?);
        inner = Some(inner_values(&mut *a, &mut *as_written, data, portion, progress)?);
        if let RuntimeKind::OnnxRuntime(_) = runtime {
            optimization = Some(side_by_side(&mut *as_written, &mut *b, data, portion, false, progress)?.outputs);
        }
    }
    let accuracy = found.evaluations.map(|[before, after]| BeforeAfter::of(&before, &after, None)).transpose()?;
    Ok(Compared {
        runtime: runtime.name(),
        split,
        samples: data.len(split),
        accuracy,
        no_accuracy,
        outputs: found.outputs,
        inner,
        optimization,
    })
}

/// Samples that a model takes at a time, where it takes only so many.
pub fn fixed_batch(graph: &Graph) -> Option<usize> {
    graph.inputs().find_map(|id| graph.value(id).shape.as_ref()?.first().and_then(Dim::fixed))
}
