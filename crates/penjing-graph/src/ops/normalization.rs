//! Normalisation layers.

use super::Operator;
use super::attributes::{AttributeList, Attributes, unexpected};
use super::elementwise::broadcast_to;
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands, axis};
use crate::{DataType, Dim};

/// `BatchNormalization`: Y = (X − mean) / √(var + epsilon) · scale + B, per channel (axis 1). Inputs X, scale, B, mean, var.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// running = running · momentum + batch · (1 − momentum)
    pub momentum: f32,
    /// The file asks for batch statistics (opset 14).
    pub training_mode: bool,
}

/// `LayerNormalization` over the axes from `axis` on. Inputs X, scale, B?.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormalization {
    /// First normalised axis; negative counts from the end.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
    /// Type of the computation's first stage, kept for the file (1: float).
    pub stash_type: i64,
}

/// `InstanceNormalization` over the spatial axes of every sample and channel. Inputs X, scale, B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}

/// Checks that each of `parameters` holds one number for each channel of X [N, C, …].
fn check_channels(inputs: &Operands<'_>, parameters: std::ops::Range<usize>) -> Result<(), String> {
    let channels = match inputs.shape(0) {
        Some([_, channels, ..]) => channels,
        // A lone dimension holds samples of one channel.
        Some([_]) => &Dim::Fixed(1),
        Some([]) => return Err("the input has no dimensions".into()),
        None => &Dim::Unknown,
    };
    for i in parameters {
        let parameter = &inputs.ranked(i, 1)?[0];
        if !parameter.compatible(channels) {
            return Err(format!("input {i} has {parameter} numbers, input 0 {channels} channels"));
        }
    }
    Ok(())
}

impl Operator for BatchNormalization {
    const NAMES: &'static [(&'static str, i64)] = &[("BatchNormalization", 1)];

    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<BatchNormalization, String> {
        if attributes.opset < 9 && attributes.int("spatial", 1)? != 1 {
            return Err("statistics per activation (`spatial` 0) are not understood".into());
        }
        // Until opset 13 further outputs ask for batch statistics.
        if attributes.opset < 14 && attributes.outputs() > 1 {
            return Err("batch statistics as outputs before opset 14 are not understood".into());
        }
        Ok(BatchNormalization {
            epsilon: attributes.float("epsilon", 1e-5)?,
            momentum: attributes.float("momentum", 0.9)?,
            training_mode: attributes.opset >= 14 && attributes.flag("training_mode", false)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.float("epsilon", self.epsilon, 1e-5);
        attributes.float("momentum", self.momentum, 0.9);
        attributes.flag("training_mode", self.training_mode, false);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(5, 5)?;
        inputs.at_most_outputs(if self.training_mode { 3 } else { 1 })?;
        check_channels(inputs, 1..5)?;
        let statistic = |i| Fact::new(inputs.dtype(i), inputs.shape(i).map(<[Dim]>::to_vec));
        let y = Fact::new(inputs.dtype(0), inputs.shape(0).map(<[Dim]>::to_vec));
        Ok(vec![y, statistic(3), statistic(4)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        if ties.shape(0).len() < 2 {
            return Err("its input has no channels".into());
        }
        ties.alike(0);
        (1..5).for_each(|parameter| ties.same(Place::In(parameter, 0), Place::In(0, 1)));
        (1..3).for_each(|statistic| ties.same(Place::Out(statistic, 0), Place::In(0, 1)));
        Ok(())
    }
}

impl Operator for LayerNormalization {
    const NAMES: &'static [(&'static str, i64)] = &[("LayerNormalization", 17)];

    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<LayerNormalization, String> {
        Ok(LayerNormalization {
            axis: attributes.int("axis", -1)?,
            epsilon: attributes.float("epsilon", 1e-5)?,
            stash_type: attributes.int("stash_type", 1)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, -1);
        attributes.float("epsilon", self.epsilon, 1e-5);
        attributes.int("stash_type", self.stash_type, 1);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 3)?;
        let stash = i32::try_from(self.stash_type).ok().and_then(DataType::from_onnx_code);
        let stash = stash.ok_or_else(|| unexpected("stash_type", self.stash_type))?;
        let Some(x) = inputs.shape(0) else {
            return Ok(vec![Fact::new(inputs.dtype(0), None), Fact::new(Some(stash), None), Fact::new(Some(stash), None)]);
        };
        let axis = axis(self.axis, x.len())?;
        for parameter in [1, 2].into_iter().filter_map(|i| inputs.shape(i)) {
            broadcast_to(parameter, x)?;
        }
        let mut statistic = x.to_vec();
        statistic[axis..].fill(Dim::Fixed(1));
        let statistic = Fact::new(Some(stash), Some(statistic));
        Ok(vec![Fact::new(inputs.dtype(0), Some(x.to_vec())), statistic.clone(), statistic])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let rank = ties.shape(0).len();
        let first = axis(self.axis, rank)?;
        ties.broadcast(0..ties.inputs());
        for statistic in 1..3 {
            (0..first).for_each(|axis| ties.same(Place::Out(statistic, axis), Place::In(0, axis)));
        }
        (first..rank).for_each(|axis| ties.stays_if_exact(Place::In(0, axis), "it is normalised over all its positions"));
        Ok(())
    }
}

impl Operator for InstanceNormalization {
    const NAMES: &'static [(&'static str, i64)] = &[("InstanceNormalization", 1)];

    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<InstanceNormalization, String> {
        Ok(InstanceNormalization { epsilon: attributes.float("epsilon", 1e-5)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.float("epsilon", self.epsilon, 1e-5);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(3, 3)?;
        let dtype = inputs.common_type(0..3)?;
        check_channels(inputs, 1..3)?;
        Ok(vec![Fact::new(dtype, inputs.shape(0).map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let rank = ties.shape(0).len();
        ties.alike(0);
        (1..3).for_each(|parameter| ties.same(Place::In(parameter, 0), Place::In(0, 1)));
        (2..rank).for_each(|axis| ties.stays(Place::In(0, axis), "it is normalised over all its positions"));
        Ok(())
    }
}
