//! Which kernels a runtime really takes for a quantized network.

use std::collections::BTreeMap;

use penjing_graph::Graph;
use penjing_graph::ops::Op;
use serde::{Deserialize, Serialize};

/// The nodes of a network as a runtime has optimised it for this machine, by operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// Those that compute on codes.
    pub integer: BTreeMap<String, usize>,
    /// Those that compute on floats, or only rearrange.
    pub other: BTreeMap<String, usize>,
}

/// What the names of operators that multiply codes contain.
const INTEGER: [&str; 5] = ["QLinear", "QGemm", "Integer", "DynamicQuantizeMatMul", "MatMulNBits"];

impl Kernels {
    /// Counts the nodes of an optimised graph. Fused operators are those of ONNX Runtime's own operator set:
    /// <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>.
    pub fn of(optimized: &Graph) -> Kernels {
        let mut kernels = Kernels::default();
        for (_, node) in optimized.nodes() {
            let name = match &node.op {
                Op::Opaque(op) => op.op_type.as_str(),
                op => op.op_type(),
            };
            let count = if on_integers(name) { &mut kernels.integer } else { &mut kernels.other };
            *count.entry(name.into()).or_default() += 1;
        }
        kernels
    }
}

fn on_integers(operator: &str) -> bool {
    INTEGER.iter().any(|part| operator.contains(part))
}

/// Whether a node of this name computes on codes in an optimised graph. ONNX Runtime keeps the name of the node that it fuses others to,
/// or puts a number behind it.
pub(crate) fn computes_on_codes(optimized: &Graph, node: &str) -> bool {
    optimized.nodes().any(|(_, found)| match &found.op {
        Op::Opaque(op) => {
            let behind = found.name.strip_prefix(node);
            on_integers(&op.op_type) && behind.is_some_and(|behind| behind.is_empty() || behind.starts_with("_token_"))
        }
        _ => found.name == node && on_integers(found.op.op_type()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_graph::zoo::{ZooOptions, build};

    #[test]
    fn nodes_of_a_float_network_are_none_of_integers() {
        let kernels = Kernels::of(&build("lenet-5", &ZooOptions::default()).expect("lenet-5"));
        assert_eq!(kernels.integer, BTreeMap::new());
        assert_eq!((kernels.other["Conv"], kernels.other["Gemm"], kernels.other["MaxPool"]), (2, 2, 2));
    }
}
