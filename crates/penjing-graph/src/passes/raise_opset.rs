//! A graph at a later version of ONNX's own operator set.

use bytes::Bytes;
use prost::Message;

use crate::onnx::proto::{FunctionProto, NodeProto};
use crate::ops::{Op, Opaque, Raise};
use crate::{Edit, Graph, GraphError, NEWEST_OPSET, Node, NodeId};

/// Raises the version of ONNX's own operator set to `to`; at that version already, nothing happens. Each operator's rule
/// says how it gets there: `Clip`'s bounds become inputs at 11, `Softmax` loses its flattening at 13, … Weights and names
/// of values stay as they are.
///
/// # Errors
/// When `to` is not from the graph's own version to 25, or something that is not understood would be affected: an opaque
/// node, a function of the model, an inner graph. The graph is as it was then.
pub fn raise_opset(graph: &mut Graph, to: i64) -> Result<(), GraphError> {
    let from = graph.opset();
    if to == from {
        return Ok(());
    }
    let edit = raised(graph, to).map_err(|reason| GraphError::Opset { from, to, reason })?;
    graph.apply(edit)
}

fn raised(graph: &Graph, to: i64) -> Result<Edit, String> {
    if to < graph.opset() {
        return Err(format!("it would be lowered (hint: stay at {})", graph.opset()));
    }
    if to > NEWEST_OPSET {
        return Err(format!("opsets up to {NEWEST_OPSET} are understood (hint: choose {NEWEST_OPSET})"));
    }
    check_model(graph)?;
    let mut edit = Edit::new(graph, format!("raise the opset to {to}"));
    edit.set_opset("", to);
    for (id, node) in graph.nodes() {
        let refused = |reason: String| format!("node `{}` ({}): {reason}", node.name, node.op.op_type());
        if let Op::Opaque(opaque) = &node.op {
            match affected(graph, id, opaque).map_err(refused)? {
                None => continue,
                Some(reason) => return Err(refused(format!("{reason} (hint: convert the model with `onnx.version_converter`)"))),
            }
        }
        let (op, inputs) = Raise::node(graph, id, to, &mut edit).map_err(refused)?;
        if op != node.op || inputs != node.inputs || !reads_the_same(node, to) {
            edit.set_op(id, op, inputs);
        }
    }
    Ok(edit)
}

/// Why the node might mean something else at another opset, if it might.
fn affected(graph: &Graph, id: NodeId, opaque: &Opaque) -> Result<Option<String>, String> {
    if graph.kept.is_sparse_initializer(id) {
        return Ok(None);
    }
    if matches!(opaque.domain.as_str(), "" | "ai.onnx") {
        return Ok(Some(format!("it is kept but not understood: {}", opaque.reason)));
    }
    let node = NodeProto::decode(opaque.raw.clone()).map_err(|e| format!("its encoding is broken ({e})"))?;
    let inner = node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    Ok(inner.then(|| "its inner graph is written for the present opset".into()))
}

/// Checks that nothing beside the graph is written for the present opset.
fn check_model(graph: &Graph) -> Result<(), String> {
    let model = graph.kept.model();
    for bytes in &model.functions {
        let function = FunctionProto::decode(bytes.clone()).map_err(|e| format!("one of its functions is broken ({e})"))?;
        if function.opset_import.iter().any(|import| matches!(import.domain(), "" | "ai.onnx")) {
            return Err(format!(
                "function `{}` of the model is written for the present opset (hint: inline it with `onnx.inliner`)",
                function.name
            ));
        }
    }
    match model.training_info.is_empty() {
        true => Ok(()),
        false => Err("the model brings training graphs that are written for the present opset (hint: remove `training_info`)".into()),
    }
}

/// Whether the bytes that the node would be written as say the same at opset `to`.
fn reads_the_same(node: &Node, to: i64) -> bool {
    let Some(source) = node.source.as_ref().filter(|_| !node.edited) else { return true };
    NodeProto::decode(source.clone()).is_ok_and(|proto| Op::read(&proto, to, Bytes::new()) == node.op)
}
