//! What a model costs to run on this machine, alone or beside another: time, memory, size, energy.

mod energy;
mod inputs;
mod memory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use energy::Energy;
pub use memory::Memory;
use penjing_exec::ExecError;
use penjing_exec::runtime::{Builtin, Runtime, RuntimeKind};
use penjing_graph::{Graph, Tensor, onnx};
use serde::Serialize;

use crate::gain::FileSize;
use crate::run::RunError;
use crate::timing::{Median, PATIENCE, Run, in_turn, milliseconds, speed_up};

/// Times that each model is loaded.
const LOADS: usize = 5;

/// How models are run.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// What runs them.
    pub runtime: RuntimeKind,
    /// Threads for ONNX Runtime; the built-in executor computes on the threads of its pool.
    pub threads: usize,
    /// Samples in a run; `None`: what the model fixes, else 1.
    pub batch: Option<usize>,
    /// Whole shapes of some inputs by name. Other free dimensions are 128.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

/// What was measured of one model or of two.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bench {
    /// What ran them: `ONNX Runtime`, `built-in executor`.
    pub runtime: &'static str,
    /// Threads that it had.
    pub threads: usize,
    /// Samples in a run.
    pub batch: usize,
    /// Times that each was run for its latency.
    pub rounds: usize,
    /// Each model.
    pub models: Vec<ModelBench>,
    /// Of two models: the first one's time divided by the second's, round by round.
    pub speed_up: Option<Median>,
}

/// What was measured of one model.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelBench {
    /// Its file.
    pub model: PathBuf,
    /// Its inputs, which were made up.
    pub inputs: Vec<BenchInput>,
    /// Time of a run, in milliseconds.
    pub latency_ms: Median,
    /// Samples a second, one run after the other.
    pub throughput: Median,
    /// Time from the file to the first outputs, in milliseconds; the file is in the system's cache.
    pub load_ms: Median,
    /// Memory of a process of its own that does the same, in bytes; `None`: not measured.
    pub memory: Option<Memory>,
    /// Bytes of its files.
    pub size: FileSize,
    /// Joules that the processor's packages take for a run, with all that they do beside; `None`: not measured.
    pub energy_joules: Option<f64>,
}

/// An input as it was made up.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BenchInput {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A model with inputs to run it on.
struct Candidate<'a> {
    path: &'a Path,
    graph: Graph,
    inputs: Vec<Tensor>,
}

impl Candidate<'_> {
    fn describe(&self) -> Vec<BenchInput> {
        let input = |(id, tensor): (_, &Tensor)| BenchInput {
            name: self.graph.value(id).name.clone(),
            dtype: tensor.dtype().name(),
            shape: tensor.dims().to_vec(),
        };
        self.graph.inputs().zip(&self.inputs).map(input).collect()
    }

    /// Loads the model from its file.
    fn load(&self, options: &BenchOptions) -> Result<Run<'_, ExecError>, ExecError> {
        Ok(match options.runtime {
            RuntimeKind::OnnxRuntime(runtime) => {
                let mut session = runtime.open(self.path, options.threads)?;
                Box::new(move || session.run(&self.inputs).map(drop))
            }
            RuntimeKind::Builtin => {
                let graph = onnx::read(self.path)?;
                let mut executor = Builtin::new(&graph)?;
                Box::new(move || executor.run(&self.inputs, graph.outputs()).map(drop))
            }
        })
    }
}

/// Measures models: one, or two in turn.
///
/// # Errors
/// When a model cannot be read or run, or an input cannot be made up.
pub fn bench(models: &[&Path], options: &BenchOptions) -> Result<Bench, RunError> {
    let candidates = candidates(models, options)?;
    let batch = one_batch(&candidates)?;
    let loads = |candidate: &Candidate<'_>| {
        let load = |_| milliseconds(|| candidate.load(options)?());
        Ok(Median::of((0..LOADS).map(load).collect::<Result<_, ExecError>>()?))
    };
    let loads = candidates.iter().map(loads).collect::<Result<Vec<Median>, ExecError>>()?;
    let mut runs = candidates.iter().map(|candidate| candidate.load(options)).collect::<Result<Vec<_>, _>>()?;
    let times = in_turn(&mut runs, PATIENCE)?;
    let energy = Energy::of_this_machine();
    let energies = runs.iter_mut().map(|run| energy.as_ref().map_or(Ok(None), |energy| energy.per_run(run)));
    let energies = energies.collect::<Result<Vec<Option<f64>>, _>>()?;
    let measured = candidates.iter().zip(&times).zip(loads).zip(energies).map(|(((candidate, times), load_ms), energy_joules)| {
        let latency_ms = Median::of(times.clone());
        Ok(ModelBench {
            model: candidate.path.into(),
            inputs: candidate.describe(),
            latency_ms,
            throughput: latency_ms.under(1e3 * batch as f64),
            load_ms,
            memory: None,
            size: FileSize::of(std::iter::once(candidate.path).chain(candidate.graph.external_files()))?,
            energy_joules,
        })
    });
    Ok(Bench {
        runtime: options.runtime.name(),
        threads: options.threads,
        batch,
        rounds: times.first().map_or(0, Vec::len),
        models: measured.collect::<Result<_, RunError>>()?,
        speed_up: match &times[..] {
            [first, second] => Some(speed_up(first, second)),
            _ => None,
        },
    })
}

/// Memory of this process before and after it loads a model and runs it a few times. Says something of the model only where the
/// process has done nothing else. `None` where the system does not tell.
///
/// # Errors
/// When the model cannot be read or run, or an input cannot be made up.
pub fn memory(model: &Path, options: &BenchOptions) -> Result<Option<Memory>, RunError> {
    let Some(before) = memory::high_water() else { return Ok(None) };
    let candidates = candidates(&[model], options)?;
    for candidate in &candidates {
        let mut run = candidate.load(options)?;
        (0..3).try_for_each(|_| run())?;
    }
    Ok(memory::high_water().map(|peak| Memory { before, peak }))
}

fn candidates<'a>(models: &[&'a Path], options: &BenchOptions) -> Result<Vec<Candidate<'a>>, RunError> {
    let graphs = models.iter().map(|path| Ok((*path, onnx::read(path)?))).collect::<Result<Vec<(&Path, Graph)>, RunError>>()?;
    inputs::check_names(options.shapes.keys(), graphs.iter().map(|(_, graph)| graph))?;
    let candidate = |(path, graph): (&'a Path, Graph)| {
        let inputs = inputs::made_up(&graph, options.batch, &options.shapes)?;
        Ok(Candidate { path, graph, inputs })
    };
    graphs.into_iter().map(candidate).collect()
}

/// Samples in a run: the first axis of the first input, the same in all models.
fn one_batch(candidates: &[Candidate<'_>]) -> Result<usize, RunError> {
    let batch = |candidate: &Candidate<'_>| candidate.inputs.first().and_then(|input| input.dims().first().copied()).unwrap_or(1);
    let batches: Vec<usize> = candidates.iter().map(batch).collect();
    match batches[..] {
        [a, b] if a != b => Err(RunError::Recipe(format!(
            "`{}` takes {a} samples in a run and `{}` {b} (hint: --batch {}, or --shape)",
            candidates[0].path.display(),
            candidates[1].path.display(),
            a.max(b)
        ))),
        _ => Ok(batches.first().copied().unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use penjing_graph::ops::MatMul;
    use penjing_graph::{DataType, Dim, GraphBuilder};

    use super::*;

    fn write(path: &Path, width: usize, batch: Dim) {
        let mut b = GraphBuilder::new("product");
        let x = b.input("x", DataType::Float, [batch, width.into()]);
        let w = b.tensor("w", Tensor::new([width, width], vec![0.01f32; width * width]));
        let y = b.node("y", MatMul, &[x, w]);
        let graph = b.output(y).finish().expect("a model");
        onnx::write(&graph, path, onnx::WriteOptions::default()).expect("written");
    }

    fn options(batch: Option<usize>) -> BenchOptions {
        BenchOptions { runtime: RuntimeKind::Builtin, threads: 1, batch, shapes: BTreeMap::new() }
    }

    #[test]
    fn two_models_in_turn() -> Result<(), RunError> {
        let folder = tempfile::tempdir().expect("a folder");
        let [large, small] = ["large.onnx", "small.onnx"].map(|name| folder.path().join(name));
        write(&large, 768, Dim::symbol("N"));
        write(&small, 16, Dim::symbol("N"));
        let found = bench(&[&large, &small], &options(Some(4)))?;
        let [a, b] = &found.models[..] else { panic!("two models") };
        assert_eq!((a.inputs[0].shape.clone(), b.inputs[0].shape.clone(), found.batch), (vec![4, 768], vec![4, 16], 4));
        // The one does 2,304 times as many products.
        assert!(found.speed_up.is_some_and(|s| s.interval.low > 1.0 && s.interval.low <= s.median && s.median <= s.interval.high));
        for model in &found.models {
            assert!((model.throughput.median * model.latency_ms.median - 4000.0).abs() < 1e-6, "{model:?}");
            assert!(model.load_ms.median > 0.0 && model.latency_ms.interval.low <= model.latency_ms.median);
        }
        assert_eq!(a.size.bytes, std::fs::metadata(&large).expect("a file").len());
        assert!(bench(&[&large], &options(None))?.speed_up.is_none());
        Ok(())
    }

    #[test]
    fn different_batches_are_not_compared() {
        let folder = tempfile::tempdir().expect("a folder");
        let [free, fixed] = ["free.onnx", "fixed.onnx"].map(|name| folder.path().join(name));
        write(&free, 4, Dim::symbol("N"));
        write(&fixed, 4, 8.into());
        let error = bench(&[&free, &fixed], &options(None)).expect_err("1 and 8");
        assert!(error.to_string().contains("takes 1 samples in a run") && error.to_string().contains("--batch 8"), "{error}");
        assert_eq!(bench(&[&free, &fixed], &options(Some(8))).map(|b| b.batch).ok(), Some(8));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_grows_by_the_model() -> Result<(), RunError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.onnx");
        // Weights of 64 MiB.
        write(&path, 4096, 1.into());
        let memory = memory(&path, &options(None))?.expect("Linux tells");
        assert!(memory.before > 1 << 20 && memory.peak >= memory.before + (60 << 20), "{memory:?}");
        Ok(())
    }
}
