//! `penjing quantize`: weights and activations as integers that a device computes on.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use penjing_compress::quant::correct_output::OutputCorrection;
use penjing_compress::quant::targets::TargetName;
use penjing_compress::quant::{
    Bfloat16, Bits, Conversion, Dynamic, Fit, Float16, Number, Operators, Quantization, RangeMethod, Rounding, StaticRounding, WeightOnly,
};
use penjing_compress::{Fastest, Form, RECIPE_VERSION, Recipe, Step};
use penjing_exec::train::StopFlag;

use crate::Goal;
use crate::options::{DataOptions, FloorOptions, TrainOptions, Usage, ZooOptions, count, model_source};
use crate::progress::warn;
use crate::run::RunOptions;

/// Samples that activations are observed on where nothing else is asked for.
const CALIBRATION_SAMPLES: usize = 128;
/// The same where weights are rounded so that layers give what they gave: of each sample a product sees one row alone.
const ROUNDING_SAMPLES: usize = 1024;

/// Turn weights and activations into integers of the types that a device computes on, calibrated with data
#[derive(Args)]
pub(crate) struct Quantize {
    /// The ONNX model, or the name of an architecture, which is initialised and trained first
    #[arg(required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// Where to write the quantized model
    #[arg(short, long, value_name = "FILE", required_unless_present = "resume")]
    output: Option<PathBuf>,
    /// What numbers become: int8 (codes that the device computes on), fp16 (16-bit floats, computed on as such), bf16 (storage), or auto:
    /// what is fastest on this machine of those that hold the floor, which may be 32-bit floats
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Precision::Int8)]
    precision: Precision,
    /// Where codes stand: static (weights and activations, ranges from data), qoperator (the same, as QLinearConv and QLinearMatMul),
    /// dynamic (products, ranges found while the network runs) or weight-only (products, in blocks) [default: static]
    #[arg(long, value_name = "NAME", value_enum)]
    placement: Option<Placement>,
    /// What weights alone are stored as: int8, uint8, int4, uint4, int2 or uint2 [default: int4]
    #[arg(long, value_name = "TYPE")]
    weight_type: Option<Number>,
    /// How many weights alone share a scale, from 16 on [default: 32]
    #[arg(long, value_name = "N", value_parser = count)]
    block_size: Option<usize>,
    /// Which of the codes next to it a weight takes: nearest; with fixed scales adaround, with which each layer gives what it gave in float;
    /// of weights alone gptq, which makes up for what was lost [default: nearest]
    #[arg(long, value_name = "METHOD", value_enum)]
    rounding: Option<RoundingName>,
    /// The device: x86-vnni, x86-avx2, arm-dotprod, gpu-tensorrt, mcu or generic [default: this machine]
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// How the ranges of activations are chosen: min-max, moving-average, percentile, entropy or mse [default: mse]
    #[arg(long, value_name = "METHOD")]
    calibration: Option<RangeMethod>,
    /// Training samples that activations are observed on [default: 128; 1024 with --rounding adaround]
    #[arg(long, value_name = "N", value_parser = count)]
    calibration_samples: Option<usize>,
    /// Bits of a weight, 2 to 8. Fewer than 8 are held in codes of 8 bits, -7 to 7 for 4 bits: convolutions have no kernels for less
    /// [default: 8]
    #[arg(long, value_name = "N")]
    weight_bits: Option<Bits>,
    /// Train the network with its weights and activations rounded to codes: quantization-aware training. The learning rate is by default a
    /// tenth of what it is elsewhere
    #[arg(long)]
    qat: bool,
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
    floor: FloorOptions,
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
    /// The fastest here
    Auto,
    /// Codes of 8 bits
    Int8,
    /// 16-bit floats
    Fp16,
    /// The upper halves of 32-bit floats
    Bf16,
}

/// Where codes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Placement {
    /// At weights and activations, with scales fixed by calibration
    Static,
    /// The same, with operators on codes in place of floats between codes
    Qoperator,
    /// At products, with scales of activations found while the network runs
    Dynamic,
    /// At weights of products, in blocks
    WeightOnly,
}

/// How weights become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoundingName {
    /// Each to the nearest
    Nearest,
    /// Up or down, so that layers give what they gave in float
    Adaround,
    /// So that weights not yet rounded make up for what was lost
    Gptq,
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
        let step = self.step()?;
        let data = match &step {
            Step::Quantize(_)
            | Step::Fastest(_)
            | Step::Convert(Conversion::WeightOnly(WeightOnly { rounding: Rounding::Gptq { .. }, .. })) => {
                Some(self.data.required(self.run.seed)?)
            }
            Step::Convert(_) | Step::Prune(_) | Step::PruneChannels(_) => self.data.source(self.run.seed)?,
        };
        Ok(Recipe {
            version: RECIPE_VERSION,
            model: model_source(model, &self.zoo, self.run.seed)?,
            train: Some(settings),
            retrain: Some(if self.qat { self.train.gentle(self.run.seed)? } else { settings }),
            data,
            metric_command: self.floor.metric_command.clone(),
            output: output.clone(),
            dense: false,
            steps: vec![step],
        })
    }

    fn step(&self) -> Result<Step> {
        let ranges = [
            ("--calibration", self.calibration.is_some()),
            ("--qat", self.qat),
            ("--weight-bits", self.weight_bits.is_some()),
            ("--no-bias-correction", self.no_bias_correction),
            ("--correct-output", self.correct_output.is_some()),
            ("a floor", self.floor.is_asked_for()),
        ];
        let blocks = [
            ("--weight-type", self.weight_type.is_some()),
            ("--block-size", self.block_size.is_some()),
            ("--rounding gptq", self.rounding == Some(RoundingName::Gptq)),
        ];
        let rounding = [("--rounding", self.rounding.is_some())];
        let adaround = [("--rounding adaround", self.rounding == Some(RoundingName::Adaround))];
        let device = [("--target", self.target.is_some())];
        let codes = [("--placement", self.placement.is_some()), ("--weight-range", self.weight_range.is_some())];
        let keep = self.keep.clone();
        let conversion = match (self.precision, self.placement.unwrap_or(Placement::Static)) {
            (Precision::Fp16, _) => {
                self.refuse("--precision fp16", &[&ranges[..], &blocks, &rounding, &device, &codes].concat())?;
                Conversion::Fp16(Float16 { calibration_samples: self.samples(), keep })
            }
            (Precision::Bf16, _) => {
                self.refuse("--precision bf16", &[&ranges[..], &blocks, &rounding, &device, &codes].concat())?;
                Conversion::Bf16(Bfloat16 { keep })
            }
            (Precision::Auto, _) => {
                self.refuse("--precision auto", &[&blocks[..], &[("--placement", self.placement.is_some())]].concat())?;
                return self.fastest();
            }
            (Precision::Int8, Placement::Static) => {
                self.refuse("--placement static", &blocks)?;
                return self.fixed_scales(Operators::Qdq);
            }
            (Precision::Int8, Placement::Qoperator) => {
                self.refuse("--placement qoperator", &blocks)?;
                return self.fixed_scales(Operators::Qoperator);
            }
            (Precision::Int8, Placement::Dynamic) => {
                self.refuse("--placement dynamic", &[&ranges[..], &blocks, &rounding].concat())?;
                Conversion::Dynamic(Dynamic { target: self.device(), weight_range: self.weight_range.unwrap_or_default(), keep })
            }
            (Precision::Int8, Placement::WeightOnly) => {
                self.refuse("--placement weight-only", &[&ranges[..], &device, &adaround].concat())?;
                let weight_type = self.weight_type.unwrap_or(Number::Int4);
                let rounding = match self.rounding {
                    None | Some(RoundingName::Nearest | RoundingName::Adaround) => Rounding::Nearest,
                    Some(RoundingName::Gptq) => Rounding::Gptq { calibration_samples: self.samples() },
                };
                Conversion::WeightOnly(WeightOnly {
                    weight_type,
                    block_size: self.block_size.unwrap_or(32),
                    weight_range: self.weight_range.unwrap_or(if weight_type.bits() < 8 { Fit::Mse } else { Fit::MinMax }),
                    rounding,
                    keep,
                })
            }
        };
        Ok(Step::Convert(conversion))
    }

    fn refuse(&self, with: &str, options: &[(&str, bool)]) -> Result<()> {
        match options.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Usage(format!("{option} means nothing with {with} (hint: leave one of them out)")).into()),
            None => Ok(()),
        }
    }

    fn samples(&self) -> usize {
        let by_default = match self.rounding {
            Some(RoundingName::Adaround) => ROUNDING_SAMPLES,
            Some(RoundingName::Nearest | RoundingName::Gptq) | None => CALIBRATION_SAMPLES,
        };
        self.calibration_samples.unwrap_or(by_default)
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

    /// The forms that this machine computes on, of which the fastest is taken.
    fn fastest(&self) -> Result<Step> {
        let target = self.device();
        if target != TargetName::here() {
            let (name, here) = (target.0.name, TargetName::here().0.name);
            return Err(Usage(format!(
                "what is fastest on {name} cannot be measured on this machine, which is {here} (hint: leave --target out, or name a precision)"
            ))
            .into());
        }
        let dynamic = Dynamic { target, weight_range: self.weight_range.unwrap_or_default(), keep: self.keep.clone() };
        let of = vec![Form::Static(self.quantization(target, Operators::Qdq)?), Form::Converted(Conversion::Dynamic(dynamic))];
        Ok(Step::Fastest(Fastest { of, floor: self.floor.floor()? }))
    }

    fn fixed_scales(&self, operators: Operators) -> Result<Step> {
        Ok(Step::Quantize(self.quantization(self.device(), operators)?))
    }

    fn quantization(&self, target: TargetName, operators: Operators) -> Result<Quantization> {
        let bits = self.weight_bits.unwrap_or_default();
        Ok(Quantization {
            target,
            calibration: self.calibration.unwrap_or(RangeMethod::Mse),
            weight_range: self.weight_range.unwrap_or(if bits < Bits::default() { Fit::Mse } else { Fit::MinMax }),
            weight_bits: bits,
            calibration_samples: self.samples(),
            qat: self.qat,
            rounding: match self.rounding {
                Some(RoundingName::Adaround) => StaticRounding::Adaround,
                Some(RoundingName::Nearest | RoundingName::Gptq) | None => StaticRounding::Nearest,
            },
            bias_correction: !self.no_bias_correction,
            correct_output: self.correct_output,
            operators,
            keep: self.keep.clone(),
            floor: self.floor.floor()?,
        })
    }
}
