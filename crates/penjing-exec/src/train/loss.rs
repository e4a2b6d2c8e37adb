//! The loss as text: `cross-entropy`, `cross-entropy:0.1` (label smoothing), `mse`.

use std::fmt;
use std::str::FromStr;

use penjing_graph::Tensor;

use crate::{ExecError, Loss, Target};

impl Loss {
    /// What outputs are compared with, from the class of each sample.
    pub fn target(&self, labels: Vec<u32>, classes: usize) -> Target {
        match self {
            Loss::CrossEntropy { .. } => Target::Classes(labels),
            Loss::Mse => Target::Values(one_hot(&labels, classes)),
        }
    }
}

/// [N] classes → [N, C], 1 at the class and 0 elsewhere.
fn one_hot(labels: &[u32], classes: usize) -> Tensor {
    let row = |label: &u32| (0..classes).map(move |class| f32::from(u8::from(class == *label as usize))).collect::<Vec<_>>();
    Tensor::new([labels.len(), classes], labels.iter().flat_map(row).collect())
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::CrossEntropy { smoothing: 0.0 } => f.write_str("cross-entropy"),
            Loss::CrossEntropy { smoothing } => write!(f, "cross-entropy:{smoothing}"),
            Loss::Mse => f.write_str("mse"),
        }
    }
}

impl FromStr for Loss {
    type Err = ExecError;

    fn from_str(text: &str) -> Result<Loss, ExecError> {
        match text.split_once(':') {
            None if text == "cross-entropy" => Ok(Loss::CrossEntropy { smoothing: 0.0 }),
            None if text == "mse" => Ok(Loss::Mse),
            Some(("cross-entropy", smoothing)) => match smoothing.parse() {
                Ok(smoothing) if (0.0..1.0).contains(&smoothing) => Ok(Loss::CrossEntropy { smoothing }),
                _ => Err(ExecError::Option(format!("label smoothing `{smoothing}` must be at least 0 and below 1 (hint: 0.1 is usual)"))),
            },
            _ => Err(ExecError::Option(format!("loss `{text}` is none of cross-entropy, cross-entropy:SMOOTHING, mse"))),
        }
    }
}

impl TryFrom<String> for Loss {
    type Error = ExecError;

    fn try_from(text: String) -> Result<Loss, ExecError> {
        text.parse()
    }
}

impl From<Loss> for String {
    fn from(loss: Loss) -> String {
        loss.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() -> Result<(), ExecError> {
        let smooth = Loss::CrossEntropy { smoothing: 0.1 };
        for (text, loss) in [("cross-entropy", Loss::CrossEntropy { smoothing: 0.0 }), ("cross-entropy:0.1", smooth), ("mse", Loss::Mse)] {
            assert_eq!(text.parse::<Loss>()?, loss);
            assert_eq!(loss.to_string(), text);
        }
        Ok(())
    }

    #[test]
    fn one_hot_rows() {
        assert_eq!(one_hot(&[1, 0], 3), Tensor::new([2, 3], vec![0.0f32, 1.0, 0.0, 1.0, 0.0, 0.0]));
    }

    #[test]
    fn refusals_name_the_way_out() {
        let refusal = |text: &str| text.parse::<Loss>().map_err(|e| e.to_string());
        assert_eq!(refusal("hinge"), Err("loss `hinge` is none of cross-entropy, cross-entropy:SMOOTHING, mse".into()));
        for smoothing in ["1", "-0.1", "NaN", "much", ""] {
            let text = refusal(&format!("cross-entropy:{smoothing}")).expect_err("no smoothing");
            assert!(text.starts_with(&format!("label smoothing `{smoothing}` must be at least 0 and below 1")), "{text}");
        }
    }
}
