//! `penjing new`: a fresh network.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::zoo;

use crate::options::{Usage, ZooOptions, check_output};
use crate::table::{grouped, print, table};
use crate::{Goal, progress};

/// Write a fresh, initialised network of the zoo, or one with given weights
#[derive(Args)]
pub(crate) struct New {
    /// Name of the architecture; without it, the list of them
    architecture: Option<String>,
    /// Where to write the model
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Weights by torchvision's, timm's or lukemelas' names: .safetensors, .pth or .pt
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Factor of the channel counts, for mobilenet-v2
    #[arg(long, value_name = "FACTOR")]
    width: Option<f32>,
    /// Seed of the initial weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    zoo: ZooOptions,
}

impl New {
    pub(crate) fn run(self) -> Result<Goal> {
        let Some(name) = self.architecture else {
            let rows: Vec<Vec<String>> = zoo::ALL
                .iter()
                .map(|a| vec![a.name.into(), a.input.map(|d| d.to_string()).join("x"), a.classes.to_string(), a.about.into()])
                .collect();
            print(&table(&["architecture", "input", "classes", "about"], &rows))?;
            return Ok(Goal::Met);
        };
        let output = self.output.ok_or_else(|| Usage("where to? (hint: -o FILE)".into()))?;
        check_output(&output, Path::new(""), None, self.force)?;
        let options = zoo::ZooOptions { classes: self.zoo.classes, input: self.zoo.input, width: self.width, seed: self.seed };
        zoo::find(&name).map_err(|e| Usage(e.to_string()))?;
        let mut graph = zoo::build(&name, &options)?;
        if let Some(file) = &self.weights {
            graph = penjing_graph::weights::apply(&graph, &penjing_graph::weights::load(file)?)?;
        }
        let written = onnx::write(&graph, &output, WriteOptions { overwrite: self.force, ..WriteOptions::default() })?;
        let parameters = penjing_graph::roles(&graph)
            .iter()
            .filter(|(_, r)| r.trainable())
            .filter_map(|(id, _)| graph.tensor(*id))
            .map(|t| t.len() as u64)
            .sum();
        progress::warn(&format!("{name}: {} parameters, {} bytes in {}", grouped(parameters), grouped(written.bytes()), output.display()));
        Ok(Goal::Met)
    }
}
