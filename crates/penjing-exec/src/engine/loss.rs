//! From outputs and target to one number and its gradient.

use penjing_graph::ValueId;
use penjing_graph::ops::Op;

use super::Engine;
use crate::ExecError;
use crate::executor::{Loss, Target};
use crate::kernels::{Float, Kernels, Value};

impl<B: Kernels> Engine<B> {
    /// The value that the loss reads: the first output, or for cross-entropy the input of a final `Softmax` or
    /// `LogSoftmax`, since the loss of logits neither overflows nor loses precision.
    pub(super) fn loss_input(&self, loss: &Loss) -> Result<ValueId, ExecError> {
        let output = self.graph.outputs().first().copied().ok_or_else(|| ExecError::Option("the model has no output to train".into()))?;
        let producer = self.graph.value(output).producer.map(|id| self.graph.node(id));
        Ok(match (loss, producer) {
            (Loss::CrossEntropy { .. }, Some(node)) if matches!(node.op, Op::Softmax(_)) => node.input(0).unwrap_or(output),
            _ => output,
        })
    }

    /// The loss and its gradient by `output`.
    pub(super) fn loss(&self, root: ValueId, output: Float<B>, target: &Target, loss: &Loss) -> Result<(f32, Float<B>), ExecError> {
        let refuse = |reason: String| ExecError::Option(format!("the output `{}` of shape {:?} {reason}", self.name(root), output.dims()));
        match (loss, target) {
            (Loss::CrossEntropy { smoothing }, Target::Classes(classes)) => {
                let [n, c] = output.dims()[..] else {
                    return Err(refuse("is not [N, classes], which cross-entropy needs (hint: use the loss mse)".into()));
                };
                if n != classes.len() || n == 0 {
                    return Err(refuse(format!("does not fit {} labels", classes.len())));
                }
                if let Some((sample, class)) = classes.iter().enumerate().find(|(_, class)| **class as usize >= c) {
                    return Err(refuse(format!("has classes 0 to {}, but sample {sample} of the batch has label {class}", c - 1)));
                }
                if !(0.0..1.0).contains(smoothing) {
                    return Err(ExecError::Option(format!("a label smoothing of {smoothing} is not from 0 up to 1")));
                }
                let (loss, gradient) = B::cross_entropy(output.0, classes, *smoothing);
                Ok((loss, Float(gradient)))
            }
            (Loss::Mse, Target::Values(values)) => {
                if values.dims() != output.dims() || values.is_empty() {
                    return Err(refuse(format!("does not fit a target of shape {:?}", values.dims())));
                }
                let Some(Value::Float(target)) = Value::<B>::from_tensor(values, &self.device) else {
                    return Err(refuse(format!("cannot be compared with a target of type {}", values.dtype().name())));
                };
                // L = Σ(y − t)²/n ⇒ dy = 2(y − t)/n
                let n = output.len() as f32;
                let difference = output.clone() - target.cast(output.dtype());
                let loss = B::sum_of_squares(difference.0.clone()) / f64::from(n);
                Ok((loss as f32, difference * (2.0 / n)))
            }
            (Loss::CrossEntropy { .. }, Target::Values(_)) => {
                Err(ExecError::Option("cross-entropy needs classes as the target (hint: use the loss mse)".into()))
            }
            (Loss::Mse, Target::Classes(_)) => {
                Err(ExecError::Option("mse needs numbers as the target (hint: use the loss cross-entropy)".into()))
            }
        }
    }
}
