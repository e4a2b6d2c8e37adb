//! Calibrated probabilities: a scale and an offset for each class, fitted on samples that nothing else chose by, to be folded into the
//! last layer.
//!
//! With labels, by the likelihood of these: a [`temperature`] for all classes (Guo et al. 2017, "On Calibration of Modern Neural
//! Networks") or a scale and an offset each ([`vector`], there "vector scaling"). Without, by the probabilities that the float model
//! gives ([`matching`]). A temperature changes how sure a model is, never what it says; the other two can bring back predictions that
//! quantization flipped.

mod cross_entropy;
mod lbfgs;
mod matching;
mod metrics;
mod temperature;
mod vector;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use matching::matching;
pub use metrics::{Quality, agreement, divergence, predictions};
pub use temperature::{MAX_TEMPERATURE, temperature};
pub use vector::vector;

use super::{QuantError, Range};

/// What is fitted to a model's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputCorrection {
    /// One scale for all classes, by labels.
    Temperature,
    /// A scale and an offset for each class, by labels.
    Vector,
    /// A scale and an offset for each class, by the float model's probabilities.
    Match,
    /// Nothing.
    None,
}

impl OutputCorrection {
    /// Every one, in the order in which they are listed.
    pub const ALL: [OutputCorrection; 4] =
        [OutputCorrection::Temperature, OutputCorrection::Vector, OutputCorrection::Match, OutputCorrection::None];

    /// Its name in commands and recipes.
    pub fn name(self) -> &'static str {
        match self {
            OutputCorrection::Temperature => "temperature",
            OutputCorrection::Vector => "vector",
            OutputCorrection::Match => "match",
            OutputCorrection::None => "none",
        }
    }

    /// Whether samples have to have labels.
    pub fn needs_labels(self) -> bool {
        match self {
            OutputCorrection::Temperature | OutputCorrection::Vector => true,
            OutputCorrection::Match | OutputCorrection::None => false,
        }
    }
}

impl fmt::Display for OutputCorrection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for OutputCorrection {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<OutputCorrection, QuantError> {
        let known = || OutputCorrection::ALL.map(OutputCorrection::name).join(", ");
        let unknown = || QuantError::Unknown { text: text.into(), kind: "correction of outputs", known: known() };
        OutputCorrection::ALL.into_iter().find(|correction| correction.name() == text).ok_or_else(unknown)
    }
}

/// A classifier's outputs before the softmax, sample by sample: [N, C], N ≥ 1, C ≥ 1, all finite.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    values: &'a [f32],
    classes: usize,
}

impl<'a> Logits<'a> {
    /// Outputs of `classes` numbers each.
    ///
    /// # Errors
    /// When there are none, they are not whole samples, or one is NaN or infinite.
    pub fn new(values: &'a [f32], classes: usize) -> Result<Logits<'a>, QuantError> {
        if values.is_empty() || classes == 0 {
            return Err(QuantError::NoSamples { purpose: "correct outputs by" });
        }
        let whole = values.len().next_multiple_of(classes);
        if whole != values.len() {
            return Err(QuantError::Length { what: "outputs", given: values.len(), expected: whole });
        }
        Range::of(values)?;
        Ok(Logits { values, classes })
    }

    /// N.
    pub fn samples(&self) -> usize {
        self.values.len() / self.classes
    }

    /// C.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The outputs of each sample.
    pub fn rows(&self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.classes)
    }

    /// Nothing, where `labels` has a class of this model for each sample.
    fn check_labels(&self, labels: &[u32]) -> Result<(), QuantError> {
        if labels.len() != self.samples() {
            return Err(QuantError::Length { what: "labels", given: labels.len(), expected: self.samples() });
        }
        match labels.iter().position(|label| *label as usize >= self.classes) {
            Some(sample) => Err(QuantError::Label { label: labels[sample], sample, classes: self.classes }),
            None => Ok(()),
        }
    }

    /// Nothing, where `other` has as many samples and classes.
    fn check_same_shape(&self, other: &Logits<'_>) -> Result<(), QuantError> {
        if self.classes != other.classes {
            return Err(QuantError::Length { what: "classes", given: other.classes, expected: self.classes });
        }
        match other.samples() == self.samples() {
            true => Ok(()),
            false => Err(QuantError::Length { what: "samples", given: other.samples(), expected: self.samples() }),
        }
    }
}

/// What is done to the outputs: zᵢ becomes scaleᵢ · zᵢ + offsetᵢ. Both [C].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Correction {
    /// Factor of each class, positive.
    pub scale: Vec<f32>,
    /// What is added to each class.
    pub offset: Vec<f32>,
}

impl Correction {
    /// The one that changes nothing.
    pub fn identity(classes: usize) -> Correction {
        Correction { scale: vec![1.0; classes], offset: vec![0.0; classes] }
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.scale.iter().all(|scale| *scale == 1.0) && self.offset.iter().all(|offset| *offset == 0.0)
    }

    /// Corrected outputs, [N, C].
    pub fn apply(&self, logits: &Logits<'_>) -> Vec<f32> {
        let row = |row: &'_ [f32]| row.iter().zip(&self.scale).zip(&self.offset).map(|((z, s), o)| s * z + o).collect::<Vec<_>>();
        logits.rows().flat_map(row).collect()
    }
}

/// A correction and what it brought on the samples that it was fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The correction: the identity where no other is better.
    pub correction: Correction,
    /// Nats of a sample before, on average: −ln of the label's probability, or the Kullback-Leibler divergence from the float model.
    pub before: f64,
    /// The same after; never more.
    pub after: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_back() {
        for correction in OutputCorrection::ALL {
            assert_eq!(correction.name().parse(), Ok(correction));
        }
        assert!("platt".parse::<OutputCorrection>().is_err());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(Logits::new(&[], 3).expect_err("none"), QuantError::NoSamples { purpose: "correct outputs by" });
        assert_eq!(Logits::new(&[1.0; 5], 3).expect_err("half"), QuantError::Length { what: "outputs", given: 5, expected: 6 });
        assert!(matches!(Logits::new(&[1.0, f32::NAN], 2), Err(QuantError::NotFinite { first: 1, .. })));
        let logits = Logits::new(&[1.0, 2.0, 3.0, 4.0], 2).expect("fits");
        let refused = vector(&logits, &[0, 2]).expect_err("no such class");
        assert_eq!(refused, QuantError::Label { label: 2, sample: 1, classes: 2 });
        assert_eq!(temperature(&logits, &[0]).expect_err("one"), QuantError::Length { what: "labels", given: 1, expected: 2 });
        let other = Logits::new(&[1.0, 2.0, 3.0, 4.0], 4).expect("fits");
        assert_eq!(matching(&logits, &other).expect_err("shape"), QuantError::Length { what: "classes", given: 4, expected: 2 });
    }

    #[test]
    fn applied_by_hand() {
        let correction = Correction { scale: vec![2.0, 0.5], offset: vec![1.0, 0.0] };
        let logits = [1.0, 2.0, -3.0, 4.0];
        assert_eq!(correction.apply(&Logits::new(&logits, 2).expect("fits")), [3.0, 1.0, -5.0, 2.0]);
        assert!(Correction::identity(2).is_identity() && !correction.is_identity());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// No fit is worse than none on its own samples, by the measure taken anew.
        #[test]
        fn fits_never_make_it_worse(
            classes in 2usize..5, numbers in prop::collection::vec((-80i8..80, -80i8..80, 0u32..5), 5..100), scale in 0.1f32..8.0,
        ) {
            let samples = numbers.len() / classes;
            let (mut logits, mut float) = (vec![], vec![]);
            numbers[..samples * classes].iter().for_each(|(a, b, _)| {
                logits.push(f32::from(*a) / 16.0 * scale);
                float.push(f32::from(*a) / 16.0 + f32::from(*b) / 64.0);
            });
            let labels: Vec<u32> = numbers[..samples].iter().map(|(_, _, label)| label % classes as u32).collect();
            let (logits, float) = (Logits::new(&logits, classes).expect("fits"), Logits::new(&float, classes).expect("fits"));
            for (method, fitted) in [
                (OutputCorrection::Temperature, temperature(&logits, &labels)),
                (OutputCorrection::Vector, vector(&logits, &labels)),
                (OutputCorrection::Match, matching(&logits, &float)),
            ] {
                let Fitted { correction, before, after } = fitted.expect("fits");
                let corrected = correction.apply(&logits);
                let corrected = Logits::new(&corrected, classes).expect("finite");
                prop_assert!(after <= before, "{method}: {before} became {after}");
                prop_assert!(correction.scale.iter().all(|scale| *scale > 0.0), "{method}: {:?}", correction.scale);
                let measured = match method {
                    OutputCorrection::Match => divergence(&float, &corrected).expect("same shape"),
                    _ => Quality::of(&corrected, &labels).expect("fits").nll,
                };
                prop_assert!((measured - after).abs() < 1e-5 * (1.0 + after), "{method}: {measured}, not {after}");
                if method == OutputCorrection::Temperature {
                    prop_assert_eq!(predictions(&corrected), predictions(&logits));
                }
            }
        }
    }
}
