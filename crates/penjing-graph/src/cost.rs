//! What a model costs: parameters, multiply-accumulates, bytes. A free dimension, the batch among them, counts as 1.

use crate::infer::Operands;
use crate::{Dim, Graph, NodeId};

/// What one node costs.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCost {
    /// The node.
    pub node: NodeId,
    /// Elements of its float initializers; one that two nodes share counts where it is first used.
    pub parameters: usize,
    /// Multiplications that are each followed by an addition; `None` where a shape is unknown.
    pub macs: Option<u64>,
    /// Bytes of its initializers.
    pub bytes: usize,
}

/// Costs of every node, in running order.
pub fn node_costs(graph: &Graph) -> Vec<NodeCost> {
    let mut counted = std::collections::BTreeSet::new();
    let with_batch_of_one = |dim: &Dim| match dim {
        Dim::Symbolic { factor, .. } => Dim::Fixed(*factor),
        other => other.clone(),
    };
    graph
        .nodes()
        .map(|(id, node)| {
            let own: Vec<_> = node.reads().filter(|v| counted.insert(*v)).filter_map(|v| graph.tensor(v)).collect();
            let output = node.output(0).and_then(|y| graph.value(y).shape.as_ref());
            let macs = output.and_then(|shape| {
                let shape: Vec<Dim> = shape.iter().map(with_batch_of_one).collect();
                node.op.macs(&Operands::new(graph, node), &shape)
            });
            NodeCost {
                node: id,
                parameters: own.iter().filter(|t| t.dtype().is_float()).map(|t| t.len()).sum(),
                macs,
                bytes: own.iter().map(|t| t.byte_len()).sum(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{ZooOptions, build};

    fn total(name: &str) -> (usize, Option<u64>) {
        let graph = build(name, &ZooOptions::default()).expect(name);
        let costs = node_costs(&graph);
        (costs.iter().map(|c| c.parameters).sum(), costs.iter().map(|c| c.macs).sum())
    }

    #[test]
    fn a_small_network_by_hand() {
        // 784·300 + 300·100 + 100·10 products a sample.
        assert_eq!(total("lenet-300-100"), (266_610, Some(266_200)));
    }

    #[test]
    fn published_counts() {
        // Running statistics are initializers, but no parameters of the published count: 2 · 26,560 in resnet-50.
        assert_eq!(total("resnet-50"), (25_557_032 + 53_120, Some(4_089_184_256)));
    }
}
