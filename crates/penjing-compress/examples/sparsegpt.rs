//! Half of the weights of a text encoder go without retraining: how far its outputs move, by criterion and pattern.
//!
//! usage: sparsegpt MODEL TOKENS
//!
//! MODEL takes `input_ids` and a mask of the same shape. TOKENS: a safetensors file with `calibration` and `test`, int64
//! [texts, tokens] without padding. Prints a JSON list of {"pattern", "criterion", "sparsity", "error", "cosine", "seconds"} of the
//! last float output of rank 3: Σ(a − b)² / Σa² and the mean cosine of a token.

use std::time::Instant;

use penjing_compress::prune::criteria::{Choice, Magnitude, Needs, Wanda};
use penjing_compress::prune::{Pattern, Pruner, Scope, Sparsity, Stats, layer_sparsities, layers, sparsegpt};
use penjing_exec::data::Batch;
use penjing_exec::{Loss, cpu_executor};
use penjing_graph::{Graph, Tensor, ValueId, onnx};
use safetensors::SafeTensors;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Texts at a time.
const BATCH: usize = 16;

fn batches(tokens: &SafeTensors<'_>, name: &str, inputs: usize) -> Result<Vec<Batch>, Failure> {
    let view = tokens.tensor(name)?;
    let &[texts, length] = view.shape() else { return Err(format!("`{name}` is not [texts, tokens]").into()) };
    let ids: Vec<i64> = view.data().as_chunks::<8>().0.iter().map(|octets| i64::from_le_bytes(*octets)).collect();
    let batch = |(first, ids): (usize, &[i64])| {
        let dims = [ids.len() / length, length];
        // Nothing is padded, so the mask is all ones; token types, where a model takes them, are all zero.
        let others = [1i64, 0].iter().take(inputs - 1).map(|value| Tensor::new(dims, vec![*value; ids.len()]));
        let inputs = std::iter::once(Tensor::new(dims, ids.to_vec())).chain(others).collect();
        Batch { inputs, labels: None, targets: None, indices: (first * BATCH..texts.min((first + 1) * BATCH)).collect() }
    };
    Ok(ids.chunks(BATCH * length).enumerate().map(batch).collect())
}

/// The output of every test batch, one after the other, and the length of a row.
fn outputs(graph: &Graph, output: ValueId, test: &[Batch]) -> Result<(Vec<f32>, usize), Failure> {
    let mut executor = cpu_executor(graph)?;
    let (mut values, mut row) = (vec![], 1);
    for batch in test {
        let output = executor.run(&batch.inputs, &[output])?.remove(0);
        row = output.dims().last().copied().unwrap_or(1);
        values.extend_from_slice(&output.to_f32().ok_or("the output is not of floats")?);
    }
    Ok((values, row))
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    a.iter().zip(b).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
}

fn pruned(graph: &Graph, choice: Choice, pattern: Pattern, calibration: &Vec<Batch>) -> Result<Graph, Failure> {
    match choice {
        Choice::SparseGpt => Ok(sparsegpt(graph, calibration, pattern, Sparsity::try_from(0.5)?)?.graph),
        Choice::Scores(criterion) => {
            let mut executor = cpu_executor(graph)?;
            let loss = Loss::CrossEntropy { smoothing: 0.0 };
            let stats = Stats::collect(&mut *executor, &layers(graph)?, calibration, criterion.needs(), loss, 0)?;
            // Magnitudes are compared within a layer, as SparseGPT does it.
            let scope = if criterion.needs() == Needs::Weights { Scope::Layer } else { criterion.scope() };
            let pruner = Pruner::new(0.5)?.criterion(criterion).scope(scope).pattern(pattern);
            Ok(penjing_compress::prune::apply_masks(graph, &pruner.select(graph, &stats)?)?)
        }
    }
}

#[allow(clippy::print_stdout, reason = "the measurement is what this program is for")]
fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, tokens] = &arguments[..] else { return Err("usage: sparsegpt MODEL TOKENS".into()) };
    let graph = onnx::read(model)?;
    let bytes = std::fs::read(tokens)?;
    let tokens = SafeTensors::deserialize(&bytes)?;
    let inputs = graph.inputs().count();
    let (calibration, test) = (batches(&tokens, "calibration", inputs)?, batches(&tokens, "test", inputs)?);
    let rank_3 = |id: &&ValueId| graph.value(**id).shape.as_ref().is_some_and(|shape| shape.len() == 3);
    let output = *graph.outputs().iter().rev().find(rank_3).ok_or("no output is [texts, tokens, features]")?;
    let (original, row) = outputs(&graph, output, &test)?;
    let mut rows = vec![];
    for pattern in ["unstructured", "2:4", "4x1", "1x4"] {
        for choice in [Choice::Scores(&Magnitude), Choice::Scores(&Wanda), Choice::SparseGpt] {
            let start = Instant::now();
            let network = pruned(&graph, choice, pattern.parse()?, &calibration)?;
            let seconds = start.elapsed().as_secs_f64();
            let (result, _) = outputs(&network, output, &test)?;
            let cosine = |(a, b): (&[f32], &[f32])| {
                sum(a, b, |a, b| a * b) / (sum(a, a, |a, b| a * b) * sum(b, b, |a, b| a * b)).sqrt().max(f64::MIN_POSITIVE)
            };
            let tokens = original.len() / row;
            let cosines: f64 = original.chunks(row).zip(result.chunks(row)).map(cosine).sum();
            let weights = layer_sparsities(&network);
            let count = |of: fn(&penjing_compress::prune::LayerSparsity) -> usize| weights.iter().map(of).sum::<usize>() as f64;
            rows.push(serde_json::json!({
                "pattern": pattern, "criterion": choice.name(), "sparsity": 1.0 - count(|l| l.left) / count(|l| l.total),
                "error": sum(&original, &result, |a, b| (a - b).powi(2)) / sum(&original, &original, |a, b| a * b),
                "cosine": cosines / tokens as f64, "seconds": seconds,
            }));
        }
    }
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
