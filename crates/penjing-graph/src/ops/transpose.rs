//! The same elements in another order.

use super::Operator;
use super::attributes::{AttributeList, Attributes, unexpected};
use crate::Dim;
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands};

/// `Transpose`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// Axis of the input that each output axis shows; `None`: reversed.
    pub perm: Option<Vec<usize>>,
}

/// `DepthToSpace`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthToSpace {
    /// Side of the block.
    pub block_size: usize,
    /// Column-row-depth order instead of depth-column-row.
    pub crd: bool,
}

impl Operator for Transpose {
    const NAMES: &'static [(&'static str, i64)] = &[("Transpose", 1)];

    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Transpose, String> {
        Ok(Transpose { perm: attributes.sizes_or_none("perm", 0)? })
    }

    fn write(&self, attributes: &mut AttributeList) {
        if let Some(perm) = &self.perm {
            attributes.ints("perm", Some(&perm.iter().map(|axis| *axis as i64).collect::<Vec<_>>()));
        }
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let dtype = inputs.dtype(0);
        let Some(x) = inputs.shape(0) else { return Ok(vec![Fact::new(dtype, None)]) };
        let reversed: Vec<usize> = (0..x.len()).rev().collect();
        let perm = self.perm.as_ref().unwrap_or(&reversed);
        let mut seen = vec![false; x.len()];
        let each_once = perm.iter().all(|axis| seen.get_mut(*axis).is_some_and(|seen| !std::mem::replace(seen, true)));
        if perm.len() != x.len() || !each_once {
            return Err(format!("{perm:?} is no order of {} axes", x.len()));
        }
        Ok(vec![Fact::new(dtype, Some(perm.iter().map(|axis| x[*axis].clone()).collect())).with(inputs.partial(0).cloned())])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let rank = ties.shape(0).len();
        for out in 0..rank {
            let from = self.perm.as_ref().map_or(rank - 1 - out, |perm| perm[out]);
            ties.same(Place::In(0, from), Place::Out(0, out));
        }
        Ok(())
    }
}

impl Operator for DepthToSpace {
    const NAMES: &'static [(&'static str, i64)] = &[("DepthToSpace", 1)];

    fn name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<DepthToSpace, String> {
        let block_size = attributes.count("blocksize", 0)?;
        if block_size == 0 {
            return Err("attribute `blocksize` is missing".into());
        }
        let mode = if attributes.opset >= 11 { attributes.text("mode", "DCR")? } else { "DCR" };
        match mode {
            "DCR" => Ok(DepthToSpace { block_size, crd: false }),
            "CRD" => Ok(DepthToSpace { block_size, crd: true }),
            other => Err(unexpected("mode", other)),
        }
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int_or_none("blocksize", Some(self.block_size as i64));
        attributes.text("mode", if self.crd { "CRD" } else { "DCR" }, "DCR");
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        let x = inputs.ranked(0, 4)?;
        let block = Dim::Fixed(self.block_size);
        let area = block.times(&block);
        if let (Some(c), Some(area)) = (x[1].fixed(), area.fixed())
            && (area == 0 || c % area != 0)
        {
            return Err(format!("{c} channels cannot be spread over blocks of {area} cells"));
        }
        let shape = vec![x[0].clone(), x[1].divided_by(&area), x[2].times(&block), x[3].times(&block)];
        Ok(vec![Fact::new(inputs.dtype(0), Some(shape))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        let channels = ties.output_shape(0).get(1).and_then(Dim::fixed).ok_or("its number of channels is not known")?;
        let area = self.block_size.checked_mul(self.block_size).ok_or("its block is larger than any number of channels")?;
        ties.same(Place::In(0, 0), Place::Out(0, 0));
        for c in 0..channels {
            for cell in 0..area {
                let from = if self.crd { c * area + cell } else { cell * channels + c };
                ties.tie(Place::In(0, 1), from, Place::Out(0, 1), c);
            }
        }
        Ok(())
    }
}
