//! Which tensors of a network become codes, and which nodes stay in float and why.

use std::collections::{BTreeMap, BTreeSet};

use penjing_graph::ops::{Activation, Op};
use penjing_graph::{DataType, Graph, Node, NodeId, Tensor, ValueId};

use serde::Serialize;

use super::targets::Target;

/// A node that multiplies with a constant weight, in integers from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// The Conv, Gemm or MatMul.
    pub node: NodeId,
    /// What it reads.
    pub input: ValueId,
    /// What it gives, before any activation function.
    pub output: ValueId,
    /// Its weight.
    pub weight: ValueId,
    /// The axis of the weight that its output channels lie along.
    pub axis: usize,
    /// What it adds to each output channel; `None` where it adds nothing.
    pub bias: Option<ValueId>,
}

/// A node that stays in float.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftInFloat {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// What becomes codes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes whose weights become codes, in running order.
    pub layers: Vec<QuantizedLayer>,
    /// Values that become codes, each with the one whose range and codes it shares: itself, or what a node such as MaxPool only
    /// rearranged.
    pub activations: BTreeMap<ValueId, ValueId>,
    /// Nodes that compute on floats all the same.
    pub float: Vec<LeftInFloat>,
}

impl Plan {
    /// What `target` computes in integers of a network whose normalisations are folded away. A node for whose name `keep` has a reason
    /// stays in float.
    pub fn new(graph: &Graph, target: &Target, keep: &dyn Fn(&str) -> Option<&'static str>) -> Plan {
        let mut planner =
            Planner { graph, consumers: graph.consumers(), plan: Plan::default(), ready: BTreeMap::new(), owners: BTreeMap::new() };
        for (id, node) in graph.nodes() {
            if let Err(reason) = planner.visit(id, node, target, keep) {
                planner.plan.float.push(LeftInFloat { node: node.name.clone(), operator: node.op.op_type().into(), reason });
            }
        }
        planner.plan
    }

    /// The values whose ranges have to be known.
    pub fn observed(&self) -> BTreeSet<ValueId> {
        self.activations.values().copied().collect()
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    consumers: BTreeMap<ValueId, Vec<NodeId>>,
    plan: Plan,
    /// What could become codes if something reads it as codes, and whose range it shares.
    ready: BTreeMap<ValueId, ValueId>,
    /// The node that each fused activation function belongs to.
    owners: BTreeMap<NodeId, NodeId>,
}

impl Planner<'_> {
    /// Plans one node; an error says why it stays in float. Nodes that only rearrange or are fused say nothing.
    fn visit(&mut self, id: NodeId, node: &Node, target: &Target, keep: &dyn Fn(&str) -> Option<&'static str>) -> Result<(), String> {
        if self.owners.contains_key(&id) {
            return Ok(());
        }
        let operator = node.op.op_type();
        let integer = || match (keep(&node.name), target.operators.contains(&operator)) {
            (Some(reason), _) => Err(reason.to_string()),
            (None, true) => Ok(()),
            (None, false) => Err(format!("{} has no integer kernel for it", target.name)),
        };
        match &node.op {
            Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_) => integer().and_then(|()| self.layer(id, node)),
            Op::Binary(_) => integer().and_then(|()| self.combined(id, node, 2)),
            Op::Concat(_) => integer().and_then(|()| self.combined(id, node, node.inputs.len())),
            Op::AveragePool(_) | Op::GlobalPool(_) => integer().and_then(|()| self.combined(id, node, 1)),
            Op::MaxPool(_) | Op::Reshape(_) | Op::Flatten(_) | Op::Transpose(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => {
                let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { return Ok(()) };
                if let (Some(source), false) = (self.ready.get(&input).copied(), self.graph.outputs().contains(&output)) {
                    self.ready.insert(output, source);
                }
                Ok(())
            }
            // What computes on constants or on integers is nothing to quantize.
            _ if !node.outputs.iter().flatten().any(|out| self.graph.value(*out).dtype == Some(DataType::Float)) => Ok(()),
            _ => integer().and_then(|()| Err("its inputs are not read as codes".into())),
        }
    }

    /// A product with a constant weight.
    fn layer(&mut self, id: NodeId, node: &Node) -> Result<(), String> {
        let graph = self.graph;
        let (Some(input), Some(weight), Some(output)) = (node.input(0), node.input(1), node.output(0)) else {
            return Err("an input or output is left out".into());
        };
        let floats = |id: ValueId| graph.tensor(id).filter(|t| t.dtype() == DataType::Float).map(Tensor::dims);
        let dims = floats(weight).ok_or("its weight is not a constant of 32-bit floats")?;
        if graph.tensor(input).is_some() || graph.value(input).dtype != Some(DataType::Float) {
            return Err("what it reads is not computed in 32-bit floats".into());
        }
        if graph.outputs().contains(&output) && matches!(node.op, Op::Conv(_)) {
            return Err("its output is an output of the model, which stays in float".into());
        }
        let bias = node.input(2);
        let axis = match &node.op {
            Op::Conv(_) => 0,
            Op::Gemm(gemm) => {
                if gemm.trans_a || gemm.alpha != 1.0 || (bias.is_some() && gemm.beta != 1.0) {
                    return Err("it transposes its input or scales its product".into());
                }
                usize::from(!gemm.trans_b)
            }
            _ if dims.len() == 2 => 1,
            _ => return Err("its weight is no matrix".into()),
        };
        if let Some(bias) = bias
            && floats(bias).is_none_or(|bias| bias != [dims[axis]])
        {
            return Err("its bias is not a constant for each output channel".into());
        }
        let source = self.ready.get(&input).copied().unwrap_or(input);
        self.take(input, source);
        self.plan.layers.push(QuantizedLayer { node: id, input, output, weight, axis, bias });
        let output = self.behind_activation(id, output);
        if !graph.outputs().contains(&output) {
            self.ready.insert(output, output);
            // Products of matrices may give floats; a convolution in integers gives integers.
            if matches!(node.op, Op::Conv(_)) {
                self.take(output, output);
            }
        }
        Ok(())
    }

    /// A node that computes on the codes of its first inputs, all of which must be there.
    fn combined(&mut self, id: NodeId, node: &Node, inputs: usize) -> Result<(), String> {
        let Some(output) = node.output(0) else { return Err("its output is left out".into()) };
        let read: Vec<ValueId> = node.inputs.iter().take(inputs).flatten().copied().collect();
        let sources: Vec<(ValueId, ValueId)> = read.iter().filter_map(|id| Some((*id, *self.ready.get(id)?))).collect();
        if sources.len() < inputs {
            return Err("not all that it reads is computed in integers".into());
        }
        let output = self.behind_activation(id, output);
        if self.graph.outputs().contains(&output) {
            return Err("its output is an output of the model, which stays in float".into());
        }
        sources.into_iter().for_each(|(value, source)| self.take(value, source));
        self.ready.insert(output, output);
        self.take(output, output);
        Ok(())
    }

    /// Makes a value codes, and all that lies between it and the value whose codes it shares.
    fn take(&mut self, value: ValueId, source: ValueId) {
        let mut value = value;
        self.plan.activations.insert(value, source);
        self.ready.entry(value).or_insert(source);
        while value != source {
            let Some(producer) = self.graph.value(value).producer.and_then(|id| self.graph.node(id).input(0)) else { return };
            value = producer;
            self.plan.activations.insert(value, source);
        }
    }

    /// The value behind a ReLU or Clip that alone reads `output`, which a runtime computes along with the node; else `output` itself.
    fn behind_activation(&mut self, id: NodeId, output: ValueId) -> ValueId {
        let graph = self.graph;
        let only = match self.consumers.get(&output).map(Vec::as_slice) {
            Some([only]) if graph.uses(output) == 1 && !graph.outputs().contains(&output) => *only,
            _ => return output,
        };
        let next = graph.node(only);
        let fused = match &next.op {
            Op::Activation(Activation::Relu) => true,
            // Bounds on both sides of zero are those of a range of codes.
            Op::Clip(_) => next.input(0) == Some(output) && next.inputs.iter().skip(1).flatten().all(|id| graph.tensor(*id).is_some()),
            _ => false,
        };
        match next.output(0).filter(|_| fused) {
            Some(behind) => {
                self.owners.insert(only, id);
                behind
            }
            None => output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::prepared;
    use crate::quant::targets::TargetName;
    use penjing_graph::zoo::{ZooOptions, build};

    fn plan(name: &str, keep: &str) -> (Graph, Plan) {
        let graph = prepared(&build(name, &ZooOptions::default()).expect(name)).expect("prepared");
        let target: TargetName = "generic".parse().expect("known");
        let plan = Plan::new(&graph, target.0, &|name| (name == keep).then_some("it is to stay in float"));
        (graph, plan)
    }

    fn names(graph: &Graph, plan: &Plan) -> Vec<String> {
        plan.activations.keys().map(|id| graph.value(*id).producer.map_or("input".into(), |id| graph.node(id).name.clone())).collect()
    }

    #[test]
    fn lenet_5_by_hand() {
        let (graph, plan) = plan("lenet-5", "");
        let layers: Vec<&str> = plan.layers.iter().map(|l| graph.node(l.node).name.as_str()).collect();
        assert_eq!(layers, ["conv1", "conv2", "fc1", "fc2"]);
        // The last layer's output is the model's, in float; pooling and flattening share the codes of what they rearrange.
        assert_eq!(plan.float, []);
        let activations = names(&graph, &plan);
        for name in ["input", "conv1", "pool1", "conv2", "pool2", "flatten", "relu1"] {
            assert!(activations.iter().any(|a| a == name), "{name}: {activations:?}");
        }
        assert!(!activations.contains(&"fc2".to_string()), "{activations:?}");
        let pooled = plan.activations.iter().filter(|(value, source)| value != source).count();
        assert_eq!(pooled, 3);
    }

    #[test]
    fn shortcuts_are_added_in_integers_and_what_is_kept_says_so() {
        let (graph, whole) = plan("resnet-20", "");
        assert_eq!(whole.layers.len(), 20);
        // Seven of nine shortcuts are; the other two are subsampled and padded with zeros in float.
        let adds: Vec<&str> = whole.float.iter().filter(|left| left.operator == "Add").map(|left| left.node.as_str()).collect();
        assert_eq!(adds, ["layer2.0.add", "layer3.0.add"]);
        let first = graph.node(whole.layers[0].node).name.clone();
        let (_, without) = plan("resnet-20", &first);
        assert_eq!(without.layers.len(), 19);
        let why = without.float.iter().find(|left| left.node == first).expect("listed");
        assert_eq!(why.reason, "it is to stay in float");
    }
}
