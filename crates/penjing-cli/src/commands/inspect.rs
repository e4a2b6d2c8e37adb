//! `penjing inspect`: what a model is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use penjing_graph::channels::{ChannelGroup, Channels, Pinned, Removal};
use penjing_graph::ops::Op;
use penjing_graph::passes::fold_known_integers;
use penjing_graph::{Dim, Graph, Node, NodeCost, Role, node_costs, roles};
use serde::Serialize;

use crate::Goal;
use crate::options::read_model;
use crate::table::{grouped, print, table};

/// Show layers, shapes, parameters, MACs, bytes, sparsity and what can be pruned
#[derive(Args)]
pub(crate) struct Inspect {
    /// The ONNX model
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    op: String,
    output: Option<Vec<String>>,
    parameters: usize,
    macs: Option<u64>,
    bytes: usize,
    zeros: usize,
    /// Weights that pruning may remove, or why there are none.
    prunable: Result<usize, String>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    opset: i64,
    inputs: Vec<String>,
    outputs: Vec<String>,
    file_bytes: u64,
    metadata: BTreeMap<String, String>,
    layers: Vec<Layer>,
    groups: Vec<Group>,
    pinned: Vec<Stays>,
}

/// Channels that can be removed, each with all that goes with it.
#[derive(Serialize)]
struct Group {
    name: String,
    channels: usize,
    /// Weights that hold them, each with the axis.
    weights: Vec<String>,
    /// Parameters and multiply-accumulates that go when all but one channel go.
    parameters: usize,
    macs: u64,
}

/// Positions of an axis of a weight that must stay, and why.
#[derive(Serialize)]
struct Stays {
    weight: String,
    axis: usize,
    positions: usize,
    reason: String,
}

fn groups(graph: &Graph) -> Result<(Vec<Group>, Vec<Stays>)> {
    let mut graph = graph.clone();
    fold_known_integers(&mut graph)?;
    let channels = Channels::find(&graph, false);
    let costs = node_costs(&graph);
    let whole = channels.cost(&graph, &costs, &vec![])?;
    let group = |(i, group): (usize, &ChannelGroup)| {
        let mut removal: Removal = vec![vec![]; channels.groups.len()];
        removal[i] = (1..group.channels).collect();
        let left = channels.cost(&graph, &costs, &removal)?;
        let weights = group.members.iter().filter(|m| graph.tensor(m.axis.value).is_some_and(|t| t.dtype().is_float()));
        Ok(Group {
            name: group.name.clone(),
            channels: group.channels,
            weights: weights.map(|m| format!("{}[{}]", graph.value(m.axis.value).name, m.axis.axis)).collect(),
            parameters: whole.0 - left.0,
            macs: whole.1 - left.1,
        })
    };
    let found = channels.groups.iter().enumerate().map(group).collect::<Result<Vec<Group>>>()?;
    let roles = roles(&graph);
    // Axes that a window covers, and those of size 1, are not what anyone would take for channels.
    let counts = |p: &&Pinned| p.positions > 1 && p.axis.axis < 2 && roles.get(&p.axis.value).is_some_and(|role| role.prunable());
    let stays = channels.pinned.iter().filter(counts).map(|p| {
        let by = p.pin.node.map_or(String::new(), |id| format!("node `{}` ({}): ", graph.node(id).name, graph.node(id).op.op_type()));
        Stays {
            weight: graph.value(p.axis.value).name.clone(),
            axis: p.axis.axis,
            positions: p.positions,
            reason: format!("{by}{}", p.pin.reason),
        }
    });
    Ok((found, stays.collect()))
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Goal> {
        let graph = read_model(&self.model)?;
        let roles = roles(&graph);
        let layers: Vec<Layer> = node_costs(&graph).iter().map(|cost| layer(&graph, cost, &roles)).collect();
        let (groups, pinned) = groups(&graph)?;
        let describe = |id| {
            let value = graph.value(id);
            let dtype = value.dtype.map_or("?", |t| t.name());
            format!("{} {dtype} {}", value.name, shape(value.shape.as_deref()))
        };
        let model = Model {
            name: graph.name().into(),
            opset: graph.opset(),
            inputs: graph.inputs().map(describe).collect(),
            outputs: graph.outputs().iter().copied().map(describe).collect(),
            file_bytes: std::fs::metadata(&self.model)?.len(),
            metadata: graph.metadata_entries().iter().cloned().collect(),
            layers,
            groups,
            pinned,
        };
        print(&if self.json { serde_json::to_string_pretty(&model)? } else { model.text() })?;
        Ok(Goal::Met)
    }
}

fn shape(dims: Option<&[Dim]>) -> String {
    dims.map_or("[…]".into(), |dims| format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")))
}

fn layer(graph: &Graph, cost: &NodeCost, roles: &BTreeMap<penjing_graph::ValueId, Role>) -> Layer {
    let node = graph.node(cost.node);
    let own: Vec<_> = node.reads().filter_map(|id| Some((id, graph.tensor(id)?))).collect();
    let prunable: usize = own.iter().filter(|(id, _)| roles.get(id).is_some_and(|r| r.prunable())).map(|(_, t)| t.len()).sum();
    let output = node.output(0).and_then(|y| graph.value(y).shape.as_ref());
    Layer {
        name: node.name.clone(),
        op: op_type(node),
        output: output.map(|dims| dims.iter().map(Dim::to_string).collect()),
        parameters: cost.parameters,
        macs: cost.macs,
        bytes: cost.bytes,
        zeros: if cost.parameters > 0 {
            own.iter().filter(|(_, t)| t.dtype().is_float()).map(|(_, t)| graph.count_zeros(t)).sum()
        } else {
            0
        },
        prunable: if prunable > 0 { Ok(prunable) } else { Err(why_not(node, cost)) },
    }
}

fn op_type(node: &Node) -> String {
    node.op.op_type().to_string()
}

fn why_not(node: &Node, cost: &NodeCost) -> String {
    match &node.op {
        Op::Opaque(opaque) => opaque.reason.clone(),
        _ if cost.parameters > 0 => "biases, norms and constants are left alone".into(),
        _ => "no weights".into(),
    }
}

impl Model {
    fn text(&self) -> String {
        let number = |n: u64| if n == 0 { String::new() } else { grouped(n) };
        let rows: Vec<Vec<String>> = self
            .layers
            .iter()
            .map(|layer| {
                let sparsity = if layer.parameters > 0 {
                    format!("{:.1} %", 100.0 * layer.zeros as f64 / layer.parameters as f64)
                } else {
                    String::new()
                };
                vec![
                    layer.name.clone(),
                    layer.op.clone(),
                    layer.output.as_ref().map_or("?".into(), |dims| dims.join("×")),
                    number(layer.parameters as u64),
                    layer.macs.map_or("?".into(), number),
                    number(layer.bytes as u64),
                    sparsity,
                    match &layer.prunable {
                        Ok(weights) => format!("{} prunable", grouped(*weights as u64)),
                        Err(reason) if reason == "no weights" => String::new(),
                        Err(reason) => reason.clone(),
                    },
                ]
            })
            .collect();
        let sum = |of: fn(&Layer) -> u64| grouped(self.layers.iter().map(of).sum());
        let prunable: u64 = self.layers.iter().filter_map(|l| l.prunable.as_ref().ok()).map(|n| *n as u64).sum();
        let mut lines = vec![
            format!("{} (opset {}), {} bytes", self.name, self.opset, grouped(self.file_bytes)),
            format!("inputs: {}", self.inputs.join("; ")),
            format!("outputs: {}", self.outputs.join("; ")),
        ];
        lines.extend(self.metadata.iter().map(|(key, value)| format!("{key}: {value}")));
        lines.push(String::new());
        lines.push(table(&["layer", "operator", "output", "parameters", "MACs", "bytes", "zero", "pruning"], &rows));
        lines.push(String::new());
        lines.push(format!(
            "{} parameters (running statistics included), {} MACs a sample, {} bytes of weights, {} weights that pruning may remove",
            sum(|l| l.parameters as u64),
            sum(|l| l.macs.unwrap_or(0)),
            sum(|l| l.bytes as u64),
            grouped(prunable)
        ));
        lines.extend(self.channels());
        lines.join("\n")
    }

    /// The groups of channels, and what keeps the rest.
    fn channels(&self) -> Vec<String> {
        let group = |g: &Group| {
            vec![g.name.clone(), grouped(g.channels as u64), grouped(g.parameters as u64), grouped(g.macs), g.weights.join(" ")]
        };
        let mut lines =
            vec![String::new(), format!("{} groups of channels that can be removed (`penjing prune --structured`)", self.groups.len())];
        if !self.groups.is_empty() {
            let rows: Vec<Vec<String>> = self.groups.iter().map(group).collect();
            lines.push(table(&["given by", "channels", "parameters", "MACs", "in"], &rows));
        }
        if !self.pinned.is_empty() {
            let rows: Vec<Vec<String>> = self
                .pinned
                .iter()
                .map(|p| vec![format!("{}[{}]", p.weight, p.axis), grouped(p.positions as u64), p.reason.clone()])
                .collect();
            lines.extend([String::new(), "Channels that stay:".into(), table(&["weight", "positions", "why"], &rows)]);
        }
        lines
    }
}
