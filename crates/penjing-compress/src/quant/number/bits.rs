//! How many bits of a number codes use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quant::QuantError;

/// Bits that codes use, 2 to 8. What is stored may have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Bits(u8);

impl Bits {
    /// The fewest and the most.
    const RANGE: std::ops::RangeInclusive<u8> = 2..=8;

    /// How many.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Bits {
    /// 8.
    fn default() -> Bits {
        Bits(*Bits::RANGE.end())
    }
}

impl TryFrom<u8> for Bits {
    type Error = QuantError;

    fn try_from(bits: u8) -> Result<Bits, QuantError> {
        if Bits::RANGE.contains(&bits) { Ok(Bits(bits)) } else { Err(unknown(&bits.to_string())) }
    }
}

impl From<Bits> for u8 {
    fn from(bits: Bits) -> u8 {
        bits.0
    }
}

impl FromStr for Bits {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Bits, QuantError> {
        text.parse::<u8>().ok().and_then(|bits| bits.try_into().ok()).ok_or_else(|| unknown(text))
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn unknown(text: &str) -> QuantError {
    QuantError::Unknown { text: text.into(), kind: "number of bits for weights", known: "2 to 8".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_2_to_8() {
        assert_eq!(["2", "8"].map(str::parse), [Ok(Bits(2)), Ok(Bits(8))]);
        assert_eq!(Bits::default().to_string(), "8");
        for refused in ["1", "9", "-4", "four", ""] {
            let reason = refused.parse::<Bits>().expect_err("refused").to_string();
            assert_eq!(reason, format!("`{refused}` is no number of bits for weights (hint: 2 to 8)"));
        }
    }
}
