//! `penjing compare`: a result beside the model it was made from.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use penjing_compress::{CompareOptions, Compared, compare, open_inputs};
use penjing_exec::train::{InnerSimilarity, InnerValues, Similarity};

use crate::Goal;
use crate::options::{DataOptions, RuntimeOptions, SplitName, read_model};
use crate::progress::{Display, warn};
use crate::run::accuracy_line;
use crate::similarity::similarity_line;
use crate::table::{print, table};

/// SQNR in dB below which a runtime's rewrites change more than the order of sums.
const LOSSY: f64 = 40.0;
/// Inner values that are shown to people.
const SHOWN: usize = 20;

/// Compare a model with its original on the same samples: accuracy side by side, predictions that flipped, outputs, and inner
/// values, the worst first
#[derive(Args)]
pub(crate) struct Compare {
    /// The original, an ONNX model
    original: PathBuf,
    /// What was made from it
    result: PathBuf,
    /// Which split to measure
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
    /// Samples that inner values are compared on; 0: on none
    #[arg(long, value_name = "N", default_value_t = 64)]
    samples: usize,
    /// Seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON, with all inner values
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

impl Compare {
    pub(crate) fn run(self, threads: usize) -> Result<Goal> {
        let source = self.data.required(self.seed)?;
        let (original, result) = (read_model(&self.original)?, read_model(&self.result)?);
        let data = open_inputs(&source, self.split.options(&source), &original)?;
        let options = CompareOptions { runtime: self.runtime.find()?, threads, split: self.split.split(), samples: self.samples };
        warn(&data.describe().to_string());
        let found = compare(&original, &result, &data, options, &mut Display::new())?;
        print(&if self.json { serde_json::to_string_pretty(&found)? } else { self.shown(&found) })?;
        Ok(Goal::Met)
    }

    /// What was found, for people.
    fn shown(&self, found: &Compared) -> String {
        let mut lines = vec![format!("{}: {} samples, {}", self.split.name(), found.samples, found.runtime)];
        lines.extend(found.accuracy.as_ref().map(|accuracy| accuracy_line("accuracy", accuracy)));
        lines.extend(found.no_accuracy.as_ref().map(|reason| format!("accuracy: not measured, {reason}")));
        lines.extend(found.outputs.iter().map(similarity_line));
        lines.extend(found.inner.as_ref().map(inner_lines));
        lines.extend(found.optimization.iter().flatten().map(optimization_line));
        lines.join("\n")
    }
}

/// What the runtime's own rewrites do to an output, and what that may come from.
fn optimization_line(output: &Similarity) -> String {
    let hint = match output.sqnr < LOSSY {
        true => " (hint: processors without VNNI add products of 8 bits in 16, where they may saturate; weights of 7 bits never do)",
        false => "",
    };
    format!("what ONNX Runtime's optimisation changes, {}{hint}", similarity_line(output))
}

fn inner_lines(InnerValues { samples, values, other_shape }: &InnerValues) -> String {
    let differing: Vec<&InnerSimilarity> = values.iter().filter(|value| value.sqnr != f64::INFINITY).collect();
    let row = |value: &&InnerSimilarity| {
        let InnerSimilarity { value, beside, operator, cosine, sqnr } = value;
        let beside = if beside == value { "" } else { beside };
        vec![value.clone(), operator.clone(), format!("{sqnr:.1}"), format!("{cosine:.6}"), beside.to_string()]
    };
    let mut lines = vec![];
    match &differing[..] {
        [] => lines.push(format!("inner values on {samples} samples: nothing differs in the {} that both have", values.len())),
        worst => {
            lines.push(format!("inner values on {samples} samples, the worst first (nodes run one by one, as they are written):"));
            let rows: Vec<Vec<String>> = worst.iter().take(SHOWN).map(row).collect();
            lines.push(table(&["value", "operator", "SQNR dB", "cosine", "beside"], &rows));
        }
    }
    let left = differing.len().saturating_sub(SHOWN);
    if left > 0 {
        lines.push(format!("and {left} more that are nearer (--json lists them)"));
    }
    let equal = values.len() - differing.len();
    if equal > 0 && !differing.is_empty() {
        lines.push(format!("nothing differs in {equal} others"));
    }
    if !other_shape.is_empty() {
        lines.push(format!("{} have another shape now and are not compared", other_shape.len()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, sqnr: f64) -> InnerSimilarity {
        InnerSimilarity { value: name.into(), beside: format!("{name}_dequantized"), operator: "Conv".into(), cosine: 0.5, sqnr }
    }

    #[test]
    fn a_lossy_optimisation_says_what_it_may_be() {
        let (cosine, largest_difference, relative_difference) = (1.0, 0.5, 0.1);
        let output = |sqnr| Similarity { output: "y".into(), cosine, sqnr, largest_difference, relative_difference, agreement: None };
        assert!(optimization_line(&output(39.0)).contains("SQNR 39.0 dB") && optimization_line(&output(39.0)).contains("VNNI"));
        assert!(!optimization_line(&output(41.0)).contains("hint"));
    }

    #[test]
    fn the_worst_are_shown_and_the_others_counted() {
        let values = (0..22).map(|i| value(&format!("v{i}"), f64::from(i))).chain([value("same", f64::INFINITY)]).collect();
        let lines = inner_lines(&InnerValues { samples: 3, values, other_shape: vec!["cut".into()] });
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], "inner values on 3 samples, the worst first (nodes run one by one, as they are written):");
        assert_eq!(lines[2], "v0         Conv      0.0  0.500000   v0_dequantized");
        assert_eq!(lines[lines.len() - 3], "and 2 more that are nearer (--json lists them)");
        assert_eq!(lines[lines.len() - 2..], ["nothing differs in 1 others", "1 have another shape now and are not compared"]);
        assert_eq!(lines.len(), 2 + 20 + 3);
        let same = inner_lines(&InnerValues { samples: 3, values: vec![value("same", f64::INFINITY)], other_shape: vec![] });
        assert_eq!(same, "inner values on 3 samples: nothing differs in the 1 that both have");
    }
}
