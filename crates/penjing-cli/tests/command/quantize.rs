//! Integers, from the command to the file.

use penjing_exec::runtime::{OnnxRuntime, Runtime, SessionOptions};
use penjing_graph::ops::Op;
use penjing_graph::{Edit, Graph, Tensor, onnx};

use super::{clothes, run};

fn trained(folder: &std::path::Path, network: &str) -> String {
    let data = clothes();
    let train = ["train", network, "--data", &data, "--epochs", "2", "-o", "whole.onnx"];
    assert_eq!(run(&train, folder).2, Some(0));
    data
}

#[test]
fn eight_bits_keep_what_the_network_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-5");
    let quantize = ["quantize", "whole.onnx", "--data", &data, "--target", "x86-vnni", "-o", "int8.onnx", "--json"];
    let (out, err, code) = run(&quantize, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    let record: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let layers = record["quantization"]["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 4);
    assert!(layers.iter().all(|l| l["weight_sqnr"].as_f64().expect("a number") > 35.0), "{layers:?}");
    // 1,500 samples: a change of one point is 15 of them.
    let change = record["test"]["change"].as_f64().expect("a change");
    assert!(change.abs() <= 1.0, "{change}");
    let (before, after) = (&record["size"]["original"]["bytes"], &record["size"]["result"]["bytes"]);
    assert!(after.as_f64().expect("bytes") < 0.27 * before.as_f64().expect("bytes"), "{before} {after}");

    let kernels = &record["quantization"]["kernels"];
    assert_eq!(kernels["integer"]["QLinearConv"].as_u64(), Some(2), "{kernels}");
    assert!(kernels["other"].get("Conv").is_none() && kernels["other"].get("Gemm").is_none(), "{kernels}");

    let graph = onnx::read(folder.path().join("int8.onnx")).expect("a model");
    let floats = graph.initializers().filter(|(_, t)| t.dtype().is_float() && t.len() > 500).count();
    assert_eq!(floats, 0, "a weight stayed in float");
    assert!(graph.nodes().any(|(_, node)| matches!(node.op, Op::QuantizeLinear(_))));

    // The same bytes again.
    let again = ["quantize", "whole.onnx", "--data", &data, "--target", "x86-vnni", "-o", "again.onnx"];
    assert_eq!(run(&again, folder.path()).2, Some(0));
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).expect("read");
    assert!(bytes("int8.onnx") == bytes("again.onnx"));
}

#[test]
fn four_bits_are_held_in_codes_of_eight() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-300-100");
    let quantize = ["quantize", "whole.onnx", "--data", &data, "--weight-bits", "4", "-o", "w4a8.onnx"];
    let (out, err, code) = run(&quantize, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("Weights of 4 bits, held in codes of 8: -7 to 7 alone"), "{out}");
    // Codes of 4 bits cannot saturate 16, on no processor.
    assert!(!out.contains("Scales widened"), "{out}");
    let graph = onnx::read(folder.path().join("w4a8.onnx")).expect("a model");
    let codes: Vec<i64> = graph
        .initializers()
        .filter(|(_, t)| t.dtype() == penjing_graph::DataType::Int8 && t.dims().len() == 2)
        .flat_map(|(_, t)| t.to_i64().expect("integers").into_owned())
        .collect();
    assert_eq!((codes.len(), codes.iter().min(), codes.iter().max()), (266_200, Some(&-7), Some(&7)));
}

/// Weights of 2 bits, −1, 0 and 1, lose much, and training brings most of it back; the file is the same at any number of threads.
#[test]
fn a_network_is_trained_for_its_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-300-100");
    let quantize = |output: &str, more: &[&str]| {
        let two_bits = ["quantize", "whole.onnx", "--data", &data, "--weight-bits", "2", "--target", "generic", "--json", "-o", output];
        let (out, err, code) = run(&[&two_bits[..], more].concat(), folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
        let record: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        record["test"]["result"]["percent"].as_f64().expect("an accuracy")
    };
    let nearest = quantize("nearest.onnx", &[]);
    let qat = ["--qat", "--epochs", "2", "--lr", "0.01"];
    let trained = quantize("qat.onnx", &[&qat[..], &["--threads", "1"]].concat());
    assert!(trained > nearest + 1.0, "{nearest} and {trained}");
    assert_eq!(quantize("again.onnx", &[&qat[..], &["--threads", "2"]].concat()), trained);
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).expect("read");
    assert!(bytes("qat.onnx") == bytes("again.onnx"));
    let graph = onnx::read(folder.path().join("qat.onnx")).expect("a model");
    assert!(!graph.nodes().any(|(_, node)| matches!(node.op, Op::Variadic(_))), "what served training is in the file");
}

#[test]
fn onnx_runtime_gives_what_the_built_in_executor_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-5");
    for target in ["x86-avx2", "gpu-tensorrt", "mcu"] {
        let output = format!("{target}.onnx");
        let (out, err, code) = run(&["quantize", "whole.onnx", "--data", &data, "--target", target, "-o", &output], folder.path());
        assert_eq!(code, Some(0), "{target}: {out}{err}");
        let path = folder.path().join(&output);
        let graph = onnx::read(&path).expect("a model");
        let input = [Tensor::new([2, 1, 28, 28], (0..2 * 28 * 28).map(|i| (i % 251) as f32 / 251.0).collect::<Vec<f32>>())];
        let ours = penjing_exec::cpu_executor(&graph).and_then(|mut e| e.run(&input, graph.outputs())).expect("runs");
        let runtime = OnnxRuntime::find(None).expect("loads").expect("there is no ONNX Runtime (hint: scripts/test brings it)");
        let near = |what: &str, theirs: &Tensor| {
            let (a, b) = (ours[0].to_f32().expect("floats"), theirs.to_f32().expect("floats"));
            let largest = a.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            let off = a.iter().zip(&*b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
            assert!(off < 0.03, "{target}, {what}: off by {off}");
        };
        let as_written = SessionOptions { threads: 1, optimize: false };
        near("as written", &runtime.load(&graph, as_written).run(&input, graph.outputs()).expect("runs")[0]);
        // Sums that cannot saturate are the same on every machine.
        if target == "x86-avx2" {
            near("in integers", &runtime.open(&path, 1).and_then(|mut session| session.run(&input)).expect("runs")[0]);
        }
    }
}

#[test]
fn what_cannot_be_quantized_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    assert_eq!(run(&["new", "lenet-5", "-o", "m.onnx"], folder.path()).2, Some(0));
    for (args, text, code) in [
        (&["m.onnx"][..], "--data", 2),
        (&["m.onnx", "--data", &data, "--target", "vax"], "x86-vnni, x86-avx2", 2),
        (&["m.onnx", "--data", &data, "--calibration", "kl"], "entropy", 2),
        (&["m.onnx", "--data", &data, "--weight-bits", "9"], "`9` is no number of bits for weights (hint: 2 to 8)", 2),
        (&["m.onnx", "--data", &data, "--calibration-samples", "0"], "whole number from 1", 2),
    ] {
        let (_, err, exit) = run(&[&["quantize", "-o", "o.onnx"], args].concat(), folder.path());
        assert!(err.contains(text), "{args:?}: {err}");
        assert_eq!(exit, Some(code), "{args:?}: {err}");
        assert!(!folder.path().join("o.onnx").exists() && !folder.path().join("o.run").exists(), "{args:?}");
    }
    trained(folder.path(), "lenet-300-100");
    let quantize = ["quantize", "whole.onnx", "--data", &data, "-o", "int8.onnx"];
    assert_eq!(run(&quantize, folder.path()).2, Some(0));
    let (_, err, exit) = run(&["quantize", "int8.onnx", "--data", &data, "-o", "o.onnx"], folder.path());
    assert!(err.contains("is quantized already"), "{err}");
    assert_eq!(exit, Some(1), "{err}");
    for (args, text) in [(&["--keep", "nothing*"][..], "`nothing*` names no node"), (&["--keep", "*"], "it is to stay in float")] {
        let (_, err, exit) = run(&[&["quantize", "whole.onnx", "--data", &data, "-o", "o.onnx"], args].concat(), folder.path());
        assert!(err.contains(text), "{args:?}: {err}");
        assert_eq!(exit, Some(1), "{args:?}: {err}");
        assert!(!folder.path().join("o.onnx").exists(), "{args:?}");
    }
}

/// The same function with one channel between the two convolutions of lenet-5 two hundred times as large as it was.
fn uneven(graph: &Graph) -> Graph {
    let mut edit = Edit::new(graph, "make a channel large");
    let channels_in = 20;
    for (id, tensor) in graph.initializers() {
        let name = graph.value(id).name.as_str();
        let per_channel = tensor.len() / tensor.dims()[0];
        let factor = |at: usize| match name {
            "conv1.weight" | "conv1.bias" if at / per_channel == 0 => 200.0,
            "conv2.weight" if (at / 25).is_multiple_of(channels_in) => 1.0 / 200.0,
            _ => 1.0,
        };
        if let Some(values) = tensor.to_f32() {
            edit.set_tensor(id, Tensor::new(tensor.dims(), values.iter().enumerate().map(|(i, x)| x * factor(i)).collect::<Vec<f32>>()));
        }
    }
    let mut uneven = graph.clone();
    uneven.apply(edit).expect("the same shapes");
    uneven
}

#[test]
fn layers_return_to_float_until_the_floor_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-5");
    let graph = uneven(&onnx::read(folder.path().join("whole.onnx")).expect("a model"));
    onnx::write(&graph, folder.path().join("uneven.onnx"), onnx::WriteOptions::default()).expect("written");
    let quantize = |output, rest: &[&str]| {
        let common = ["quantize", "uneven.onnx", "--data", &data, "--target", "x86-avx2", "--calibration", "min-max", "-o", output];
        run(&[&common[..], rest].concat(), folder.path())
    };
    let (out, err, code) = quantize("held.onnx", &["--max-drop", "1", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let record: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let report = &record["quantization"];
    let tried = report["reverting"].as_array().expect("networks");
    let of = |key: &str| tried.iter().map(|t| t[key].clone()).collect::<Vec<_>>();
    assert_eq!(
        (of("float"), of("holds")),
        (vec![0.into(), 1.into(), 2.into()], vec![false.into(), false.into(), true.into()]),
        "{tried:?}"
    );
    let damages = report["damages"].as_array().expect("layers");
    let worst: Vec<&str> = damages[..2].iter().map(|d| d["node"].as_str().expect("a name")).collect();
    assert!(damages.len() == 4 && worst.contains(&"conv1") && worst.contains(&"conv2"), "{damages:?}");
    let float: Vec<(&str, &str)> = (report["float"].as_array().expect("nodes").iter())
        .map(|f| (f["node"].as_str().expect("a name"), f["reason"].as_str().expect("a reason")))
        .filter(|(node, _)| node.starts_with("conv"))
        .collect();
    assert!(float.len() == 2 && float.iter().all(|(_, reason)| *reason == "it returned to float to hold the floor"), "{float:?}");
    assert!(report["kernels"]["integer"].get("QLinearConv").is_none(), "{}", report["kernels"]);
    assert!(err.contains("2 layers back in float: validation") && err.contains(": held"), "{err}");

    // A floor above what the float network has: the best that was found, and why it is not enough.
    let (out, err, code) = quantize("missed.onnx", &["--min-accuracy", "99.9"]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("the floor breaks with all layers but one in float"), "{out}");
}

/// Between codes on both sides ONNX Runtime would give the layer codes too.
#[test]
fn a_layer_that_is_kept_is_computed_in_float() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-5");
    let quantize = ["quantize", "whole.onnx", "--data", &data, "--target", "x86-avx2", "--keep", "conv2", "-o", "kept.onnx", "--json"];
    let (out, err, code) = run(&quantize, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    let record: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let kernels = &record["quantization"]["kernels"];
    let float: u64 = (kernels["other"].as_object().expect("operators").iter())
        .filter(|(operator, _)| operator.ends_with("Conv"))
        .map(|(_, count)| count.as_u64().expect("a number"))
        .sum();
    assert_eq!((float, kernels["integer"]["QLinearConv"].as_u64()), (1, Some(1)), "{kernels}");
    assert!(!out.contains("all the same"), "{out}");
}

/// Which form is the fastest is the machine's to say; that the record tells what was done is not.
#[test]
fn the_fastest_form_that_holds_the_floor_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = trained(folder.path(), "lenet-5");
    let quantize = |output, rest: &[&str]| {
        let common = ["quantize", "whole.onnx", "--data", &data, "--precision", "auto", "-o", output, "--json"];
        run(&[&common[..], rest].concat(), folder.path())
    };
    let (out, err, code) = quantize("fast.onnx", &["--max-drop", "5"]);
    let record: serde_json::Value = serde_json::from_str(&out).expect(&err);
    let tried = record["tried"].as_array().expect("forms");
    let forms: Vec<&str> = tried.iter().map(|t| t["form"].as_str().expect("a name")).collect();
    assert_eq!(forms, ["int8, static", "int8, dynamic"]);
    assert!(tried.iter().all(|t| t["score"].as_f64().is_some() && t["time"].as_f64().is_some_and(|time| time > 0.0)), "{tried:?}");
    let taken: Vec<usize> = (0..tried.len()).filter(|i| tried[*i].get("against").is_none()).collect();
    match taken[..] {
        [] => {
            assert_eq!(code, Some(3), "{err}");
            assert!(out.contains("32-bit floats are the fastest here") && record.get("quantization").is_none(), "{out}");
        }
        [one] => {
            assert_eq!(code, Some(0), "{err}");
            let time = |i: usize| tried[i]["time"].as_f64().expect("a fraction");
            assert!(time(one) < 1.0 && (0..tried.len()).all(|i| time(one) <= time(i)), "{tried:?}");
            let report = ["quantization", "conversion"][one];
            assert!(record.get(report).is_some(), "{report}");
        }
        _ => panic!("two were taken: {tried:?}"),
    }
    // Nothing holds more than the float network has.
    let (out, err, code) = quantize("none.onnx", &["--min-accuracy", "100"]);
    assert_eq!(code, Some(3), "{err}");
    let record: serde_json::Value = serde_json::from_str(&out).expect(&err);
    assert!(record["tried"].as_array().expect("forms").iter().all(|t| t["against"] == "it breaks the floor"), "{out}");
    let bytes =
        |name: &str| onnx::read(folder.path().join(name)).expect("a model").initializers().map(|(_, t)| t.clone()).collect::<Vec<_>>();
    assert!(bytes("none.onnx") == bytes("whole.onnx"));

    let here = penjing_compress::quant::targets::TargetName::here();
    let elsewhere = ["mcu", "gpu-tensorrt"].into_iter().find(|name| *name != here.0.name).expect("one of two");
    let (_, err, code) = quantize("o.onnx", &["--target", elsewhere]);
    assert!(code == Some(2) && err.contains("cannot be measured on this machine"), "{err}");
}
