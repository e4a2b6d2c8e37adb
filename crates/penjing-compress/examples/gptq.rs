//! The weights of a text encoder as codes in blocks: how far its outputs move, by type and rounding.
//!
//! usage: gptq MODEL TOKENS FOLDER
//!
//! MODEL takes `input_ids` and a mask of the same shape. TOKENS: a safetensors file with `calibration` and `test`, int64
//! [texts, tokens] without padding. Writes each model into FOLDER and prints a JSON list of {"model", "bytes", "sqnr", "cosine",
//! "seconds"} of the last float output: 10·log₁₀(Σa² / Σ(a − b)²) in dB and the mean cosine of a row.

use std::path::Path;
use std::time::Instant;

use penjing_compress::quant::{Conversion, Fit, Number, Rounding, WeightOnly, convert};
use penjing_exec::cpu_executor;
use penjing_exec::data::Batch;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::{Graph, Tensor};
use safetensors::SafeTensors;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Texts at a time.
const BATCH: usize = 16;

fn batches(tokens: &SafeTensors<'_>, name: &str) -> Result<Vec<Batch>, Failure> {
    let view = tokens.tensor(name)?;
    let &[_, length] = view.shape() else { return Err(format!("`{name}` is not [texts, tokens]").into()) };
    let ids: Vec<i64> = view.data().as_chunks::<8>().0.iter().map(|octets| i64::from_le_bytes(*octets)).collect();
    let batch = |ids: &[i64]| {
        let dims = [ids.len() / length, length];
        let inputs = vec![Tensor::new(dims, ids.to_vec()), Tensor::new(dims, vec![1i64; ids.len()])];
        Batch { inputs, labels: None, targets: None, indices: (0..dims[0]).collect() }
    };
    Ok(ids.chunks(BATCH * length).map(batch).collect())
}

/// The last float output of every batch, one after the other, and the length of a row.
fn outputs(graph: &Graph, test: &[Batch]) -> Result<(Vec<f32>, usize), Failure> {
    let mut executor = cpu_executor(graph)?;
    let (mut values, mut row) = (vec![], 1);
    for batch in test {
        let outputs = executor.run(&batch.inputs, graph.outputs())?;
        let output = outputs.iter().rfind(|output| output.dtype().is_float()).ok_or("no output is of floats")?;
        row = output.dims().last().copied().unwrap_or(1);
        values.extend_from_slice(&output.to_f32().ok_or("no output is of floats")?);
    }
    Ok((values, row))
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    a.iter().zip(b).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
}

#[allow(clippy::print_stdout, reason = "its result")]
fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, tokens, folder] = &arguments[..] else { return Err("usage: gptq MODEL TOKENS FOLDER".into()) };
    let graph = onnx::read(model)?;
    let bytes = std::fs::read(tokens)?;
    let tokens = SafeTensors::deserialize(&bytes)?;
    let (calibration, test) = (batches(&tokens, "calibration")?, batches(&tokens, "test")?);
    let (expected, row) = outputs(&graph, &test)?;
    let learned = Rounding::Gptq { calibration_samples: calibration.iter().map(|batch| batch.indices.len()).sum() };
    let mut results = vec![];
    for (weight_type, block_size, rounding) in [
        (Number::Int8, 32, Rounding::Nearest),
        (Number::Int4, 32, Rounding::Nearest),
        (Number::Int4, 32, learned),
        (Number::Uint4, 32, Rounding::Nearest),
        (Number::Uint4, 32, learned),
        (Number::Uint2, 16, Rounding::Nearest),
        (Number::Uint2, 16, learned),
    ] {
        let weight_range = if weight_type == Number::Int8 { Fit::MinMax } else { Fit::Mse };
        let settings = WeightOnly { weight_type, block_size, weight_range, rounding, keep: vec![] };
        let started = Instant::now();
        let (converted, _) = convert(&graph, &Conversion::WeightOnly(settings), Some(&calibration))?;
        let seconds = started.elapsed().as_secs_f64();
        let name = format!("{weight_type}-{block_size}-{rounding}");
        let written = onnx::write(
            &converted,
            Path::new(folder).join(format!("{name}.onnx")),
            WriteOptions { overwrite: true, ..WriteOptions::default() },
        )?;
        let (found, _) = outputs(&converted, &test)?;
        let sqnr = 10.0 * (sum(&expected, &expected, |a, b| a * b) / sum(&expected, &found, |a, b| (a - b).powi(2))).log10();
        let cosine = |(a, b): (&[f32], &[f32])| sum(a, b, |a, b| a * b) / (sum(a, a, |a, b| a * b) * sum(b, b, |a, b| a * b)).sqrt();
        let mean = expected.chunks(row).zip(found.chunks(row)).map(cosine).sum::<f64>() / (expected.len() / row) as f64;
        results.push(format!(
            "  {{\"model\": \"{name}\", \"bytes\": {}, \"sqnr\": {sqnr:.2}, \"cosine\": {mean:.5}, \"seconds\": {seconds:.1}}}",
            written.model_bytes
        ));
    }
    println!("[\n{}\n]", results.join(",\n"));
    Ok(())
}
