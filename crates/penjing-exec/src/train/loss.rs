//! The loss as text: `cross-entropy`, `cross-entropy:0.1` (label smoothing), `mse`.

use std::fmt;
use std::str::FromStr;

use penjing_graph::Tensor;

use crate::data::{Batch, Dataset};
use crate::{ExecError, Loss, Target};

/// Why cross-entropy cannot be had from targets.
const NUMBERS_FOR_CLASSES: &str = "cross-entropy needs a class for each sample, but the data hold numbers to come near to (hint: --loss \
                                   mse, or whole numbers from 0 as `y`)";

impl Loss {
    /// What the outputs of a batch are compared with: the classes of its samples, of which there are so many, or their targets.
    ///
    /// # Errors
    /// When the samples have neither, or numbers where classes are needed.
    pub fn target(&self, batch: &Batch, classes: usize) -> Result<Target, ExecError> {
        match (self, &batch.labels, &batch.targets) {
            (Loss::CrossEntropy { .. }, Some(labels), _) => Ok(Target::Classes(labels.clone())),
            (Loss::Mse, _, Some(targets)) => Ok(Target::Values(targets.clone())),
            (Loss::Mse, Some(labels), None) => Ok(Target::Values(one_hot(labels, classes))),
            (Loss::CrossEntropy { .. } | Loss::Mse, None, targets) => Err(self.refusal(targets.is_some())),
        }
    }

    /// Whether a set can be trained on by this loss: one with classes, or with numbers to come near to.
    pub(super) fn check(&self, data: &Dataset) -> Result<(), ExecError> {
        match (self, data.classes(), data.target_shape()) {
            (_, Some(_), _) | (Loss::Mse, None, Some(_)) => Ok(()),
            (Loss::CrossEntropy { .. } | Loss::Mse, None, targets) => Err(self.refusal(targets.is_some())),
        }
    }

    /// Why samples without classes cannot be trained on.
    fn refusal(&self, numbers: bool) -> ExecError {
        let reason = if numbers { NUMBERS_FOR_CLASSES } else { "the data have no labels to train on (hint: --labels FILE)" };
        ExecError::Option(reason.into())
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
    fn a_target_for_each_loss() -> Result<(), ExecError> {
        let (zeros, numbers) = (Tensor::new([1, 2], vec![0.0f32; 2]), Tensor::new([1, 2], vec![0.5f32, -3.0]));
        let batch = |labels: Option<Vec<u32>>, targets: Option<&Tensor>| Batch {
            inputs: vec![zeros.clone()],
            labels,
            targets: targets.cloned(),
            indices: vec![0],
        };
        let cross_entropy = Loss::CrossEntropy { smoothing: 0.0 };
        assert_eq!(cross_entropy.target(&batch(Some(vec![1]), None), 2)?, Target::Classes(vec![1]));
        assert_eq!(Loss::Mse.target(&batch(Some(vec![1]), None), 2)?, Target::Values(Tensor::new([1, 2], vec![0.0f32, 1.0])));
        assert_eq!(Loss::Mse.target(&batch(None, Some(&numbers)), 0)?, Target::Values(numbers.clone()));
        for (loss, batch, says) in [
            (cross_entropy, batch(None, Some(&numbers)), "--loss mse"),
            (cross_entropy, batch(None, None), "--labels"),
            (Loss::Mse, batch(None, None), "--labels"),
        ] {
            let text = loss.target(&batch, 0).expect_err("refused").to_string();
            assert!(text.contains(says), "{text}");
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
