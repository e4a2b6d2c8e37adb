//! What models cost to run.

use std::path::Path;

use penjing_graph::ops::MatMul;
use penjing_graph::{DataType, Dim, GraphBuilder, Tensor, onnx};
use serde_json::Value;

use super::run;

/// x [N, L, 8] · w, as `sequence.onnx`.
fn sequence(folder: &Path) {
    let mut b = GraphBuilder::new("sequence");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), Dim::symbol("L"), 8.into()]);
    let w = b.tensor("w", Tensor::new([8, 8], vec![0.5f32; 64]));
    let y = b.node("y", MatMul, &[x, w]);
    onnx::write(&b.output(y).finish().expect("a model"), folder.join("sequence.onnx"), Default::default()).expect("written");
}

#[test]
fn two_models_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    for (model, file) in [("resnet-20", "large.onnx"), ("lenet-5", "small.onnx")] {
        assert_eq!(run(&["new", model, "-o", file], folder.path()).2, Some(0));
    }
    for runtime in ["builtin", "onnxruntime"] {
        let bench = |rest: &[&str]| {
            let args = [&["bench", "large.onnx", "small.onnx", "--runtime", runtime, "--threads", "1"], rest].concat();
            let (out, err, code) = run(&args, folder.path());
            assert_eq!(code, Some(0), "{out}{err}");
            out
        };
        let text = bench(&[]);
        assert!(text.contains("\nsmall.onnx is ") && text.contains("x as fast as large.onnx (95 % "), "{text}");
        assert!(text.contains("large.onnx on made-up input float32 1x3x32x32\n"), "{text}");
        let record: Value = serde_json::from_str(&bench(&["--json", "--batch", "2"])).expect("JSON");
        assert_eq!((&record["batch"], &record["threads"]), (&2.into(), &1.into()));
        assert!(record["speed-up"]["interval"]["low"].as_f64().is_some_and(|low| low > 1.0), "{record}");
        for (i, file) in ["large.onnx", "small.onnx"].iter().enumerate() {
            let model = &record["models"][i];
            let bytes = std::fs::metadata(folder.path().join(file)).expect("the model").len();
            assert_eq!((&model["model"], &model["size"]["bytes"]), (&(*file).into(), &bytes.into()));
            assert_eq!(model["inputs"][0]["shape"][0], 2);
            if cfg!(target_os = "linux") {
                let memory = |what: &str| model["memory"][what].as_u64().expect("bytes");
                assert!(memory("before") > 1 << 20 && memory("peak") > memory("before"), "{model}");
            }
        }
    }
}

#[test]
fn shapes_are_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    sequence(folder.path());
    let shape = |rest: &[&str]| {
        let (out, err, code) = run(&[&["bench", "sequence.onnx", "--runtime", "builtin", "--json"], rest].concat(), folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
        let record: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(record["speed-up"], Value::Null);
        record["models"][0]["inputs"][0]["shape"].clone()
    };
    assert_eq!(shape(&[]), serde_json::json!([1, 128, 8]));
    assert_eq!(shape(&["--shape", "x=2x5x8"]), serde_json::json!([2, 5, 8]));
    for (args, code, text) in [
        (&["sequence.onnx", "--shape", "x=2x5x9"][..], 1, "input `x`: the model takes NxLx8, not 2x5x9"),
        (&["sequence.onnx", "--shape", "z=2"], 1, "no input is called `z` (hint: there are `x`)"),
        (&["sequence.onnx", "--shape", "2x5"], 2, "not NAME=SHAPE"),
        (&["sequence.onnx", "--batch", "0"], 2, "whole number from 1"),
        (&["missing.onnx"], 1, "missing.onnx"),
        (&["."], 2, "is a folder"),
        (&["sequence.onnx", "missing.onnx"], 1, "missing.onnx"),
    ] {
        let (_, err, found) = run(&[&["bench", "--runtime", "builtin"], args].concat(), folder.path());
        assert_eq!(found, Some(code), "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
}
