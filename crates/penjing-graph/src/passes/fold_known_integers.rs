//! Sizes that are computed though they are known.

use std::collections::BTreeSet;

use crate::graph::opaque;
use crate::{DataType, Edit, Graph, GraphError, Node, NodeId, PartialValue, Tensor, ValueId};

/// Replaces integers that a graph computes of shapes by constants, as far as they are known before it runs. Exporters spell out
/// Shape → Gather → Concat → Reshape even where no dimension is free.
///
/// # Errors
/// When the graph refuses, which only a defect could cause.
pub fn fold_known_integers(graph: &mut Graph) -> Result<usize, GraphError> {
    let by_name: BTreeSet<ValueId> =
        graph.outputs().iter().copied().chain(graph.nodes().flat_map(|(_, node)| node.captures.iter().copied())).collect();
    let is_known = |node: &Node| {
        let mut outputs = node.outputs.iter().flatten().peekable();
        opaque(node).is_none() && outputs.peek().is_some() && outputs.all(|y| known(graph, *y).is_some() && !by_name.contains(y))
    };
    let folded: BTreeSet<NodeId> = graph.nodes().filter(|(_, node)| is_known(node)).map(|(id, _)| id).collect();
    let read_on: BTreeSet<ValueId> = graph.nodes().filter(|(id, _)| !folded.contains(id)).flat_map(|(_, node)| node.reads()).collect();
    let mut edit = Edit::new(graph, "fold known integers");
    for id in &folded {
        for y in graph.node(*id).outputs.iter().flatten().filter(|y| read_on.contains(y)) {
            if let Some(tensor) = known(graph, *y) {
                let constant = edit.add_tensor(format!("{}.folded", graph.value(*y).name), tensor);
                edit.replace_uses(*y, constant);
            }
        }
        edit.remove_node(*id);
    }
    graph.apply(edit)?;
    Ok(folded.len())
}

fn known(graph: &Graph, value: ValueId) -> Option<Tensor> {
    let value = graph.value(value);
    let PartialValue { scalar, .. } = value.partial.as_ref()?;
    let integers = value.partial.as_ref()?.known()?;
    let dims = if *scalar { vec![] } else { vec![integers.len()] };
    match value.dtype? {
        DataType::Int64 => Some(Tensor::new(dims, integers)),
        DataType::Int32 => Some(Tensor::new(dims, integers.into_iter().map(i32::try_from).collect::<Result<Vec<i32>, _>>().ok()?)),
        DataType::Bool => Some(Tensor::from_bools(dims, &integers.iter().map(|n| *n != 0).collect::<Vec<bool>>())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Binary, Concat, Gather, Reshape, Shape};
    use crate::{Dim, GraphBuilder};

    #[test]
    fn a_shape_is_written_down_as_far_as_it_is_known() {
        let mut b = GraphBuilder::new("shapes");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 6.into(), 4.into()]);
        let shape = b.node("shape", Shape { start: 0, end: None }, &[x]);
        let pick = |b: &mut GraphBuilder, name: &str, i: i64| {
            let i = b.tensor(&format!("{name}.i"), Tensor::new([1], vec![i]));
            b.node(name, Gather { axis: 0 }, &[shape, i])
        };
        let (n, rows, columns) = (pick(&mut b, "n", 0), pick(&mut b, "rows", 1), pick(&mut b, "columns", 2));
        let product = b.node("product", Binary::Mul, &[rows, columns]);
        let target = b.node("target", Concat { axis: 0 }, &[n, product]);
        let y = b.node("y", Reshape { allow_zero: false }, &[x, target]);
        let mut graph = b.output(y).finish().expect("valid");
        // rows, columns and their product are known; N is not, and neither is what it is part of.
        assert_eq!(fold_known_integers(&mut graph).expect("folded"), 3);
        let left: Vec<&str> = graph.nodes().map(|(_, n)| n.name.as_str()).collect();
        assert_eq!(left, ["shape", "n", "target", "y"]);
        let folded = graph.find_value("product.folded").and_then(|id| graph.tensor(id)).expect("a constant");
        assert_eq!(folded.values::<i64>().as_deref(), Some(&[24][..]));
        assert_eq!(fold_known_integers(&mut graph).expect("folded"), 0);
    }
}
