use super::cross_entropy::{Targets, fit};
use super::{Fitted, Logits};
use crate::quant::QuantError;

/// Standard deviation of the prior of a class's correction, in logits. Wide, as each sample says something of each class.
const DEVIATION: f64 = 2.0;

/// A scale and an offset for each class of the quantized model, with the least Kullback-Leibler divergence from the float model's
/// probabilities to its own, both [N, C]. Needs no labels. Held towards the best scale for all.
///
/// # Errors
/// When the two have different numbers of samples or classes.
pub fn matching(quantized: &Logits<'_>, float: &Logits<'_>) -> Result<Fitted, QuantError> {
    quantized.check_same_shape(float)?;
    Ok(fit(quantized, &Targets::of(float), DEVIATION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::correct_output::agreement;

    #[test]
    fn predictions_that_an_offset_flipped_come_back() {
        let float: Vec<f32> = (0..400).flat_map(|i| [(i as f32 * 1.3).sin() * 4.0, (i as f32 * 0.7).cos() * 4.0]).collect();
        // Class 0 came out 1.5 too high and class 1 a fifth too small.
        let quantized: Vec<f32> = float.chunks(2).flat_map(|z| [z[0] + 1.5, 0.8 * z[1]]).collect();
        let (float, quantized) = (Logits::new(&float, 2).expect("fits"), Logits::new(&quantized, 2).expect("fits"));
        let before = agreement(&float, &quantized).expect("same shape");
        let fitted = matching(&quantized, &float).expect("same shape");
        let corrected = fitted.correction.apply(&quantized);
        let after = agreement(&float, &Logits::new(&corrected, 2).expect("fits")).expect("same shape");
        assert!(before < 0.9 && after >= 0.99, "{before} became {after}");
        assert!(fitted.after < 0.01 * fitted.before, "{fitted:?}");
        let offset = fitted.correction.offset[0] - fitted.correction.offset[1];
        assert!((offset + 1.5).abs() < 0.1 && (fitted.correction.scale[1] - 1.25).abs() < 0.05, "{:?}", fitted.correction);
    }

    #[test]
    fn equal_models_need_nothing() {
        let logits: Vec<f32> = (0..90).map(|i| (i as f32).sin() * 5.0).collect();
        let logits = Logits::new(&logits, 3).expect("fits");
        let fitted = matching(&logits, &logits).expect("same shape");
        assert!(fitted.before < 1e-6 && fitted.correction.scale.iter().all(|s| (s - 1.0).abs() < 1e-4), "{fitted:?}");
    }
}
