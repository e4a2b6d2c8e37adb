//! ONNX's own conformance cases: every one whose nodes are all typed must give what the case says, as it is and at a later opset.

mod case;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use case::{Case, NotPassed, folders, name};
use penjing_exec::cpu_executor;
use penjing_exec::runtime::OnnxRuntime;
use penjing_graph::onnx::{self, WriteOptions};
use penjing_graph::passes::raise_opset;
use penjing_graph::{Graph, NEWEST_OPSET, Tensor};

/// The cases that Debian has, up to opset 17.
fn released() -> Vec<PathBuf> {
    folders("onnx-node-tests", "run `scripts/assets onnx-node-tests`, or set PENJING_ASSETS")
}

/// Those of opset 18 to 25.
fn newer() -> Vec<PathBuf> {
    folders("onnx-node-tests-18-to-25", "run `$(scripts/python) scripts/make-onnx-cases.py`, or set PENJING_ASSETS")
}

#[test]
fn typed_operators_conform() {
    assert_all_pass(&released(), 537, built_in);
}

#[test]
fn typed_operators_of_newer_opsets_conform() {
    assert_all_pass(&newer(), 441, built_in);
}

#[test]
fn raised_to_the_newest_opset_they_conform_in_onnx_runtime_too() {
    let runtime = OnnxRuntime::find(None).expect("ONNX Runtime loads");
    let runtime = runtime.expect("there is no ONNX Runtime (hint: `pip install onnxruntime`, or scripts/test, which brings it)");
    let cases = [released(), newer()].concat();
    assert_all_pass(&cases, 690, |folder| raised(folder, runtime));
}

/// Runs every case and shows how many passed, and why which were skipped; none may fail, and at least `fewest` must pass.
fn assert_all_pass(cases: &[PathBuf], fewest: usize, run: impl Fn(&Path) -> Result<(), NotPassed>) {
    let mut passed = 0;
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let mut failed = vec![];
    for case in cases {
        // A panic is a failure of its case, not of all.
        match catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|_| Err(NotPassed::Failed("panics".into()))) {
            Ok(()) => passed += 1,
            Err(NotPassed::Skipped(reason)) => *skipped.entry(reason).or_default() += 1,
            Err(NotPassed::Failed(reason)) => failed.push(format!("{}: {reason}", name(case))),
        }
    }
    let count: usize = skipped.values().sum();
    let mut table = format!("{:>5} cases\n{passed:>5} passed\n{count:>5} skipped, by reason:\n", cases.len());
    for (reason, count) in &skipped {
        table += &format!("{count:>11} {reason}\n");
    }
    show(&table);
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
    assert!(passed >= fewest, "only {passed} cases were run (hint: are these all of ONNX's node cases?)");
}

#[allow(clippy::print_stdout, reason = "the table of what was skipped is this test's second result")]
fn show(table: &str) {
    println!("{table}");
}

/// The case in the built-in executor.
fn built_in(folder: &Path) -> Result<(), NotPassed> {
    let case = Case::read(folder)?;
    run(&case.graph, &case.inputs).and_then(|outputs| case.check(&outputs)).map_err(NotPassed::Failed)
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    cpu_executor(graph).and_then(|mut executor| executor.run(inputs, graph.outputs())).map_err(|e| e.to_string())
}

/// The case, its opset raised as far as it goes and written, in the built-in executor and in ONNX Runtime; skipped where ONNX
/// Runtime does not run the case as it comes either.
fn raised(folder: &Path, runtime: OnnxRuntime) -> Result<(), NotPassed> {
    let case = Case::read(folder)?;
    if case.graph.opset() == NEWEST_OPSET {
        return Err(NotPassed::Skipped(format!("of opset {NEWEST_OPSET} already")));
    }
    let mut graph = case.graph.clone();
    raise_opset(&mut graph, NEWEST_OPSET).map_err(|e| NotPassed::Failed(e.to_string()))?;
    run(&graph, &case.inputs).and_then(|outputs| case.check(&outputs)).map_err(NotPassed::Failed)?;

    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("raised.onnx");
    onnx::write(&graph, &path, WriteOptions::default()).map_err(|e| NotPassed::Failed(e.to_string()))?;
    let in_runtime = |path: &Path| {
        let outputs = runtime.open(path, 1).and_then(|mut session| session.run(&case.inputs));
        let because = |e: &dyn std::error::Error| e.source().map_or(String::new(), |cause| format!(": {cause}"));
        outputs.map_err(|e| format!("{e}{}", because(&e))).and_then(|outputs| case.check(&outputs))
    };
    match in_runtime(&path) {
        Ok(()) => Ok(()),
        Err(reason) if reason.contains("Could not find an implementation") => {
            Err(NotPassed::Skipped(format!("not implemented by ONNX Runtime at opset {NEWEST_OPSET}")))
        }
        Err(_) if in_runtime(&folder.join("model.onnx")).is_err() => Err(NotPassed::Skipped("not run by ONNX Runtime as it comes".into())),
        Err(reason) => Err(NotPassed::Failed(format!("in ONNX Runtime: {reason}"))),
    }
}
