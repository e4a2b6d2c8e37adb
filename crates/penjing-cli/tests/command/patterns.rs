//! Patterns and criteria, from the command to the file.

use std::path::Path;

use penjing_compress::prune::{Block, WeightMatrix, prunable};
use penjing_graph::{Graph, Tensor, onnx};

use super::{clothes, run};

/// Every weight of a file as the rows of its matrix: which elements are not zero.
fn rows(path: &Path) -> Vec<Vec<Vec<bool>>> {
    let graph = onnx::read(path).expect("a model");
    let consumers = graph.consumers();
    let of = |graph: &Graph, id| {
        let stored = graph.tensor(id).and_then(Tensor::values::<f32>).expect("floats").iter().map(|w| *w != 0.0).collect::<Vec<_>>();
        let matrix = WeightMatrix::of(graph, &consumers, id).expect("a matrix");
        matrix.gather(&stored).chunks(matrix.columns()).map(<[bool]>::to_vec).collect()
    };
    prunable(&graph).into_iter().map(|id| of(&graph, id)).collect()
}

fn left(row: &[bool]) -> usize {
    row.iter().filter(|kept| **kept).count()
}

#[test]
fn patterns_hold_exactly_after_retraining() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let train = ["train", "lenet-300-100", "--data", &data, "--epochs", "1", "-o", "dense.onnx"];
    assert_eq!(run(&train, folder.path()).2, Some(0));

    let prune = ["prune", "dense.onnx", "--data", &data, "--epochs", "1"];
    let two_of_four = [&prune[..], &["--pattern", "2:4", "--criterion", "wanda", "-o", "24.onnx"]].concat();
    let (out, err, code) = run(&two_of_four, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("Pruned 133100 of 266200 weights (50.0 %)"), "{out}");
    for layer in rows(&folder.path().join("24.onnx")) {
        assert!(layer.iter().flat_map(|row| row.chunks(4)).all(|group| left(group) == 2));
    }

    let blocks = [&prune[..], &["--pattern", "4x1", "--sparsity", "0.75", "-o", "41.onnx"]].concat();
    let (out, err, code) = run(&blocks, folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    let (high, wide) = Block::new(4, 1).expect("4x1").size();
    let (mut gone, mut all) = (0, 0);
    for layer in rows(&folder.path().join("41.onnx")) {
        for band in layer.chunks(high) {
            for column in (0..band[0].len()).step_by(wide) {
                let block: Vec<bool> = band.iter().map(|row| row[column]).collect();
                assert!(left(&block) == 0 || left(&block) == block.len(), "a block is cut apart");
                all += 1;
                gone += usize::from(left(&block) == 0);
            }
        }
    }
    assert_eq!(gone, all * 3 / 4);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (options, says) in [
        (&["--pattern", "2:4", "--sparsity", "0.9"][..], "the pattern 2:4 is a sparsity of 0.5, not of 0.9"),
        (&["--pattern", "4:2", "--sparsity", "0.9"], "`4:2` is no pattern"),
        (&["--pattern", "4x1"], "how far?"),
        (&["--sparsity", "0.5", "--criterion", "wanda"], "needs data to look at"),
        (&["--sparsity", "0.5", "--criterion", "sparsegpt", "--scope", "global", "--data", "x"], "--scope layer"),
        (&["--sparsity", "0.5", "--rewind"], "weights can be rewound only where the network is trained in this run"),
        (&["--sparsity", "0.5", "--data", "x", "--rewind-epoch", "11"], "no epoch 11 to rewind to"),
        (&["--sparsity", "0.5", "--criterion", "snap"], "magnitude, taylor, fisher, snip"),
    ] {
        let args = [&["prune", "lenet-5", "-o", "x.onnx"], options].concat();
        let (_, err, code) = run(&args, folder.path());
        assert_eq!(code, Some(2), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn an_n_of_m_pattern_without_data_says_what_stays_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, err, code) = run(&["prune", "lenet-5", "--pattern", "2:4", "-o", "p.onnx"], folder.path());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("`conv1.weight`: stays whole: 1 input features make no group of 4"), "{out}");
}

/// Rewound with nothing pruned, the second training is the first, to the bit.
#[test]
fn rewinding_goes_back_to_the_initial_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = clothes();
    let prune = ["prune", "lenet-300-100", "--data", &data, "--epochs", "1", "--dense", "-o"];
    let weights = |path: &str| {
        let graph = onnx::read(folder.path().join(path)).expect("a model");
        prunable(&graph).into_iter().map(|id| graph.tensor(id).cloned()).collect::<Vec<_>>()
    };
    // Whether so dense a network is a gain does not matter here.
    for (name, rewind, same) in [("rewound", Some("--rewind"), true), ("trained-on", None, false)] {
        let output = format!("{name}.onnx");
        let args: Vec<&str> = prune.into_iter().chain([&*output, "--sparsity", "0"]).chain(rewind).collect();
        let (out, err, code) = run(&args, folder.path());
        assert!(matches!(code, Some(0 | 3)), "{out}{err}");
        assert_eq!(weights(&output) == weights(&format!("{name}.run/original.onnx")), same, "{name}");
    }
    let output = ["ticket.onnx", "--sparsity", "0.75", "--steps", "2", "--pruning-schedule", "exponential", "--rewind-epoch", "1"];
    let (out, err, code) = run(&[&prune[..], &output].concat(), folder.path());
    assert!(out.contains("Pruned 199650 of 266200 weights (75.0 %)") && err.contains("sparsity 50.00 %"), "{code:?} {out}{err}");
}
