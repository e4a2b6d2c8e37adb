//! The two runtimes on the same graphs: the same outputs, and the same inner values.

use penjing_exec::ExecError;
use penjing_exec::runtime::{OnnxRuntime, Runtime, RuntimeKind, SessionOptions};
use penjing_graph::ops::{Activation, Cast, DequantizeLinear, Gemm, Identity, QuantizeLinear};
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, ValueId, onnx};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const OPTIMIZED: SessionOptions = SessionOptions { threads: 2, optimize: true };
const AS_WRITTEN: SessionOptions = SessionOptions { threads: 2, optimize: false };

fn onnx_runtime() -> OnnxRuntime {
    let runtime = OnnxRuntime::find(None).expect("ONNX Runtime loads");
    runtime.expect("there is no ONNX Runtime (hint: `pip install onnxruntime`, or scripts/test, which brings it)")
}

fn both(graph: &Graph, options: SessionOptions) -> Result<[Box<dyn Runtime>; 2], ExecError> {
    Ok([RuntimeKind::Builtin.load(graph, options)?, RuntimeKind::OnnxRuntime(onnx_runtime()).load(graph, options)?])
}

fn wave(dims: &[usize]) -> Tensor {
    Tensor::new(dims, (0..dims.iter().product()).map(|i: usize| (i as f32 * 0.37).sin()).collect())
}

/// Largest |a − b| over the largest |a|.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()));
    let (a, b) = (a.to_f32().expect("floats"), b.to_f32().expect("floats"));
    let largest = a.iter().fold(f32::MIN_POSITIVE, |m, a| m.max(a.abs()));
    a.iter().zip(&*b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn outputs_and_every_inner_value_agree() -> Outcome {
    for (name, input) in [("lenet-5", [1, 28, 28]), ("mobilenet-v2", [3, 32, 32])] {
        let graph = zoo::build(name, &ZooOptions { input: Some(input), ..ZooOptions::default() })?;
        let x = [wave(&[&[2], &input[..]].concat())];
        let inner: Vec<ValueId> = graph.nodes().filter_map(|(_, node)| node.output(0)).collect();
        for options in [OPTIMIZED, AS_WRITTEN] {
            let [mut ours, mut theirs] = both(&graph, options)?;
            for fetch in [graph.outputs(), &inner] {
                let (a, b) = (ours.run(&x, fetch)?, theirs.run(&x, fetch)?);
                assert_eq!((a.len(), b.len()), (fetch.len(), fetch.len()));
                for (id, (a, b)) in fetch.iter().zip(a.iter().zip(&b)) {
                    let off = difference(a, b);
                    assert!(off < 1e-4, "{name}: `{}` is off by {off:.1e}", graph.value(*id).name);
                }
            }
        }
    }
    Ok(())
}

/// y = relu(x · w + b), its sum with nothing twice over, and a weight that is an output too.
fn layer() -> Result<(Graph, [ValueId; 4]), Box<dyn std::error::Error>> {
    let mut b = GraphBuilder::new("layer");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
    let w = b.tensor("w", Tensor::new([2, 2], vec![1.0f32, -1.0, 2.0, 0.5]));
    let sum = b.node("sum", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w]);
    let y = b.node("y", Activation::Relu, &[sum]);
    Ok((b.output(y).finish()?, [x, w, sum, y]))
}

#[test]
fn any_value_in_any_order_by_hand() -> Outcome {
    let (graph, [x, w, sum, y]) = layer()?;
    let input = Tensor::new([1, 2], vec![1.0f32, -2.0]);
    for runtime in &mut both(&graph, OPTIMIZED)? {
        // [1 −2] · [[1 −1] [2 ½]] = [−3 −2]
        let (sums, zeros) = (Tensor::new([1, 2], vec![-3.0f32, -2.0]), Tensor::new([1, 2], vec![0.0f32, 0.0]));
        let found = runtime.run(std::slice::from_ref(&input), &[y, sum, x, w, y])?;
        assert_eq!(found, [zeros.clone(), sums.clone(), input.clone(), graph.tensor(w).expect("w").clone(), zeros.clone()]);
        assert_eq!(runtime.run(std::slice::from_ref(&input), &[y])?, [zeros]);
        assert_eq!(runtime.run(std::slice::from_ref(&input), &[sum])?, [sums]);
        assert_eq!(runtime.run(std::slice::from_ref(&input), &[])?, []);
        assert!(runtime.run(&[], &[y]).is_err(), "{}", runtime.name());
    }
    Ok(())
}

/// x as an input of one type, cast to another and to float again.
fn cast(from: DataType, to: DataType) -> Result<(Graph, [ValueId; 2]), Box<dyn std::error::Error>> {
    let mut b = GraphBuilder::with_opset("cast", 21);
    let x = b.input("x", from, [Dim::symbol("N")]);
    let there = b.node("there", Cast { to, saturate: true }, &[x]);
    let back = b.node("back", Cast { to: DataType::Float, saturate: true }, &[there]);
    Ok((b.output(back).finish()?, [there, back]))
}

#[test]
fn narrow_types_come_through() -> Outcome {
    // Numbers that 16-bit floats have exactly.
    let x = Tensor::new([3], vec![0.0f32, 2.0, 100.0]);
    for to in [DataType::Int16, DataType::Uint16, DataType::Int8, DataType::Uint8, DataType::Uint32, DataType::Uint64] {
        let (graph, fetch) = cast(DataType::Float, to)?;
        let [a, b] = both(&graph, AS_WRITTEN)?.map(|mut runtime| runtime.run(std::slice::from_ref(&x), &fetch));
        let (a, b) = (a?, b?);
        assert_eq!((a[0].dtype(), &a), (to, &b), "{to:?}");
        // As an input, too.
        let (graph, fetch) = cast(to, DataType::Float)?;
        let [ours, theirs] = both(&graph, AS_WRITTEN)?.map(|mut runtime| runtime.run(&a[..1], &fetch));
        assert_eq!(theirs?, ours?, "{to:?}");
    }
    for to in [DataType::Float16, DataType::Bfloat16] {
        let (graph, fetch) = cast(DataType::Float, to)?;
        let mut theirs = RuntimeKind::OnnxRuntime(onnx_runtime()).load(&graph, AS_WRITTEN)?;
        let found = theirs.run(std::slice::from_ref(&x), &fetch)?;
        assert_eq!(found, [x.clone(), x.clone()], "{to:?}");
    }
    Ok(())
}

#[test]
fn outputs_of_16_bits_are_widened() -> Outcome {
    let mut b = GraphBuilder::new("half");
    let x = b.input("x", DataType::Float, [Dim::symbol("N")]);
    let half = b.node("half", Cast { to: DataType::Float16, saturate: true }, &[x]);
    let y = b.node("y", Identity, &[half]);
    let graph = b.output(y).finish()?;
    let mut runtime = onnx_runtime().load(&graph, OPTIMIZED);
    assert_eq!(runtime.run(&[Tensor::new([2], vec![0.1f32, 3.0])], &[y])?, [Tensor::new([2], vec![0.099_975_586f32, 3.0])]);
    Ok(())
}

#[test]
fn what_onnx_runtime_refuses_is_an_error() -> Outcome {
    let (graph, [_, _, sum, y]) = layer()?;
    let wide = [Tensor::new([1, 3], vec![0.0f32; 3])];
    let mut runtime = onnx_runtime().load(&graph, OPTIMIZED);
    for fetch in [y, sum] {
        let error = runtime.run(&wide, &[fetch]).expect_err("three features");
        assert_eq!(error.to_string(), "cannot run the model in ONNX Runtime");
    }
    Ok(())
}

/// w · x between codes of 8 bits, as a static quantization writes it.
fn quantized() -> Result<Graph, Box<dyn std::error::Error>> {
    let mut b = GraphBuilder::with_opset("quantized", 17);
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into()]);
    let scale = b.tensor("scale", Tensor::scalar(0.05f32));
    let zero = b.tensor("zero", Tensor::scalar(128u8));
    let weight_zero = b.tensor("weight_zero", Tensor::scalar(0i8));
    let codes = b.tensor("w_quantized", Tensor::new([4, 4], (0..16).map(|i| i - 8).collect::<Vec<i8>>()));
    let code = b.node("x_quantized", QuantizeLinear::default(), &[x, scale, zero]);
    let x = b.node("x_dequantized", DequantizeLinear::default(), &[code, scale, zero]);
    let w = b.node("w", DequantizeLinear::default(), &[codes, scale, weight_zero]);
    let product = b.node("product", penjing_graph::ops::MatMul, &[x, w]);
    let code = b.node("product_quantized", QuantizeLinear::default(), &[product, scale, zero]);
    let y = b.node("y", DequantizeLinear::default(), &[code, scale, zero]);
    Ok(b.output(y).finish()?)
}

#[test]
fn what_onnx_runtime_makes_of_a_model_can_be_read() -> Outcome {
    let folder = tempfile::tempdir()?;
    let kernels = |graph: &Graph| -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let path = folder.path().join("model.onnx");
        onnx::write(graph, &path, onnx::WriteOptions { overwrite: true, ..onnx::WriteOptions::default() })?;
        let optimized = onnx_runtime().optimized(&path, 2)?;
        Ok(optimized.nodes().map(|(_, node)| node.op.op_type().to_string()).collect())
    };
    assert_eq!(kernels(&layer()?.0)?, ["FusedGemm"]);
    assert_eq!(kernels(&quantized()?)?, ["QuantizeLinear", "QLinearMatMul", "DequantizeLinear"]);
    // Normalisations are folded into the convolutions before them, and a ReLU right behind one becomes part of it.
    let network = zoo::build("resnet-20", &ZooOptions::default())?;
    let relus = |ops: &[String]| ops.iter().filter(|op| *op == "Relu").count();
    let written: Vec<String> = network.nodes().map(|(_, node)| node.op.op_type().to_string()).collect();
    let optimized = kernels(&network)?;
    assert!(!optimized.iter().any(|op| op == "BatchNormalization") && relus(&optimized) < relus(&written), "{optimized:?}");
    let error = onnx_runtime().optimized(&folder.path().join("missing.onnx"), 1).expect_err("no file");
    assert!(error.to_string().starts_with("cannot see what ONNX Runtime makes of `"), "{error}");
    Ok(())
}
