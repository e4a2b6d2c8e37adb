//! `penjing quantize`: weights and activations as integers that a device computes on.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use penjing_compress::quant::correct_output::OutputCorrection;
use penjing_compress::quant::targets::TargetName;
use penjing_compress::quant::{Bfloat16, Bits, Conversion, Fit, Float16, Quantization, RangeMethod};
use penjing_compress::{RECIPE_VERSION, Recipe, Step};
use penjing_exec::train::StopFlag;

use crate::Goal;
use crate::options::{DataOptions, TrainOptions, Usage, ZooOptions, count, model_source};
use crate::progress::warn;
use crate::run::RunOptions;

/// Samples that activations are observed on where nothing else is asked for.
const CALIBRATION_SAMPLES: usize = 128;

/// Turn weights and activations into integers of the types that a device computes on, calibrated with data
#[derive(Args)]
pub(crate) struct Quantize {
    /// The ONNX model, or the name of an architecture, which is initialised and trained first
    #[arg(required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// Where to write the quantized model
    #[arg(short, long, value_name = "FILE", required_unless_present = "resume")]
    output: Option<PathBuf>,
    /// What numbers become: int8 (codes that the device computes on), fp16 (16-bit floats, computed on as such) or bf16 (storage)
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Precision::Int8)]
    precision: Precision,
    /// The device: x86-vnni, x86-avx2, arm-dotprod, gpu-tensorrt, mcu or generic [default: this machine]
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// How the ranges of activations are chosen: min-max, moving-average, percentile, entropy or mse [default: mse]
    #[arg(long, value_name = "METHOD")]
    calibration: Option<RangeMethod>,
    /// Training samples that activations are observed on
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_SAMPLES, value_parser = count)]
    calibration_samples: usize,
    /// Bits of a weight, 2 to 8. Fewer than 8 are held in codes of 8 bits, -7 to 7 for 4 bits: convolutions have no kernels for less
    /// [default: 8]
    #[arg(long, value_name = "N")]
    weight_bits: Option<Bits>,
    /// How the ranges of weights are chosen: min-max or mse; where sums would saturate (x86-avx2), these decide instead
    /// [default: min-max, below 8 bits mse]
    #[arg(long, value_name = "METHOD")]
    weight_range: Option<Fit>,
    /// Leave biases as they are instead of making up for what quantization shifts
    #[arg(long)]
    no_bias_correction: bool,
    /// What is fitted to a classifier's outputs on validation samples: temperature, vector (by labels), match (by the float model's
    /// probabilities) or none [default: temperature with labels, else match]
    #[arg(long, value_name = "NAME")]
    correct_output: Option<OutputCorrection>,
    /// Leave nodes of this name in float; * stands for any text
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    train: TrainOptions,
    #[command(flatten)]
    zoo: ZooOptions,
}

/// What numbers become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// Codes of 8 bits
    Int8,
    /// 16-bit floats
    Fp16,
    /// The upper halves of 32-bit floats
    Bf16,
}

impl Quantize {
    pub(crate) fn run(self, stop: StopFlag, threads: usize) -> Result<Goal> {
        self.run.execute(self.model.as_deref(), || self.recipe(), stop, threads)
    }

    fn recipe(&self) -> Result<Recipe> {
        let (Some(model), Some(output)) = (&self.model, &self.output) else {
            return Err(Usage("name a model and, with -o, where to write the result".into()).into());
        };
        let settings = self.train.settings(self.run.seed)?;
        let (step, data) = match self.precision {
            Precision::Int8 => {
                let data = self.data.required(self.run.seed)?;
                (self.fixed_scales(), Some(data))
            }
            Precision::Fp16 => {
                self.refuse("--precision fp16", &self.of_codes())?;
                let step = Float16 { calibration_samples: self.calibration_samples, keep: self.keep.clone() };
                (Step::Convert(Conversion::Fp16(step)), self.data.source(self.run.seed)?)
            }
            Precision::Bf16 => {
                self.refuse("--precision bf16", &self.of_codes())?;
                (Step::Convert(Conversion::Bf16(Bfloat16 { keep: self.keep.clone() })), self.data.source(self.run.seed)?)
            }
        };
        Ok(Recipe {
            version: RECIPE_VERSION,
            model: model_source(model, &self.zoo, self.run.seed)?,
            train: Some(settings),
            retrain: Some(settings),
            data,
            metric_command: None,
            output: output.clone(),
            dense: false,
            steps: vec![step],
        })
    }

    /// Options that only integers with fixed scales have, and whether they are given.
    fn of_codes(&self) -> [(&'static str, bool); 6] {
        [
            ("--target", self.target.is_some()),
            ("--calibration", self.calibration.is_some()),
            ("--weight-bits", self.weight_bits.is_some()),
            ("--weight-range", self.weight_range.is_some()),
            ("--no-bias-correction", self.no_bias_correction),
            ("--correct-output", self.correct_output.is_some()),
        ]
    }

    fn refuse(&self, with: &str, options: &[(&str, bool)]) -> Result<()> {
        match options.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Usage(format!("{option} means nothing with {with} (hint: leave one of them out)")).into()),
            None => Ok(()),
        }
    }

    /// The device: the one that is named, else this machine, said aloud.
    fn device(&self) -> TargetName {
        let target = self.target.unwrap_or_else(|| {
            let here = TargetName::here();
            warn(&format!("target: {}, which this machine is (hint: --target for another)", here.0.name));
            here
        });
        if let Some(warning) = target.0.warning {
            warn(&format!("{}: {warning}", target.0.name));
        }
        target
    }

    fn fixed_scales(&self) -> Step {
        let bits = self.weight_bits.unwrap_or_default();
        Step::Quantize(Quantization {
            target: self.device(),
            calibration: self.calibration.unwrap_or(RangeMethod::Mse),
            weight_range: self.weight_range.unwrap_or(if bits < Bits::default() { Fit::Mse } else { Fit::MinMax }),
            weight_bits: bits,
            calibration_samples: self.calibration_samples,
            bias_correction: !self.no_bias_correction,
            correct_output: self.correct_output,
            keep: self.keep.clone(),
        })
    }
}
