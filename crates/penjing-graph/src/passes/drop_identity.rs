//! Nodes that give on what they get.

use super::{Pass, Verdict};
use crate::ops::Op;
use crate::{Edit, Graph, Node, NodeId, Tensor, ValueId};

/// Removes `Identity`, and `Dropout` as it is in inference. A network that is still to be trained with dropout must keep it.
#[derive(Clone, Copy, Debug)]
pub struct DropIdentity;

impl Pass for DropIdentity {
    fn name(&self) -> &'static str {
        "drop-identity"
    }

    fn visit(&self, graph: &Graph, id: NodeId) -> Verdict {
        let node = graph.node(id);
        match &node.op {
            Op::Identity(_) => {}
            Op::Dropout(_) => {
                if let Some(reason) = drops(graph, node) {
                    return Verdict::Skip(reason);
                }
            }
            _ => return Verdict::NoMatch,
        }
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Verdict::Skip("an input or output is left out") };
        let captured = |value: ValueId| graph.nodes().any(|(_, node)| node.captures.contains(&value));
        if captured(y) {
            return Verdict::Skip("an inner graph uses its output by name");
        }
        let mut edit = Edit::new(graph, format!("drop `{}`", node.name));
        edit.remove_node(id);
        if graph.outputs().contains(&y) {
            // The output keeps its name, so what gives x gives y instead.
            let Some(producer) = graph.value(x).producer else {
                return Verdict::Skip("it makes an input or initializer of the model an output");
            };
            if graph.outputs().contains(&x) || captured(x) {
                return Verdict::Skip("its input is used by name too");
            }
            let Some(index) = graph.node(producer).outputs.iter().position(|output| *output == Some(x)) else {
                return Verdict::Skip("its input is not given by the node that claims to");
            };
            edit.set_output(producer, index, y);
            edit.replace_uses(x, y);
        } else {
            edit.replace_uses(y, x);
        }
        Verdict::Apply(edit)
    }
}

/// Why the `Dropout` is more than an identity, if it is.
fn drops(graph: &Graph, node: &Node) -> Option<&'static str> {
    if node.output(1).is_some_and(|mask| graph.uses(mask) > 0) {
        return Some("its mask is read");
    }
    let training = node.input(2)?;
    match graph.constant(training).and_then(Tensor::to_i64).as_deref() {
        Some([0]) => None,
        Some(_) => Some("it is in training mode"),
        None => Some("its mode is decided when the model runs"),
    }
}
