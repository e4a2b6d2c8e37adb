use super::cross_entropy::{Targets, fit};
use super::{Fitted, Logits};
use crate::quant::QuantError;

/// A scale and an offset for each class, with the highest likelihood of labels: [N, C] and [N]. Held towards changing nothing by as much
/// as one sample says.
///
/// # Errors
/// When there is not one label of the model's classes for each sample.
pub fn vector(logits: &Logits<'_>, labels: &[u32]) -> Result<Fitted, QuantError> {
    logits.check_labels(labels)?;
    Ok(fit(logits, &Targets::Labels(labels)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(correction.scale[1], 1.0);
    }

    #[test]
    fn a_class_that_was_never_seen_keeps_its_scale() {
        let logits: Vec<f32> = (0..200).flat_map(|i| [(i as f32).sin(), (i as f32).cos(), -30.0]).collect();
        let labels: Vec<u32> = (0..200).map(|i| u32::from((i as f32).sin() < (i as f32).cos())).collect();
        let fitted = vector(&Logits::new(&logits, 3).expect("fits"), &labels).expect("fits");
        assert!(fitted.after < fitted.before);
        assert!(fitted.correction.offset[2].abs() < 1e-6 && fitted.correction.scale[2] == 1.0, "{:?}", fitted.correction);
    }
}
