//! `penjing eval`: how well a model does.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use penjing_compress::{COMPARE_BATCH, DataSource, accuracy, fixed_batch, open_all, open_data, open_inputs};
use penjing_exec::data::Dataset;
use penjing_exec::runtime::{Runtime, RuntimeKind, SessionOptions};
use penjing_exec::train::statistics::Interval;
use penjing_exec::train::{evaluate, metric_command, similarity, squared_error};
use penjing_graph::Graph;
use serde_json::json;

use crate::Goal;
use crate::options::{DataOptions, RuntimeOptions, SplitName, read_model};
use crate::progress::{Display, warn};
use crate::similarity::similarity_line;
use crate::table::print;

/// Measure a model's accuracy with its 95 % interval, or how near its outputs are to another's
#[derive(Args)]
pub(crate) struct Eval {
    /// The ONNX model
    model: PathBuf,
    /// Which split to measure
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
    /// Seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Compare the outputs with this model's instead, which needs no labels: mean cosine similarity, SQNR (signal to quantization
    /// noise, in dB), largest absolute and relative difference and, for classifiers, how often both say the same class
    #[arg(long, value_name = "ORIGINAL")]
    reference: Option<PathBuf>,
    /// Ask this command instead: it is given the model's path and prints one number
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["reference", "data"])]
    metric_command: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// Samples at a time.
fn batch(graphs: &[&Graph]) -> usize {
    graphs.iter().find_map(|graph| fixed_batch(graph)).unwrap_or(COMPARE_BATCH)
}

impl Eval {
    pub(crate) fn run(self, threads: usize) -> Result<Goal> {
        if let Some(command) = &self.metric_command {
            let value = metric_command(command, &self.model)?;
            print(&if self.json { json!({ "metric": value }).to_string() } else { format!("metric: {value}") })?;
            return Ok(Goal::Met);
        }
        let source = self.data.required(self.seed)?;
        let graph = read_model(&self.model)?;
        let options = SessionOptions { threads, optimize: true };
        match &self.reference {
            Some(reference) => {
                let reference = read_model(reference)?;
                self.compare(&source, &graph, &reference, self.runtime.find()?, options)
            }
            None => self.measure(&source, &graph, self.runtime.find()?, options),
        }
    }

    fn measure(&self, source: &DataSource, graph: &Graph, runtime: RuntimeKind, options: SessionOptions) -> Result<Goal> {
        let data = match self.split {
            SplitName::All => open_all(source, graph)?,
            SplitName::Train | SplitName::Validation | SplitName::Test => open_data(source, graph)?,
        };
        warn(&data.describe().to_string());
        if data.target_shape().is_some() {
            return self.measure_error(&mut *runtime.load(graph, options)?, &data, batch(&[graph]));
        }
        let evaluation = evaluate(&mut *runtime.load(graph, options)?, &data, self.split.split(), batch(&[graph]), &mut Display::new())?;
        let measured = accuracy(&evaluation);
        if self.json {
            let record = json!({
                "split": self.split.name(),
                "samples": evaluation.samples(),
                "top1": measured,
                "top5": evaluation.top5.map(|p| 100.0 * p.value()),
            });
            print(&serde_json::to_string_pretty(&record)?)?;
        } else {
            let top5 = evaluation.top5.map_or(String::new(), |p| format!(", top-5 {:.2} %", 100.0 * p.value()));
            print(&format!(
                "{}: {:.2} % of {} right (95 % interval {:.2} to {:.2}){top5}, loss {:.4}",
                self.split.name(),
                measured.percent,
                evaluation.samples(),
                measured.interval.low,
                measured.interval.high,
                measured.loss
            ))?;
        }
        Ok(Goal::Met)
    }

    /// How near the outputs come to the data's targets.
    fn measure_error(&self, model: &mut dyn Runtime, data: &Dataset, batch: usize) -> Result<Goal> {
        let error = squared_error(model, data, self.split.split(), batch, &mut Display::new())?;
        let (split, samples, Interval { low, high }) = (self.split.name(), error.count, error.interval);
        print(&match self.json {
            true => serde_json::to_string_pretty(&json!({ "split": split, "samples": samples, "mean-squared-error": error }))?,
            false => format!("{split}: mean squared error {:.6} over {samples} (95 % interval {low:.6} to {high:.6})", error.mean),
        })?;
        Ok(Goal::Met)
    }

    fn compare(
        &self,
        source: &DataSource,
        graph: &Graph,
        reference: &Graph,
        runtime: RuntimeKind,
        options: SessionOptions,
    ) -> Result<Goal> {
        let data = open_inputs(source, self.split.options(source), graph)?;
        data.check_input(reference)?;
        warn(&data.describe().to_string());
        let (mut original, mut result) = (runtime.load(reference, options)?, runtime.load(graph, options)?);
        let outputs = similarity(&mut *original, &mut *result, &data, self.split.split(), batch(&[graph, reference]), &mut Display::new())?;
        let (split, samples) = (self.split.name(), data.len(self.split.split()));
        if self.json {
            print(&serde_json::to_string_pretty(&json!({ "split": split, "samples": samples, "outputs": outputs }))?)?;
        } else {
            print(&format!("{split}: {samples} samples"))?;
            outputs.iter().try_for_each(|output| print(&similarity_line(output)))?;
        }
        Ok(Goal::Met)
    }
}
