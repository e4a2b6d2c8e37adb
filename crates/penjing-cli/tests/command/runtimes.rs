//! What runs the models.

use std::path::Path;

use serde_json::Value;

use super::{clothes, penjing, run};

fn untrained(folder: &Path) {
    assert_eq!(run(&["new", "lenet-300-100", "-o", "m.onnx"], folder).2, Some(0));
}

#[test]
fn both_runtimes_measure_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    untrained(folder.path());
    let measured = |runtime: &[&str]| {
        let (out, err, code) = run(&[&["eval", "m.onnx", "--data", &clothes(), "--json"], runtime].concat(), folder.path());
        assert_eq!(code, Some(0), "{out}{err}");
        (serde_json::from_str::<Value>(&out).expect("JSON"), err)
    };
    let (ours, err) = measured(&["--runtime", "builtin"]);
    assert!(err.contains("runtime: built-in executor\n"), "{err}");
    for runtime in [&["--runtime", "onnxruntime"][..], &[]] {
        let (theirs, err) = measured(runtime);
        assert!(err.contains("runtime: ONNX Runtime, "), "{err}");
        let loss = |record: &Value| record["top1"]["loss"].as_f64().expect("a loss");
        assert!((loss(&ours) - loss(&theirs)).abs() < 1e-5, "{ours} {theirs}");
        let percent = |record: &Value| record["top1"]["percent"].as_f64().expect("an accuracy");
        // One of 1,500 samples may stand on the edge between two classes.
        assert!((percent(&ours) - percent(&theirs)).abs() < 0.07, "{ours} {theirs}");
    }
}

#[test]
fn without_onnx_runtime_the_built_in_executor_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    untrained(folder.path());
    let eval = |rest: &[&str]| {
        let mut command = penjing();
        command.args(["eval", "m.onnx", "--data", &clothes()]).args(rest).current_dir(folder.path());
        // No python3 is there to ask, and no variable names a library.
        let output = command.env("PATH", "").env_remove("ORT_DYLIB_PATH").env_remove("LD_LIBRARY_PATH").output().expect("the binary runs");
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    };
    let (err, code) = eval(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("runtime: built-in executor, as the library of ONNX Runtime was not found (hint: `pip install"), "{err}");
    let (err, code) = eval(&["--runtime", "onnxruntime"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("error: the library of ONNX Runtime was not found"), "{err}");
    let (err, code) = eval(&["--onnxruntime", "nowhere.so"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot load ONNX Runtime from `nowhere.so`"), "{err}");
    let (err, code) = eval(&["--runtime", "builtin", "--onnxruntime", "nowhere.so"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("leave --onnxruntime out"), "{err}");
}
