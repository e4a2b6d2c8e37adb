use super::cross_entropy::{Targets, keep_if_better, slope};
use super::{Correction, Fitted, Logits};
use crate::quant::QuantError;

/// The largest temperature, and the inverse of the smallest: beyond it no sample says anything.
pub const MAX_TEMPERATURE: f64 = 20.0;

/// Newton's steps, each of which at least halves what is left where it does not converge faster.
const MOST_STEPS: usize = 60;

/// The slope, in logits, at which nothing is left to gain.
const FLAT: f64 = 1e-12;

/// Divides outputs by the temperature with the highest likelihood of labels: [N, C] and [N]. It is one scale, so that predictions stay
/// what they were.
///
/// # Errors
/// When there is not one label of the model's classes for each sample.
pub fn temperature(logits: &Logits<'_>, labels: &[u32]) -> Result<Fitted, QuantError> {
    logits.check_labels(labels)?;
    let targets = Targets::Labels(labels);
    let classes = logits.classes();
    let correction = Correction { scale: vec![best_scale(logits, &targets) as f32; classes], offset: vec![0.0; classes] };
    Ok(keep_if_better(logits, &targets, correction))
}

/// The β with the least mean loss of β · z, from 1 / [`MAX_TEMPERATURE`] to [`MAX_TEMPERATURE`].
pub(super) fn best_scale(logits: &Logits<'_>, targets: &Targets<'_>) -> f64 {
    // The loss is convex in β, so that its slope has one sign on either side of the minimum.
    let (mut low, mut high) = (1.0 / MAX_TEMPERATURE, MAX_TEMPERATURE);
    let mut beta = 1.0;
    for _ in 0..MOST_STEPS {
        let (first, second) = slope(logits, targets, beta);
        if first.abs() < FLAT {
            break;
        }
        if first > 0.0 {
            high = beta;
        } else {
            low = beta;
        }
        let newton = beta - first / second;
        let next = if low < newton && newton < high { newton } else { (low * high).sqrt() };
        let moved = (next / beta - 1.0).abs();
        beta = next;
        if moved < 1e-7 {
            break;
        }
    }
    beta
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs (z, 0), of which class 0 is right as often as softmax says, a thousand samples for each z.
    fn calibrated(factor: f32) -> (Vec<f32>, Vec<u32>) {
        let (mut logits, mut labels) = (vec![], vec![]);
        for z in [-2.0f32, -0.5, 0.0, 1.0, 3.0] {
            let right = (1000.0 / (1.0 + (-z).exp())).round() as usize;
            for sample in 0..1000 {
                logits.extend([z * factor, 0.0]);
                labels.push(u32::from(sample >= right));
            }
        }
        (logits, labels)
    }

    #[test]
    fn twice_too_sure_is_a_temperature_of_two() {
        for factor in [0.25f32, 1.0, 2.0, 8.0] {
            let (logits, labels) = calibrated(factor);
            let fitted = temperature(&Logits::new(&logits, 2).expect("fits"), &labels).expect("fits");
            let temperature = 1.0 / fitted.correction.scale[0];
            assert!((temperature / factor - 1.0).abs() < 2e-3, "{temperature}, not {factor}");
            assert!(fitted.after <= fitted.before);
        }
    }

    #[test]
    fn always_right_or_always_wrong_stays_within_bounds() {
        let logits = [1.0, 0.0, 0.0, 1.0];
        let logits = Logits::new(&logits, 2).expect("fits");
        let sure = temperature(&logits, &[0, 1]).expect("fits").correction.scale[0];
        assert!((f64::from(sure) / MAX_TEMPERATURE - 1.0).abs() < 1e-4, "{sure}");
        let wrong = temperature(&logits, &[1, 0]).expect("fits").correction.scale[0];
        assert!((f64::from(wrong) * MAX_TEMPERATURE - 1.0).abs() < 1e-4, "{wrong}");
        // Nothing to choose by.
        let flat = Logits::new(&[1.0, 1.0], 2).expect("fits");
        assert!(temperature(&flat, &[0]).expect("fits").correction.is_identity());
    }
}
