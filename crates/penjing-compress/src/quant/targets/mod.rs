//! Devices: which types they compute on in integers, with which operators. One file each.

mod arm_dotprod;
mod generic;
mod gpu_tensorrt;
mod mcu;
mod x86_avx2;
mod x86_vnni;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::qdq::Precision;
use super::{Granularity, Number, QuantError, Scheme, Symmetry};

/// A device as quantization sees it.
#[derive(Debug, PartialEq)]
pub struct Target {
    /// Its name in commands and recipes.
    pub name: &'static str,
    /// Which devices these are.
    pub summary: &'static str,
    /// What activations and weights become.
    pub precision: Precision,
    /// ONNX operators that its runtime computes on codes.
    pub operators: &'static [&'static str],
    /// Whether its runtime can find the scales of activations while it runs: `DynamicQuantizeLinear`.
    pub dynamic: bool,
    /// Channels that its kernels compute at once; what is left of a layer should be a multiple.
    pub channel_multiple: usize,
    /// What should be known before a model is quantized for it.
    pub warning: Option<&'static str>,
    /// Where all this is said.
    pub source: &'static str,
}

/// Every target, in the order in which they are listed.
pub const ALL: &[&Target] =
    &[&x86_vnni::TARGET, &x86_avx2::TARGET, &arm_dotprod::TARGET, &gpu_tensorrt::TARGET, &mcu::TARGET, &generic::TARGET];

/// Operators for which ONNX Runtime's CPU provider has integer kernels that a QuantizeLinear behind them leads to.
const ONNX_RUNTIME_CPU: &[&str] = &["Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool"];

const fn activations(number: Number, symmetry: Symmetry) -> Scheme {
    Scheme { number, granularity: Granularity::Tensor, symmetry, bits: None }
}

/// A target by reference, as recipes name it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName(pub &'static Target);

impl TargetName {
    /// Any device.
    pub const GENERIC: TargetName = TargetName(&generic::TARGET);

    /// The machine that this runs on.
    pub fn here() -> TargetName {
        TargetName(here())
    }
}

#[cfg(target_arch = "x86_64")]
fn here() -> &'static Target {
    if std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni") {
        &x86_vnni::TARGET
    } else {
        &x86_avx2::TARGET
    }
}

#[cfg(target_arch = "aarch64")]
fn here() -> &'static Target {
    if std::arch::is_aarch64_feature_detected!("dotprod") { &arm_dotprod::TARGET } else { &generic::TARGET }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn here() -> &'static Target {
    &generic::TARGET
}

impl PartialEq for TargetName {
    fn eq(&self, other: &TargetName) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for TargetName {}

impl fmt::Debug for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl FromStr for TargetName {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<TargetName, QuantError> {
        let known = || ALL.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        let unknown = || QuantError::Unknown { text: text.into(), kind: "target", known: known() };
        ALL.iter().find(|target| target.name == text).map(|target| TargetName(target)).ok_or_else(unknown)
    }
}

impl TryFrom<String> for TargetName {
    type Error = QuantError;

    fn try_from(text: String) -> Result<TargetName, QuantError> {
        text.parse()
    }
}

impl From<TargetName> for String {
    fn from(target: TargetName) -> String {
        target.0.name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_by_name() {
        for target in ALL {
            assert_eq!(target.name.parse(), Ok(TargetName(target)));
            assert!(!target.operators.is_empty() && target.source.starts_with("http"), "{}", target.name);
        }
        let refused = "vax".parse::<TargetName>().expect_err("unknown").to_string();
        assert!(refused.contains("x86-vnni, x86-avx2"), "{refused}");
        assert!(ALL.contains(&TargetName::here().0));
    }
}
