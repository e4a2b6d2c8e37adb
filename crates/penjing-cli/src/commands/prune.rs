//! `penjing prune`: removes the weights or channels that matter least, down to a sparsity or to an accuracy floor.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use penjing_compress::floor::Floor;
use penjing_compress::prune::criteria::{Choice, Needs};
use penjing_compress::prune::structured::{Budget, ChannelScope, Limits, Normalize, Reduce, Regularization};
use penjing_compress::prune::{Pattern, PruneError, PruningSchedule, Scope, Sparsity, Until};
use penjing_compress::quant::targets::TargetName;
use penjing_compress::{
    BN_SAMPLES, CALIBRATION_SAMPLES, ChannelGoal, ChannelPruning, ModelSource, PruneGoal, RECIPE_VERSION, Recipe, Step, WeightPruning,
};
use penjing_exec::train::StopFlag;

use crate::Goal;
use crate::options::{DataOptions, FloorOptions, TrainOptions, Usage, ZooOptions, count, model_source};
use crate::run::RunOptions;

/// Remove the weights or channels of a model that matter least, retrain, and go on until the accuracy floor would break
#[derive(Args)]
pub(crate) struct Prune {
    /// The ONNX model, or the name of an architecture, which is initialised and trained first
    #[arg(required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// Where to write the pruned model
    #[arg(short, long, value_name = "FILE", required_unless_present = "resume")]
    output: Option<PathBuf>,
    /// Prune to exactly this fraction of zeros, 0 to 1
    #[arg(long, value_name = "FRACTION", conflicts_with_all = ["max_drop", "min_accuracy"])]
    sparsity: Option<f64>,
    /// Reach --sparsity or a budget in so many steps, retraining after each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    steps: usize,
    /// How the sparsity grows over --steps
    #[arg(long, value_enum, default_value = "cubic")]
    pruning_schedule: ScheduleName,
    /// After each step, put the weights left back to their initial values before training again, where MODEL is an architecture
    #[arg(long)]
    rewind: bool,
    /// The same, to the values after so many epochs of the first training
    #[arg(long, value_name = "EPOCH", conflicts_with = "rewind")]
    rewind_epoch: Option<u64>,
    #[command(flatten)]
    floor: FloorOptions,
    /// When the search for the floor ends
    #[arg(long, value_enum, default_value = "floor")]
    until: UntilName,
    /// Rounds of the search at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count)]
    rounds: usize,
    /// Among which weights scores are compared: all, or those of a layer or of a row (output) of a layer, each of which is then pruned as
    /// far [default: that in which the criterion's scores can be compared; global for magnitude]. With --structured: all channels, those
    /// of a group (layer), or those of groups of the same kind (isomorphic) [default: global]
    #[arg(long, value_enum)]
    scope: Option<ScopeName>,
    /// The shape that zeros have: unstructured; N:M, such as 2:4, where N of every M weights along the inputs stay; or blocks of outputs
    /// x inputs, such as 4x1
    #[arg(long, value_name = "PATTERN", default_value = "unstructured")]
    pattern: Pattern,
    /// How weights are chosen: magnitude, taylor, fisher, snip, wanda, lamp, random or sparsegpt [default: magnitude]. With
    /// --structured: l1, l2, bn-scale, taylor, fpgm, lamp, fisher, snip, wanda, mean-activation, apoz or random [default: l1]
    #[arg(long, value_name = "NAME")]
    criterion: Option<String>,
    /// Training samples that a criterion looks at, where it needs to
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_SAMPLES, value_parser = count)]
    calibration_samples: usize,
    /// Write zeros densely even where that takes more bytes
    #[arg(long)]
    dense: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    train: TrainOptions,
    #[command(flatten)]
    zoo: ZooOptions,
    #[command(flatten)]
    channels: ChannelOptions,
}

/// What only channels have
#[derive(Args)]
#[command(next_help_heading = "Channels")]
struct ChannelOptions {
    /// Remove whole channels, attention heads and units from the graph instead of setting single weights to zero
    #[arg(long)]
    structured: bool,
    /// Remove this fraction of the channels that can go, 0 to 1
    #[arg(long, value_name = "FRACTION", conflicts_with_all = ["macs", "params"])]
    channel_ratio: Option<f64>,
    /// Remove channels until this fraction of the multiply-accumulates is left, 0 to 1
    #[arg(long, value_name = "FRACTION", conflicts_with = "params")]
    macs: Option<f64>,
    /// Remove channels until one sample takes this fraction of the original's time on this machine, 0 to 1
    #[arg(long, value_name = "FRACTION", conflicts_with_all = ["channel_ratio", "macs", "params"])]
    latency: Option<f64>,
    /// Remove channels until this fraction of the parameters is left, 0 to 1
    #[arg(long, value_name = "FRACTION")]
    params: Option<f64>,
    /// How the scores that a channel has by each of its weights become one
    #[arg(long, value_enum, default_value = "mean")]
    reduce: ReduceName,
    /// What scores are divided by to compare groups: the group's mean, its largest, or nothing
    #[arg(long, value_enum, default_value = "mean")]
    normalize: NormalizeName,
    /// Channels that are left of a layer are a multiple of this, where it has as many; 1 turns it off [default: what --target computes
    /// at once, else 8]
    #[arg(long, value_name = "N", value_parser = count)]
    round_to: Option<usize>,
    /// The device: x86-vnni, x86-avx2, arm-dotprod, gpu-tensorrt, mcu or generic [default: generic]
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// Channels that every layer keeps
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    min_channels: usize,
    /// Leave groups whole whose name this is, or that of a node that gives their channels; * stands for any text
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    /// Train with channels pulled towards zero before the first cut, for --epochs: group-lasso, bn-l1 or growing, with a strength if
    /// wanted, such as bn-l1:0.001
    #[arg(long, value_name = "NAME")]
    regularize: Option<Regularization>,
    /// Training samples on which batch normalisations are measured anew after each cut; 0 leaves them
    #[arg(long, value_name = "N", default_value_t = BN_SAMPLES)]
    bn_samples: usize,
    /// Measure also what the accuracy loses when each group alone is cut by these ratios
    #[arg(long, value_name = "RATIOS", value_delimiter = ',', num_args = 0..=1, default_missing_value = "0.25,0.5,0.75")]
    sensitivity: Vec<f64>,
    /// Cut also what is normalised or averaged over its channels, so that outputs differ from those of the masked network
    #[arg(long)]
    allow_approximate: bool,
}

impl ChannelOptions {
    /// What is left of a layer is a multiple of this.
    fn round_to(&self) -> usize {
        self.round_to.unwrap_or_else(|| self.target.unwrap_or(TargetName::GENERIC).0.channel_multiple)
    }

    /// Whether one is given that means nothing without `--structured`.
    fn any(&self) -> bool {
        let budget = [self.channel_ratio, self.macs, self.latency, self.params].iter().any(Option::is_some);
        let for_device = self.target.is_some() || self.round_to.is_some();
        budget || for_device || self.regularize.is_some() || !self.sensitivity.is_empty() || !self.keep.is_empty() || self.allow_approximate
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ReduceName {
    Mean,
    Max,
    Sum,
}

impl From<ReduceName> for Reduce {
    fn from(name: ReduceName) -> Reduce {
        match name {
            ReduceName::Mean => Reduce::Mean,
            ReduceName::Max => Reduce::Max,
            ReduceName::Sum => Reduce::Sum,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum NormalizeName {
    Mean,
    Max,
    None,
}

impl From<NormalizeName> for Normalize {
    fn from(name: NormalizeName) -> Normalize {
        match name {
            NormalizeName::Mean => Normalize::Mean,
            NormalizeName::Max => Normalize::Max,
            NormalizeName::None => Normalize::None,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum UntilName {
    Floor,
    Improved,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScheduleName {
    OneShot,
    Linear,
    Cubic,
    Exponential,
}

impl From<ScheduleName> for PruningSchedule {
    fn from(name: ScheduleName) -> PruningSchedule {
        match name {
            ScheduleName::OneShot => PruningSchedule::OneShot,
            ScheduleName::Linear => PruningSchedule::Linear,
            ScheduleName::Cubic => PruningSchedule::Cubic,
            ScheduleName::Exponential => PruningSchedule::Exponential,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ScopeName {
    Global,
    Layer,
    Row,
    Isomorphic,
}

impl Prune {
    pub(crate) fn run(self, stop: StopFlag, threads: usize) -> Result<Goal> {
        self.run.execute(self.model.as_deref(), || self.recipe(), stop, threads)
    }

    /// The floor that is asked for, when its search ends, and after how many rounds at most.
    fn floor(&self) -> Result<Option<(Floor, Until, usize)>> {
        let Some(floor) = self.floor.floor()? else { return Ok(None) };
        let until = match self.until {
            UntilName::Floor => Until::Floor,
            UntilName::Improved => Until::Improved,
        };
        Ok(Some((floor, until, self.rounds)))
    }

    /// The epoch of the first training to go back to after each step.
    fn rewinds(&self) -> Option<u64> {
        self.rewind_epoch.or(self.rewind.then_some(0))
    }

    fn check_rewind(&self, epoch: u64, trained_here: bool, epochs: u64) -> Result<()> {
        let reason = match (self.channels.structured, trained_here) {
            (true, _) => "channels that went cannot be rewound (hint: without --structured)".into(),
            (false, false) => {
                "weights can be rewound only where the network is trained in this run (hint: name an architecture, and --data)".into()
            }
            (false, true) if epoch > epochs => {
                format!("the training has {epochs} epochs, so that there is no epoch {epoch} to rewind to (hint: a smaller --rewind-epoch)")
            }
            (false, true) => return Ok(()),
        };
        Err(Usage(reason).into())
    }

    /// The step that removes single weights.
    fn weights(&self) -> Result<WeightPruning> {
        let usage = |e: PruneError| Usage(e.to_string());
        let goal = match (self.sparsity, self.floor()?) {
            (Some(fraction), _) => PruneGoal::Sparsity { fraction: Sparsity::try_from(fraction).map_err(usage)?, steps: self.steps },
            (None, Some((floor, until, rounds))) => PruneGoal::Floor { floor, until, rounds },
            (None, None) if self.pattern.sparsity().is_some() => PruneGoal::Pattern,
            (None, None) => return Err(Usage("how far? (hint: --sparsity 0.9, --max-drop 0.5 or --min-accuracy 98.5)".into()).into()),
        };
        let criterion: Choice = self.criterion.as_deref().unwrap_or("magnitude").parse().map_err(usage)?;
        let scope = match self.scope {
            None => criterion.scope(),
            Some(ScopeName::Global) => Scope::Global,
            Some(ScopeName::Layer) => Scope::Layer,
            Some(ScopeName::Row) => Scope::Row,
            Some(ScopeName::Isomorphic) => return Err(Usage("groups are what channels have (hint: --structured)".into()).into()),
        };
        let step = WeightPruning {
            scope,
            pattern: self.pattern,
            criterion,
            calibration_samples: self.calibration_samples,
            schedule: self.pruning_schedule.into(),
            rewind_epoch: self.rewinds(),
            goal,
        };
        step.check().map_err(Usage)?;
        Ok(step)
    }

    /// The step that removes channels.
    fn structured(&self) -> Result<ChannelPruning> {
        let usage = |e: PruneError| Usage(e.to_string());
        if self.sparsity.is_some() || self.pattern != Pattern::Unstructured {
            return Err(Usage(
                "zeros and their patterns are for single weights, and --structured removes channels (hint: --channel-ratio 0.25, --macs 0.5)"
                    .into(),
            )
            .into());
        }
        let options = &self.channels;
        let removed = |fraction: f64| Sparsity::try_from(fraction).map_err(usage);
        let left = |fraction: f64| removed(fraction).and_then(|_| removed(1.0 - fraction));
        let budget = match (options.channel_ratio, options.macs, options.params, options.latency) {
            (Some(ratio), ..) => Some((Budget::Channels, removed(ratio)?)),
            (None, Some(macs), ..) => Some((Budget::Macs, left(macs)?)),
            (None, None, Some(params), _) => Some((Budget::Params, left(params)?)),
            (None, None, None, Some(time)) => Some((Budget::Latency, left(time)?)),
            (None, None, None, None) => None,
        };
        let goal = match (budget, self.floor()?) {
            (Some((budget, fraction)), None) => ChannelGoal::Remove { budget, fraction, steps: self.steps },
            (None, Some((floor, until, rounds))) => ChannelGoal::Floor { floor, until, rounds },
            (Some(_), Some(_)) => {
                return Err(Usage("a budget and a floor are two goals (hint: leave one of them out)".into()).into());
            }
            (None, None) => {
                return Err(Usage(
                    "how far? (hint: --channel-ratio 0.25, --macs 0.5, --params 0.5, --latency 0.6, --max-drop 0.5 or --min-accuracy 98.5)"
                        .into(),
                )
                .into());
            }
        };
        let scope = match self.scope {
            None | Some(ScopeName::Global) => ChannelScope::Global,
            Some(ScopeName::Layer) => ChannelScope::Layer,
            Some(ScopeName::Isomorphic) => ChannelScope::Isomorphic,
            Some(ScopeName::Row) => return Err(Usage("rows are what single weights have (hint: --scope layer)".into()).into()),
        };
        let step = ChannelPruning {
            criterion: self.criterion.as_deref().unwrap_or("l1").parse().map_err(usage)?,
            reduce: options.reduce.into(),
            normalize: options.normalize.into(),
            scope,
            limits: Limits { min_channels: options.min_channels, round_to: options.round_to(), keep: options.keep.clone() },
            approximate: options.allow_approximate,
            calibration_samples: self.calibration_samples,
            schedule: self.pruning_schedule.into(),
            regularize: options.regularize,
            bn_samples: options.bn_samples,
            sensitivity: options.sensitivity.clone(),
            goal,
        };
        step.check().map_err(Usage)?;
        Ok(step)
    }

    fn recipe(&self) -> Result<Recipe> {
        let (Some(model), Some(output)) = (&self.model, &self.output) else {
            return Err(Usage("name a model and, with -o, where to write the result".into()).into());
        };
        let (step, floor, criterion, needs) = if self.channels.structured {
            let step = self.structured()?;
            let (floor, criterion) = (matches!(step.goal, ChannelGoal::Floor { .. }), step.criterion);
            (Step::PruneChannels(step), floor, criterion.name(), criterion.needs())
        } else if self.channels.any() {
            return Err(Usage("channels are removed with --structured (hint: add it)".into()).into());
        } else {
            let step = self.weights()?;
            let (floor, criterion) = (matches!(step.goal, PruneGoal::Floor { .. }), step.criterion);
            (Step::Prune(step), floor, criterion.name(), criterion.needs())
        };
        let data = self.data.source(self.run.seed)?;
        let named = [Some(model), Some(output), self.data.data.as_ref(), self.data.labels.as_ref()];
        if let Some(path) = named.into_iter().flatten().find(|path| path.to_str().is_none()) {
            let name = path.display();
            return Err(Usage(format!("`{name}` is not UTF-8, so that no recipe can name it (hint: rename the file)")).into());
        }
        if data.is_none() && self.floor.metric_command.is_none() && floor {
            return Err(Usage("an accuracy floor needs data to measure on (hint: --data PATH, or --sparsity without it)".into()).into());
        }
        let settings = self.train.settings(self.run.seed)?;
        let model_source = model_source(model, &self.zoo, self.run.seed)?;
        if let Some(epoch) = self.rewinds() {
            self.check_rewind(epoch, data.is_some() && matches!(model_source, ModelSource::New { .. }), settings.epochs)?;
        }
        if data.is_none() && needs != Needs::Weights {
            let free = if self.channels.structured { "l1" } else { "magnitude" };
            return Err(Usage(format!("the criterion {criterion} needs data to look at (hint: --data PATH, or --criterion {free})")).into());
        }
        Ok(Recipe {
            version: RECIPE_VERSION,
            model: model_source,
            train: data.as_ref().map(|_| settings),
            retrain: data.as_ref().map(|_| settings),
            data,
            metric_command: self.floor.metric_command.clone(),
            output: output.clone(),
            dense: self.dense,
            steps: vec![step],
        })
    }
}
