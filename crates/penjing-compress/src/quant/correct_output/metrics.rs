//! How good probabilities are.

use serde::{Deserialize, Serialize};

use super::Logits;
use super::cross_entropy::{Targets, log_softmax, mean_loss};
use crate::quant::QuantError;
use crate::quant::correct_output::Correction;

/// Bins of equal width that confidences are sorted into: Guo et al. 2017.
const BINS: usize = 15;

/// A classifier's probabilities beside labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quality {
    /// Fraction of samples whose class has the highest output; ties go to the lower class.
    pub accuracy: f64,
    /// Mean of −ln of the label's probability, in nats.
    pub nll: f64,
    /// Expected calibration error, 0 to 1: how far accuracy and confidence lie apart in each of 15 bins of confidence
    /// ((m − 1)/15, m/15], averaged over samples. Naeini et al. 2015; Guo et al. 2017, eq. 3.
    pub ece: f64,
    /// Mean of Σ (p − [class is the label])², 0 to 2. Brier 1950.
    pub brier: f64,
}

impl Quality {
    /// Of outputs [N, C] beside labels [N].
    ///
    /// # Errors
    /// When there is not one label of the model's classes for each sample.
    pub fn of(logits: &Logits<'_>, labels: &[u32]) -> Result<Quality, QuantError> {
        logits.check_labels(labels)?;
        let (mut nll, mut brier, mut right) = (0.0, 0.0, 0usize);
        // Σ (is right − confidence) of each bin.
        let mut gaps = [0.0f64; BINS];
        let mut p = vec![];
        for (z, label) in logits.rows().zip(labels) {
            log_softmax(z.iter().map(|z| f64::from(*z)), &mut p);
            nll -= p[*label as usize];
            p.iter_mut().for_each(|log_p| *log_p = log_p.exp());
            let target = |class: usize| f64::from(u8::from(class == *label as usize));
            brier += p.iter().enumerate().map(|(class, p)| (p - target(class)).powi(2)).sum::<f64>();
            let predicted = prediction(z);
            right += usize::from(predicted == *label);
            let confidence = p[predicted as usize];
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            gaps[bin] += target(predicted as usize) - confidence;
        }
        let n = labels.len() as f64;
        let ece = gaps.iter().map(|gap| gap.abs()).sum::<f64>() / n;
        Ok(Quality { accuracy: right as f64 / n, nll: nll / n, ece, brier: brier / n })
    }
}

/// The class with the highest output of each sample; ties go to the lower class.
pub fn predictions(logits: &Logits<'_>) -> Vec<u32> {
    logits.rows().map(prediction).collect()
}

fn prediction(z: &[f32]) -> u32 {
    let highest = |best: usize, class: usize| if z[class] > z[best] { class } else { best };
    (0..z.len()).reduce(highest).unwrap_or_default() as u32
}

/// Fraction of samples for which two models predict the same class.
///
/// # Errors
/// When they have different numbers of samples or classes.
pub fn agreement(a: &Logits<'_>, b: &Logits<'_>) -> Result<f64, QuantError> {
    a.check_same_shape(b)?;
    let same = a.rows().zip(b.rows()).filter(|(a, b)| prediction(a) == prediction(b)).count();
    Ok(same as f64 / a.samples() as f64)
}

/// Mean Kullback-Leibler divergence of a sample from the float model's probabilities to the other's, in nats: Σ p ln (p / q).
///
/// # Errors
/// When they have different numbers of samples or classes.
pub fn divergence(float: &Logits<'_>, other: &Logits<'_>) -> Result<f64, QuantError> {
    float.check_same_shape(other)?;
    Ok(mean_loss(other, &Targets::of(float), &Correction::identity(other.classes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_by_hand() {
        // p = (0.75, 0.25), right, and (0.25, 0.75), wrong: confidence 0.75 twice, accuracy ½, in one bin.
        let z = 3f32.ln();
        let logits = [z, 0.0, 0.0, z];
        let logits = Logits::new(&logits, 2).expect("fits");
        let quality = Quality::of(&logits, &[0, 0]).expect("fits");
        assert_eq!(quality.accuracy, 0.5);
        assert!((quality.nll + (0.75f64.ln() + 0.25f64.ln()) / 2.0).abs() < 1e-6, "{quality:?}");
        assert!((quality.ece - 0.25).abs() < 1e-6, "{quality:?}");
        assert!((quality.brier - (2.0 * 0.0625 + 2.0 * 0.5625) / 2.0).abs() < 1e-6, "{quality:?}");
        assert_eq!(predictions(&logits), [0, 1]);
        assert_eq!(predictions(&Logits::new(&[1.0, 1.0], 2).expect("fits")), [0]);
    }

    #[test]
    fn bins_do_not_cancel_each_other() {
        // Confidence 0.9 and wrong, confidence ½ and right: gaps of −0.9 and ½ in two bins.
        let logits = [9f32.ln(), 0.0, 0.0, 0.0];
        let quality = Quality::of(&Logits::new(&logits, 2).expect("fits"), &[1, 0]).expect("fits");
        assert!((quality.ece - (0.9 + 0.5) / 2.0).abs() < 1e-6, "{quality:?}");
    }

    #[test]
    fn two_models_by_hand() {
        let (a, b) = ([3f32.ln(), 0.0, 1.0, 0.0], [0.0, 0.0, -1.0, 0.0]);
        let (a, b) = (Logits::new(&a, 2).expect("fits"), Logits::new(&b, 2).expect("fits"));
        assert_eq!(agreement(&a, &b), Ok(0.5));
        // ¾ ln (¾ / ½) + ¼ ln (¼ / ½), and of a sigmoid and its mirror (2p − 1) · 1.
        let first = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        let p = 1.0 / (1.0 + (-1f64).exp());
        let found = divergence(&a, &b).expect("same shape");
        assert!((found - (first + 2.0 * p - 1.0) / 2.0).abs() < 1e-6, "{found}");
    }
}
