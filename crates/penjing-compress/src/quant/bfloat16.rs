//! Weights stored as bfloat16: half of the bytes, read as 32-bit floats through a Cast.

use penjing_graph::ops::Cast;
use penjing_graph::{DataType, Edit, Graph, NodeId, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::conversion::{ConversionReport, ConvertedLayer, checked};
use super::static_quantization::sqnr;
use super::{LeftInFloat, Number, QuantizeError};

/// Elements from which a tensor saves more bytes than its Cast takes.
const LEAST_ELEMENTS: usize = 128;

/// How a network's weights become bfloat16.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bfloat16 {
    /// Nodes whose weights stay in 32 bits: their names, `*` for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// The network with its larger initializers as bfloat16, and behind each a Cast to the 32-bit floats that nodes compute on.
///
/// # Errors
/// When it is quantized already or a pattern names no node.
pub(super) fn to_bfloat16(graph: &Graph, settings: &Bfloat16) -> Result<(Graph, ConversionReport), QuantizeError> {
    let kept = checked(graph, &settings.keep)?;
    let consumers = graph.consumers();
    let mut edit = Edit::new(graph, "store as bf16");
    let (mut layers, mut float) = (vec![], vec![]);
    let large =
        graph.initializers().filter(|(id, t)| t.dtype() == DataType::Float && t.len() >= LEAST_ELEMENTS && graph.constant(*id).is_some());
    for (id, tensor) in large {
        let (Some(values), Some(readers)) = (tensor.to_f32(), consumers.get(&id)) else { continue };
        let stored: Vec<half::bf16> = values.iter().map(|x| half::bf16::from_f32(*x)).collect();
        let first = graph.node(readers[0]);
        let refused = readers.iter().find_map(|reader| refusal(graph, id, *reader).or_else(|| kept.check(graph.node(*reader)).err()));
        let overflows = || values.iter().zip(&stored).any(|(x, stored)| x.is_finite() && !stored.is_finite());
        let refused = refused.or_else(|| overflows().then(|| "its weights are beyond the largest bf16".into()));
        if let Some(reason) = refused {
            float.push(LeftInFloat { node: first.name.clone(), operator: first.op.op_type().into(), reason });
            continue;
        }
        let back: Vec<f32> = stored.iter().map(|x| x.to_f32()).collect();
        if tensor.dims().len() > 1 {
            layers.push(ConvertedLayer::new(first, Number::Bfloat16.name().into(), sqnr(&values, &back)));
        }
        let name = &graph.value(id).name;
        let short = edit.add_tensor(format!("{name}_bf16"), Tensor::new(tensor.dims(), stored));
        let cast = Cast { to: DataType::Float, saturate: true };
        let long = edit.add_node(format!("{name}_Cast"), cast, vec![Some(short)], &[&format!("{name}_float")])[0];
        edit.replace_uses(id, long);
    }
    let mut converted = graph.clone();
    converted.apply(edit)?;
    Ok((converted, ConversionReport { samples: 0, nodes: 0, layers, float, notes: vec![], kernels: None }))
}

/// Why an initializer stays as it is for one of its readers.
fn refusal(graph: &Graph, id: ValueId, reader: NodeId) -> Option<String> {
    if graph.node(reader).captures.contains(&id) {
        return Some("an inner graph reads its weights by name".into());
    }
    graph.outputs().contains(&id).then(|| "its weights are an output of the model".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;
    use penjing_exec::cpu_executor;

    fn stored(weight: f32, keep: &[&str]) -> Result<(Graph, ConversionReport), QuantizeError> {
        let mut weights = vec![weight; 128];
        weights[1] = -3.0;
        let keep = keep.iter().map(ToString::to_string).collect();
        to_bfloat16(&layer(64, 2, &weights).graph, &Bfloat16 { keep })
    }

    #[test]
    fn weights_keep_eight_bits_and_come_back_as_floats() {
        // 1 + 3·2⁻⁹ lies between 1 and 1 + 2⁻⁷, nearer to the latter.
        let (graph, report) = stored(1.0 + 3.0 / 512.0, &[]).expect("stored");
        assert_eq!(report.layers.iter().map(|l| (l.node.as_str(), l.stored.as_str())).collect::<Vec<_>>(), [("y", "bf16")]);
        let operators: Vec<&str> = graph.nodes().map(|(_, node)| node.op.op_type()).collect();
        assert_eq!(operators, ["Cast", "MatMul"]);
        let id = graph.find_value("w_bf16").expect("the weight");
        let tensor = graph.tensor(id).expect("an initializer");
        assert_eq!((tensor.dtype(), tensor.dims()), (DataType::Bfloat16, &[64, 2][..]));
        assert_eq!(tensor.to_f32().expect("floats")[..3], [1.0 + 1.0 / 128.0, -3.0, 1.0 + 1.0 / 128.0]);
        // 64 · (1 + 2⁻⁷), and with one −3 instead in the second column 63 · (1 + 2⁻⁷) − 3.
        let x = Tensor::new([1, 64], vec![1.0f32; 64]);
        let y = cpu_executor(&graph).and_then(|mut e| e.run(&[x], graph.outputs())).expect("runs").remove(0);
        assert_eq!(*y.to_f32().expect("floats"), [64.5, 60.492_188]);
    }

    #[test]
    fn what_is_beyond_it_or_kept_stays() {
        for (graph, reason) in [(stored(f32::MAX, &[]), "beyond the largest bf16"), (stored(1.0, &["y"]), "it is to stay in float")] {
            let (graph, report) = graph.expect("as it was");
            assert_eq!(graph.node_count(), 1);
            assert!(report.float[0].reason.contains(reason), "{:?}", report.float);
        }
        let refused = stored(1.0, &["z*"]).expect_err("no such node").to_string();
        assert!(refused.contains("`z*` names no node"), "{refused}");
    }
}
