//! Other forms of a network's numbers, from the command to the file.

use std::path::Path;
use std::process::Command;

use penjing_exec::cpu_executor;
use penjing_exec::runtime::OnnxRuntime;
use penjing_graph::{DataType, Graph, Tensor, onnx};
use serde_json::Value;

use super::{clothes, run};

/// Quantizes `whole.onnx` to `OUT.onnx` with these options and gives the record.
fn quantized(folder: &Path, out: &str, options: &[&str]) -> Value {
    let file = format!("{out}.onnx");
    let (out, err, code) = run(&[&["quantize", "whole.onnx", "-o", &file, "--json"], options].concat(), folder);
    assert_eq!(code, Some(0), "{options:?}: {out}{err}");
    serde_json::from_str(&out).expect("JSON")
}

fn bytes(record: &Value, of: &str) -> f64 {
    record["size"][of]["bytes"].as_f64().expect("bytes")
}

/// ONNX's full checker passes the file, ONNX Runtime loads it, and gives what the built-in executor gives within `tolerance` of the
/// largest output.
fn sound(path: &Path, tolerance: f32) -> Graph {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/onnx/check.py");
    let check = Command::new("python3").arg(script).arg(path).output();
    let check = check.unwrap_or_else(|e| panic!("python3: {e} (hint: PATH=$(dirname $(scripts/python)):$PATH)"));
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{said}(hint: where a module is missing, PATH=$(dirname $(scripts/python)):$PATH)");

    let graph = onnx::read(path).expect("a model");
    let input = [Tensor::new([2, 1, 28, 28], (0..2 * 28 * 28).map(|i| (i % 251) as f32 / 251.0).collect::<Vec<f32>>())];
    let runtime = OnnxRuntime::find(None).expect("loads").expect("there is no ONNX Runtime (hint: scripts/test brings it)");
    let ours = cpu_executor(&graph).and_then(|mut e| e.run(&input, graph.outputs())).expect("runs").remove(0);
    let theirs = runtime.open(path, 1).and_then(|mut session| session.run(&input)).expect("runs").remove(0);
    assert_eq!((ours.dtype(), theirs.dtype()), (DataType::Float, DataType::Float));
    let (ours, theirs) = (ours.to_f32().expect("floats"), theirs.to_f32().expect("floats"));
    let largest = ours.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    let off = ours.iter().zip(&*theirs).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
    assert!(off <= tolerance, "{}: off by {off}", path.display());
    graph
}

#[test]
fn sixteen_bits_are_half_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    assert_eq!(run(&["train", "lenet-5", "--data", &data, "--epochs", "1", "-o", "whole.onnx"], folder.path()).2, Some(0));
    for (precision, dtype, tolerance) in [("fp16", DataType::Float16, 0.005), ("bf16", DataType::Bfloat16, 1e-5)] {
        let record = quantized(folder.path(), precision, &["--precision", precision, "--data", &data]);
        assert!(bytes(&record, "result") < 0.52 * bytes(&record, "original"), "{precision}: {}", record["size"]);
        assert_eq!(record["conversion"]["layers"].as_array().expect("layers").len(), 4, "{precision}");
        assert!(record["test"]["flipped"].as_u64().expect("a number") <= 15, "{precision}: {}", record["test"]);
        // No time is stated, and why is.
        assert!(record.get("speed").is_none() && record["notes"].to_string().contains("ONNX Runtime"), "{precision}");
        let graph = sound(&folder.path().join(format!("{precision}.onnx")), tolerance);
        let large = graph.initializers().filter(|(_, t)| t.len() > 200);
        assert!(large.into_iter().all(|(_, t)| t.dtype() == dtype), "{precision}");
    }
    // Without data too.
    let record = quantized(folder.path(), "alone", &["--precision", "fp16", "--keep", "fc*"]);
    assert!(record["notes"].to_string().contains("made-up inputs"), "{}", record["notes"]);
    let kept: Vec<&str> = record["conversion"]["float"].as_array().expect("a list").iter().filter_map(|n| n["node"].as_str()).collect();
    assert_eq!(kept, ["fc1", "fc2"]);
}

#[test]
fn products_of_codes_need_no_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    assert_eq!(run(&["train", "lenet-5", "--data", &data, "--epochs", "1", "-o", "whole.onnx"], folder.path()).2, Some(0));
    let record = quantized(folder.path(), "dynamic", &["--placement", "dynamic", "--target", "x86-avx2", "--data", &data]);
    assert_eq!(record["conversion"]["kernels"]["integer"]["DynamicQuantizeMatMul"], 2, "{}", record["conversion"]["kernels"]);
    assert!(record["test"]["flipped"].as_u64().expect("a number") <= 15, "{}", record["test"]);
    assert!(bytes(&record, "result") < 0.3 * bytes(&record, "original"), "{}", record["size"]);
    assert_eq!(record["speed"].as_array().map(Vec::len), Some(2));
    sound(&folder.path().join("dynamic.onnx"), 0.02);
    let record = quantized(folder.path(), "alone", &["--placement", "dynamic", "--target", "generic"]);
    let float: Vec<&str> = record["conversion"]["float"].as_array().expect("a list").iter().filter_map(|n| n["node"].as_str()).collect();
    assert_eq!(float, ["conv1", "conv2"]);
}

#[test]
fn operators_on_codes_give_what_floats_between_codes_give() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    assert_eq!(run(&["train", "lenet-5", "--data", &data, "--epochs", "1", "-o", "whole.onnx"], folder.path()).2, Some(0));
    let [qdq, qoperator] = ["static", "qoperator"].map(|placement| {
        let options = ["--placement", placement, "--data", &data, "--target", "x86-avx2"];
        let record = quantized(folder.path(), placement, &options);
        (sound(&folder.path().join(format!("{placement}.onnx")), 0.02), record["test"]["result"]["percent"].as_f64().expect("a number"))
    });
    let count = |graph: &Graph, of: &str| graph.nodes().filter(|(_, node)| node.op.op_type() == of).count();
    assert_eq!((count(&qdq.0, "Conv"), count(&qdq.0, "QLinearConv")), (2, 0));
    assert_eq!((count(&qoperator.0, "Conv"), count(&qoperator.0, "QLinearConv")), (0, 2));
    assert!((qdq.1 - qoperator.1).abs() <= 0.5, "{} and {}", qdq.1, qoperator.1);
}

#[test]
fn weights_alone_are_codes_in_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    assert_eq!(run(&["train", "lenet-300-100", "--data", &data, "--epochs", "1", "-o", "whole.onnx"], folder.path()).2, Some(0));
    let of_test = |name: &str, options: &[&str]| {
        let record = quantized(folder.path(), name, &[&["--placement", "weight-only", "--data", &data], options].concat());
        // ONNX Runtime may compute on codes of activations too, where it is asked to optimise.
        sound(&folder.path().join(format!("{name}.onnx")), 0.05);
        let layers = record["conversion"]["layers"].as_array().map(Vec::len).expect("layers");
        assert_eq!(record["conversion"]["kernels"]["integer"]["MatMulNBits"], layers, "{name}: {}", record["conversion"]["kernels"]);
        (bytes(&record, "result") / bytes(&record, "original"), layers, record["test"]["flipped"].as_u64().expect("a number"))
    };
    // Bits of a code, and of a scale and a zero point for each block.
    let (size, layers, flipped) = of_test("int8", &["--weight-type", "int8"]);
    assert!(size < 9.3 / 32.0 && layers == 3 && flipped <= 15, "{size} {layers} {flipped}");
    let (size, layers, nearest) = of_test("int4", &[]);
    assert!(size < 5.3 / 32.0 && layers == 3 && nearest <= 150, "{size} {layers} {nearest}");
    let (size, _, flipped) = of_test("gptq", &["--rounding", "gptq"]);
    assert!(size < 5.3 / 32.0 && flipped < nearest, "{size} {flipped} {nearest}");
    let (size, ..) = of_test("uint4", &["--weight-type", "uint4", "--block-size", "64"]);
    assert!(size < 4.9 / 32.0, "{size}");
    let (size, layers, _) = of_test("int2", &["--weight-type", "int2", "--block-size", "16", "--rounding", "gptq"]);
    assert!(size < 4.4 / 32.0 && layers == 2, "{size} {layers}");
    let alone = quantized(folder.path(), "alone", &["--placement", "weight-only"]);
    assert!(bytes(&alone, "result") < 5.3 / 32.0 * bytes(&alone, "original"), "{}", alone["size"]);
}

#[test]
fn options_of_other_forms_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run(&["new", "lenet-5", "-o", "whole.onnx"], folder.path()).2, Some(0));
    for (args, text, code) in [
        (&["--precision", "fp16", "--target", "generic"][..], "--target means nothing with --precision fp16", 2),
        (&["--precision", "bf16", "--calibration", "entropy"], "--calibration means nothing with --precision bf16", 2),
        (&["--precision", "fp15"], "fp16", 2),
        (&["--precision", "fp16", "--placement", "dynamic"], "--placement means nothing with --precision fp16", 2),
        (&["--placement", "dynamic", "--block-size", "32"], "--block-size means nothing with --placement dynamic", 2),
        (&["--placement", "weight-only", "--target", "generic"], "--target means nothing with --placement weight-only", 2),
        (&["--placement", "weight-only", "--rounding", "gptq"], "--data", 2),
        (&["--placement", "weight-only", "--block-size", "8"], "blocks of 8 stay in float", 1),
        (&["--placement", "weight-only", "--weight-type", "int16"], "int4", 1),
        (&["--placement", "dynamic", "--target", "gpu-tensorrt"], "cannot find scales while it runs", 1),
        (&["--precision", "bf16", "--keep", "nothing*"], "`nothing*` names no node", 1),
        (&["--precision", "fp16", "--keep", "*"], "nothing in this network can be converted: `conv1`: it is to stay in float", 1),
    ] {
        let (_, err, exit) = run(&[&["quantize", "whole.onnx", "-o", "o.onnx"], args].concat(), folder.path());
        assert!(err.contains(text), "{args:?}: {err}");
        assert_eq!(exit, Some(code), "{args:?}: {err}");
        assert!(!folder.path().join("o.onnx").exists() && !folder.path().join("o.run").exists(), "{args:?}");
    }
}
