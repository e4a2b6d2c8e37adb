//! Models beside each other.

use std::path::Path;

use penjing_graph::ops::{Activation, DequantizeLinear, Gemm, QuantizeLinear};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, onnx};
use serde_json::Value;

use super::run;

/// tanh(x · w) → two classes; with `codes`, what goes into the tanh is rounded to steps of an eighth.
fn classifier(codes: bool) -> Graph {
    let mut b = GraphBuilder::with_opset("classifier", 17);
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
    let gemm = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    let w = b.tensor("w", Tensor::new([2, 4], vec![0.7f32, -0.4, 0.3, 0.2, -0.6, 0.9, 0.1, -0.8]));
    let mut hidden = b.node("hidden", gemm, &[x, w]);
    if codes {
        let (scale, zero) = (b.tensor("scale", Tensor::scalar(0.125f32)), b.tensor("zero", Tensor::scalar(0i8)));
        let code = b.node("hidden_quantized", QuantizeLinear::default(), &[hidden, scale, zero]);
        hidden = b.node("hidden_dequantized", DequantizeLinear::default(), &[code, scale, zero]);
    }
    let bent = b.node("bent", Activation::Tanh, &[hidden]);
    let v = b.tensor("v", Tensor::new([4, 2], vec![1.0f32, -1.0, -1.0, 1.0, 0.5, 0.0, 0.0, 0.5]));
    let y = b.node("y", gemm, &[bent, v]);
    b.output(y).finish().expect("a model")
}

/// Forty labelled points, `points.csv`, and the same without labels, `bare.csv`; `a.onnx`, and `b.onnx` with codes.
fn prepare(folder: &Path) {
    let point = |i: usize| format!("{:.3},{:.3}", (i as f32 * 0.7).sin(), (i as f32 * 1.3).cos());
    let rows = |row: &dyn Fn(usize) -> String| (0..40).map(row).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.join("bare.csv"), rows(&point)).expect("written");
    let labelled = |i: usize| format!("{},{}", point(i), usize::from((i as f32 * 0.7).sin() < (i as f32 * 1.3).cos()));
    std::fs::write(folder.join("points.csv"), format!("a,b,label\n{}", rows(&labelled))).expect("written");
    for (name, codes) in [("a.onnx", false), ("b.onnx", true)] {
        onnx::write(&classifier(codes), folder.join(name), Default::default()).expect("written");
    }
}

#[test]
fn accuracy_outputs_and_inner_values_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let mut records = vec![];
    for runtime in ["builtin", "onnxruntime"] {
        let compare = |rest: &[&str]| {
            let args = ["compare", "a.onnx", "b.onnx", "--data", "points.csv", "--split", "all", "--runtime", runtime];
            let (out, err, code) = run(&[&args, rest].concat(), folder.path());
            assert_eq!(code, Some(0), "{out}{err}");
            out
        };
        let text = compare(&[]);
        assert!(text.starts_with("all: 40 samples, "), "{text}");
        for part in [
            "accuracy (40 samples, 95 % intervals): ",
            "predictions flipped, McNemar p ",
            "output `y`: mean cosine 0.",
            "hidden_dequantized\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let record: Value = serde_json::from_str(&compare(&["--json", "--samples", "8"])).expect("JSON");
        let inner = &record["inner"];
        assert_eq!((&inner["samples"], &record["samples"]), (&8.into(), &40.into()));
        let names: Vec<&str> = inner["values"].as_array().expect("values").iter().filter_map(|v| v["value"].as_str()).collect();
        assert_eq!(names.len(), 3, "{inner}");
        let hidden = inner["values"].as_array().and_then(|values| values.iter().find(|v| v["value"] == "hidden")).expect("hidden");
        assert_eq!((&hidden["beside"], &hidden["operator"]), (&"hidden_dequantized".into(), &"Gemm".into()));
        let sqnr: Vec<f64> = inner["values"].as_array().expect("values").iter().filter_map(|v| v["sqnr"].as_f64()).collect();
        assert!(sqnr.is_sorted() && sqnr[0] > 10.0 && sqnr[2] < 50.0, "{sqnr:?}");
        // The built-in executor has no rewrites to compare with.
        let rewritten = record["optimization"][0]["output"] == "y";
        assert_eq!(rewritten, runtime == "onnxruntime", "{record}");
        // What flipped is what the two classes do not agree on.
        let agreed = record["outputs"][0]["agreement"]["successes"].as_u64().expect("a number");
        assert_eq!(record["accuracy"]["flipped"].as_u64(), Some(40 - agreed));
        records.push(sqnr);
    }
    assert!(records[0].iter().zip(&records[1]).all(|(a, b)| (a - b).abs() < 1e-3), "{records:?}");
}

#[test]
fn a_model_beside_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (out, err, code) =
        run(&["compare", "a.onnx", "a.onnx", "--data", "bare.csv", "--split", "all", "--runtime", "builtin"], folder.path());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        "all: 40 samples, built-in executor\naccuracy: not measured, the data have no labels (hint: --labels FILE)\noutput `y`: nothing \
         differs\ninner values on 40 samples: nothing differs in the 3 that both have\n"
    );
}

/// The same classifier for one point at a time.
#[test]
fn models_for_one_sample_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let mut b = GraphBuilder::new("single");
    let x = b.input("x", DataType::Float, [1.into(), 2.into()]);
    let w = b.tensor("w", Tensor::new([2, 2], vec![1.0f32, 0.0, 0.0, 1.0]));
    let y = b.node("y", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w]);
    onnx::write(&b.output(y).finish().expect("a model"), folder.path().join("one.onnx"), Default::default()).expect("written");
    for args in [&["eval", "one.onnx"][..], &["compare", "one.onnx", "a.onnx"], &["compare", "a.onnx", "one.onnx"]] {
        let (out, err, code) = run(&[args, &["--data", "points.csv", "--split", "all"]].concat(), folder.path());
        assert_eq!(code, Some(0), "{args:?}: {out}{err}");
        // A point is of class 1 where its second number is the larger one.
        assert!(out.contains("100.00 %") && out.contains("40"), "{args:?}: {out}");
    }
}

#[test]
fn what_cannot_be_compared_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    assert_eq!(run(&["new", "lenet-300-100", "-o", "images.onnx"], folder.path()).2, Some(0));
    for (args, code, text) in [
        (&["a.onnx", "b.onnx"][..], 2, "--data PATH"),
        (&["a.onnx"], 2, "<RESULT>"),
        (&["a.onnx", "missing.onnx", "--data", "points.csv"], 1, "missing.onnx"),
        (&["a.onnx", "images.onnx", "--data", "points.csv"], 1, "input `input`: the model takes 1×28×28 a sample"),
        (&["a.onnx", "b.onnx", "--data", "nowhere"], 1, "nowhere"),
    ] {
        let (_, err, found) = run(&[&["compare"], args].concat(), folder.path());
        assert_eq!(found, Some(code), "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
}
