//! Products of codes of which those of activations are found while the network runs: no calibration, and no range is ever left.

use std::collections::BTreeMap;

use penjing_graph::ops::{Binary, Cast, DynamicQuantizeLinear, MatMulInteger};
use penjing_graph::{DataType, Edit, Graph, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::conversion::{ConversionReport, ConvertedLayer, checked};
use super::product::{Product, Products, products, put};
use super::qdq::codes;
use super::saturation::unsaturated;
use super::static_quantization::sqnr;
use super::targets::TargetName;
use super::{Fit, Granularity, QuantizeError, Quantizer, Scheme, Symmetry};
use crate::prune::WeightMatrix;

/// EfficientNet-Lite0's 49 convolutions as ConvInteger with the Cast and Mul behind them take ONNX Runtime 1.32 43.1 ms where the float
/// ones take 9.9 (AVX2, two threads): it fuses nothing into them and has no depthwise kernel.
const CONVOLUTION: &str = "ONNX Runtime takes longer for a ConvInteger than for a Conv (hint: --placement static)";

/// How a network becomes one of products of codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dynamic {
    /// The device that it is for.
    pub target: TargetName,
    /// How the ranges of weights are chosen.
    #[serde(default)]
    pub weight_range: Fit,
    /// Nodes that stay in float: their names, `*` for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// The network with its products by MatMulInteger on what DynamicQuantizeLinear gives, in the form that ONNX Runtime fuses to one kernel,
/// and its tables as codes.
///
/// # Errors
/// When it is quantized already, a pattern names no node, a weight is not finite, or the target cannot find scales while it runs.
pub(super) fn to_dynamic(graph: &Graph, settings: &Dynamic) -> Result<(Graph, ConversionReport), QuantizeError> {
    let target = settings.target.0;
    if !target.dynamic {
        let name = target.name;
        return Err(QuantizeError::Settings(format!(
            "{name} cannot find scales while it runs (hint: --placement static, or another --target)"
        )));
    }
    let kept = checked(graph, &settings.keep)?;
    let Products { graph, products, lookups, float } = products(graph, &kept, CONVOLUTION)?;
    let consumers = graph.consumers();
    let mut edit = Edit::new(&graph, "quantize dynamically");
    let (mut layers, nodes) = (vec![], products.len());
    for lookup in lookups {
        layers.push(lookup.quantize(&graph, &mut edit, settings.weight_range)?);
    }
    // Codes, scale and zero point of each value that is multiplied.
    let mut quantized: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for Product { node: id, input, weight, dims, values } in products {
        let node = graph.node(id);
        let name = &graph.value(weight).name;
        let granularity = if target.precision.per_channel { Granularity::Channel { axis: 1 } } else { Granularity::Tensor };
        let scheme = Scheme::new(target.precision.weights, granularity, Symmetry::Symmetric);
        let matrix = WeightMatrix::of(&graph, &consumers, weight).filter(|_| target.precision.pairs_saturate);
        let quantizer = match matrix {
            Some(matrix) => Quantizer::new(scheme, &dims, &unsaturated(&matrix, &values, granularity)),
            None => Quantizer::fit(scheme, &dims, &values, settings.weight_range),
        };
        let quantizer = quantizer.map_err(|e| e.of(name))?;
        let stored = quantizer.quantize(&values).map_err(|e| e.of(name))?;
        layers.push(ConvertedLayer::new(node, scheme.to_string(), sqnr(&values, &quantizer.dequantize(&stored)?)));

        let x = quantized.entry(input).or_insert_with(|| {
            let x = &graph.value(input).name;
            let outputs = ["quantized", "scale", "zero_point"].map(|part| format!("{x}_{part}"));
            edit.add_node(
                format!("{x}_DynamicQuantizeLinear"),
                DynamicQuantizeLinear,
                vec![Some(input)],
                &outputs.each_ref().map(String::as_str),
            )
        });
        let [x, x_scale, x_zero] = [x[0], x[1], x[2]];
        let w = put(&graph, &mut edit, weight, "quantized", codes(scheme.number, &dims, &stored));
        let w_scale = edit.add_tensor(format!("{name}_scale"), Tensor::new(quantizer.scale_dims(), quantizer.scales().to_vec()));
        // y = float(Σ (x − x_zero) · w) · (x_scale · w_scale)
        let named = |part: &str| format!("{}_{part}", node.name);
        let scale = edit.add_node(named("scales"), Binary::Mul, vec![Some(x_scale), Some(w_scale)], &[&named("scale")])[0];
        edit.set_op(id, MatMulInteger, vec![Some(x), Some(w), Some(x_zero)]);
        edit.insert_behind((id, 0), named("Mul"), Binary::Mul, &[scale], named("float_sums"));
        edit.insert_behind((id, 0), named("Cast"), Cast { to: DataType::Float, saturate: true }, &[], named("sums"));
    }
    let mut converted = graph.clone();
    converted.apply(edit)?;
    Ok((converted, ConversionReport { samples: 0, nodes, layers, float, notes: vec![], kernels: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;
    use crate::quant::saturation::Saturation;
    use penjing_exec::cpu_executor;
    use penjing_graph::ops::{Gather, Gemm, Op};
    use penjing_graph::zoo::{ZooOptions, build};
    use penjing_graph::{Dim, GraphBuilder};
    use proptest::prelude::*;

    fn settings(target: &str) -> Dynamic {
        Dynamic { target: target.parse().expect("known"), weight_range: Fit::MinMax, keep: vec![] }
    }

    fn product(graph: &Graph, x: &[f32]) -> Vec<f32> {
        let x = Tensor::new([1, x.len()], x.to_vec());
        let y = cpu_executor(graph).and_then(|mut e| e.run(&[x], graph.outputs())).expect("runs").remove(0);
        y.to_f32().expect("floats").into_owned()
    }

    #[test]
    fn a_product_by_hand() {
        // Columns of scale 1.27/127 = 0.01 and 2.54/127 = 0.02; x of scale 2.55/255 = 0.01 and zero point 0.
        let w = [1.27, -2.54, 0.63, 0.05];
        let (graph, report) = to_dynamic(&layer(2, 2, &w).graph, &settings("generic")).expect("quantized");
        let operators: Vec<&str> = graph.nodes().map(|(_, node)| node.op.op_type()).collect();
        assert_eq!(operators, ["DynamicQuantizeLinear", "MatMulInteger", "Mul", "Cast", "Mul"]);
        let tensor = |name: &str| graph.find_value(name).and_then(|id| graph.tensor(id)).expect("an initializer").clone();
        assert_eq!(tensor("w").values::<i8>().as_deref(), Some(&[127, -127, 63, 2][..]));
        // 0.05 / 0.02 = 2.5 → 2
        let y = product(&graph, &[2.55, 1.0]);
        let expected = [(255.0 * 127.0 + 100.0 * 63.0) * 1e-4, (255.0 * -127.0 + 100.0 * 2.0) * 2e-4];
        assert!(y.iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-5), "{y:?} {expected:?}");
        assert_eq!((report.nodes, report.layers[0].stored.as_str()), (1, "int8 per channel of axis 1, symmetric"));
    }

    #[test]
    fn inputs_are_quantized_once_and_tables_are_codes() {
        let mut b = GraphBuilder::new("encoder");
        let ids = b.input("ids", DataType::Int64, [Dim::symbol("N"), 3.into()]);
        let table = b.tensor("table", Tensor::new([16, 4], (0..64).map(|i| i as f32 / 8.0 - 4.0).collect::<Vec<f32>>()));
        let x = b.node("rows", Gather { axis: 0 }, &[table, ids]);
        let numbers = |n: usize| (0..n).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
        let outputs = ["query", "key"].map(|name| {
            let w = b.tensor(&format!("{name}.weight"), Tensor::new([4, 4], numbers(16)));
            b.node(name, penjing_graph::ops::MatMul, &[x, w])
        });
        let graph = b.output(outputs[0]).output(outputs[1]).finish().expect("valid");
        let (quantized, report) = to_dynamic(&graph, &settings("x86-avx2")).expect("quantized");
        let count = |graph: &Graph, of: &str| graph.nodes().filter(|(_, node)| node.op.op_type() == of).count();
        assert_eq!((count(&quantized, "DynamicQuantizeLinear"), count(&quantized, "MatMulInteger")), (1, 2));
        assert_eq!((count(&quantized, "DequantizeLinear"), count(&quantized, "MatMul")), (1, 0));
        assert_eq!(report.layers.iter().map(|l| l.node.as_str()).collect::<Vec<_>>(), ["rows", "query", "key"]);
        let run = |graph: &Graph| {
            let ids = Tensor::new([1, 3], vec![0i64, 7, 15]);
            cpu_executor(graph).and_then(|mut e| e.run(&[ids], graph.outputs())).expect("runs")
        };
        for (a, b) in run(&graph).iter().zip(run(&quantized)) {
            assert_eq!(a.dims(), b.dims());
            let (a, b) = (a.to_f32().expect("floats"), b.to_f32().expect("floats"));
            assert!(a.iter().zip(&*b).all(|(a, b)| (a - b).abs() < 0.1), "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_stays_says_why() {
        let graph = build("lenet-5", &ZooOptions::default()).expect("lenet-5");
        let kept = Dynamic { keep: vec!["fc2".into()], ..settings("generic") };
        let (quantized, report) = to_dynamic(&graph, &kept).expect("quantized");
        let reasons: Vec<(&str, &str)> = report.float.iter().map(|left| (left.node.as_str(), left.reason.as_str())).collect();
        assert_eq!(reasons, [("fc2", "it is to stay in float"), ("conv1", CONVOLUTION), ("conv2", CONVOLUTION)]);
        // What the user keeps is not rewritten either.
        assert!(quantized.nodes().any(|(_, node)| node.name == "fc2" && matches!(node.op, Op::Gemm(Gemm { .. }))));
        assert_eq!(report.layers.iter().map(|l| l.node.as_str()).collect::<Vec<_>>(), ["fc1"]);
        let refused = to_dynamic(&graph, &settings("mcu")).expect_err("no such kernels").to_string();
        assert!(refused.starts_with("mcu cannot find scales while it runs"), "{refused}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Both operands are off by half a step at most: |y − ŷ| ≤ Σ |x|·s_w/2 + |w|·s_x/2 + s_x·s_w/4.
        #[test]
        fn products_are_off_by_no_more_than_half_steps(
            w in prop::collection::vec(-3.0f32..3.0, 24), x in prop::collection::vec(-5.0f32..5.0, 8), avx2 in any::<bool>()
        ) {
            let built = layer(8, 3, &w);
            let target = if avx2 { "x86-avx2" } else { "generic" };
            let (graph, _) = to_dynamic(&built.graph, &settings(target)).expect("quantized");
            let tensor = |name: &str| graph.find_value(name).and_then(|id| graph.tensor(id)).expect("an initializer").clone();
            let scales = tensor("w_scale").to_f32().expect("floats").into_owned();
            let codes = tensor("w").values::<i8>().expect("codes").into_owned();
            let (lo, hi) = x.iter().fold((0.0f32, 0.0f32), |(lo, hi), x| (lo.min(*x), hi.max(*x)));
            let step = (hi - lo) / 255.0;
            let (a, b) = (product(&built.graph, &x), product(&graph, &x));
            for n in 0..3 {
                let half = |k: usize| x[k].abs() * scales[n] / 2.0 + w[k * 3 + n].abs() * step / 2.0 + step * scales[n] / 4.0;
                let bound: f32 = (0..8).map(half).sum();
                prop_assert!((a[n] - b[n]).abs() <= 1.001 * bound + 1e-5, "{} and {}: {bound}", a[n], b[n]);
                if avx2 {
                    let column: Vec<i8> = (0..8).map(|k| codes[k * 3 + n]).collect();
                    prop_assert_eq!(Saturation::of(&[255; 8], &column, 8).expect("a row").saturated, 0);
                }
            }
        }
    }
}
