//! `penjing demo`: the main job on real data that the program carries with it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use penjing_compress::floor::{Certainty, Floor, Limit};
use penjing_compress::prune::Until;
use penjing_compress::{DataSource, Journal, ModelSource, PruneGoal, RECIPE_VERSION, Recipe, Step, Verdict, WeightPruning};
use penjing_exec::data::Augment;
use penjing_exec::runtime::OnnxRuntime;
use penjing_exec::train::{StopFlag, TrainSettings};

use crate::Goal;
use crate::progress::warn;
use crate::run::{run_recipe, summary};
use crate::table::print;

/// 6,500 images of Fashion-MNIST (assets/README.md tells where they come from).
const IMAGES: [(&str, &[u8]); 4] = [
    ("train-images-idx3-ubyte.gz", include_bytes!("../../../../assets/fashion-mnist-small/train-images-idx3-ubyte.gz")),
    ("train-labels-idx1-ubyte.gz", include_bytes!("../../../../assets/fashion-mnist-small/train-labels-idx1-ubyte.gz")),
    ("t10k-images-idx3-ubyte.gz", include_bytes!("../../../../assets/fashion-mnist-small/t10k-images-idx3-ubyte.gz")),
    ("t10k-labels-idx1-ubyte.gz", include_bytes!("../../../../assets/fashion-mnist-small/t10k-labels-idx1-ubyte.gz")),
];

/// Train a network on built-in photographs of clothes, prune it to an accuracy floor, verify, and show the gain
#[derive(Args)]
pub(crate) struct Demo {
    /// Keep data, run and model in this folder [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(self, stop: StopFlag, threads: usize) -> Result<Goal> {
        let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
        let folder = self.keep.as_deref().unwrap_or(temporary.path());
        let data = folder.join("fashion-mnist");
        unpack(&data)?;
        let settings = TrainSettings { epochs: 6, learning_rate: 0.05, ..TrainSettings::default() };
        let recipe = Recipe {
            version: RECIPE_VERSION,
            model: ModelSource::New { architecture: "lenet-300-100".into(), classes: None, input: None, seed: 0 },
            data: Some(DataSource { path: data, preprocess: None, labels: None, split_seed: 0, augment: Augment::default() }),
            train: Some(settings),
            retrain: Some(TrainSettings { epochs: 3, ..settings }),
            steps: vec![Step::Prune(WeightPruning::by_magnitude(PruneGoal::Floor {
                floor: Floor { limit: Limit::MaxDrop(0.5), certainty: Certainty::Point },
                until: Until::Floor,
                rounds: 8,
            }))],
            metric_command: None,
            output: folder.join("pruned.onnx"),
            dense: false,
        };
        warn("lenet-300-100 on 6,500 images of Fashion-MNIST: train, then prune as far as at most 0.5 points are lost");
        let mut journal = Journal::create(&folder.join("pruned.run"), &recipe)?;
        let outcome = run_recipe(&recipe, false, &mut journal, stop, OnnxRuntime::find(None)?, threads)?;
        print(&summary(&outcome))?;
        if self.keep.is_none() {
            print("That folder is temporary and gone now; `penjing demo --keep FOLDER` keeps it.")?;
        }
        Ok(if outcome.verdict == Verdict::Met { Goal::Met } else { Goal::Missed })
    }
}

fn unpack(folder: &Path) -> Result<()> {
    let failed = || format!("cannot write the demo's images to `{}`", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    for (name, bytes) in IMAGES {
        std::fs::write(folder.join(name), bytes).with_context(failed)?;
    }
    Ok(())
}
