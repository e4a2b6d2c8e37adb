//! Which of the two codes next to a weight it takes.

mod adaround;
mod layer;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use adaround::Reconstruction;
pub(super) use adaround::adaround;

use super::QuantError;

/// How weights are rounded to codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaticRounding {
    /// Each to the nearest.
    #[default]
    Nearest,
    /// Up or down, whichever lets the layer give what it gave in float: Nagel et al. 2020, "Up or Down? Adaptive StaticRounding for
    /// Post-Training Quantization".
    Adaround,
}

impl StaticRounding {
    /// Every way.
    pub const ALL: [StaticRounding; 2] = [StaticRounding::Nearest, StaticRounding::Adaround];

    /// Its name in commands and recipes.
    pub fn name(self) -> &'static str {
        match self {
            StaticRounding::Nearest => "nearest",
            StaticRounding::Adaround => "adaround",
        }
    }
}

impl fmt::Display for StaticRounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StaticRounding {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<StaticRounding, QuantError> {
        let known = || StaticRounding::ALL.map(StaticRounding::name).join(", ");
        let unknown = || QuantError::Unknown { text: text.into(), kind: "way to round weights", known: known() };
        StaticRounding::ALL.into_iter().find(|rounding| rounding.name() == text).ok_or_else(unknown)
    }
}
