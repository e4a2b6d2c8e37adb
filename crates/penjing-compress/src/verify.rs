//! The file that is handed out, proved to be the network that was measured.

use std::path::Path;

use penjing_exec::cpu_executor;
use penjing_exec::data::{Dataset, Order, Split};
use penjing_exec::runtime::{OnnxRuntime, Runtime, SessionOptions};
use penjing_graph::ops::Op;
use penjing_graph::{DataType, Dim, Graph, Tensor, onnx};
use serde::Serialize;

use crate::run::RunError;

/// Largest difference of outputs that is put down to rounding, relative to the largest output (at least 1).
pub(crate) const TOLERANCE: f64 = 1e-4;
/// The same of a network that computes in integers, where runtimes may round halves to either side and what follows carries it on.
const TOLERANCE_OF_CODES: f64 = 0.1;
/// The same of a network that computes in 16-bit floats, which runtimes may round later.
const TOLERANCE_OF_HALVES: f64 = 0.02;
/// Samples that are run.
const SAMPLES: usize = 16;

/// How the written file was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Initializers of the file that equal those in memory, bit by bit: all of them.
    pub weights_equal: usize,
    /// Largest difference between file and memory in the built-in executor, relative to the largest output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<f64>,
    /// Largest difference between ONNX Runtime on the file and the built-in executor, relative to the largest output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<f64>,
    /// What was not checked, and why.
    pub skipped: Vec<String>,
}

/// Reads the file again and compares it with the network in memory: weights, shapes, outputs, and outputs in ONNX Runtime.
///
/// # Errors
/// When they differ.
pub fn verify(
    graph: &Graph,
    path: &Path,
    data: Option<&Dataset>,
    onnxruntime: Option<OnnxRuntime>,
    threads: usize,
) -> Result<Verification, RunError> {
    let reread = onnx::read(path)?;
    let weights_equal = same_weights(graph, &reread)?;
    let mut verification = Verification { weights_equal, builtin: None, onnxruntime: None, skipped: vec![] };
    let Some(inputs) = sample_inputs(graph, data)? else {
        verification.skipped.push("outputs were not compared: the shape of an input is not known (hint: --data)".into());
        return Ok(verification);
    };
    let ran = cpu_executor(graph).and_then(|mut executor| executor.run(&inputs, graph.outputs()));
    let expected = match ran {
        Ok(outputs) => outputs,
        Err(error) => {
            verification.skipped.push(format!("outputs were not compared in the built-in executor: {error}"));
            return Ok(verification);
        }
    };
    let outputs = cpu_executor(&reread)?.run(&inputs, reread.outputs())?;
    verification.builtin = Some(same_outputs("the built-in executor", &expected, &outputs, TOLERANCE).map_err(RunError::NotVerified)?);
    match onnxruntime {
        Some(runtime) => {
            let outputs = runtime.open(path, threads)?.run(&inputs)?;
            if let Some([of_written, tolerance]) = of_few_digits(graph) {
                // As it is written first: kernels for integers may be less exact than what they stand for.
                let as_written = SessionOptions { threads, optimize: false };
                let written = runtime.load(&reread, as_written).run(&inputs, reread.outputs())?;
                verification.onnxruntime =
                    Some(same_outputs("ONNX Runtime", &expected, &written, of_written).map_err(RunError::NotVerified)?);
                if let Err(difference) = same_outputs("ONNX Runtime", &expected, &outputs, tolerance) {
                    let hint = "(hint: --target with this machine, which is the default)";
                    verification
                        .skipped
                        .push(format!("the kernels of this machine do not compute what the model says: {difference} {hint}"));
                }
            } else {
                verification.onnxruntime =
                    Some(same_outputs("ONNX Runtime", &expected, &outputs, TOLERANCE).map_err(RunError::NotVerified)?);
            }
        }
        None => verification
            .skipped
            .push("not run in ONNX Runtime: its library was not found (hint: `pip install onnxruntime`, or --onnxruntime PATH)".into()),
    }
    Ok(verification)
}

/// What is put down to rounding, in the file as it is written and as a runtime optimises it, where that may compute some of the network
/// in integers or in 16-bit floats.
fn of_few_digits(graph: &Graph) -> Option<[f64; 2]> {
    let any = |has: fn(&Op) -> bool| graph.nodes().any(|(_, node)| has(&node.op));
    if any(|op| matches!(op, Op::QuantizeLinear(_) | Op::DynamicQuantizeLinear(_))) {
        Some([TOLERANCE_OF_CODES; 2])
    } else if any(|op| matches!(op, Op::DequantizeLinear(_))) {
        Some([TOLERANCE, TOLERANCE_OF_CODES])
    } else if any(|op| matches!(op, Op::Cast(cast) if cast.to == DataType::Float16)) {
        Some([TOLERANCE_OF_HALVES; 2])
    } else {
        None
    }
}

/// Number of initializers, all of which must be the same bits under the same name.
fn same_weights(graph: &Graph, reread: &Graph) -> Result<usize, RunError> {
    let mut equal = 0;
    for (id, tensor) in graph.initializers() {
        let name = &graph.value(id).name;
        let same = reread.find_value(name).and_then(|id| reread.tensor(id)).is_some_and(|other| other == tensor);
        if !same {
            return Err(RunError::NotVerified(format!("initializer `{name}` is not what it was")));
        }
        equal += 1;
    }
    Ok(equal)
}

/// Some inputs to run: validation samples, else numbers that only need to be the same each time. `None` for unknown shapes.
pub(crate) fn sample_inputs(graph: &Graph, data: Option<&Dataset>) -> Result<Option<Vec<Tensor>>, RunError> {
    if let Some(data) = data
        && let Some(batch) = data.batches(Split::Validation, SAMPLES, Order::Sequential, false).next()
    {
        return Ok(Some(batch?.inputs));
    }
    made_up_inputs(graph, 2, 2)
}

/// Numbers that only need to be the same each time, with so many samples and that size for other free dimensions. `None` for
/// shapes that are not known.
pub(crate) fn made_up_inputs(graph: &Graph, batch: usize, free: usize) -> Result<Option<Vec<Tensor>>, RunError> {
    let mut inputs = vec![];
    for id in graph.inputs() {
        let value = graph.value(id);
        let Some(shape) = &value.shape else { return Ok(None) };
        let size = |(axis, dim): (usize, &Dim)| dim.fixed().unwrap_or(if axis == 0 { batch } else { free });
        let dims: Vec<usize> = shape.iter().enumerate().map(size).collect();
        let Some(input) = value.dtype.and_then(|dtype| made_up(dtype, dims)) else { return Ok(None) };
        inputs.push(input);
    }
    Ok(Some(inputs))
}

/// A tensor of numbers that only need to be the same each time. `None` of very many elements, and of types that are no numbers or
/// that no input has.
pub(crate) fn made_up(dtype: DataType, dims: Vec<usize>) -> Option<Tensor> {
    let count = penjing_graph::element_count(&dims).filter(|n| *n <= 1 << 28)?;
    // Integers count something or name an entry of a table: 0 and 1 always can.
    Some(match dtype {
        DataType::Float => Tensor::new(dims, (0..count).map(|i| (i as f32 * 0.37).sin()).collect()),
        DataType::Double => Tensor::new(dims, (0..count).map(|i| (i as f64 * 0.37).sin()).collect()),
        DataType::Int64 => Tensor::new(dims, (0..count).map(|i| (i % 2) as i64).collect()),
        DataType::Int32 => Tensor::new(dims, (0..count).map(|i| (i % 2) as i32).collect()),
        DataType::Int8 => Tensor::new(dims, (0..count).map(|i| (i % 2) as i8).collect()),
        DataType::Uint8 => Tensor::new(dims, (0..count).map(|i| (i % 2) as u8).collect()),
        DataType::Bool => Tensor::from_bools(dims, &(0..count).map(|i| i % 2 == 1).collect::<Vec<_>>()),
        _ => return None,
    })
}

/// The largest relative difference of two lists of outputs, if it can be put down to rounding; else what differs.
pub(crate) fn same_outputs(whose: &str, expected: &[Tensor], outputs: &[Tensor], tolerance: f64) -> Result<f64, String> {
    let mut largest = 0.0f64;
    for (i, (a, b)) in expected.iter().zip(outputs).enumerate() {
        if a.dims() != b.dims() {
            return Err(format!("output {i} of {whose} has the shape {:?} instead of {:?}", b.dims(), a.dims()));
        }
        let (Some(a), Some(b)) = (a.to_f32(), b.to_f32()) else { continue };
        let scale = a.iter().fold(1.0f64, |m, x| m.max(f64::from(x.abs())));
        let difference = a.iter().zip(&*b).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
        // Written so that a NaN on one side only is a difference.
        let equal_nan = a.iter().zip(&*b).all(|(a, b)| a.is_nan() == b.is_nan());
        if !equal_nan || difference / scale > tolerance {
            return Err(format!("output {i} of {whose} is off by {difference:.3e} where outputs reach {scale:.3e}"));
        }
        largest = largest.max(difference / scale);
    }
    Ok(largest)
}
