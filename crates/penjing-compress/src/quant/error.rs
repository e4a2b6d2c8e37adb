use super::number::Number;

/// What can go wrong while quantizing. Numerics know no names: [`QuantError::of`] adds that of the tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A tensor's values or range cannot be used.
    #[error("cannot quantize tensor `{tensor}`")]
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// Why.
        source: Box<QuantError>,
    },
    /// Values that are no finite numbers.
    #[error(
        "{count} of {total} values are NaN or infinite, the first of them the {} (hint: the model overflows here; run it in float first)",
        ordinal(*first)
    )]
    NotFinite {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
        /// Position of the first, in row-major order from 0.
        first: usize,
    },
    /// A range that was never observed.
    #[error("no value of tensor `{tensor}` was seen in calibration, so its range is not known (hint: give samples that reach it)")]
    NotCalibrated {
        /// Name of the tensor.
        tensor: String,
    },
    /// A value beyond the largest number of a format without a scale.
    #[error("the {} value, {value}, is beyond the largest {number}, {} (hint: keep this tensor in float32)", ordinal(*index), number.largest())]
    Overflow {
        /// The format.
        number: Number,
        /// Position of the first such value, in row-major order from 0.
        index: usize,
        /// The value.
        value: f32,
    },
    /// An axis that the tensor does not have.
    #[error("axis {axis} of a tensor with {rank} axes does not exist (hint: quantize it per tensor)")]
    Axis {
        /// The axis.
        axis: usize,
        /// Number of axes.
        rank: usize,
    },
    /// Blocks without elements.
    #[error("a block of 0 elements holds nothing (hint: 32 is usual)")]
    EmptyBlock,
    /// Lengths that do not belong together.
    #[error("{given} {what} were given where {expected} are needed (hint: they belong to another tensor)")]
    Length {
        /// What was counted.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many are needed.
        expected: usize,
    },
    /// Text that names nothing of its kind.
    #[error("`{text}` is no {kind} (hint: {known})")]
    Unknown {
        /// The text.
        text: String,
        /// What it should name.
        kind: &'static str,
        /// What there is.
        known: String,
    },
    /// A class that the outputs do not have.
    #[error("label {label} of sample {sample} is none of the model's {classes} classes (hint: the labels are those of another data set)")]
    Label {
        /// The label.
        label: u32,
        /// The sample, from 0.
        sample: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Nothing to fit or to measure on.
    #[error("there are no samples to {purpose} (hint: give data)")]
    NoSamples {
        /// What they are for.
        purpose: &'static str,
    },
}

impl QuantError {
    /// The same, of a tensor with a name.
    #[must_use]
    pub fn of(self, tensor: &str) -> QuantError {
        match self {
            QuantError::NotCalibrated { .. } => QuantError::NotCalibrated { tensor: tensor.into() },
            cause => QuantError::Tensor { tensor: tensor.into(), source: Box::new(cause) },
        }
    }
}

/// 0 → `1st`.
fn ordinal(index: usize) -> String {
    let n = index + 1;
    let suffix = match (n % 10, n % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn texts_name_the_place_and_the_cause_once() {
        let error = QuantError::NotFinite { count: 2, total: 9, first: 10 }.of("conv1/w");
        assert_eq!(error.to_string(), "cannot quantize tensor `conv1/w`");
        let cause = error.source().expect("a cause").to_string();
        assert_eq!(
            cause,
            "2 of 9 values are NaN or infinite, the first of them the 11th (hint: the model overflows here; run it in float first)"
        );
        assert_eq!([0, 1, 2, 3, 11, 21, 111].map(ordinal).join(" "), "1st 2nd 3rd 4th 12th 22nd 112th");
    }
}
