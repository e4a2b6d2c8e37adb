//! `penjing inspect`: what a model is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use penjing_graph::ops::Op;
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
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Goal> {
        let graph = read_model(&self.model)?;
        let roles = roles(&graph);
        let layers: Vec<Layer> = node_costs(&graph).iter().map(|cost| layer(&graph, cost, &roles)).collect();
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
        lines.join("\n")
    }
}
