//! Models that are no classifiers, and data without labels.

use std::path::Path;

use penjing_graph::ops::{Activation, Gemm, Reshape};
use penjing_graph::{DataType, Dim, Graph, GraphBuilder, Tensor, onnx};
use serde_json::Value;

use super::run;

/// y = tanh(x · w), [N, 4] → [N, 3], with w of 0.1, 0.2, … times `scale`.
fn regression(scale: f32) -> Graph {
    let mut b = GraphBuilder::new("regression");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into()]);
    let w = b.tensor("w", Tensor::new([4, 3], (1..=12).map(|i| scale * i as f32 / 10.0).collect::<Vec<_>>()));
    let product = b.node("product", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w]);
    let y = b.node("y", Activation::Tanh, &[product]);
    b.output(y).finish().expect("a model")
}

/// Twenty rows of four numbers without a class, `a.onnx`, and `b.onnx` whose weights are twice as large.
fn prepare(folder: &Path) {
    let rows = (0..20).map(|i| format!("{},{},0.5,-1\n", i as f32 / 10.0, 1.0 - i as f32 / 20.0)).collect::<String>();
    std::fs::write(folder.join("x.csv"), rows).expect("written");
    for (name, scale) in [("a.onnx", 1.0), ("b.onnx", 2.0)] {
        onnx::write(&regression(scale), folder.join(name), onnx::WriteOptions::default()).expect("written");
    }
}

#[test]
fn outputs_are_compared_with_a_references() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let compare = |model, rest: &[&str]| {
        let (out, err, code) = run(&[&["eval", model, "--data", "x.csv", "--reference", "a.onnx"], rest].concat(), folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
        out
    };
    assert_eq!(compare("a.onnx", &["--split", "all"]), "all: 20 samples\noutput `y`: nothing differs\n");
    let text = compare("b.onnx", &[]);
    assert!(text.starts_with("test: 2 samples\noutput `y`: mean cosine 0."), "{text}");
    assert!(text.contains("SQNR ") && text.contains("of the largest element"), "{text}");
    let record: Value = serde_json::from_str(&compare("b.onnx", &["--split", "all", "--json"])).expect("JSON");
    let output = &record["outputs"][0];
    assert_eq!((&record["samples"], &output["output"]), (&20.into(), &"y".into()));
    assert!(output["cosine"].as_f64().is_some_and(|c| c > 0.9), "{output}");
    // tanh grows less than its argument, so that no element is off by as much as it is large.
    assert!(output["sqnr"].as_f64().is_some_and(|s| s > 0.0), "{output}");
    assert!(output["relative-difference"].as_f64().is_some_and(|d| 0.1 < d && d < 1.0), "{output}");
}

#[test]
fn without_labels_no_accuracy_is_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (_, err, code) = run(&["eval", "a.onnx", "--data", "x.csv"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("no labels") && err.contains("--reference"), "{err}");
}

#[test]
fn pruning_without_labels_compares_outputs() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (out, err, code) = run(&["prune", "a.onnx", "--data", "x.csv", "--sparsity", "0.5", "-o", "p.onnx"], folder.path());
    // Twelve weights are too few to store by position.
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("Pruned 6 of 12 weights (50.0 %)") && out.contains("output `y`: mean cosine 0."), "{out}");
    assert!(out.contains("not retrained: the data have no labels (hint: --labels FILE)"), "{out}");
    let record = std::fs::read(folder.path().join("p.run/outcome.json")).expect("the record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let likeness = &record["likeness"];
    assert_eq!((&likeness["split"], &likeness["samples"], &record["test"]), (&"test".into(), &2.into(), &Value::Null));
    // What is said in the record is what `eval` says of the file.
    let (out, ..) = run(&["eval", "p.onnx", "--data", "x.csv", "--reference", "a.onnx", "--json", "--runtime", "builtin"], folder.path());
    let again: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(again["outputs"], likeness["outputs"]);
}

/// The same rows with three classes, none of which an output of `model` stands for, and what `prune --sparsity 0.5` says of it.
fn pruned_with_classes(model: &Graph) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = (0..30).map(|i| format!("{},{},0.5,-1,{}\n", i as f32 / 10.0, 1.0 - i as f32 / 20.0, i % 3)).collect::<String>();
    std::fs::write(folder.path().join("x.csv"), format!("a,b,c,d,label\n{rows}")).expect("written");
    onnx::write(model, folder.path().join("a.onnx"), onnx::WriteOptions::default()).expect("written");
    let (out, err, code) = run(&["prune", "a.onnx", "--data", "x.csv", "--sparsity", "0.5", "-o", "p.onnx"], folder.path());
    assert_eq!(code, Some(3), "{out}{err}");
    (folder, out, err)
}

/// x [N, 4] → y of `dims`, which holds `width` numbers for each sample.
fn reshaped(width: usize, dims: Vec<i64>) -> Graph {
    let mut b = GraphBuilder::new("reshaped");
    let x = b.input("x", DataType::Float, [Dim::symbol("N"), 4.into()]);
    let w = b.tensor("w", Tensor::new([4, width], (1..=4 * width).map(|i| i as f32 / 10.0).collect::<Vec<_>>()));
    let product = b.node("product", Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w]);
    let dims = b.tensor("dims", Tensor::new([dims.len()], dims));
    let y = b.node("y", Reshape { allow_zero: false }, &[product, dims]);
    b.output(y).finish().expect("a model")
}

#[test]
fn labels_of_a_model_that_tells_no_classes_are_not_used() {
    // A map of two by three; a regression's number; a vector that is as long as a sample.
    for (model, shape) in [(reshaped(6, vec![-1, 2, 3]), "N×2×3"), (reshaped(1, vec![-1, 1]), "N×1"), (reshaped(4, vec![-1, 4]), "N×4")]
    {
        let (folder, out, err) = pruned_with_classes(&model);
        let reason = format!("output `y` of the model is {shape}, not one number for each of the 3 classes");
        assert!(err.contains(&format!("nothing is retrained, and outputs are compared with the original's: {reason}")), "{err}");
        assert!(out.contains(&format!("Note: not retrained: {reason}")) && out.contains("output `y`: mean cosine "), "{out}");
        let record = std::fs::read(folder.path().join("p.run/outcome.json")).expect("the record");
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        assert_eq!((&record["likeness"]["samples"], &record["validation"]), (&3.into(), &Value::Null));

        let (_, err, code) = run(&["prune", "a.onnx", "--data", "x.csv", "--max-drop", "1", "-o", "q.onnx"], folder.path());
        assert_eq!(code, Some(1));
        assert!(
            err.contains("no accuracy can be measured for a floor: ") && err.contains(&reason) && err.contains("--metric-command"),
            "{err}"
        );
        assert!(!folder.path().join("q.onnx").exists() && !folder.path().join("q.run").exists());
        for rest in [&["eval", "a.onnx"][..], &["train", "a.onnx", "-o", "q.onnx"]] {
            let (_, err, code) = run(&[rest, &["--data", "x.csv"]].concat(), folder.path());
            assert_eq!(code, Some(1), "{rest:?}");
            assert!(err.contains(&reason) && err.contains("--reference"), "{rest:?}: {err}");
        }
    }
}

#[test]
fn a_floor_needs_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (_, err, code) = run(&["prune", "a.onnx", "--data", "x.csv", "--max-drop", "1", "-o", "p.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("labelled data") && err.contains("--labels"), "{err}");
    assert!(!folder.path().join("p.onnx").exists());
}

#[cfg(unix)]
#[test]
fn the_users_own_metric_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (out, err, code) = run(&["eval", "a.onnx", "--metric-command", "size() { wc -c < \"$1\"; }; size"], folder.path());
    let bytes = std::fs::metadata(folder.path().join("a.onnx")).expect("the model").len();
    assert_eq!((out.as_str(), code), (format!("metric: {bytes}\n").as_str(), Some(0)), "{err}");
    let (_, err, code) = run(&["eval", "a.onnx", "--metric-command", "echo broken >&2; false"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("it says `broken`"), "{err}");
}

/// Each zero costs one: a drop of at most 4 leaves 8 of 12 weights.
#[cfg(unix)]
#[test]
fn a_floor_may_be_the_users_own_metric() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let count = "grep -o '\"zeros\": [0-9]*' | head -n 1 | tr -dc 0-9 | sed 's/^/-/'";
    let metric = format!("zeros() {{ '{}' inspect --json \"$1\" | {count}; }}; zeros", env!("CARGO_BIN_EXE_penjing"));
    let prune = ["prune", "a.onnx", "--max-drop", "4", "--metric-command", &metric, "--rounds", "20", "-o", "p.onnx"];
    let (out, err, code) = run(&prune, folder.path());
    // So small a file does not get smaller.
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(err.contains(", metric -") && err.contains(": broke") && err.contains(": held"), "{err}");
    assert!(out.contains("Pruned 4 of 12 weights") && out.contains("metric: -0 before, -4 after, change -4"), "{out}");
    let record = std::fs::read(folder.path().join("p.run/outcome.json")).expect("the record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    for round in record["rounds"].as_array().expect("rounds") {
        let held = round["metric"].as_f64().is_some_and(|metric| metric >= -4.0);
        assert_eq!(round["mark"] == "broke", !held, "{round}");
    }
    assert!(!folder.path().join("p.run/measured.onnx").exists());
}

#[cfg(unix)]
#[test]
fn a_metric_that_fails_names_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    let (_, err, code) = run(&["prune", "a.onnx", "--sparsity", "0.5", "--metric-command", "false", "-o", "p.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("metric command `false "), "{err}");
    let strict = ["prune", "a.onnx", "--max-drop", "1", "--floor", "strict", "--metric-command", "echo 1; true", "-o", "p.onnx"];
    let (_, err, code) = run(&strict, folder.path());
    assert_eq!(code, Some(2));
    assert!(err.contains("--floor point"), "{err}");
    assert!(!folder.path().join("p.onnx").exists());
}

/// `x.npy` [200, 4] and `y.npy` [200, 3] = tanh(x · w), w of `regression(2)`.
fn prepare_targets(folder: &Path) {
    let x: Vec<f32> = (0..800).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * 0.5).collect();
    let y = x
        .chunks_exact(4)
        .flat_map(|row| (0..3).map(|c| row.iter().enumerate().map(|(r, x)| x * 2.0 * (r * 3 + c + 1) as f32 / 10.0).sum::<f32>().tanh()));
    let y: Vec<f32> = y.collect();
    for (name, columns, values) in [("x.npy", 4, &x), ("y.npy", 3, &y)] {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': (200, {columns}), }}");
        let padded = format!("{header:<117}\n");
        let mut octets = b"\x93NUMPY\x01\x00".to_vec();
        octets.extend((padded.len() as u16).to_le_bytes());
        octets.extend(padded.bytes());
        octets.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        std::fs::create_dir_all(folder.join("points")).expect("a folder");
        std::fs::write(folder.join("points").join(name), octets).expect("written");
    }
}

#[test]
fn a_regression_is_trained_measured_and_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    prepare_targets(folder.path());
    let error = |model: &str| {
        let (out, err, code) = run(&["eval", model, "--data", "points", "--json"], folder.path());
        assert_eq!(code, Some(0), "{err}");
        let record: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(record["samples"], 20);
        record["mean-squared-error"]["mean"].as_f64().expect("a number")
    };
    assert!(error("b.onnx") < 1e-12, "these weights made the targets");
    let training = ["--data", "points", "--loss", "mse", "--optimizer", "adam", "--lr", "0.05", "--epochs", "20", "--batch", "20"];
    let (out, err, code) = run(&[&["train", "a.onnx", "-o", "c.onnx", "--early-stopping", "15"], &training[..]].concat(), folder.path());
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("test: mean squared error 0.0") && err.contains("targets of [3]") && err.contains("validation error 0."),
        "{out}{err}"
    );
    assert!(error("c.onnx") < 0.1 * error("a.onnx"), "{} {}", error("c.onnx"), error("a.onnx"));
    // Without retraining the error is larger.
    let pruned = |rest: &[&str], to: &str| {
        let (_, err, code) = run(&[&["prune", "b.onnx", "--sparsity", "0.25", "-o", to], rest].concat(), folder.path());
        assert!(matches!(code, Some(0 | 3)), "{err}");
        (error(to), err)
    };
    let ((at_once, says), (again, trained)) = (pruned(&["--data", "points"], "d.onnx"), pruned(&training, "e.onnx"));
    assert!(says.contains("nothing is retrained, and outputs are compared with the original's: the data hold numbers"), "{says}");
    assert!(trained.contains("loss mse") && !trained.contains("nothing is retrained"), "{trained}");
    assert!(again < 0.5 * at_once, "{again} {at_once}");
}

#[test]
fn targets_that_do_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    prepare_targets(folder.path());
    let (_, err, code) = run(&["train", "a.onnx", "--data", "points", "-o", "c.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("cross-entropy needs a class for each sample") && err.contains("--loss mse"), "{err}");
    std::fs::copy(folder.path().join("points/x.npy"), folder.path().join("points/y.npy")).expect("copied");
    let (_, err, code) = run(&["train", "a.onnx", "--data", "points", "--loss", "mse", "-o", "c.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("output `y` of the model is 3 for one sample") && err.contains("targets of [4]"), "{err}");
    let (_, err, code) = run(&["prune", "b.onnx", "--max-drop", "1", "--data", "points", "-o", "c.onnx"], folder.path());
    assert_eq!(code, Some(1));
    assert!(err.contains("targets of [4]"), "{err}");
}
