//! From numbers to codes and back.
//!
//! A code stands for the number (code − zero point) · scale. One scale and one zero point hold for a whole tensor, for one
//! position of an axis, or for a block of positions that follow each other ([`Granularity`]).

use super::Operator;
use super::attributes::{AttributeList, Attributes, unexpected};
use crate::channels::{Place, Ties};
use crate::infer::{Fact, Operands, axis};
use crate::{DataType, Dim};

/// `QuantizeLinear`: Y = saturate(round(X / scale) + zero point), halves to even. Inputs X, scale, zero point?.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeLinear {
    /// The axis whose positions have scales of their own, or whose blocks have (opset 13); negative counts from the end.
    pub axis: i64,
    /// Positions of a block along the axis; 0: no blocks (opset 21).
    pub block_size: usize,
    /// Type of the codes; `None`: the zero point's, or `uint8` without one (opset 21).
    pub output_dtype: Option<DataType>,
    /// Whether numbers beyond the largest 8-bit float become that one (opset 19).
    pub saturate: bool,
    /// Type in which the division is rounded; `None`: the scale's (opset 23).
    pub precision: Option<DataType>,
}

/// `DequantizeLinear`: Y = (X − zero point) · scale. Inputs X, scale, zero point?.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DequantizeLinear {
    /// The axis whose positions have scales of their own, or whose blocks have (opset 13); negative counts from the end.
    pub axis: i64,
    /// Positions of a block along the axis; 0: no blocks (opset 21).
    pub block_size: usize,
    /// Type of the numbers; `None`: the scale's (opset 23).
    pub output_dtype: Option<DataType>,
}

/// `DynamicQuantizeLinear`: codes of type `uint8` whose scale and zero point cover the numbers of X and zero. Input X; outputs
/// the codes, the scale, the zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicQuantizeLinear;

/// Which elements share a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// All.
    Tensor,
    /// Those at one position of this axis.
    Axis(usize),
    /// Those of `size` positions that follow each other along an axis, of which the last block may have fewer.
    Block {
        /// The axis.
        axis: usize,
        /// Positions of a block.
        size: usize,
    },
}

impl Default for QuantizeLinear {
    fn default() -> QuantizeLinear {
        QuantizeLinear { axis: 1, block_size: 0, output_dtype: None, saturate: true, precision: None }
    }
}

impl Default for DequantizeLinear {
    fn default() -> DequantizeLinear {
        DequantizeLinear { axis: 1, block_size: 0, output_dtype: None }
    }
}

impl QuantizeLinear {
    /// Which elements of X share a scale.
    ///
    /// # Errors
    /// The reason why the two shapes do not go together.
    pub fn granularity(&self, x: &[Dim], scale: &[Dim]) -> Result<Granularity, String> {
        Granularity::new(x, scale, self.axis, self.block_size)
    }
}

impl DequantizeLinear {
    /// Which elements of X share a scale.
    ///
    /// # Errors
    /// The reason why the two shapes do not go together.
    pub fn granularity(&self, x: &[Dim], scale: &[Dim]) -> Result<Granularity, String> {
        Granularity::new(x, scale, self.axis, self.block_size)
    }
}

impl Granularity {
    fn new(x: &[Dim], scale: &[Dim], along: i64, block_size: usize) -> Result<Granularity, String> {
        if block_size > 0 {
            return Granularity::of_blocks(x, scale, axis(along, x.len())?, block_size);
        }
        match scale {
            [] | [Dim::Fixed(1)] => Ok(Granularity::Tensor),
            [scales] => {
                // A vector has one axis, whatever is said of it.
                let axis = if x.len() == 1 { 0 } else { axis(along, x.len())? };
                match scales.compatible(&x[axis]) {
                    true => Ok(Granularity::Axis(axis)),
                    false => Err(format!("there are {scales} scales for the {} positions of axis {axis}", x[axis])),
                }
            }
            _ => Err(format!("the scale has {} dimensions but no `block_size` says what for", scale.len())),
        }
    }

    fn of_blocks(x: &[Dim], scale: &[Dim], axis: usize, size: usize) -> Result<Granularity, String> {
        if scale.len() != x.len() {
            return Err(format!("scales of blocks need the {} dimensions of the input but have {}", x.len(), scale.len()));
        }
        for (i, (positions, scales)) in x.iter().zip(scale).enumerate() {
            let wanted = match positions {
                Dim::Fixed(n) if i == axis => Dim::Fixed(n.div_ceil(size)),
                Dim::Symbolic { .. } | Dim::Unknown if i == axis => Dim::Unknown,
                other => other.clone(),
            };
            if !wanted.compatible(scales) {
                return Err(format!("there are {scales} scales along axis {i} where blocks of {size} need {wanted}"));
            }
        }
        Ok(Granularity::Block { axis, size })
    }

    /// Ties each scale and zero point (inputs 1 and 2) to the positions of X and Y that it is for.
    fn couple(self, ties: &mut Ties<'_>) {
        ties.alike(0);
        match self {
            Granularity::Tensor => (1..3).for_each(|input| ties.free(Place::In(input, 0))),
            Granularity::Axis(axis) => (1..3).for_each(|input| ties.same(Place::In(input, 0), Place::In(0, axis))),
            Granularity::Block { axis, .. } => {
                for other in (0..ties.shape(0).len()).filter(|other| *other != axis) {
                    (1..3).for_each(|input| ties.same(Place::In(input, other), Place::In(0, other)));
                }
                ties.stays(Place::In(0, axis), "blocks of its positions share a scale");
            }
        }
    }
}

/// The opset that brought codes of a type; `None` where none did.
fn codes_since(dtype: DataType) -> Option<i64> {
    Some(match dtype {
        DataType::Int8 | DataType::Uint8 => 10,
        DataType::Float8E4M3Fn | DataType::Float8E4M3Fnuz | DataType::Float8E5M2 | DataType::Float8E5M2Fnuz => 19,
        DataType::Int16 | DataType::Uint16 | DataType::Int4 | DataType::Uint4 => 21,
        DataType::Float4E2M1 => 23,
        DataType::Int2 | DataType::Uint2 => 25,
        DataType::Float
        | DataType::Int32
        | DataType::Int64
        | DataType::String
        | DataType::Bool
        | DataType::Float16
        | DataType::Double
        | DataType::Uint32
        | DataType::Uint64
        | DataType::Complex64
        | DataType::Complex128
        | DataType::Bfloat16
        | DataType::Float8E8M0 => return None,
    })
}

/// The opset that brought numbers, or scales, of a type.
fn numbers_since(dtype: DataType) -> Option<i64> {
    match dtype {
        DataType::Float | DataType::Int32 => Some(10),
        DataType::Float16 | DataType::Bfloat16 => Some(19),
        _ => None,
    }
}

fn scales_since(dtype: DataType) -> Option<i64> {
    match dtype {
        DataType::Float8E8M0 => Some(24),
        other => numbers_since(other),
    }
}

/// Checks that `opset` has `what` of type `dtype`, which came with opset `since`.
fn check_type(opset: i64, what: &str, dtype: Option<DataType>, since: impl Fn(DataType) -> Option<i64>) -> Result<(), String> {
    let Some(dtype) = dtype else { return Ok(()) };
    match since(dtype) {
        Some(since) if since <= opset => Ok(()),
        Some(since) => Err(format!("{what} of type {} need opset {since}, the graph has {opset} (hint: raise the opset)", dtype.name())),
        None => Err(format!("{what} are of type {}, which the operator does not have", dtype.name())),
    }
}

/// Checks that `opset` has each attribute that is used; each comes with the opset that brought it.
fn check_attributes(opset: i64, used: &[(&str, i64, bool)]) -> Result<(), String> {
    match used.iter().find(|(_, since, used)| *used && *since > opset) {
        Some((name, since, _)) => Err(format!("attribute `{name}` needs opset {since}, the graph has {opset} (hint: raise the opset)")),
        None => Ok(()),
    }
}

/// Checks that the zero point has the type of the codes and the shape of the scale.
fn check_zero_point(inputs: &Operands<'_>, codes: Option<DataType>) -> Result<(), String> {
    if let (Some(codes), Some(zero)) = (codes, inputs.dtype(2))
        && codes != zero
    {
        return Err(format!("codes of type {} do not go with a zero point of type {}", codes.name(), zero.name()));
    }
    let (Some(scale), Some(zero)) = (inputs.shape(1), inputs.shape(2)) else { return Ok(()) };
    let single = |shape: &[Dim]| matches!(shape, [] | [Dim::Fixed(1)]);
    let alike = scale.len() == zero.len() && scale.iter().zip(zero).all(|(a, b)| a.compatible(b));
    if alike || (single(scale) && single(zero)) { Ok(()) } else { Err("the zero point does not have the shape of the scale".into()) }
}

fn read_dtype(attributes: &mut Attributes<'_>, name: &str, since: i64) -> Result<Option<DataType>, String> {
    match if attributes.opset >= since { attributes.int(name, 0)? } else { 0 } {
        0 => Ok(None),
        code => {
            let dtype = i32::try_from(code).ok().and_then(DataType::from_onnx_code);
            dtype.map(Some).ok_or_else(|| unexpected(name, code))
        }
    }
}

fn write_dtype(attributes: &mut AttributeList, name: &str, dtype: Option<DataType>) {
    attributes.int_or_none(name, dtype.map(|dtype| dtype.onnx_code().into()));
}

fn read_axis(attributes: &mut Attributes<'_>) -> Result<i64, String> {
    if attributes.opset >= 13 { attributes.int("axis", 1) } else { Ok(1) }
}

fn read_block_size(attributes: &mut Attributes<'_>) -> Result<usize, String> {
    let size = if attributes.opset >= 21 { attributes.int("block_size", 0)? } else { 0 };
    usize::try_from(size).map_err(|_| unexpected("block_size", size))
}

impl Operator for QuantizeLinear {
    const NAMES: &'static [(&'static str, i64)] = &[("QuantizeLinear", 10)];

    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<QuantizeLinear, String> {
        Ok(QuantizeLinear {
            axis: read_axis(attributes)?,
            block_size: read_block_size(attributes)?,
            output_dtype: read_dtype(attributes, "output_dtype", 21)?,
            saturate: attributes.opset < 19 || attributes.flag("saturate", true)?,
            precision: read_dtype(attributes, "precision", 23)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 1);
        attributes.int("block_size", self.block_size as i64, 0);
        write_dtype(attributes, "output_dtype", self.output_dtype);
        write_dtype(attributes, "precision", self.precision);
        attributes.flag("saturate", self.saturate, true);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 3)?;
        let opset = inputs.opset();
        let used = [
            ("axis", 13, self.axis != 1),
            ("saturate", 19, !self.saturate),
            ("block_size", 21, self.block_size > 0),
            ("output_dtype", 21, self.output_dtype.is_some()),
            ("precision", 23, self.precision.is_some()),
        ];
        check_attributes(opset, &used)?;
        check_type(opset, "numbers", inputs.dtype(0), numbers_since)?;
        check_type(opset, "scales", inputs.dtype(1), scales_since)?;
        check_type(opset, "divisions", self.precision, |dtype| numbers_since(dtype).filter(|_| dtype.is_float()))?;
        let codes = match (self.output_dtype, inputs.given(2)) {
            (None, false) => Some(DataType::Uint8),
            (None, true) => inputs.dtype(2),
            (stated @ Some(_), _) => stated,
        };
        check_type(opset, "codes", codes, codes_since)?;
        check_zero_point(inputs, codes)?;
        if let (Some(x), Some(scale)) = (inputs.shape(0), inputs.shape(1)) {
            self.granularity(x, scale)?;
        }
        Ok(vec![Fact::new(codes, inputs.shape(0).map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        self.granularity(ties.shape(0), ties.shape(1))?.couple(ties);
        Ok(())
    }
}

impl Operator for DequantizeLinear {
    const NAMES: &'static [(&'static str, i64)] = &[("DequantizeLinear", 10)];

    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<DequantizeLinear, String> {
        Ok(DequantizeLinear {
            axis: read_axis(attributes)?,
            block_size: read_block_size(attributes)?,
            output_dtype: read_dtype(attributes, "output_dtype", 23)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        attributes.int("axis", self.axis, 1);
        attributes.int("block_size", self.block_size as i64, 0);
        write_dtype(attributes, "output_dtype", self.output_dtype);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 3)?;
        let opset = inputs.opset();
        let used =
            [("axis", 13, self.axis != 1), ("block_size", 21, self.block_size > 0), ("output_dtype", 23, self.output_dtype.is_some())];
        check_attributes(opset, &used)?;
        // The sums of an integer convolution, and its bias, are wider.
        let since = |dtype| if dtype == DataType::Int32 { Some(10) } else { codes_since(dtype) };
        check_type(opset, "codes", inputs.dtype(0), since)?;
        check_type(opset, "scales", inputs.dtype(1), |dtype| scales_since(dtype).filter(|_| dtype != DataType::Int32))?;
        let numbers = self.output_dtype.or(inputs.dtype(1));
        check_type(opset, "numbers", numbers, |dtype| numbers_since(dtype).filter(|_| dtype.is_float()))?;
        check_zero_point(inputs, inputs.dtype(0))?;
        if let (Some(x), Some(scale)) = (inputs.shape(0), inputs.shape(1)) {
            self.granularity(x, scale)?;
        }
        Ok(vec![Fact::new(numbers, inputs.shape(0).map(<[Dim]>::to_vec))])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        self.granularity(ties.shape(0), ties.shape(1))?.couple(ties);
        Ok(())
    }
}

impl Operator for DynamicQuantizeLinear {
    const NAMES: &'static [(&'static str, i64)] = &[("DynamicQuantizeLinear", 11)];

    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn read(_: &str, _: &mut Attributes<'_>) -> Result<DynamicQuantizeLinear, String> {
        Ok(DynamicQuantizeLinear)
    }

    fn write(&self, _: &mut AttributeList) {}

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(1, 1)?;
        check_type(inputs.opset(), "numbers", inputs.dtype(0), |dtype| (dtype == DataType::Float).then_some(11))?;
        let codes = Fact::new(Some(DataType::Uint8), inputs.shape(0).map(<[Dim]>::to_vec));
        let scalar = |dtype| Fact::new(Some(dtype), Some(vec![]));
        Ok(vec![codes, scalar(DataType::Float), scalar(DataType::Uint8)])
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        ties.alike(0);
        (0..ties.shape(0).len()).for_each(|axis| ties.stays_if_exact(Place::In(0, axis), "its range is that of all its positions"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{self, WriteOptions};
    use crate::ops::Op;
    use crate::{Graph, GraphBuilder, GraphError};

    /// The operator on inputs of these types and shapes, 0 for a dimension that is not known.
    fn single(opset: i64, op: impl Into<Op>, inputs: &[(DataType, &[usize])]) -> Result<Graph, GraphError> {
        let mut b = GraphBuilder::with_opset("single", opset);
        let dims = |shape: &[usize]| shape.iter().map(|n| if *n == 0 { Dim::Unknown } else { Dim::Fixed(*n) }).collect::<Vec<_>>();
        let inputs: Vec<_> = inputs.iter().enumerate().map(|(i, (dtype, shape))| b.input(&format!("x{i}"), *dtype, dims(shape))).collect();
        let y = b.node("y", op, &inputs);
        b.output(y).finish()
    }

    fn refusal(opset: i64, op: impl Into<Op>, inputs: &[(DataType, &[usize])]) -> String {
        single(opset, op, inputs).expect_err("a refusal").to_string()
    }

    fn type_and_shape(graph: &Graph) -> (Option<DataType>, String) {
        let y = graph.value(graph.outputs()[0]);
        (y.dtype, y.shape.iter().flatten().map(Dim::to_string).collect::<Vec<_>>().join(", "))
    }

    const F: DataType = DataType::Float;

    #[test]
    fn types_and_shapes() {
        let quantized = |op: QuantizeLinear, inputs: &[(DataType, &[usize])]| type_and_shape(&single(25, op, inputs).expect("a graph"));
        let plain = QuantizeLinear::default();
        assert_eq!(quantized(plain, &[(F, &[2, 3]), (F, &[])]), (Some(DataType::Uint8), "2, 3".into()));
        assert_eq!(quantized(plain, &[(F, &[0, 3]), (F, &[3]), (DataType::Int16, &[3])]), (Some(DataType::Int16), "?, 3".into()));
        let int2 = QuantizeLinear { block_size: 2, output_dtype: Some(DataType::Int2), ..plain };
        assert_eq!(quantized(int2, &[(F, &[2, 5]), (F, &[2, 3])]), (Some(DataType::Int2), "2, 5".into()));
        let plain = DequantizeLinear::default();
        let back = single(25, plain, &[(DataType::Int4, &[2, 3]), (DataType::Float16, &[3])]).expect("a graph");
        assert_eq!(type_and_shape(&back), (Some(DataType::Float16), "2, 3".into()));
    }

    #[test]
    fn granularities() {
        let dims = |shape: &[usize]| shape.iter().map(|n| Dim::Fixed(*n)).collect::<Vec<_>>();
        let of = |x: &[usize], scale: &[usize], along, size| Granularity::new(&dims(x), &dims(scale), along, size);
        assert_eq!(of(&[4, 3], &[], 1, 0), Ok(Granularity::Tensor));
        assert_eq!(of(&[4, 3], &[1], 1, 0), Ok(Granularity::Tensor));
        assert_eq!(of(&[4, 3], &[4], -2, 0), Ok(Granularity::Axis(0)));
        assert_eq!(of(&[4], &[4], 1, 0), Ok(Granularity::Axis(0)));
        assert_eq!(of(&[4, 3], &[4, 2], 1, 2), Ok(Granularity::Block { axis: 1, size: 2 }));
        for (x, scale, along, size) in [
            (&[4, 3][..], &[4][..], 1, 0),
            (&[4, 3], &[4, 3], 1, 0),
            (&[4, 3], &[4, 1], 1, 2),
            (&[4, 3], &[2, 2], 1, 2),
            (&[4, 3], &[2], 1, 2),
            (&[4, 3], &[3], 2, 0),
        ] {
            assert!(of(x, scale, along, size).is_err(), "{x:?} {scale:?} {along} {size}");
        }
    }

    #[test]
    fn an_opset_has_the_types_and_attributes_that_it_has() {
        let int4 = [(DataType::Int4, &[2, 4][..]), (F, &[][..])];
        assert!(refusal(17, DequantizeLinear::default(), &int4).contains("codes of type int4 need opset 21, the graph has 17"));
        assert!(single(21, DequantizeLinear::default(), &int4).is_ok());
        let int2 = [(DataType::Int2, &[2, 4][..]), (F, &[][..])];
        assert!(refusal(24, DequantizeLinear::default(), &int2).contains("need opset 25"));
        let blocks = DequantizeLinear { block_size: 2, ..DequantizeLinear::default() };
        let int8 = [(DataType::Int8, &[2, 4][..]), (F, &[2, 2][..])];
        assert!(refusal(19, blocks, &int8).contains("attribute `block_size` needs opset 21"));
        assert!(refusal(25, DequantizeLinear::default(), &[(DataType::Int64, &[2]), (F, &[])]).contains("are of type int64"));
        let zero = [(DataType::Int8, &[2, 4][..]), (F, &[][..]), (DataType::Uint8, &[][..])];
        assert!(refusal(17, DequantizeLinear::default(), &zero).contains("do not go with a zero point of type uint8"));
    }

    #[test]
    fn attributes_survive_a_file() -> Result<(), GraphError> {
        let quantize = QuantizeLinear {
            axis: 0,
            block_size: 2,
            output_dtype: Some(DataType::Float8E5M2),
            saturate: false,
            precision: Some(DataType::Float16),
        };
        let dequantize = DequantizeLinear { axis: 0, block_size: 2, output_dtype: Some(DataType::Bfloat16) };
        let ops: [(Op, DataType); 4] = [
            (quantize.into(), F),
            (QuantizeLinear::default().into(), F),
            (dequantize.into(), DataType::Int8),
            (DequantizeLinear::default().into(), DataType::Int8),
        ];
        for (op, dtype) in ops {
            let blocks =
                matches!(&op, Op::QuantizeLinear(q) if q.block_size > 0) || matches!(&op, Op::DequantizeLinear(d) if d.block_size > 0);
            let graph = single(25, op.clone(), &[(dtype, &[4, 3]), (F, if blocks { &[2, 3] } else { &[] })])?;
            let again = onnx::read_bytes(onnx::to_bytes(&graph, WriteOptions::default())?, None)?;
            assert_eq!(again.nodes().map(|(_, node)| node.op.clone()).collect::<Vec<_>>(), [op]);
        }
        Ok(())
    }
}
