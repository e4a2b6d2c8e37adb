//! Weights and computation in binary16, where that is safe.

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::cpu_executor;
use penjing_graph::ops::{Activation, Binary, Cast, GlobalPool, Op, ReduceKind, Unary};
use penjing_graph::{DataType, Edit, Graph, Node, NodeId, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::calibrate::batch_size;
use super::conversion::{ConversionReport, ConvertedLayer, Kept, checked};
use super::{LeftInFloat, Number, QuantizeError};
use crate::prune::Calibration;
use crate::verify::made_up_inputs;

/// The least signal to noise in dB that a tensor keeps as binary16. Normal numbers keep about 73; what is lost to subnormal numbers
/// and to zero comes off.
const LEAST_SQNR: f64 = 50.0;

/// Terms of a mean from which the 11 bits of a partial sum are less than what is added.
const LARGEST_MEAN: usize = 2048;

/// How a network becomes one of 16-bit floats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Float16 {
    /// Training samples that activations are observed on, where there are data.
    pub calibration_samples: usize,
    /// Nodes that stay in 32 bits: their names, `*` for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// The network with its weights and what it computes in binary16; inputs and outputs stay in 32 bits, as do nodes that the format is too
/// narrow or too coarse for.
///
/// # Errors
/// When it is quantized already, a pattern names no node, or the network cannot be run on the samples.
pub(super) fn to_float16(
    graph: &Graph,
    settings: &Float16,
    calibration: Option<&dyn Calibration>,
) -> Result<(Graph, ConversionReport), QuantizeError> {
    let kept = checked(graph, &settings.keep)?;
    let (extents, samples, note) = extents(graph, calibration)?;
    let (mut short, mut float) = (BTreeSet::new(), vec![]);
    for (id, node) in graph.nodes().filter(|(_, node)| concerned(graph, node)) {
        match in_halves(graph, node, &kept, &extents) {
            Ok(()) => drop(short.insert(id)),
            Err(reason) => float.push(LeftInFloat { node: node.name.clone(), operator: node.op.op_type().into(), reason }),
        }
    }
    let converted = rewritten(graph, &short)?;
    let layer = |id: &NodeId| {
        let weight = graph.node(*id).inputs.iter().flatten().find(|id| graph.tensor(**id).is_some_and(|t| t.dims().len() > 1))?;
        let mut extent = Extent::default();
        extent.add(&graph.tensor(*weight)?.to_f32()?);
        Some(ConvertedLayer::new(graph.node(*id), Number::Float16.name().into(), extent.sqnr()))
    };
    let layers = short.iter().filter_map(layer).collect();
    let report = ConversionReport { samples, nodes: short.len(), layers, float, notes: note.into_iter().collect(), kernels: None };
    Ok((converted, report))
}

/// Whether a node reads or gives 32-bit floats.
fn concerned(graph: &Graph, node: &Node) -> bool {
    node.inputs.iter().chain(&node.outputs).flatten().any(|id| is_float(graph, *id))
}

fn is_float(graph: &Graph, id: ValueId) -> bool {
    graph.value(id).dtype == Some(DataType::Float)
}

/// How far a tensor reaches, and what binary16 leaves of it. Infinite values, which it has, do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Extent {
    largest: f32,
    signal: f64,
    noise: f64,
    not_numbers: usize,
}

impl Extent {
    fn add(&mut self, values: &[f32]) {
        for x in values {
            if x.is_finite() {
                self.largest = self.largest.max(x.abs());
                self.signal += f64::from(*x).powi(2);
                self.noise += f64::from(x - half::f16::from_f32(*x).to_f32()).powi(2);
            } else if x.is_nan() {
                self.not_numbers += 1;
            }
        }
    }

    /// 10·log₁₀(Σx² / Σ(x − half(x))²) in dB.
    fn sqnr(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }

    /// Why binary16 cannot hold the tensor called `name`, if it cannot.
    fn refusal(&self, name: &str) -> Option<String> {
        let most = Number::Float16.largest();
        if self.not_numbers > 0 {
            Some(format!("`{name}` holds values that are not numbers"))
        } else if self.largest > most {
            Some(format!("`{name}` reaches {:.3e}, beyond the largest fp16, {most}", self.largest))
        } else if self.sqnr() < LEAST_SQNR {
            let small = format!("`{name}` is so small, at most {:.3e}, that fp16", self.largest);
            Some(if half::f16::from_f32(self.largest) == half::f16::ZERO {
                format!("{small} makes it zero")
            } else {
                format!("{small} keeps only {:.0} dB of it", self.sqnr())
            })
        } else {
            None
        }
    }
}

/// What is seen of every float of the network, on how many samples, and what should be known of that.
type Seen = (BTreeMap<ValueId, Extent>, usize, Option<String>);

fn extents(graph: &Graph, calibration: Option<&dyn Calibration>) -> Result<Seen, QuantizeError> {
    let mut extents: BTreeMap<ValueId, Extent> = BTreeMap::new();
    for (id, tensor) in graph.initializers().filter(|(_, tensor)| tensor.dtype() == DataType::Float) {
        extents.entry(id).or_default().add(&tensor.to_f32().unwrap_or_default());
    }
    let watched = graph.nodes().flat_map(|(_, node)| node.outputs.iter().flatten().copied()).filter(|id| is_float(graph, *id)).collect();
    let mut executor = match cpu_executor(graph) {
        Ok(executor) => executor,
        Err(error) => return Ok((extents, 0, Some(format!("activations were not observed: {error}")))),
    };
    let mut observe = |inputs: &[Tensor]| {
        for (id, input) in graph.inputs().zip(inputs).filter(|(_, input)| input.dtype() == DataType::Float) {
            extents.entry(id).or_default().add(&input.to_f32().unwrap_or_default());
        }
        executor.run_watched(inputs, &watched, &mut |id, value| {
            extents.entry(id).or_default().add(&value.to_f32().unwrap_or_default());
            Ok(None)
        })
    };
    let Some(calibration) = calibration else {
        let seen = match made_up_inputs(graph, 2, 16) {
            Ok(Some(inputs)) => observe(&inputs).map_err(|error| error.to_string()),
            Ok(None) | Err(_) => Err("the shape of an input is not known".into()),
        };
        let note = match seen {
            Ok(()) => "ranges of activations were seen on made-up inputs alone (hint: --data)".into(),
            Err(reason) => format!("activations were not observed: {reason} (hint: --data)"),
        };
        return Ok((extents, 0, Some(note)));
    };
    let mut samples = 0;
    for batch in calibration.batches(batch_size(graph)) {
        let batch = batch?;
        samples += batch.indices.len();
        observe(&batch.inputs)?;
    }
    Ok((extents, samples, None))
}

/// Whether a node computes in binary16, or why not.
fn in_halves(graph: &Graph, node: &Node, kept: &Kept<'_>, extents: &BTreeMap<ValueId, Extent>) -> Result<(), String> {
    kept.check(node)?;
    sensitive(graph, node)?;
    let mut floats = node.inputs.iter().chain(&node.outputs).flatten().filter(|id| is_float(graph, **id));
    match floats.find_map(|id| extents.get(id)?.refusal(&graph.value(*id).name)) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// The operators that lose more than the rounding of their inputs and outputs, as in PyTorch's list of those that autocast runs in
/// float32 (<https://docs.pytorch.org/docs/2.5/amp.html#cuda-ops-that-can-autocast-to-float32>), and those that ONNX does not have in
/// binary16.
fn sensitive(graph: &Graph, node: &Node) -> Result<(), String> {
    let refused = |reason: &str| Err(reason.to_string());
    match &node.op {
        Op::Opaque(op) => Err(op.reason.clone()),
        Op::Softmax(_) => refused("its exponentials span more than fp16 does"),
        Op::Unary(Unary::Exp | Unary::Log | Unary::Sqrt | Unary::Reciprocal) => {
            refused("small changes of what it reads are large ones of what it gives")
        }
        Op::Binary(Binary::Pow) => refused("powers soon leave what fp16 spans"),
        Op::LayerNormalization(_) | Op::InstanceNormalization(_) | Op::BatchNormalization(_) => {
            refused("it sums squares and divides by their root")
        }
        Op::Reduce(reduce) => match reduce.kind {
            ReduceKind::Max | ReduceKind::Min => Ok(()),
            ReduceKind::Sum
            | ReduceKind::Mean
            | ReduceKind::Prod
            | ReduceKind::L1
            | ReduceKind::L2
            | ReduceKind::LogSum
            | ReduceKind::LogSumExp
            | ReduceKind::SumSquare => refused("it adds up, and partial sums have only 11 bits in fp16"),
        },
        Op::CumSum(_) => refused("it adds up, and partial sums have only 11 bits in fp16"),
        Op::GlobalPool(GlobalPool::Average) => {
            let cells = |x| graph.value(x).shape.as_deref()?.get(2..)?.iter().map(|d| d.fixed()).product::<Option<usize>>();
            match node.input(0).and_then(cells) {
                Some(cells) if cells < LARGEST_MEAN => Ok(()),
                Some(cells) => Err(format!("it adds up {cells} cells, and partial sums have only 11 bits in fp16")),
                None => refused("it adds up who knows how many cells, and partial sums have only 11 bits in fp16"),
            }
        }
        Op::Activation(Activation::Celu { .. }) | Op::Range(_) | Op::ConstantOfShape(_) => refused("ONNX gives it in 32-bit floats"),
        Op::Cast(cast) if !cast.to.is_float() => refused("from 2,048 on fp16 does not hold every whole number"),
        Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Gemm(_)
        | Op::MatMul(_)
        | Op::Activation(_)
        | Op::MaxPool(_)
        | Op::AveragePool(_)
        | Op::GlobalPool(GlobalPool::Max)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Variadic(_)
        | Op::Where(_)
        | Op::Clip(_)
        | Op::Cast(_)
        | Op::Identity(_)
        | Op::Dropout(_)
        | Op::ArgReduce(_)
        | Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Transpose(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Gather(_)
        | Op::ScatterElements(_)
        | Op::Pad(_)
        | Op::Expand(_)
        | Op::Tile(_)
        | Op::Shape(_)
        | Op::DepthToSpace(_) => Ok(()),
        Op::QuantizeLinear(_)
        | Op::DequantizeLinear(_)
        | Op::DynamicQuantizeLinear(_)
        | Op::QLinearConv(_)
        | Op::QLinearMatMul(_)
        | Op::ConvInteger(_)
        | Op::MatMulInteger(_) => refused("it computes on codes"),
    }
}

/// The network with the nodes `short` in binary16: their weights as such, and a Cast wherever a value passes to or from another node.
fn rewritten(graph: &Graph, short: &BTreeSet<NodeId>) -> Result<Graph, QuantizeError> {
    let mut edit = Edit::new(graph, "compute in fp16");
    let consumers = graph.consumers();
    let to = |to| Cast { to, saturate: true };
    // What the short nodes read for a value.
    let mut halves: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for (id, value) in graph.values().filter(|(id, _)| is_float(graph, *id)) {
        let readers = consumers.get(&id).map_or(&[][..], Vec::as_slice);
        let is_short = |reader: &NodeId| short.contains(reader) && !graph.node(*reader).captures.contains(&id);
        let read_long = graph.outputs().contains(&id) || !readers.iter().all(is_short);
        let (half, cast) = (format!("{}_fp16", value.name), format!("{}_Cast", value.name));
        if let Some((tensor, values)) = graph.constant(id).and_then(|tensor| Some((tensor, tensor.to_f32()?))) {
            if readers.iter().any(is_short) {
                let tensor = Tensor::new(tensor.dims(), values.iter().map(|x| half::f16::from_f32(*x)).collect());
                if read_long {
                    halves.insert(id, edit.add_tensor(half, tensor));
                } else {
                    edit.set_tensor(id, tensor);
                }
            }
        } else if let Some(producer) = value.producer.filter(|producer| short.contains(producer)) {
            let index = graph.node(producer).outputs.iter().position(|output| *output == Some(id));
            if let Some(index) = index.filter(|_| read_long) {
                halves.insert(id, edit.insert_behind((producer, index), cast, to(DataType::Float), &[], half));
            }
        } else if readers.iter().any(is_short) {
            halves.insert(id, edit.add_node(cast, to(DataType::Float16), vec![Some(id)], &[&half])[0]);
        }
    }
    for id in short {
        let node = graph.node(*id);
        let inputs: Vec<Option<ValueId>> = node.inputs.iter().map(|input| input.map(|id| *halves.get(&id).unwrap_or(&id))).collect();
        let op = match &node.op {
            Op::Cast(cast) if cast.to == DataType::Float => to(DataType::Float16).into(),
            op => op.clone(),
        };
        if inputs != node.inputs || op != node.op {
            edit.set_op(*id, op, inputs);
        }
    }
    let mut converted = graph.clone();
    converted.apply(edit)?;
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penjing_exec::data::Batch;
    use penjing_graph::ops::{MatMul, Softmax};
    use penjing_graph::zoo::{ZooOptions, build};
    use penjing_graph::{Dim, GraphBuilder};
    use proptest::prelude::*;

    use crate::quant::prepared;

    /// softmax(relu(x · w + b)) with these numbers, x [N, 2].
    fn network(w: [f32; 4], b: f32) -> Graph {
        let mut builder = GraphBuilder::new("classifier");
        let x = builder.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
        let w = builder.tensor("w", Tensor::new([2, 2], w.to_vec()));
        let b = builder.tensor("b", Tensor::new([1], vec![b]));
        let product = builder.node("product", MatMul, &[x, w]);
        let sum = builder.node("sum", Binary::Add, &[product, b]);
        let relu = builder.node("relu", Activation::Relu, &[sum]);
        let y = builder.node("y", Softmax { log: false, axis: None }, &[relu]);
        builder.output(y).output(sum).finish().expect("valid")
    }

    fn converted(graph: &Graph, keep: &[&str], x: [f32; 2]) -> (Graph, ConversionReport) {
        let samples = vec![Batch { inputs: vec![Tensor::new([1, 2], x.to_vec())], labels: None, targets: None, indices: vec![0] }];
        let settings = Float16 { calibration_samples: 1, keep: keep.iter().map(ToString::to_string).collect() };
        to_float16(graph, &settings, Some(&samples)).expect("converted")
    }

    /// Each node with the types that it reads and gives: bits of each.
    fn types(graph: &Graph) -> Vec<String> {
        let bits = |id: &ValueId| graph.value(*id).dtype.and_then(DataType::bits).map_or("?".into(), |bits| bits.to_string());
        let list = |ids: &[Option<ValueId>]| ids.iter().flatten().map(bits).collect::<Vec<_>>().join(" ");
        graph.nodes().map(|(_, n)| format!("{} {} → {}", n.op.op_type(), list(&n.inputs), list(&n.outputs))).collect()
    }

    #[test]
    fn casts_stand_at_the_edges_and_around_what_is_sensitive() {
        let (graph, report) = converted(&network([1.0, -2.0, 0.5, 4.0], 0.25), &[], [1.0, 2.0]);
        let expected =
            ["Cast 32 → 16", "MatMul 16 16 → 16", "Add 16 16 → 16", "Relu 16 → 16", "Cast 16 → 32", "Softmax 32 → 32", "Cast 16 → 32"];
        let (mut found, mut expected) = (types(&graph), expected.map(String::from).to_vec());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let names: Vec<&str> = graph.outputs().iter().map(|id| graph.value(*id).name.as_str()).collect();
        assert_eq!(names, ["y", "sum"]);
        assert_eq!(report.float.iter().map(|left| left.node.as_str()).collect::<Vec<_>>(), ["y"]);
        assert_eq!((report.nodes, report.samples), (3, 1));
    }

    #[test]
    fn what_is_too_large_or_too_small_stays_and_says_so() {
        let usual = [1.0, 1.0, 1.0, 1.0];
        for (w, b, x, node, reason) in [
            ([1e6, 1.0, 1.0, 1.0], 1.0, [0.0, 1.0], "product", "`w` reaches 1.000e6, beyond the largest fp16, 65504"),
            ([300.0, 1.0, 1.0, 1.0], 1.0, [300.0, 1.0], "product", "`product` reaches 9.000e4"),
            (usual, 1e-12, [1.0, 1.0], "sum", "`b` is so small, at most 1.000e-12, that fp16 makes it zero"),
            (usual, 1e-7, [1.0, 1.0], "sum", "`b` is so small, at most 1.000e-7, that fp16 keeps only"),
            (usual, 1.0, [f32::NAN, 1.0], "product", "`x` holds values that are not numbers"),
        ] {
            let (_, report) = converted(&network(w, b), &[], x);
            let left = report.float.iter().find(|left| left.node == node).unwrap_or_else(|| panic!("{node}: {report:?}"));
            assert!(left.reason.starts_with(reason), "{}", left.reason);
        }
        // An infinite value, as masks hold, is one of binary16 too.
        let (_, report) = converted(&network(usual, f32::NEG_INFINITY), &[], [1.0, 1.0]);
        assert!(report.float.iter().all(|left| left.node == "y"), "{report:?}");
    }

    #[test]
    fn a_weight_of_two_nodes_has_both_types() {
        let mut b = GraphBuilder::new("shared");
        let x = b.input("x", DataType::Float, [2.into(), 2.into()]);
        let w = b.tensor("w", Tensor::new([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]));
        let short = b.node("short", MatMul, &[x, w]);
        let long = b.node("long", MatMul, &[short, w]);
        let graph = b.output(long).finish().expect("valid");
        let settings = Float16 { calibration_samples: 1, keep: vec!["long".into()] };
        let (graph, report) = to_float16(&graph, &settings, None).expect("converted");
        assert_eq!(types(&graph), ["Cast 32 → 16", "MatMul 16 16 → 16", "Cast 16 → 32", "MatMul 32 32 → 32"]);
        assert!(report.notes[0].contains("made-up inputs"), "{:?}", report.notes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// Whichever nodes stay in 32 bits, types fit and the network gives the same within the digits of binary16.
        #[test]
        fn any_nodes_may_stay(kept in prop::collection::vec(prop::bool::weighted(0.3), 40), architecture in 0..2usize) {
            let name = ["lenet-5", "convnet-cifar"][architecture];
            let graph = prepared(&build(name, &ZooOptions::default()).expect(name)).expect("prepared");
            let keep = graph.nodes().zip(&kept).filter(|(_, kept)| **kept).map(|((_, node), _)| node.name.clone()).collect();
            let (short, report) = to_float16(&graph, &Float16 { calibration_samples: 1, keep }, None).expect("converted");
            prop_assert_eq!(report.nodes + report.float.len(), graph.node_count());
            let inputs = made_up_inputs(&graph, 2, 2).expect("inputs").expect("shapes");
            let run = |graph: &Graph| cpu_executor(graph).and_then(|mut e| e.run(&inputs, graph.outputs())).expect("runs").remove(0);
            let (a, b) = (run(&graph), run(&short));
            prop_assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()));
            let (a, b) = (a.to_f32().expect("floats"), b.to_f32().expect("floats"));
            let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = a.iter().zip(&*b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            prop_assert!(off <= 0.01 * largest, "{off} of {largest}");
        }
    }
}
