//! Pruning of channels, attention heads and units: removed from the graph, so that it is really smaller.

pub mod criteria;
mod score;
mod select;

use std::collections::BTreeMap;

use penjing_exec::cpu_executor;
use penjing_graph::channels::{Channels, Removal};
use penjing_graph::passes::fold_known_integers;
use penjing_graph::{Graph, Tensor, node_costs};
use serde::{Deserialize, Serialize};

pub use score::{Normalize, Reduce, scores};
pub use select::{Budget, ChannelScope, Limits, Selection};

use super::{Masks, PruneError, Shrink, Sparsity, Stats};
use crate::recipe::{ChannelGoal, ChannelPruning};
use crate::run::{RunError, Workshop};
use crate::verify::same_outputs;

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
    budget: Budget,
    /// Channels of each group of the original.
    whole: BTreeMap<String, usize>,
    cost: Cost,
}

impl<'a> ChannelCut<'a> {
    pub(crate) fn new(step: &'a ChannelPruning, original: &Graph) -> Result<ChannelCut<'a>, PruneError> {
        let cuttable = Cuttable::new(original, step.approximate)?;
        let whole = cuttable.channels.groups.iter().map(|g| (g.name.clone(), g.channels)).collect();
        let budget = match step.goal {
            ChannelGoal::Remove { budget, .. } => budget,
            ChannelGoal::Floor { .. } => Budget::Macs,
        };
        Ok(ChannelCut { step, budget, whole, cost: Cost::of(&cuttable.graph) })
    }

    /// What the budget counts, in the original.
    fn all(&self) -> f64 {
        match self.budget {
            Budget::Channels => self.whole.values().sum::<usize>() as f64,
            Budget::Macs => self.cost.macs as f64,
            Budget::Params => self.cost.parameters as f64,
        }
    }

    fn select(&self, cuttable: &Cuttable, amount: Sparsity, stats: &Stats) -> Result<Removal, PruneError> {
        let ChannelPruning { criterion, reduce, normalize, scope, limits, .. } = self.step;
        let scores = scores(&cuttable.graph, &cuttable.channels, *criterion, (*reduce, *normalize), stats)?;
        let selection = Selection::new(&cuttable.graph, &cuttable.channels, &scores, *scope, limits)?;
        match self.budget {
            // A ratio is of each pool's own channels; limits may keep some of them.
            Budget::Channels => {
                let present = cuttable.channels.len() as f64;
                Ok(selection.share(1.0 - (1.0 - amount.value()) * self.all() / present))
            }
            Budget::Macs | Budget::Params => selection.within(self.budget, (1.0 - amount.value()) * self.all()),
        }
    }
}

impl Shrink for ChannelCut<'_> {
    fn gone(&self, graph: &Graph) -> Sparsity {
        let left = match self.budget {
            Budget::Channels => Cuttable::new(graph, self.step.approximate).map_or(0, |c| c.channels.len()) as f64,
            Budget::Macs => Cost::of(graph).macs as f64,
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
        let criterion = self.step.criterion;
        let stats = workshop.statistics(&cuttable.graph, criterion.name(), criterion.needs(), self.step.calibration_samples)?;
        let removal = self.select(&cuttable, amount, &stats)?;
        let (cut, masked) = (cuttable.cut(&removal)?, cuttable.masked(&removal)?);
        let inputs = if self.step.approximate { None } else { workshop.sample_inputs(&cut)? };
        let run = |graph: &Graph, inputs: &[Tensor]| cpu_executor(graph)?.run(inputs, graph.outputs());
        if let Some(inputs) = inputs {
            match (run(&masked, &inputs), run(&cut, &inputs)) {
                (Ok(expected), Ok(outputs)) => drop(same_outputs("the cut network", &expected, &outputs)?),
                (Err(error), _) | (_, Err(error)) => {
                    let note = format!("the cut was not compared with the masked network: {error}");
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
            }
        }
        Ok((cut, Masks::new()))
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
