//! Pruning of channels, attention heads and units: removed from the graph, so that it is really smaller.

pub mod criteria;
mod regularize;
mod score;
mod select;
mod sensitivity;

use std::collections::BTreeMap;
use std::sync::Arc;

use penjing_exec::cpu_executor;
use penjing_graph::channels::{Channels, Removal};
use penjing_graph::passes::fold_known_integers;
use penjing_graph::{Graph, Tensor, node_costs};
use serde::{Deserialize, Serialize};

pub use regularize::{Regularization, Regularizer};
pub use score::{Normalize, Reduce, scores};
pub(crate) use select::matches;
pub use select::{Budget, ChannelScope, Limits, Selection};
pub use sensitivity::{GroupSensitivity, SensitivityPoint};

use super::{Masks, PruneError, Shrink, Sparsity, Stats};
use crate::recipe::{ChannelGoal, ChannelPruning};
use crate::run::{Baseline, RunError, Work, Workshop};
use crate::verify::{TOLERANCE, same_outputs};
use regularize::ChannelPenalty;
use sensitivity::sensitivity;

/// Channels of one group before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupChannels {
    /// The first node that gives them.
    pub group: String,
    /// Before.
    pub total: usize,
    /// After.
    pub left: usize,
}

/// Parameters (elements of float initializers) and multiply-accumulates for one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Parameters, running statistics included.
    pub parameters: usize,
    /// Multiply-accumulates, where shapes are known.
    pub macs: u64,
}

impl Cost {
    /// What a network costs.
    pub fn of(graph: &Graph) -> Cost {
        Cost {
            parameters: graph.initializers().filter(|(_, t)| t.dtype().is_float()).map(|(_, t)| t.len()).sum(),
            macs: node_costs(graph).iter().filter_map(|cost| cost.macs).sum(),
        }
    }
}

/// A network whose channels can be cut, and what it had before any were.
#[derive(Debug)]
pub struct Cuttable {
    /// The network, the sizes that it computes written down as far as they are known.
    pub graph: Graph,
    /// What can go.
    pub channels: Channels,
}

impl Cuttable {
    /// Finds the channels of a network.
    ///
    /// # Errors
    /// When nothing can be cut; the text says what stands in the way.
    pub fn new(graph: &Graph, approximate: bool) -> Result<Cuttable, PruneError> {
        let mut graph = graph.clone();
        fold_known_integers(&mut graph)?;
        let channels = Channels::find(&graph, approximate);
        if channels.is_empty() {
            return Err(PruneError::NoChannels);
        }
        Ok(Cuttable { graph, channels })
    }

    /// The network without those channels.
    ///
    /// # Errors
    /// When the graph refuses what was cut.
    pub fn cut(&self, removal: &Removal) -> Result<Graph, PruneError> {
        Ok(self.channels.cut(&self.graph, removal)?)
    }

    /// The network with those channels at zero wherever they are added up, which [`Cuttable::cut`] must equal.
    ///
    /// # Errors
    /// As for [`Cuttable::cut`].
    pub fn masked(&self, removal: &Removal) -> Result<Graph, PruneError> {
        Ok(self.channels.mask(&self.graph, removal)?)
    }
}

/// Cuts channels as a step says, measured against the network that the run started from.
pub(crate) struct ChannelCut<'a> {
    step: &'a ChannelPruning,
    original: &'a Graph,
    budget: Budget,
    /// Channels of each group of the original.
    whole: BTreeMap<String, usize>,
    cost: Cost,
}

impl<'a> ChannelCut<'a> {
    pub(crate) fn new(step: &'a ChannelPruning, original: &'a Graph) -> Result<ChannelCut<'a>, PruneError> {
        let cuttable = Cuttable::new(original, step.approximate)?;
        let whole = cuttable.channels.groups.iter().map(|g| (g.name.clone(), g.channels)).collect();
        let budget = match step.goal {
            ChannelGoal::Remove { budget, .. } => budget,
            ChannelGoal::Floor { .. } => Budget::Macs,
        };
        Ok(ChannelCut { step, original, budget, whole, cost: Cost::of(&cuttable.graph) })
    }

    /// What the budget counts, in the original.
    fn all(&self) -> f64 {
        match self.budget {
            Budget::Channels => self.whole.values().sum::<usize>() as f64,
            // Time is measured, not counted; until then it goes with the multiply-accumulates.
            Budget::Macs | Budget::Latency => self.cost.macs as f64,
            Budget::Params => self.cost.parameters as f64,
        }
    }

    fn scores(&self, cuttable: &Cuttable, stats: &Stats) -> Result<Vec<Option<Vec<f32>>>, PruneError> {
        let ChannelPruning { criterion, reduce, normalize, .. } = self.step;
        scores(&cuttable.graph, &cuttable.channels, *criterion, (*reduce, *normalize), stats)
    }

    fn stats(&self, workshop: &mut Workshop<'_, '_>, cuttable: &Cuttable) -> Result<Stats, RunError> {
        let criterion = self.step.criterion;
        workshop.statistics(&cuttable.graph, criterion.name(), criterion.needs(), self.step.calibration_samples)
    }

    /// The channels without which that much of the budget is gone.
    fn select(&self, workshop: &mut Workshop<'_, '_>, cuttable: &Cuttable, amount: Sparsity) -> Result<Removal, RunError> {
        let scores = self.scores(cuttable, &self.stats(workshop, cuttable)?)?;
        let selection = Selection::new(&cuttable.graph, &cuttable.channels, &scores, self.step.scope, &self.step.limits)?;
        let left = 1.0 - amount.value();
        match self.budget {
            // A ratio is of each pool's own channels; limits may keep some of them.
            Budget::Channels => Ok(selection.share(1.0 - left * self.all() / cuttable.channels.len() as f64)),
            Budget::Macs | Budget::Params => Ok(selection.within(self.budget, left * self.all())?),
            Budget::Latency => self.within_latency(workshop, cuttable, &selection, left),
        }
    }

    /// The smallest share of every pool without which the network takes at most that fraction of the original's time, as far as
    /// halving finds it.
    fn within_latency(
        &self,
        workshop: &mut Workshop<'_, '_>,
        cuttable: &Cuttable,
        selection: &Selection<'_>,
        most: f64,
    ) -> Result<Removal, RunError> {
        const HALVINGS: usize = 6;
        let mut best = selection.share(1.0);
        let least = workshop.latency(self.original, &cuttable.cut(&best)?)?;
        if least > most {
            let budget = Budget::Latency.unit();
            return Err(PruneError::BudgetOutOfReach { budget, asked: 100.0 * most, least: 100.0 * least }.into());
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            let removal = selection.share(middle);
            // Rounding may give again what is known to be fast enough.
            if removal == best || workshop.latency(self.original, &cuttable.cut(&removal)?)? <= most {
                (high, best) = (middle, removal);
            } else {
                low = middle;
            }
        }
        Ok(best)
    }

    /// Trains sparsely and measures how sensitive the groups are, where the step asks for it.
    pub(crate) fn prepare(&self, workshop: &mut Workshop<'_, '_>, work: &mut Work, baseline: Option<Baseline<'_>>) -> Result<(), RunError> {
        let step = self.step;
        if let Some(regularization) = step.regularize {
            let cuttable = Cuttable::new(&work.graph, step.approximate)?;
            let going = match (&step.goal, regularization.regularizer) {
                (ChannelGoal::Remove { fraction, .. }, Regularizer::Growing) => self.select(workshop, &cuttable, *fraction)?,
                _ => vec![vec![]; cuttable.channels.groups.len()],
            };
            let penalty = ChannelPenalty::new(&cuttable, regularization, &going)?;
            work.graph = workshop.trained_sparsely(&cuttable.graph, Arc::new(penalty))?;
        }
        match baseline {
            _ if step.sensitivity.is_empty() => {}
            Some(Baseline::Accuracy(evaluation)) => {
                let cuttable = Cuttable::new(&work.graph, step.approximate)?;
                let scores = self.scores(&cuttable, &self.stats(workshop, &cuttable)?)?;
                let before = match step.regularize {
                    None => evaluation,
                    Some(_) => &workshop.evaluate(&work.graph, penjing_exec::data::Split::Validation)?,
                };
                work.sensitivity = sensitivity(workshop, &cuttable, &scores, (&step.sensitivity, step.bn_samples), before)?;
            }
            Some(Baseline::Metric(_)) | None => {
                work.notes.push("sensitivity was not measured: there is no accuracy (hint: labelled data, and no --metric-command)".into());
            }
        }
        Ok(())
    }
}

impl Shrink for ChannelCut<'_> {
    fn gone(&self, graph: &Graph) -> Sparsity {
        let left = match self.budget {
            Budget::Channels => Cuttable::new(graph, self.step.approximate).map_or(0, |c| c.channels.len()) as f64,
            Budget::Macs | Budget::Latency => Cost::of(graph).macs as f64,
            Budget::Params => Cost::of(graph).parameters as f64,
        };
        Sparsity((1.0 - left / self.all().max(1.0)).clamp(0.0, 1.0))
    }

    fn left(&self, graph: &Graph) -> (usize, Option<u64>) {
        let cost = Cost::of(graph);
        (cost.parameters, Some(cost.macs))
    }

    /// The cut network, proved to compute what the masked one does.
    fn shrink(
        &self,
        workshop: &mut Workshop<'_, '_>,
        graph: &Graph,
        amount: Sparsity,
        notes: &mut Vec<String>,
    ) -> Result<(Graph, Masks), RunError> {
        let cuttable = Cuttable::new(graph, self.step.approximate)?;
        let removal = self.select(workshop, &cuttable, amount)?;
        let (cut, masked) = (cuttable.cut(&removal)?, cuttable.masked(&removal)?);
        let inputs = if self.step.approximate { None } else { workshop.sample_inputs(&cut)? };
        let run = |graph: &Graph, inputs: &[Tensor]| cpu_executor(graph)?.run(inputs, graph.outputs());
        if let Some(inputs) = inputs {
            match (run(&masked, &inputs), run(&cut, &inputs)) {
                (Ok(expected), Ok(outputs)) => {
                    same_outputs("the cut network", &expected, &outputs, TOLERANCE).map_err(RunError::NotCut)?;
                }
                (Err(error), _) | (_, Err(error)) => {
                    let note = format!("the cut was not compared with the masked network: {error}");
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
            }
        }
        Ok((workshop.reestimated(cut, self.step.bn_samples)?, Masks::new()))
    }
}

/// The channels of every group of `before`, and how many of them are left in `after`.
pub fn group_channels(before: &Graph, after: &Graph, approximate: bool) -> Vec<GroupChannels> {
    let found = |graph: &Graph| Cuttable::new(graph, approximate).map(|c| c.channels.groups).unwrap_or_default();
    let left: BTreeMap<String, usize> = found(after).into_iter().map(|g| (g.name, g.channels)).collect();
    let before = found(before).into_iter();
    // A group of which one channel is left cannot be cut any more.
    before.map(|g| GroupChannels { left: left.get(&g.name).copied().unwrap_or(1), group: g.name, total: g.channels }).collect()
}
