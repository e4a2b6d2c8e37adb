//! Pooling over spatial axes.

use super::Operator;
use super::attributes::{AttributeList, Attributes};
use super::conv::spatial_input;
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands};
use crate::{DataType, Dim};

use super::Window;

/// `MaxPool`: padding never wins. Outputs Y and, where asked for, the indices.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool {
    /// The sliding window.
    pub window: Window,
    /// Output sizes round up.
    pub ceil_mode: bool,
    /// Indices count column by column.
    pub storage_order: i64,
}

/// `AveragePool`.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePool {
    /// The sliding window.
    pub window: Window,
    /// Output sizes round up.
    pub ceil_mode: bool,
    /// Padding counts in the divisor.
    pub count_include_pad: bool,
}

/// `GlobalAveragePool` and `GlobalMaxPool`: [N, C, D1…] → [N, C, 1…].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalPool {
    /// Mean of all cells.
    Average,
    /// Largest cell.
    Max,
}

impl Window {
    /// [N, C, D1…] → [N, C, windows…]; `None` where the input's rank is unknown.
    fn pooled(&self, inputs: &Operands<'_>, ceil_mode: bool) -> Result<Option<Vec<Dim>>, String> {
        let Some(x) = spatial_input(inputs)? else { return Ok(None) };
        if self.kernel.len() != x.len() - 2 {
            return Err(format!("attribute `kernel_shape` has {} numbers but needs {}", self.kernel.len(), x.len() - 2));
        }
        let kernel: Vec<Dim> = self.kernel.iter().map(|k| Dim::Fixed(*k)).collect();
        let mut shape = x[..2].to_vec();
        shape.extend(self.infer(&x[2..], &kernel, ceil_mode)?);
        Ok(Some(shape))
    }
}

/// Samples and channels go through; a window slides over the other axes.
fn couple_pool(ties: &mut Ties<'_>) {
    (0..2).for_each(|axis| ties.same(Place::In(0, axis), Place::Out(0, axis)));
    for axis in 2..ties.shape(0).len() {
        ties.stays(Place::In(0, axis), "a window slides over it");
        ties.stays(Place::Out(0, axis), "a window slides over it");
    }
}

impl Operator for MaxPool {
    const NAMES: &'static [(&'static str, i64)] = &[("MaxPool", 1)];

    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<MaxPool, String> {
        let opset = attributes.opset;
        Ok(MaxPool {
            window: Window::read(attributes, opset >= 10)?,
            ceil_mode: opset >= 10 && attributes.flag("ceil_mode", false)?,
            storage_order: if opset >= 8 { attributes.int("storage_order", 0)? } else { 0 },
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        self.window.write(attributes);
        attributes.flag("ceil_mode", self.ceil_mode, false);
        attributes.int("storage_order", self.storage_order, 0);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        inputs.at_most_outputs(if inputs.opset() < 8 { 1 } else { 2 })?;
        let shape = self.window.pooled(inputs, self.ceil_mode)?;
        Ok(vec![Fact::new(inputs.dtype(0), shape.clone()), Fact::new(Some(DataType::Int64), shape)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        if ties.is_read(1) {
            return Err("its indices count over all channels".into());
        }
        couple_pool(ties);
        Ok(())
    }
}

impl Operator for AveragePool {
    const NAMES: &'static [(&'static str, i64)] = &[("AveragePool", 1)];

    fn name(&self) -> &'static str {
        "AveragePool"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<AveragePool, String> {
        let opset = attributes.opset;
        Ok(AveragePool {
            window: Window::read(attributes, opset >= 19)?,
            ceil_mode: opset >= 10 && attributes.flag("ceil_mode", false)?,
            count_include_pad: attributes.flag("count_include_pad", false)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        self.window.write(attributes);
        attributes.flag("ceil_mode", self.ceil_mode, false);
        attributes.flag("count_include_pad", self.count_include_pad, false);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        Ok(vec![Fact::new(inputs.dtype(0), self.window.pooled(inputs, self.ceil_mode)?)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_pool(ties);
        Ok(())
    }
}

impl Operator for GlobalPool {
    const NAMES: &'static [(&'static str, i64)] = &[("GlobalAveragePool", 1), ("GlobalMaxPool", 1)];

    fn name(&self) -> &'static str {
        match self {
            GlobalPool::Average => "GlobalAveragePool",
            GlobalPool::Max => "GlobalMaxPool",
        }
    }

    fn read(name: &str, _: &mut Attributes<'_>) -> Result<GlobalPool, String> {
        Ok(if name == "GlobalMaxPool" { GlobalPool::Max } else { GlobalPool::Average })
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let shape = spatial_input(inputs)?.map(|x| {
            let mut shape = x.to_vec();
            shape[2..].fill(Dim::Fixed(1));
            shape
        });
        Ok(vec![Fact::new(inputs.dtype(0), shape)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_pool(ties);
        Ok(())
    }
}
