//! `penjing train`: trains a network from the weights that it has.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use penjing_compress::{ModelSource, accuracy, build_for, open_data};
use penjing_exec::cpu_executor;
use penjing_exec::data::{Preprocess, Split};
use penjing_exec::runtime::Builtin;
use penjing_exec::train::statistics::Interval;
use penjing_exec::train::{Checkpoint, Ended, StopFlag, Trainer, evaluate, squared_error};
use penjing_graph::Edit;
use penjing_graph::onnx::{self, WriteOptions};

use crate::Goal;
use crate::options::{DataOptions, TrainOptions, ZooOptions, check_output, model_source};
use crate::progress::{Display, warn};
use crate::table::print;

/// Train a model, or an architecture of the zoo from nothing
#[derive(Args)]
pub(crate) struct Train {
    /// The ONNX model, or the name of an architecture
    model: PathBuf,
    /// Where to write the trained model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Seed of initial weights, order, splits and augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Go on from the checkpoint that an interrupted training left beside the output
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    train: TrainOptions,
    #[command(flatten)]
    zoo: ZooOptions,
}

impl Train {
    pub(crate) fn run(self, stop: StopFlag) -> Result<Goal> {
        let source = self.data.required(self.seed)?;
        let settings = self.train.settings(self.seed)?;
        let checkpoint = self.output.with_extension("checkpoint");
        check_output(&self.output, &self.model, Some(&checkpoint), self.force)?;
        if checkpoint.exists() && !self.resume && !self.force {
            let name = checkpoint.display();
            anyhow::bail!("`{name}` is left of an interrupted training (hint: --resume goes on with it, --force starts afresh)");
        }
        let graph = match model_source(&self.model, &self.zoo, self.seed)? {
            ModelSource::File { path } => onnx::read(path)?,
            ModelSource::New { architecture, classes, input, seed } => build_for(&architecture, classes, input, seed, Some(&source))?,
        };
        let data = open_data(&source, &graph)?;
        warn(&format!("{}\ntraining: {settings}", data.describe()));

        let resume = if self.resume { Some(Checkpoint::read(&checkpoint)?) } else { None };
        let trainer = Trainer { settings, validate: true, save: Some(checkpoint.clone()), resume, stop, ..Trainer::default() };
        let mut executor = cpu_executor(&graph)?;
        let mut display = Display::new();
        let report = trainer.fit(&mut *executor, &data, &mut display)?;
        if let Ended::Interrupted(_) = report.ended {
            anyhow::bail!("interrupted; all that was done is in `{}` (hint: the same command with --resume goes on)", checkpoint.display());
        }
        let mut trained = executor.to_graph()?;
        let mut edit = Edit::new(&trained, "note the preprocessing");
        edit.set_metadata(Preprocess::METADATA_KEY, Some(data.preprocess().to_metadata()));
        trained.apply(edit)?;
        onnx::write(&trained, &self.output, WriteOptions { overwrite: self.force, sparse: true, external: false })?;
        // A checkpoint of a training that is over costs space, nothing else.
        drop(std::fs::remove_file(&checkpoint));
        if !data.is_empty(Split::Test) {
            let (mut model, samples) = (Builtin(executor), data.len(Split::Test));
            let measured = if data.target_shape().is_some() {
                let error = squared_error(&mut model, &data, Split::Test, 256, &mut display)?;
                let Interval { low, high } = error.interval;
                format!("mean squared error {:.6} over {samples} ({low:.6} to {high:.6})", error.mean)
            } else {
                let measured = accuracy(&evaluate(&mut model, &data, Split::Test, 256, &mut display)?);
                let Interval { low, high } = measured.interval;
                format!("{:.2} % of {samples} ({low:.2} to {high:.2}), loss {:.4}", measured.percent, measured.loss)
            };
            print(&format!("test: {measured}; written to {}", self.output.display()))?;
        }
        Ok(Goal::Met)
    }
}
