//! `penjing eval`: how well a model does.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use penjing_compress::{accuracy, open_all, open_data};
use penjing_exec::cpu_executor;
use penjing_exec::data::Split;
use penjing_exec::train::{evaluate, metric_command};
use penjing_graph::onnx;
use serde_json::json;

use crate::Goal;
use crate::options::DataOptions;
use crate::progress::{Display, warn};
use crate::table::print;

/// Measure a model's accuracy with its 95 % interval
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
    /// Ask this command instead: it is given the model's path and prints one number
    #[arg(long, value_name = "COMMAND")]
    metric_command: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitName {
    Train,
    Validation,
    Test,
    /// Every sample of the set, whatever its split
    All,
}

impl Eval {
    pub(crate) fn run(self) -> Result<Goal> {
        if let Some(command) = &self.metric_command {
            let value = metric_command(command, &self.model)?;
            print(&if self.json { json!({ "metric": value }).to_string() } else { format!("metric: {value}") })?;
            return Ok(Goal::Met);
        }
        let source = self.data.required(self.seed)?;
        let graph = onnx::read(&self.model)?;
        let data = match self.split {
            SplitName::All => open_all(&source, &graph)?,
            SplitName::Train | SplitName::Validation | SplitName::Test => open_data(&source, &graph)?,
        };
        warn(&data.describe().to_string());
        let (split, name) = match self.split {
            SplitName::Train => (Split::Train, "train"),
            SplitName::Validation => (Split::Validation, "validation"),
            SplitName::Test => (Split::Test, "test"),
            SplitName::All => (Split::Test, "all"),
        };
        let evaluation = evaluate(&mut *cpu_executor(&graph)?, &data, split, 256, &mut Display::new())?;
        let measured = accuracy(&evaluation);
        if self.json {
            let record = json!({ "split": name, "samples": evaluation.samples(), "top1": measured, "top5": evaluation.top5.map(|p| 100.0 * p.value()) });
            print(&serde_json::to_string_pretty(&record)?)?;
        } else {
            let top5 = evaluation.top5.map_or(String::new(), |p| format!(", top-5 {:.2} %", 100.0 * p.value()));
            print(&format!(
                "{name}: {:.2} % of {} right (95 % interval {:.2} to {:.2}){top5}, loss {:.4}",
                measured.percent,
                evaluation.samples(),
                measured.interval.low,
                measured.interval.high,
                measured.loss
            ))?;
        }
        Ok(Goal::Met)
    }
}
