//! Observers: which range a tensor's values need, from values that come in batches and are seen once.
//!
//! Memory does not grow with their number: two numbers, or a [`Histogram`] of fixed size. All but the moving average give the same
//! range, bit for bit, in whatever order and batches the values come.

mod entropy;
mod histogram;
mod min_max;
mod moving_average;
mod mse;
mod percentile;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use entropy::Entropy;
pub use histogram::{BINS, Histogram};
pub use min_max::MinMax;
pub use moving_average::MovingAverage;
pub use mse::Mse;
pub use percentile::Percentile;

use super::{QuantError, Range, Scheme};

/// Watches the values of one tensor and says which range of them to quantize.
pub trait Observer: Send {
    /// Takes the values of one batch into account.
    ///
    /// # Errors
    /// When a value is NaN or infinite; nothing of the batch is then taken into account.
    fn observe(&mut self, values: &[f32]) -> Result<(), QuantError>;

    /// The range for a scheme; `None` until a value was seen. It always holds zero or lies on one side of it.
    fn range(&self, scheme: &Scheme) -> Option<Range>;

    /// The same, where not having seen a value is an error.
    ///
    /// # Errors
    /// [`QuantError::NotCalibrated`], which names the tensor.
    fn calibrated(&self, scheme: &Scheme, tensor: &str) -> Result<Range, QuantError> {
        self.range(scheme).ok_or_else(|| QuantError::NotCalibrated { tensor: tensor.into() })
    }
}

/// How the range of activations is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeMethod {
    /// [`MinMax`]
    MinMax,
    /// [`MovingAverage`]
    MovingAverage,
    /// [`Percentile`]
    Percentile,
    /// [`Entropy`]
    Entropy,
    /// [`Mse`]
    Mse,
}

impl RangeMethod {
    /// Every method, in the order in which they are listed.
    pub const ALL: [RangeMethod; 5] =
        [RangeMethod::MinMax, RangeMethod::MovingAverage, RangeMethod::Percentile, RangeMethod::Entropy, RangeMethod::Mse];

    /// Its name in commands and recipes.
    pub fn name(self) -> &'static str {
        match self {
            RangeMethod::MinMax => "min-max",
            RangeMethod::MovingAverage => "moving-average",
            RangeMethod::Percentile => "percentile",
            RangeMethod::Entropy => "entropy",
            RangeMethod::Mse => "mse",
        }
    }

    /// An observer that has seen nothing.
    pub fn observer(self) -> Box<dyn Observer> {
        match self {
            RangeMethod::MinMax => Box::new(MinMax::default()),
            RangeMethod::MovingAverage => Box::new(MovingAverage::default()),
            RangeMethod::Percentile => Box::new(Percentile::default()),
            RangeMethod::Entropy => Box::new(Entropy::default()),
            RangeMethod::Mse => Box::new(Mse::default()),
        }
    }
}

impl fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RangeMethod {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<RangeMethod, QuantError> {
        let known = || RangeMethod::ALL.map(RangeMethod::name).join(", ");
        let unknown = || QuantError::Unknown { text: text.into(), kind: "method of calibration", known: known() };
        RangeMethod::ALL.into_iter().find(|method| method.name() == text).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Granularity, Number, Symmetry};
    use proptest::prelude::*;

    pub(super) fn per_tensor(number: Number, symmetry: Symmetry) -> Scheme {
        Scheme::new(number, Granularity::Tensor, symmetry)
    }

    fn schemes() -> impl Iterator<Item = Scheme> {
        let numbers = [Number::Int8, Number::Uint8, Number::Int16, Number::Int4, Number::Uint2, Number::Float8E4M3Fn];
        numbers.into_iter().flat_map(|number| [Symmetry::Symmetric, Symmetry::Asymmetric].map(|symmetry| per_tensor(number, symmetry)))
    }

    #[test]
    fn names_are_read_back() {
        for method in RangeMethod::ALL {
            assert_eq!(method.name().parse(), Ok(method));
        }
        let refused = "kl".parse::<RangeMethod>().expect_err("unknown").to_string();
        assert_eq!(refused, "`kl` is no method of calibration (hint: min-max, moving-average, percentile, entropy, mse)");
    }

    #[test]
    fn nothing_seen_is_an_error_that_names_the_tensor() {
        for method in RangeMethod::ALL {
            let mut observer = method.observer();
            observer.observe(&[]).expect("nothing");
            let scheme = per_tensor(Number::Int8, Symmetry::Symmetric);
            assert_eq!(observer.range(&scheme), None, "{method}");
            let refused = observer.calibrated(&scheme, "relu_3").expect_err("nothing seen");
            assert_eq!(refused, QuantError::NotCalibrated { tensor: "relu_3".into() });
        }
    }

    #[test]
    fn a_batch_that_is_not_finite_leaves_no_trace() {
        let scheme = per_tensor(Number::Int8, Symmetry::Symmetric);
        for method in RangeMethod::ALL {
            let mut observer = method.observer();
            observer.observe(&[0.5, -1.0]).expect("finite");
            let before = observer.range(&scheme);
            let refused = observer.observe(&[1e9, f32::NAN, f32::INFINITY]);
            assert_eq!(refused, Err(QuantError::NotFinite { count: 2, total: 3, first: 1 }), "{method}");
            assert_eq!(observer.range(&scheme), before, "{method}");
        }
    }

    #[test]
    fn constants_keep_their_value() {
        for (method, value) in RangeMethod::ALL.into_iter().flat_map(|method| [3.0, -0.1, 0.0, 1e-44].map(|value| (method, value))) {
            let mut observer = method.observer();
            observer.observe(&[value; 100]).expect("finite");
            for scheme in schemes() {
                let range = observer.range(&scheme).expect("seen").with_zero();
                assert_eq!(range, Range { min: value, max: value }.with_zero(), "{method} {scheme}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        /// A range lies in that of the values, with zero; order and batches change nothing; after a ReLU it starts at zero.
        #[test]
        fn ranges_do_not_depend_on_order(
            values in prop::collection::vec(prop_oneof![-1.0f32..4.0, Just(0.0f32), -1e-3f32..1e-3, -50.0f32..100.0], 1..300),
            cut in 0usize..300, relu in any::<bool>(),
        ) {
            let values: Vec<f32> = values.into_iter().map(|x| if relu { x.max(0.0) } else { x }).collect();
            let (first, second) = values.split_at(cut.min(values.len()));
            let full = Range::of(&values).expect("finite").expect("some").with_zero();
            for method in RangeMethod::ALL {
                let (mut whole, mut parts) = (method.observer(), method.observer());
                whole.observe(&values).expect("finite");
                parts.observe(second).expect("finite");
                parts.observe(first).expect("finite");
                for scheme in schemes() {
                    let range = whole.range(&scheme).expect("seen");
                    prop_assert!(full.min <= range.min && range.min <= range.max && range.max <= full.max, "{method} {scheme}: {range:?}");
                    prop_assert!(!relu || range.min >= 0.0, "{method} {scheme}: {range:?}");
                    if method != RangeMethod::MovingAverage {
                        prop_assert_eq!(parts.range(&scheme), Some(range), "{} {}", method, scheme);
                    }
                }
            }
        }
    }
}
