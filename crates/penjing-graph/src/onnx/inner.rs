//! Graphs inside nodes (`If`, `Loop`, `Scan`): what they take from outside, and weights that they keep in other files.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use super::elements::tensor_to_proto;
use super::external::ExternalFiles;
use super::proto::{DataLocation, GraphProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto};
use crate::GraphError;

/// Graphs inside graphs that are followed; no exporter nests a tenth of it.
const MAX_DEPTH: usize = 32;

/// Names that the inner graphs of a node read and do not give themselves.
pub(super) fn captured_names(node: &NodeProto) -> Result<BTreeSet<String>, String> {
    node_captures(node, MAX_DEPTH)
}

fn node_captures(node: &NodeProto, depth: usize) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        let depth = depth.checked_sub(1).ok_or_else(|| format!("its inner graphs are nested more than {MAX_DEPTH} deep"))?;
        names.extend(graph_captures(graph, depth)?);
    }
    Ok(names)
}

fn graph_captures(graph: &GraphProto, depth: usize) -> Result<BTreeSet<String>, String> {
    let (mut given, mut read) = (BTreeSet::new(), BTreeSet::new());
    for bytes in &graph.input {
        given.insert(decode::<ValueInfoProto>(bytes)?.name);
    }
    for bytes in &graph.initializer {
        given.insert(decode::<TensorProto>(bytes)?.name);
    }
    for bytes in &graph.sparse_initializer {
        given.extend(decode::<SparseTensorProto>(bytes)?.values.map(|values| values.name));
    }
    for bytes in &graph.node {
        let node: NodeProto = decode(bytes)?;
        read.extend(node_captures(&node, depth)?);
        read.extend(node.input);
        given.extend(node.output);
    }
    for bytes in &graph.output {
        read.insert(decode::<ValueInfoProto>(bytes)?.name);
    }
    // An optional input left out has an empty name.
    given.insert(String::new());
    Ok(&read - &given)
}

fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, String> {
    M::decode(bytes.clone()).map_err(|e| format!("an inner graph is broken: {e}"))
}

/// Brings the tensors of a node's attributes and inner graphs that lie in other files into the node, so that it can be
/// written elsewhere. Returns whether there were any.
pub(super) fn bring_in_external(node: &mut NodeProto, files: &mut ExternalFiles<'_>) -> Result<bool, GraphError> {
    let mut brought = false;
    for attribute in &mut node.attribute {
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            brought |= tensor_in(tensor, files)?;
        }
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            for bytes in &mut graph.initializer {
                replace(bytes, |tensor| tensor_in(tensor, files), &mut brought)?;
            }
            for bytes in &mut graph.node {
                replace(bytes, |node| bring_in_external(node, files), &mut brought)?;
            }
        }
    }
    Ok(brought)
}

fn tensor_in(proto: &mut TensorProto, files: &mut ExternalFiles<'_>) -> Result<bool, GraphError> {
    if proto.data_location() != DataLocation::External {
        return Ok(false);
    }
    let name = std::mem::take(&mut proto.name);
    let tensor = files.tensor(&name, proto)?;
    *proto = TensorProto { name, doc_string: std::mem::take(&mut proto.doc_string), ..tensor_to_proto(&tensor) };
    Ok(true)
}

/// Edits a message in its encoded form; what [`captured_names`] could not decode is left as it is.
fn replace<M: Message + Default>(
    bytes: &mut Bytes,
    edit: impl FnOnce(&mut M) -> Result<bool, GraphError>,
    brought: &mut bool,
) -> Result<(), GraphError> {
    if let Ok(mut message) = M::decode(bytes.clone())
        && edit(&mut message)?
    {
        *bytes = message.encode_to_vec().into();
        *brought = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_string()).collect()
    }

    fn node(inputs: &[&str], outputs: &[&str], inner: Option<GraphProto>) -> NodeProto {
        let attribute = inner.map(|g| AttributeProto { name: "body".into(), g: Some(g), ..AttributeProto::default() });
        NodeProto { input: names(inputs), output: names(outputs), attribute: attribute.into_iter().collect(), ..NodeProto::default() }
    }

    fn graph(input: &str, nodes: &[NodeProto], output: &str) -> GraphProto {
        let info = |name: &str| vec![ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }.encode_to_vec().into()];
        let node = nodes.iter().map(|n| n.encode_to_vec().into()).collect();
        GraphProto { input: info(input), node, output: info(output), ..GraphProto::default() }
    }

    #[test]
    fn what_an_inner_graph_gives_itself_is_not_captured() {
        let innermost = graph("i", &[node(&["i", "a", "outer"], &["o"], None)], "o");
        let inner = graph("x", &[node(&["x", ""], &["a"], None), node(&["a"], &["b"], Some(innermost))], "also_outer");
        assert_eq!(captured_names(&node(&["direct"], &["y"], Some(inner))), Ok(names(&["also_outer", "outer"]).into_iter().collect()));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut inner = node(&["x"], &["y"], None);
        for _ in 0..=MAX_DEPTH {
            inner = node(&["x"], &["y"], Some(graph("x", &[inner], "y")));
        }
        assert!(captured_names(&inner).is_err_and(|reason| reason.contains("nested")));
    }
}
