//! Float tensors with many zeros, stored as the elements that are not zero and the distances between them, in operators
//! of standard ONNX:
//!
//! ```text
//! gaps [K] ─► Cast ─► CumSum ─► positions [K] ─┐
//! length [1] ─► ConstantOfShape ─► zeros [N] ──┼─► ScatterElements ─► Reshape ─► tensor
//! values [K] ──────────────────────────────────┘
//! ```
//!
//! A runtime that folds constants computes the tensor once, when it loads the model; [`fold`] does so when it is read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::proto::{AttributeProto, AttributeType, NodeProto};
use crate::ops::{Cast, ConstantOfShape, CumSum, Op};
use crate::{DataType, Graph, NodeId, Tensor, ValueId};

/// The opset that brought `CumSum` and `ScatterElements`.
pub(super) const OLDEST: i64 = 11;

/// Elements are laid out only where they take at most this many times the bytes that the file holds of them, so that a
/// small file cannot ask for all memory. Gaps of one byte stay below it by themselves.
const MAX_EXPANSION: usize = 256;

/// The opset from which on the operators take floats of that type; `None` for what is no float.
fn since(dtype: DataType) -> Option<i64> {
    // `ConstantOfShape` was the last to learn of bfloat16.
    dtype.is_float().then_some(if dtype == DataType::Bfloat16 { 20 } else { OLDEST })
}

/// A tensor as initializers and the encoded nodes that compute it from them.
pub(super) struct Packed {
    pub(super) tensors: Vec<(String, Tensor)>,
    pub(super) nodes: Vec<Bytes>,
}

/// Stores a float tensor sparsely, in the cheaper of one and two bytes a gap. `None` where it has another type, or one that
/// the operators do not take at this opset.
pub(super) fn pack(name: &str, tensor: &Tensor, opset: i64, taken: &BTreeSet<&str>) -> Option<Packed> {
    let sparse = since(tensor.dtype()).filter(|since| *since <= opset).and_then(|_| Sparse::of(tensor))?;
    let unique = |part: &str| {
        let mut unique = format!("{name}.{part}");
        while taken.contains(unique.as_str()) {
            unique.push('_');
        }
        unique
    };
    let [values, gaps, axis, length, shape] = ["values", "gaps", "axis", "length", "shape"].map(unique);
    let [wide, positions, zeros, flat] = ["wide", "positions", "zeros", "flat"].map(unique);
    let index = if i32::try_from(tensor.len()).is_ok() { DataType::Int32 } else { DataType::Int64 };
    let to = int("to", i64::from(index.onnx_code()));
    let zero = (tensor.dtype() != DataType::Float).then(|| zero_value(tensor.dtype()));
    let nodes = vec![
        node("Cast", &[&gaps], &wide, vec![to]),
        node("CumSum", &[&wide, &axis], &positions, vec![]),
        node("ConstantOfShape", &[&length], &zeros, zero.into_iter().collect()),
        node("ScatterElements", &[&zeros, &positions, &values], &flat, vec![]),
        node("Reshape", &[&flat, &shape], name, vec![]),
    ];
    let dims: Vec<i64> = tensor.dims().iter().map(|d| *d as i64).collect();
    let tensors = vec![
        (values, sparse.values),
        (gaps, sparse.gaps),
        (axis, Tensor::scalar(0i64)),
        (length, Tensor::new([1], vec![tensor.len() as i64])),
        (shape, Tensor::new([dims.len()], dims)),
    ];
    Some(Packed { tensors, nodes })
}

fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> Bytes {
    let input = inputs.iter().map(|name| (*name).to_string()).collect();
    NodeProto { op_type: op_type.into(), input, output: vec![output.into()], attribute, ..NodeProto::default() }.encode_to_vec().into()
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: Some(AttributeType::Int as i32), i: Some(i), ..AttributeProto::default() }
}

fn zero_value(dtype: DataType) -> AttributeProto {
    let octets = Bytes::from(vec![0; dtype.byte_len(1).unwrap_or(0)]);
    let t = Tensor::from_raw(dtype, vec![1], octets).ok().map(|zero| super::tensor_to_proto(&zero));
    AttributeProto { name: "value".into(), r#type: Some(AttributeType::Tensor as i32), t, ..AttributeProto::default() }
}

/// Operation, inputs and output of a node.
type Parts<'a, const N: usize> = (&'a Op, [ValueId; N], ValueId);

/// Elements of a tensor with the distance of each from the one before it, the first from position 0. Where the next
/// element is farther away than a gap can say, zeros stand in between.
#[derive(Debug, PartialEq)]
struct Sparse {
    values: Tensor,
    gaps: Tensor,
}

impl Sparse {
    fn of(tensor: &Tensor) -> Option<Sparse> {
        if !tensor.dtype().is_float() {
            return None;
        }
        let width = tensor.dtype().byte_len(1)?;
        let raw = tensor.raw()?;
        // A negative zero is an element like any other: what is read back is the same to the bit.
        let stored = || raw.chunks_exact(width).enumerate().filter(|(_, element)| element.iter().any(|octet| *octet != 0));
        let positions = || stored().map(|(position, _)| position);
        let (short, long) = (count(positions(), tensor.len(), 0xff), count(positions(), tensor.len(), 0xffff));
        let expands = |stored: usize| tensor.byte_len() > stored.saturating_mul(MAX_EXPANSION);
        let (octets, fillers) = match (short * (width + 1), long * (width + 2)) {
            (_, by_long) if by_long < short * (width + 1) && !expands(by_long) => (2, 0xffff),
            (by_short, _) if !expands(by_short) => (1, 0xff),
            _ => return None,
        };
        let entries = if octets == 1 { short } else { long };
        let (mut values, mut gaps) = (Vec::with_capacity(entries * width), Vec::with_capacity(entries * octets));
        let mut at = 0;
        let mut advance = |to: usize, element: Option<&[u8]>| {
            while to - at > fillers {
                at += fillers;
                gaps.extend_from_slice(&fillers.to_le_bytes()[..octets]);
                values.resize(values.len() + width, 0);
            }
            if let Some(element) = element {
                gaps.extend_from_slice(&(to - at).to_le_bytes()[..octets]);
                values.extend_from_slice(element);
                at = to;
            }
        };
        stored().for_each(|(position, element)| advance(position, Some(element)));
        advance(tensor.len().saturating_sub(1), None);
        let gap_type = if octets == 1 { DataType::Uint8 } else { DataType::Uint16 };
        Some(Sparse {
            values: Tensor::from_raw(tensor.dtype(), vec![entries], values.into()).ok()?,
            gaps: Tensor::from_raw(gap_type, vec![entries], gaps.into()).ok()?,
        })
    }

    /// All `len` elements; `None` where gaps and values do not describe them, or take far fewer bytes than they.
    fn expand(values: &Tensor, gaps: &Tensor, len: usize) -> Option<Bytes> {
        let width = values.dtype().byte_len(1)?;
        let bytes = len.checked_mul(width)?;
        let gaps_of = gaps.to_i64()?;
        let stored = values.byte_len() + gaps.byte_len();
        if values.dims() != gaps.dims() || values.dims().len() != 1 || bytes > stored.saturating_mul(MAX_EXPANSION) {
            return None;
        }
        let mut raw = vec![0; bytes];
        let mut at = 0;
        for (i, (gap, element)) in gaps_of.iter().zip(values.raw()?.chunks_exact(width)).enumerate() {
            // Two elements at one position have no defined order.
            if *gap == 0 && i > 0 {
                return None;
            }
            at += usize::try_from(*gap).ok()?;
            raw.get_mut(at * width..(at + 1) * width)?.copy_from_slice(element);
        }
        Some(raw.into())
    }
}

/// Entries that elements at `positions` of `len` need where a gap is at most `largest`.
fn count(positions: impl Iterator<Item = usize>, len: usize, largest: usize) -> usize {
    let (entries, last) = positions.fold((0, 0), |(entries, last), at| (entries + 1 + (at - last).saturating_sub(1) / largest, at));
    entries + (len.saturating_sub(1) - last).saturating_sub(1) / largest
}

/// Turns every tensor that is stored sparsely back into an initializer of its name, in the order that it was written in.
pub(super) fn fold(graph: &mut Graph) {
    let mut readers = vec![0u32; graph.values.len()];
    let mut producers = vec![None; graph.values.len()];
    let nodes = || graph.nodes.iter().enumerate().filter_map(|(i, node)| Some((i, node.as_ref()?)));
    for (i, node) in nodes() {
        node.reads().for_each(|id| readers[id.0 as usize] += 1);
        node.outputs.iter().flatten().for_each(|id| producers[id.0 as usize] = Some(NodeId(i as u32)));
    }
    graph.inputs.iter().chain(&graph.outputs).for_each(|id| readers[id.0 as usize] += 1);
    let finder = Finder { graph, readers, producers };
    let found: Vec<Found> = nodes().filter_map(|(i, _)| finder.find(NodeId(i as u32))).collect();
    let mut places = BTreeMap::new();
    for Found { name, tensor, nodes, leftovers } in found {
        let value = &mut graph.values[name.0 as usize];
        value.dtype = Some(tensor.dtype());
        value.shape = Some(tensor.dims().iter().map(|d| (*d).into()).collect());
        value.tensor = Some(tensor);
        nodes.into_iter().for_each(|id| graph.nodes[id.0 as usize] = None);
        leftovers.into_iter().for_each(|id| graph.values[id.0 as usize].tensor = None);
        places.extend([(name, leftovers[0]), (leftovers[0], name)]);
    }
    swap(graph, &places);
}

/// Lets values change places in pairs: a tensor takes that of its elements, where it stood before it was stored sparsely.
fn swap(graph: &mut Graph, places: &BTreeMap<ValueId, ValueId>) {
    places.iter().filter(|(a, b)| a < b).for_each(|(a, b)| graph.values.swap(a.0 as usize, b.0 as usize));
    let nodes = graph.nodes.iter_mut().flatten();
    let in_nodes = nodes.flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs).flatten().chain(&mut node.captures));
    for id in in_nodes.chain(&mut graph.inputs).chain(&mut graph.outputs) {
        *id = places.get(id).copied().unwrap_or(*id);
    }
}

/// A tensor that is stored sparsely, and all that stores it.
struct Found {
    name: ValueId,
    tensor: Tensor,
    nodes: [NodeId; 5],
    leftovers: [ValueId; 2],
}

struct Finder<'a> {
    graph: &'a Graph,
    /// How often each value is read.
    readers: Vec<u32>,
    producers: Vec<Option<NodeId>>,
}

impl Finder<'_> {
    fn find(&self, reshape: NodeId) -> Option<Found> {
        let (Op::Reshape(_), [flat, shape], name) = self.node(reshape)? else { return None };
        let (scatter, (Op::ScatterElements(op), [zeros, positions, values], _)) = self.producer(flat)? else { return None };
        if op.axis != 0 || op.reduction != "none" {
            return None;
        }
        let (fill, (Op::ConstantOfShape(ConstantOfShape { value }), [length], _)) = self.producer(zeros)? else { return None };
        let (sum, (Op::CumSum(CumSum { exclusive: false, reverse: false }), [wide, axis], _)) = self.producer(positions)? else {
            return None;
        };
        let (cast, (Op::Cast(Cast { to, .. }), [gaps], _)) = self.producer(wide)? else { return None };

        let (values_of, gaps_of) = (self.graph.tensor(values)?, self.graph.tensor(gaps)?);
        let (&[len], &[0]) = (&*self.graph.tensor(length)?.to_i64()?, &*self.graph.tensor(axis)?.to_i64()?) else { return None };
        let dims = super::elements::dims(&self.graph.tensor(shape)?.to_i64()?).ok()?;
        let len = usize::try_from(len).ok().filter(|len| Some(*len) == crate::element_count(&dims))?;
        let indexable = match to {
            DataType::Int32 => i32::try_from(len).is_ok(),
            DataType::Int64 => true,
            _ => false,
        };
        let zero = match value {
            None => values_of.dtype() == DataType::Float,
            Some(value) => value.dtype() == values_of.dtype() && value.raw()?.iter().all(|octet| *octet == 0),
        };
        let small_gaps = matches!(gaps_of.dtype(), DataType::Uint8 | DataType::Uint16);
        // A dimension of 0 would copy one of the flat tensor's.
        if !indexable || !zero || !small_gaps || !values_of.dtype().is_float() || len == 0 {
            return None;
        }
        let tensor = Tensor::from_raw(values_of.dtype(), dims, Sparse::expand(values_of, gaps_of, len)?).ok()?;
        let leftovers = [values, gaps];
        let only_here = leftovers.iter().all(|id| self.readers[id.0 as usize] == 1);
        // A name that something else gives too is left for the check of the graph to refuse.
        let only_this =
            self.producers[name.0 as usize] == Some(reshape) && self.graph.tensor(name).is_none() && !self.graph.inputs.contains(&name);
        (only_here && only_this).then_some(Found { name, tensor, nodes: [reshape, scatter, fill, sum, cast], leftovers })
    }

    /// Operation, inputs and output of a node that leaves none out.
    fn node<const N: usize>(&self, id: NodeId) -> Option<Parts<'_, N>> {
        let node = self.graph.nodes[id.0 as usize].as_ref()?;
        let inputs: Option<Vec<ValueId>> = node.inputs.iter().copied().collect();
        let &[Some(output)] = node.outputs.as_slice() else { return None };
        Some((&node.op, inputs?.try_into().ok()?, output))
    }

    /// The node that gives a value to one reader only.
    fn producer<const N: usize>(&self, value: ValueId) -> Option<(NodeId, Parts<'_, N>)> {
        let id = self.producers[value.0 as usize].filter(|_| self.readers[value.0 as usize] == 1)?;
        Some((id, self.node(id)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(tensor: &Tensor) -> Option<Bytes> {
        let sparse = Sparse::of(tensor)?;
        Sparse::expand(&sparse.values, &sparse.gaps, tensor.len())
    }

    fn gaps(elements: Vec<f32>) -> Option<(Vec<f32>, Vec<i64>)> {
        let sparse = Sparse::of(&Tensor::new([elements.len()], elements))?;
        Some((sparse.values.to_f32()?.into_owned(), sparse.gaps.to_i64()?.into_owned()))
    }

    #[test]
    fn elements_stand_at_the_sums_of_the_gaps() {
        assert_eq!(gaps(vec![0.0, 5.0, 0.0, 0.0, 7.0, 8.0]), Some((vec![5.0, 7.0, 8.0], vec![1, 3, 1])));
        assert_eq!(gaps(vec![5.0, 0.0]), Some((vec![5.0], vec![0])));
    }

    #[test]
    fn a_gap_of_more_than_a_byte_is_bridged_by_zeros() {
        let mut elements = vec![0.0; 300];
        (elements[0], elements[256]) = (1.0, 2.0);
        elements[296..].fill(3.0);
        // 7 · 5 bytes rather than 6 · 6 with gaps of two bytes.
        assert_eq!(gaps(elements), Some((vec![1.0, 0.0, 2.0, 3.0, 3.0, 3.0, 3.0], vec![0, 255, 1, 40, 1, 1, 1])));
    }

    #[test]
    fn two_bytes_a_gap_where_they_are_cheaper() {
        let mut elements = vec![0.0; 20_000];
        (0..20_000).step_by(1000).for_each(|i| elements[i] = 1.0);
        let sparse = Sparse::of(&Tensor::new([20_000], elements));
        // 20 · 6 bytes instead of (20 + 20 · 3) · 5, but that would be 666 times less than is laid out.
        assert_eq!(sparse.map(|s| s.gaps.dtype()), Some(DataType::Uint8));
        let mut elements = vec![0.0; 20_000];
        (0..20_000).step_by(300).for_each(|i| elements[i] = 1.0);
        assert_eq!(Sparse::of(&Tensor::new([20_000], elements)).map(|s| s.gaps.dtype()), Some(DataType::Uint16));
    }

    #[test]
    fn a_few_bytes_do_not_ask_for_much_memory() {
        let (values, gaps) = (Tensor::new([1], vec![1.0f32]), Tensor::new([1], vec![1u8]));
        assert!(Sparse::expand(&values, &gaps, 5 * MAX_EXPANSION / 4).is_some());
        assert_eq!(Sparse::expand(&values, &gaps, 5 * MAX_EXPANSION / 4 + 1), None);
        assert_eq!(Sparse::expand(&values, &gaps, usize::MAX), None);
    }

    #[test]
    fn entries_that_no_tensor_has_are_left_alone() {
        let gaps = |gaps: Vec<u8>| Sparse::expand(&Tensor::new([2], vec![1.0f32, 2.0]), &Tensor::new([gaps.len()], gaps), 4);
        assert!(gaps(vec![0, 3]).is_some());
        assert_eq!(gaps(vec![0, 4]), None);
        assert_eq!(gaps(vec![1, 0]), None);
        assert_eq!(gaps(vec![1]), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_expands_to_the_same_bits(
            len in 1usize..3000,
            elements in proptest::collection::vec((0usize..3000, any::<f32>()), 20..60),
        ) {
            let mut dense = vec![0.0f32; len];
            elements.iter().for_each(|(at, element)| dense[at % len] = *element);
            dense[0] = -0.0;
            let tensor = Tensor::new([len], dense);
            let again = back(&tensor);
            prop_assert_eq!(again.as_ref(), tensor.raw());
            let halves = Tensor::new([len], tensor.to_f32().into_iter().flat_map(|v| v.into_owned()).map(half::f16::from_f32).collect());
            let again = back(&halves);
            prop_assert_eq!(again.as_ref(), halves.raw());
        }
    }
}
