use super::cross_entropy::{Targets, fit};
use super::{Fitted, Logits};
use crate::quant::QuantError;

/// Standard deviation of the prior of a class's correction, in logits. Narrow, as labels say little of a class with few samples.
const DEVIATION: f64 = 0.5;

/// A scale and an offset for each class, with the highest likelihood of labels: [N, C] and [N]. Held towards the best scale for all.
///
/// # Errors
/// When there is not one label of the model's classes for each sample.
pub fn vector(logits: &Logits<'_>, labels: &[u32]) -> Result<Fitted, QuantError> {
    logits.check_labels(labels)?;
    Ok(fit(logits, &Targets::Labels(labels), DEVIATION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::correct_output::temperature;

    #[test]
    fn an_offset_is_found() {
        // ln (p / (1 − p)) of class 0 is z; it was given as 2·z − 1, for 1,000 samples of each z.
        let (mut logits, mut labels) = (vec![], vec![]);
        for z in [-2.0f32, -1.0, 0.0, 1.0, 2.0] {
            let right = (1000.0 / (1.0 + (-z).exp())).round() as usize;
            for sample in 0..1000 {
                logits.extend([2.0 * z - 1.0, 0.0]);
                labels.push(u32::from(sample >= right));
            }
        }
        let fitted = vector(&Logits::new(&logits, 2).expect("fits"), &labels).expect("fits");
        let correction = fitted.correction;
        // z = (given + 1) / 2, of which class 1 with its constant output takes a part of the offset.
        let offset = correction.offset[0] - correction.offset[1];
        assert!((correction.scale[0] - 0.5).abs() < 0.01 && (offset - 0.5).abs() < 0.01, "{correction:?}");
    }

    #[test]
    fn a_class_that_was_never_seen_keeps_the_scale_of_all() {
        let logits: Vec<f32> = (0..200).flat_map(|i| [(i as f32).sin(), (i as f32).cos(), -30.0]).collect();
        let labels: Vec<u32> = (0..200).map(|i| u32::from((i as f32).sin() < (i as f32).cos())).collect();
        let logits = Logits::new(&logits, 3).expect("fits");
        let of_all = temperature(&logits, &labels).expect("fits");
        let fitted = vector(&logits, &labels).expect("fits");
        assert!(fitted.after < of_all.after && of_all.after < of_all.before, "{fitted:?}");
        assert!(fitted.correction.offset[2].abs() < 1e-6, "{:?}", fitted.correction);
        assert_eq!(fitted.correction.scale[2], of_all.correction.scale[2]);
    }
}
