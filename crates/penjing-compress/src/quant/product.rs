//! What codes of weights alone pay for: products with constant matrices, and tables that rows are picked from.

use penjing_graph::ops::{DequantizeLinear, Gather, Op};
use penjing_graph::passes::{GemmToMatMul, Pass, Verdict};
use penjing_graph::{DataType, Edit, Graph, NodeId, Tensor, ValueId};

use super::conversion::{ConvertedLayer, Kept};
use super::qdq::codes;
use super::static_quantization::sqnr;
use super::{Fit, Granularity, LeftInFloat, Number, QuantizeError, Quantizer, Scheme, Symmetry};

/// Rows from which a table's codes save more than its DequantizeLinear takes.
const LEAST_ROWS: usize = 16;

/// A `MatMul` with a constant weight [K, N].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) node: NodeId,
    /// [.., K]
    pub(super) input: ValueId,
    pub(super) weight: ValueId,
    pub(super) dims: [usize; 2],
    pub(super) values: Vec<f32>,
}

/// A `Gather` of rows of a constant table [V, D].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lookup {
    node: NodeId,
    table: ValueId,
    dims: [usize; 2],
}

/// A network in which each Gemm that can be is a MatMul, with what its codes pay for.
#[derive(Clone, Debug)]
pub(super) struct Products {
    pub(super) graph: Graph,
    pub(super) products: Vec<Product>,
    pub(super) lookups: Vec<Lookup>,
    /// Nodes with weights that stay in float.
    pub(super) float: Vec<LeftInFloat>,
}

/// Rewrites the Gemm and finds the products and lookups, in running order. `convolution` says why these are none of them.
pub(super) fn products(graph: &Graph, kept: &Kept<'_>, convolution: &str) -> Result<Products, QuantizeError> {
    let mut graph = graph.clone();
    let mut float = vec![];
    for (id, name) in graph.nodes().map(|(id, node)| (id, node.name.clone())).collect::<Vec<_>>() {
        let left = |reason: String| LeftInFloat { node: name, operator: "Gemm".into(), reason };
        match (GemmToMatMul.visit(&graph, id), kept.check(graph.node(id))) {
            (Verdict::NoMatch, _) => {}
            (_, Err(reason)) => float.push(left(reason)),
            (Verdict::Skip(reason), Ok(())) => float.push(left(reason.into())),
            (Verdict::Apply(edit), Ok(())) => graph.apply(edit)?,
        }
    }
    let (mut products, mut lookups) = (vec![], vec![]);
    for (id, node) in graph.nodes() {
        let found = match &node.op {
            Op::MatMul(_) => kept.check(node).and_then(|()| product(&graph, id)).map(|product| products.extend(product)),
            Op::Gather(gather) => {
                let lookup = lookup(&graph, id, *gather);
                if lookup.is_some() { kept.check(node).map(|()| lookups.extend(lookup)) } else { Ok(()) }
            }
            Op::Conv(_) | Op::ConvTranspose(_) => kept.check(node).and(Err(convolution.into())),
            _ => Ok(()),
        };
        if let Err(reason) = found {
            float.push(LeftInFloat { node: node.name.clone(), operator: node.op.op_type().into(), reason });
        }
    }
    Ok(Products { graph, products, lookups, float })
}

/// `None` where both operands are computed, or it is not of 32-bit floats.
fn product(graph: &Graph, id: NodeId) -> Result<Option<Product>, String> {
    let node = graph.node(id);
    let (Some(input), Some(weight)) = (node.input(0), node.input(1)) else { return Ok(None) };
    let Some(tensor) = graph.constant(weight).filter(|tensor| tensor.dtype() == DataType::Float) else { return Ok(None) };
    let rank = graph.value(input).shape.as_ref().map(Vec::len);
    match (tensor.dims(), tensor.to_f32()) {
        _ if graph.constant(input).is_some() => Ok(None),
        (&[k, n], Some(values)) if k > 0 && n > 0 && rank.is_none_or(|rank| rank >= 2) => {
            Ok(Some(Product { node: id, input, weight, dims: [k, n], values: values.into_owned() }))
        }
        _ => Err("it is no product of matrices".into()),
    }
}

fn lookup(graph: &Graph, id: NodeId, gather: Gather) -> Option<Lookup> {
    let node = graph.node(id);
    let table = node.input(0)?;
    let tensor = graph.constant(table).filter(|tensor| tensor.dtype() == DataType::Float)?;
    match tensor.dims() {
        &[rows, columns] if gather.axis == 0 && rows >= LEAST_ROWS && columns > 0 => {
            Some(Lookup { node: id, table, dims: [rows, columns] })
        }
        _ => None,
    }
}

impl Lookup {
    /// Stores the table as codes of 8 bits, each column with a scale of its own; what is picked becomes floats.
    pub(super) fn quantize(&self, graph: &Graph, edit: &mut Edit, fit: Fit) -> Result<ConvertedLayer, QuantizeError> {
        let node = graph.node(self.node);
        let name = &graph.value(self.table).name;
        let values = graph.tensor(self.table).and_then(Tensor::to_f32).unwrap_or_default();
        let scheme = Scheme::new(Number::Int8, Granularity::Channel { axis: 1 }, Symmetry::Symmetric);
        let quantizer = Quantizer::fit(scheme, &self.dims, &values, fit).map_err(|e| e.of(name))?;
        let stored = quantizer.quantize(&values).map_err(|e| e.of(name))?;
        let layer = ConvertedLayer::new(node, scheme.to_string(), sqnr(&values, &quantizer.dequantize(&stored)?));
        let table = put(graph, edit, self.table, "quantized", codes(Number::Int8, &self.dims, &stored));
        let scale = edit.add_tensor(format!("{name}_scale"), Tensor::new([self.dims[1]], quantizer.scales().to_vec()));
        let inputs = node.inputs.iter().enumerate().map(|(i, input)| if i == 0 { Some(table) } else { *input }).collect();
        edit.set_op(self.node, node.op.clone(), inputs);
        let floats = DequantizeLinear { axis: -1, ..DequantizeLinear::default() };
        edit.insert_behind((self.node, 0), format!("{}_DequantizeLinear", node.name), floats, &[scale], format!("{}_codes", node.name));
        Ok(layer)
    }
}

/// Puts a tensor where `old` was if nothing else reads that, and into a new initializer otherwise.
pub(super) fn put(graph: &Graph, edit: &mut Edit, old: ValueId, what: &str, tensor: Tensor) -> ValueId {
    if graph.uses(old) == 1 {
        edit.set_tensor(old, tensor);
        old
    } else {
        edit.add_tensor(format!("{}_{what}", graph.value(old).name), tensor)
    }
}
