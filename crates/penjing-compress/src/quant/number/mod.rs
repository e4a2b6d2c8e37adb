//! The numbers that stand for floats: integers with a scale and a zero point, or shorter floats.

mod bits;
mod float;
mod integer;

use std::fmt;
use std::str::FromStr;

use penjing_graph::DataType;
use serde::{Deserialize, Serialize};

pub use bits::Bits;
pub use float::FloatFormat;
pub(crate) use float::power_of_two;
pub use integer::Codes;

use super::QuantError;

/// A type of stored number. In text: its name in [`Number::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Number {
    /// Signed, 8 bits: −128 … 127.
    Int8,
    /// Unsigned, 8 bits: 0 … 255.
    Uint8,
    /// Signed, 16 bits.
    Int16,
    /// Unsigned, 16 bits.
    Uint16,
    /// Signed, 4 bits: −8 … 7.
    Int4,
    /// Unsigned, 4 bits: 0 … 15.
    Uint4,
    /// Signed, 2 bits: −2 … 1.
    Int2,
    /// Unsigned, 2 bits: 0 … 3.
    Uint2,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    Bfloat16,
    /// 4 bits of exponent and 3 of fraction, largest 448, no infinities: Micikevicius et al. 2022, "FP8 Formats for Deep Learning".
    Float8E4M3Fn,
    /// 5 bits of exponent and 2 of fraction, largest 57,344; of the same paper.
    Float8E5M2,
}

/// How a number is made of bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// Whole numbers of steps from a zero point.
    Integer(Codes),
    /// A float of fewer bits.
    Float(FloatFormat),
}

impl Number {
    /// Every number with its name, its ONNX type and its format, in the order of the enum.
    const TABLE: &[(Number, &str, DataType, Format)] = &[
        (Number::Int8, "int8", DataType::Int8, Format::Integer(Codes { low: -128, high: 127 })),
        (Number::Uint8, "uint8", DataType::Uint8, Format::Integer(Codes { low: 0, high: 255 })),
        (Number::Int16, "int16", DataType::Int16, Format::Integer(Codes { low: -32_768, high: 32_767 })),
        (Number::Uint16, "uint16", DataType::Uint16, Format::Integer(Codes { low: 0, high: 65_535 })),
        (Number::Int4, "int4", DataType::Int4, Format::Integer(Codes { low: -8, high: 7 })),
        (Number::Uint4, "uint4", DataType::Uint4, Format::Integer(Codes { low: 0, high: 15 })),
        (Number::Int2, "int2", DataType::Int2, Format::Integer(Codes { low: -2, high: 1 })),
        (Number::Uint2, "uint2", DataType::Uint2, Format::Integer(Codes { low: 0, high: 3 })),
        (Number::Float16, "fp16", DataType::Float16, Format::Float(FloatFormat::FLOAT16)),
        (Number::Bfloat16, "bf16", DataType::Bfloat16, Format::Float(FloatFormat::BFLOAT16)),
        (Number::Float8E4M3Fn, "fp8-e4m3fn", DataType::Float8E4M3Fn, Format::Float(FloatFormat::E4M3FN)),
        (Number::Float8E5M2, "fp8-e5m2", DataType::Float8E5M2, Format::Float(FloatFormat::E5M2)),
    ];

    fn row(self) -> &'static (Number, &'static str, DataType, Format) {
        &Self::TABLE[self as usize]
    }

    /// Every number.
    pub fn all() -> impl Iterator<Item = Number> {
        Self::TABLE.iter().map(|row| row.0)
    }

    /// Its name in commands and recipes.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its type in an ONNX file.
    pub fn data_type(self) -> DataType {
        self.row().2
    }

    /// How it is made of bits.
    pub fn format(self) -> Format {
        self.row().3
    }

    /// Bits that one takes.
    pub fn bits(self) -> u32 {
        match self.format() {
            Format::Integer(codes) => (codes.high - codes.low + 1).ilog2(),
            Format::Float(format) => format.bits(),
        }
    }

    /// Whether it is used with a scale (QuantizeLinear) and not by a Cast alone.
    pub fn scaled(self) -> bool {
        match self.format() {
            Format::Integer(_) => true,
            Format::Float(format) => format.saturates(),
        }
    }

    /// The largest number that it stands for, with a scale of 1 and a zero point of 0.
    pub fn largest(self) -> f32 {
        match self.format() {
            Format::Integer(codes) => codes.high as f32,
            Format::Float(format) => format.largest(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Number {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Number, QuantError> {
        let known = || Number::all().map(Number::name).collect::<Vec<_>>().join(", ");
        Number::all().find(|number| number.name() == text).ok_or_else(|| QuantError::Unknown {
            text: text.into(),
            kind: "type of number",
            known: known(),
        })
    }
}

impl TryFrom<String> for Number {
    type Error = QuantError;

    fn try_from(text: String) -> Result<Number, QuantError> {
        text.parse()
    }
}

impl From<Number> for String {
    fn from(number: Number) -> String {
        number.name().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (at, number) in Number::all().enumerate() {
            assert_eq!(at, number as usize, "{number}");
            assert_eq!(number.name().parse(), Ok(number));
            assert_eq!(Some(number.bits() as usize), number.data_type().bits(), "{number}");
        }
        let refused = "int7".parse::<Number>().expect_err("unknown").to_string();
        assert!(refused.starts_with("`int7` is no type of number (hint: int8, uint8, int16, "), "{refused}");
    }
}
