//! Weights stored as codes in blocks: a DequantizeLinear of opset 21 in front of each product.

use std::collections::BTreeMap;
use std::fmt;

use penjing_graph::ops::{Activation, Binary, DequantizeLinear, Op, Variadic};
use penjing_graph::passes::raise_opset;
use penjing_graph::{Edit, Graph, NodeId, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::conversion::{ConversionReport, ConvertedLayer, checked};
use super::gptq::gptq;
use super::product::{Product, Products, products, put};
use super::qdq::codes;
use super::static_quantization::sqnr;
use super::{Fit, Format, Granularity, LeftInFloat, Number, QuantizeError, Quantizer, Scheme, Symmetry};
use crate::prune::Calibration;

/// The smallest block that ONNX Runtime has a kernel for.
const LEAST_BLOCK: usize = 16;

/// ONNX Runtime 1.32 multiplies codes of 2 bits right only where the output channels are a multiple of this.
const CHANNELS_OF_TWO_BITS: usize = 4;

const CONVOLUTION: &str = "codes of a convolution's weights would be made floats again in each run (hint: --placement static)";

/// How weights are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WeightOnly {
    /// What they are stored as: an integer of at most 8 bits. Signed ones are symmetric, unsigned ones have a zero point for each block.
    pub weight_type: Number,
    /// Weights along K that share a scale.
    pub block_size: usize,
    /// How the range of each block is chosen.
    #[serde(default)]
    pub weight_range: Fit,
    /// How weights become codes.
    #[serde(default)]
    pub rounding: Rounding,
    /// Nodes that stay in float: their names, `*` for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// How weights become codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rounding {
    /// Each to the nearest.
    #[default]
    Nearest,
    /// So that the weights not yet rounded make up for what was lost: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for
    /// Generative Pre-trained Transformers".
    Gptq {
        /// Training samples that the inputs of layers are observed on.
        calibration_samples: usize,
    },
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rounding::Nearest => "nearest",
            Rounding::Gptq { .. } => "gptq",
        })
    }
}

impl WeightOnly {
    /// The scheme of a weight [K, N], and the opset that its codes need.
    fn scheme(&self) -> Result<(Scheme, i64), QuantizeError> {
        let refused = |reason: String| Err(QuantizeError::Settings(reason));
        let number = self.weight_type;
        if self.block_size < LEAST_BLOCK {
            return refused(format!(
                "blocks of {} stay in float in ONNX Runtime (hint: --block-size 32, or from {LEAST_BLOCK} on)",
                self.block_size
            ));
        }
        let opset = match (number.format(), number.bits()) {
            (Format::Integer(_), 8 | 4) => 21,
            (Format::Integer(_), 2) => 25,
            _ => return refused(format!("weights alone are not stored as {number} (hint: int8, uint8, int4, uint4, int2 or uint2)")),
        };
        let symmetry = match number {
            Number::Uint8 | Number::Uint4 | Number::Uint2 => Symmetry::Asymmetric,
            _ => Symmetry::Symmetric,
        };
        Ok((Scheme::new(number, Granularity::Block { axis: 0, size: self.block_size }, symmetry), opset))
    }
}

/// The network with the weights of its products as codes in blocks along K, and its tables as codes of 8 bits.
///
/// # Errors
/// When the settings mean nothing, it is quantized already, a pattern names no node, a weight is not finite, its opset cannot be raised,
/// or there are no samples where the rounding looks at some.
pub(super) fn to_weight_only(
    graph: &Graph,
    settings: &WeightOnly,
    calibration: Option<&dyn Calibration>,
) -> Result<(Graph, ConversionReport), QuantizeError> {
    let (scheme, opset) = settings.scheme()?;
    let kept = checked(graph, &settings.keep)?;
    let Products { mut graph, products, lookups, mut float } = products(graph, &kept, CONVOLUTION)?;
    let multiple = if scheme.number.bits() == 2 { CHANNELS_OF_TWO_BITS } else { 1 };
    let (products, odd): (Vec<Product>, Vec<Product>) = products.into_iter().partition(|product| product.dims[1].is_multiple_of(multiple));
    float.extend(odd.iter().map(|Product { node, dims: [_, n], .. }| {
        let node = graph.node(*node);
        let reason = format!("ONNX Runtime multiplies codes of 2 bits wrongly where outputs, here {n}, are no multiple of {multiple}");
        LeftInFloat { node: node.name.clone(), operator: node.op.op_type().into(), reason }
    }));
    if graph.opset() < opset {
        raise_opset(&mut graph, opset)?;
    }
    let (rounded, samples) = match (settings.rounding, calibration) {
        (Rounding::Nearest, _) => (nearest(&graph, &products, scheme, settings.weight_range)?, 0),
        (Rounding::Gptq { .. }, Some(calibration)) => gptq(&graph, &products, scheme, settings.weight_range, calibration)?,
        (Rounding::Gptq { .. }, None) => {
            let reason = "gptq looks at the inputs of layers (hint: --data PATH, or --rounding nearest)";
            return Err(QuantizeError::Settings(reason.into()));
        }
    };
    let consumers = graph.consumers();
    let mut edit = Edit::new(&graph, "store weights as codes");
    let mut layers = vec![];
    for lookup in lookups {
        layers.push(lookup.quantize(&graph, &mut edit, settings.weight_range)?);
    }
    // What stands for each weight; several products may read it.
    let mut dequantized: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for Product { node: id, input, weight, dims, values } in products {
        let (node, name) = (graph.node(id), &graph.value(weight).name);
        let Some(Rounded { quantizer, codes: stored }) = rounded.get(&weight) else { continue };
        layers.push(ConvertedLayer::new(node, scheme.to_string(), sqnr(&values, &quantizer.dequantize(stored)?)));
        let back = *dequantized.entry(weight).or_insert_with(|| {
            let tensor = codes(scheme.number, &dims, stored);
            let mut inputs = vec![put(&graph, &mut edit, weight, "quantized", tensor)];
            inputs.push(edit.add_tensor(format!("{name}_scale"), Tensor::new(quantizer.scale_dims(), quantizer.scales().to_vec())));
            if scheme.symmetry == Symmetry::Asymmetric {
                let zeros = codes(scheme.number, &quantizer.scale_dims(), quantizer.zero_points());
                inputs.push(edit.add_tensor(format!("{name}_zero_point"), zeros));
            }
            let op = DequantizeLinear { axis: 0, block_size: settings.block_size, ..DequantizeLinear::default() };
            let inputs = inputs.into_iter().map(Some).collect();
            edit.add_node(format!("{name}_DequantizeLinear"), op, inputs, &[&format!("{name}_dequantized")])[0]
        });
        edit.set_op(id, node.op.clone(), vec![Some(input), Some(back)]);
        if let Some(relu) = relu_behind(&graph, &consumers, id) {
            let zero = edit.add_tensor(format!("{}.zero", graph.node(relu).name), Tensor::scalar(0.0f32));
            edit.set_op(relu, Variadic::Max, vec![graph.node(relu).input(0), Some(zero)]);
        }
    }
    let mut converted = graph.clone();
    converted.apply(edit)?;
    Ok((converted, ConversionReport { samples, nodes: 0, layers, float, notes: vec![], kernels: None }))
}

/// The ReLU of what a product gives, with or without a bias, where nothing else reads that. ONNX Runtime makes a FusedGemm of all three
/// before it looks for codes, and their floats anew in each run; of max(x, 0) it does not.
fn relu_behind(graph: &Graph, consumers: &BTreeMap<ValueId, Vec<NodeId>>, product: NodeId) -> Option<NodeId> {
    let reader = |id: NodeId| {
        let output = graph.node(id).output(0)?;
        match consumers.get(&output).map(Vec::as_slice) {
            Some([only]) if !graph.outputs().contains(&output) => Some((*only, &graph.node(*only).op)),
            _ => None,
        }
    };
    match reader(product)? {
        (add, Op::Binary(Binary::Add)) => reader(add),
        other => Some(other),
    }
    .filter(|(_, op)| matches!(op, Op::Activation(Activation::Relu)))
    .map(|(relu, _)| relu)
}

/// Codes of one weight, and what they stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rounded {
    pub(super) quantizer: Quantizer,
    pub(super) codes: Vec<i32>,
}

/// Every weight to its nearest codes.
fn nearest(graph: &Graph, products: &[Product], scheme: Scheme, fit: Fit) -> Result<BTreeMap<ValueId, Rounded>, QuantizeError> {
    let round = |product: &Product| {
        let name = &graph.value(product.weight).name;
        let quantizer = Quantizer::fit(scheme, &product.dims, &product.values, fit).map_err(|e| e.of(name))?;
        let codes = quantizer.quantize(&product.values).map_err(|e| e.of(name))?;
        Ok((product.weight, Rounded { quantizer, codes }))
    };
    products.iter().map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;
    use penjing_exec::cpu_executor;
    use penjing_graph::DataType;
    use penjing_graph::zoo::{ZooOptions, build};
    use proptest::prelude::*;

    fn settings(weight_type: Number, block_size: usize) -> WeightOnly {
        WeightOnly { weight_type, block_size, weight_range: Fit::MinMax, rounding: Rounding::Nearest, keep: vec![] }
    }

    /// The weights [K, N] as the network has them: what it makes of the identity.
    fn weights(graph: &Graph, k: usize) -> Vec<f32> {
        let identity = Tensor::new([k, k], (0..k * k).map(|i| f32::from(u8::from(i / k == i % k))).collect());
        let w = cpu_executor(graph).and_then(|mut e| e.run(&[identity], graph.outputs())).expect("runs").remove(0);
        w.to_f32().expect("floats").into_owned()
    }

    #[test]
    fn blocks_of_four_bits_by_hand() {
        // One column; its first 16 weights reach 7 and the other two 3.5: scales 1 and 0.5.
        let mut column = vec![0.4f32; 18];
        (column[0], column[1], column[16], column[17]) = (-7.0, 2.5, 3.5, -0.8);
        let (graph, report) = to_weight_only(&layer(18, 1, &column).graph, &settings(Number::Int4, 16), None).expect("stored");
        let tensor = |name: &str| graph.find_value(name).and_then(|id| graph.tensor(id)).expect("an initializer").clone();
        assert_eq!((tensor("w").dtype(), tensor("w").raw().map(bytes::Bytes::len)), (DataType::Int4, Some(9)));
        assert_eq!((tensor("w_scale").dims(), tensor("w_scale").to_f32().as_deref()), (&[2, 1][..], Some(&[1.0, 0.5][..])));
        // 2.5 → 2, half to even; −0.8 / 0.5 = −1.6 → −2.
        let stored = weights(&graph, 18);
        assert_eq!((stored[..3].to_vec(), stored[16..].to_vec()), (vec![-7.0, 2.0, 0.0], vec![3.5, -1.0]));
        assert_eq!(graph.opset(), 21);
        let blocks = DequantizeLinear { axis: 0, block_size: 16, output_dtype: None };
        assert!(graph.nodes().any(|(_, node)| node.op == Op::DequantizeLinear(blocks)));
        assert_eq!(report.layers[0].stored, "int4 in blocks of 16 along axis 0, symmetric");
    }

    #[test]
    fn unsigned_codes_have_zero_points_and_two_bits_a_later_opset() {
        let column: Vec<f32> = (0..16).map(|i| i as f32 - 5.0).collect();
        let (graph, _) = to_weight_only(&layer(16, 1, &column).graph, &settings(Number::Uint4, 16), None).expect("stored");
        // −5 … 10 are exactly sixteen codes of scale 1.
        assert_eq!(weights(&graph, 16), column);
        assert!(graph.find_value("w_zero_point").is_some());
        let four: Vec<f32> = column.iter().flat_map(|w| [*w; 4]).collect();
        let (graph, _) = to_weight_only(&layer(16, 4, &four).graph, &settings(Number::Int2, 16), None).expect("stored");
        assert_eq!(graph.opset(), 25);
        let ten = |x: &f32| [-10.0, 0.0, 10.0].contains(x);
        assert!(weights(&graph, 16).iter().all(ten));
    }

    #[test]
    fn a_relu_behind_a_product_is_spelt_out() {
        let graph = build("lenet-300-100", &ZooOptions::default()).expect("lenet-300-100");
        let (stored, report) = to_weight_only(&graph, &settings(Number::Int2, 16), None).expect("stored");
        let count = |of: &str| stored.nodes().filter(|(_, node)| node.op.op_type() == of).count();
        assert_eq!((count("Relu"), count("Max"), count("MatMul"), count("DequantizeLinear")), (0, 2, 3, 2));
        // Ten classes are no multiple of four.
        assert!(report.float.iter().any(|left| left.node == "fc3" && left.reason.contains("here 10")), "{:?}", report.float);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let built = layer(16, 1, &[1.0; 16]);
        for (settings, says) in [
            (settings(Number::Int4, 8), "blocks of 8 stay in float"),
            (settings(Number::Int16, 32), "weights alone are not stored as int16"),
            (settings(Number::Float16, 32), "weights alone are not stored as fp16"),
            (WeightOnly { rounding: Rounding::Gptq { calibration_samples: 8 }, ..settings(Number::Int4, 32) }, "--data"),
        ] {
            let refused = to_weight_only(&built.graph, &settings, None).expect_err("refused").to_string();
            assert!(refused.contains(says) && refused.contains("hint"), "{refused}");
        }
        let mut broken = [1.0; 16];
        broken[3] = f32::NAN;
        let refused = to_weight_only(&layer(16, 1, &broken).graph, &settings(Number::Int4, 16), None).expect_err("not a number");
        assert!(refused.to_string().contains("`w`"), "{refused}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// No weight moves by more than half a step of its block: max |w| / 2 over half of the codes, or (max − min) over all of them,
        /// with what rounding the zero point takes.
        #[test]
        fn weights_move_by_half_a_step(
            w in prop::collection::vec(-2.0f32..2.0, 160), size in 16..48usize, number in prop::sample::select(vec![
                Number::Int8, Number::Uint8, Number::Int4, Number::Uint4, Number::Int2, Number::Uint2
            ])
        ) {
            let (k, n) = (40, 4);
            let (graph, _) = to_weight_only(&layer(k, n, &w).graph, &settings(number, size), None).expect("stored");
            let scales = graph.find_value("w_scale").and_then(|id| graph.tensor(id)?.to_f32()).expect("floats").into_owned();
            for (i, (a, b)) in w.iter().zip(weights(&graph, k)).enumerate() {
                let step = scales[i / n / size * n + i % n];
                prop_assert!((a - b).abs() <= 0.5001 * step, "{number}: {a} → {b}, step {step}");
            }
        }
    }
}
