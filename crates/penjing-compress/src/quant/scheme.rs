//! What is stored, what shares a scale, and where zero lies: independent of each other.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::number::{Bits, Format, Number};

/// How a tensor is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scheme {
    /// What is stored.
    pub number: Number,
    /// What shares a scale.
    pub granularity: Granularity,
    /// Where zero lies. Floats are symmetric whatever is said.
    pub symmetry: Symmetry,
    /// Integers use only the codes of so many bits: [`super::Codes::of_bits`]. `None`: all that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<Bits>,
}

/// What shares a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Granularity {
    /// The whole tensor.
    Tensor,
    /// What has the same position on one axis.
    Channel {
        /// The axis, from 0.
        axis: usize,
    },
    /// So many consecutive elements along one axis; the last block may be shorter.
    Block {
        /// The axis, from 0.
        axis: usize,
        /// Elements of a block.
        size: usize,
    },
}

/// Where zero lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symmetry {
    /// In the middle of the codes: one scale serves both signs.
    Symmetric,
    /// Where the range needs it: all codes are used.
    Asymmetric,
}

impl Scheme {
    /// All bits of `number`.
    pub fn new(number: Number, granularity: Granularity, symmetry: Symmetry) -> Scheme {
        Scheme { number, granularity, symmetry, bits: None }
    }

    /// How its numbers are made of bits, with the codes that it uses.
    pub fn format(&self) -> Format {
        match (self.number.format(), self.bits) {
            (Format::Integer(codes), Some(bits)) => Format::Integer(codes.of_bits(bits)),
            (format, _) => format,
        }
    }
}

impl fmt::Display for Scheme {
    /// `int8 per channel of axis 0, symmetric, 4 bits`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.number, self.granularity, self.symmetry)?;
        self.bits.map_or(Ok(()), |bits| write!(f, ", {bits} bits"))
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => f.write_str("per tensor"),
            Granularity::Channel { axis } => write!(f, "per channel of axis {axis}"),
            Granularity::Block { axis, size } => write!(f, "in blocks of {size} along axis {axis}"),
        }
    }
}

impl fmt::Display for Symmetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Symmetry::Symmetric => "symmetric",
            Symmetry::Asymmetric => "asymmetric",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Codes;

    #[test]
    fn recipes_hold_it_as_independent_fields() {
        let scheme = Scheme::new(Number::Int4, Granularity::Block { axis: 0, size: 32 }, Symmetry::Symmetric);
        let text = toml::to_string(&scheme).expect("text");
        assert_eq!(text, "number = \"int4\"\nsymmetry = \"symmetric\"\n\n[granularity.block]\naxis = 0\nsize = 32\n");
        assert_eq!(toml::from_str::<Scheme>(&text).expect("read back"), scheme);
        assert_eq!(scheme.to_string(), "int4 in blocks of 32 along axis 0, symmetric");
        let narrow = Scheme { number: Number::Int8, granularity: Granularity::Tensor, bits: Bits::try_from(4).ok(), ..scheme };
        assert_eq!(toml::from_str::<Scheme>(&toml::to_string(&narrow).expect("text")).expect("read back"), narrow);
        assert_eq!(narrow.to_string(), "int8 per tensor, symmetric, 4 bits");
        assert_eq!(narrow.format(), Format::Integer(Codes { low: -7, high: 7 }));
    }
}
