//! The network with a QuantizeLinear and a DequantizeLinear at each tensor that becomes codes: what runtimes turn into integer kernels.

use std::collections::{BTreeMap, BTreeSet};

use penjing_graph::ops::{Activation, DequantizeLinear, Op, QuantizeLinear, Variadic};
use penjing_graph::{DataType, Edit, Graph, GraphError, NodeId, Tensor, ValueId};

use super::number::Format;
use super::plan::Plan;
use super::{Bits, Granularity, Number, QuantError, Quantizer, Scheme, Symmetry};

/// How activations and weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Activations, each tensor as a whole.
    pub activations: Scheme,
    /// What weights are stored as.
    pub weights: Number,
    /// Whether each output channel of a weight has a scale of its own.
    pub per_channel: bool,
    /// Two neighbouring products are summed in 16 bits, which saturate: scales of weights leave room for that.
    pub pairs_saturate: bool,
}

impl Precision {
    /// The scheme of a weight of so many bits whose output channels lie along `axis`. Fewer bits than the type has are its smallest codes,
    /// since convolutions have kernels for whole bytes alone.
    pub fn of_weight(&self, axis: usize, bits: Bits) -> Scheme {
        let granularity = if self.per_channel { Granularity::Channel { axis } } else { Granularity::Tensor };
        let narrow = u32::from(bits.get()) < self.weights.bits();
        Scheme { bits: narrow.then_some(bits), ..Scheme::new(self.weights, granularity, Symmetry::Symmetric) }
    }
}

/// Everything that is put into the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) plan: &'a Plan,
    /// Of each value that is observed.
    pub(super) activations: &'a BTreeMap<ValueId, Quantizer>,
    /// Of each weight.
    pub(super) weights: &'a BTreeMap<ValueId, Quantizer>,
    /// What each layer adds to its output channels, where that is not what its bias holds.
    pub(super) biases: &'a BTreeMap<NodeId, Vec<f32>>,
    pub(super) form: Form,
}

/// What the network is put together for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// To see what codes do: weights as codes, biases in float.
    Draft,
    /// To be written: biases become integers too, in steps of the product's: 32 bits.
    Integers,
    /// To be trained: weights in float, rounded to codes wherever they are read, and biases in float.
    Trainable,
}

/// Puts the parts into a copy of the network.
pub(super) fn assemble(graph: &Graph, parts: &Parts<'_>) -> Result<Graph, AssembleError> {
    let mut writer = Writer {
        graph,
        consumers: graph.consumers(),
        edit: Edit::new(graph, "quantize"),
        inputs: BTreeMap::new(),
        grids: BTreeMap::new(),
        weights: BTreeMap::new(),
        layers: parts.plan.layers.iter().map(|layer| layer.node).collect(),
    };
    for (value, source) in &parts.plan.activations {
        let quantizer =
            parts.activations.get(source).ok_or_else(|| QuantError::NotCalibrated { tensor: graph.value(*source).name.clone() })?;
        writer.activation(*value, *source, quantizer);
    }
    for layer in &parts.plan.layers {
        let quantizer = &parts.weights[&layer.weight];
        match parts.form {
            Form::Draft | Form::Integers => writer.weight(layer.node, layer.weight, layer.axis, quantizer)?,
            Form::Trainable => writer.trainable_weight(layer.node, layer.weight, layer.axis, quantizer),
        }
        let added = match (parts.biases.get(&layer.node), layer.bias.and_then(|id| graph.tensor(id)?.to_f32())) {
            (Some(bias), _) => bias.clone(),
            (None, Some(bias)) => bias.into_owned(),
            (None, None) => continue,
        };
        let step = parts.activations[&parts.plan.activations[&layer.input]].scales()[0];
        writer.bias(layer.node, layer.bias, &added, step, quantizer.scales(), parts.form == Form::Integers);
    }
    let Writer { mut edit, inputs, .. } = writer;
    for (id, inputs) in inputs {
        edit.set_op(id, graph.node(id).op.clone(), inputs);
    }
    let mut quantized = graph.clone();
    quantized.apply(edit)?;
    Ok(quantized)
}

/// Why the parts could not be put in.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssembleError {
    #[error(transparent)]
    Quant(#[from] QuantError),
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// The initializers of a scale and a zero point.
type GridTensors = (ValueId, ValueId);

struct Writer<'a> {
    graph: &'a Graph,
    /// The nodes that read each value of the network.
    consumers: BTreeMap<ValueId, Vec<NodeId>>,
    edit: Edit,
    /// What nodes of the network read from now on.
    inputs: BTreeMap<NodeId, Vec<Option<ValueId>>>,
    /// Scale and zero point of each value that others share them with.
    grids: BTreeMap<ValueId, GridTensors>,
    /// What stands for each weight.
    weights: BTreeMap<ValueId, ValueId>,
    /// The nodes whose weights become codes.
    layers: BTreeSet<NodeId>,
}

impl Writer<'_> {
    fn name(&self, id: ValueId) -> String {
        self.graph.value(id).name.clone()
    }

    fn reads(&mut self, node: NodeId) -> &mut Vec<Option<ValueId>> {
        self.inputs.entry(node).or_insert_with(|| self.graph.node(node).inputs.clone())
    }

    fn activation(&mut self, value: ValueId, source: ValueId, quantizer: &Quantizer) {
        let name = self.name(value);
        let (scale, zero) = match self.grids.get(&source) {
            Some(grid) => *grid,
            None => {
                let name = self.name(source);
                let scale = self.edit.add_tensor(format!("{name}_scale"), Tensor::scalar(quantizer.scales()[0]));
                let zero =
                    self.edit.add_tensor(format!("{name}_zero_point"), codes(quantizer.scheme().number, &[], quantizer.zero_points()));
                self.grids.insert(source, (scale, zero));
                (scale, zero)
            }
        };
        let inputs = |of| vec![Some(of), Some(scale), Some(zero)];
        let read = if self.given_by_float_layer(value) { self.guarded(value, quantizer) } else { value };
        let quantized =
            self.edit.add_node(format!("{name}_QuantizeLinear"), QuantizeLinear::default(), inputs(read), &[&format!("{name}_quantized")]);
        let back = self.edit.add_node(
            format!("{name}_DequantizeLinear"),
            DequantizeLinear::default(),
            inputs(quantized[0]),
            &[&format!("{name}_dequantized")],
        );
        for consumer in self.consumers.remove(&value).unwrap_or_default() {
            self.reads(consumer).iter_mut().filter(|input| **input == Some(value)).for_each(|input| *input = Some(back[0]));
        }
    }

    /// Whether a layer with a constant weight that stays in float gives a value, if only through functions that a runtime moves codes
    /// through or fuses to it.
    fn given_by_float_layer(&self, mut value: ValueId) -> bool {
        while let Some(id) = self.graph.value(value).producer {
            let node = self.graph.node(id);
            match (&node.op, node.input(0), node.input(1)) {
                (Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_), _, weight) => {
                    return weight.is_some_and(|weight| self.graph.tensor(weight).is_some()) && !self.layers.contains(&id);
                }
                (Op::Activation(Activation::Relu) | Op::Clip(_) | Op::MaxPool(_), Some(input), _)
                | (Op::Reshape(_) | Op::Flatten(_) | Op::Transpose(_) | Op::Squeeze(_) | Op::Unsqueeze(_), Some(input), _) => value = input,
                _ => return false,
            }
        }
        false
    }

    /// A value with the lower bound that its codes have anyway. ONNX Runtime gives codes to the weights of a layer that it finds between a
    /// DequantizeLinear and a QuantizeLinear, one scale for all; with a Max before the latter it leaves the layer in float.
    fn guarded(&mut self, value: ValueId, quantizer: &Quantizer) -> ValueId {
        let name = self.name(value);
        let bound = self.edit.add_tensor(format!("{name}_least"), Tensor::scalar(quantizer.least()));
        self.edit.add_node(format!("{name}_Max"), Variadic::Max, vec![Some(value), Some(bound)], &[&format!("{name}_bounded")])[0]
    }

    fn weight(&mut self, node: NodeId, weight: ValueId, axis: usize, quantizer: &Quantizer) -> Result<(), QuantError> {
        let back = match self.weights.get(&weight) {
            Some(back) => *back,
            None => {
                let name = self.name(weight);
                let tensor = self.graph.tensor(weight);
                let (dims, values) = tensor.map(|t| (t.dims().to_vec(), t.to_f32().unwrap_or_default().into_owned())).unwrap_or_default();
                let stored = codes(quantizer.scheme().number, &dims, &quantizer.quantize(&values).map_err(|e| e.of(&name))?);
                let stored = self.put(Some(weight), &format!("{name}_quantized"), stored);
                let op = DequantizeLinear { axis: axis as i64, ..DequantizeLinear::default() };
                let back = self.dequantized(
                    &name,
                    op,
                    stored,
                    quantizer.scheme().number,
                    &quantizer.scale_dims(),
                    quantizer.scales(),
                    quantizer.zero_points(),
                );
                self.weights.insert(weight, back);
                back
            }
        };
        self.reads(node)[1] = Some(back);
        Ok(())
    }

    /// A weight that stays in float and is read as what its code stands for.
    fn trainable_weight(&mut self, node: NodeId, weight: ValueId, axis: usize, quantizer: &Quantizer) {
        let back = match self.weights.get(&weight) {
            Some(back) => *back,
            None => {
                let name = self.name(weight);
                let (scheme, dims) = (quantizer.scheme(), quantizer.scale_dims());
                let scale = self.edit.add_tensor(format!("{name}_scale"), Tensor::new(&dims[..], quantizer.scales().to_vec()));
                let zero = self.edit.add_tensor(format!("{name}_zero_point"), codes(scheme.number, &dims, quantizer.zero_points()));
                let mut read = weight;
                // A QuantizeLinear uses all codes of its type.
                if let (Format::Integer(used), Some(_)) = (scheme.format(), scheme.bits) {
                    let mut along = vec![1; self.graph.tensor(weight).map_or(0, |t| t.dims().len())];
                    if let Granularity::Channel { axis } = scheme.granularity {
                        along[axis] = quantizer.scales().len();
                    }
                    for (op, code) in [(Variadic::Max, used.low), (Variadic::Min, used.high)] {
                        let ends = quantizer.scales().iter().map(|scale| scale * code as f32).collect();
                        let end = self.edit.add_tensor(format!("{name}_{op:?}"), Tensor::new(&along[..], ends));
                        let cut = format!("{name}_cut");
                        read = self.edit.add_node(format!("{name}_{op:?}"), op, vec![Some(read), Some(end)], &[&cut])[0];
                    }
                }
                let quantize = QuantizeLinear { axis: axis as i64, ..QuantizeLinear::default() };
                let inputs = |of| vec![Some(of), Some(scale), Some(zero)];
                let coded =
                    self.edit.add_node(format!("{name}_QuantizeLinear"), quantize, inputs(read), &[&format!("{name}_quantized")])[0];
                let op = DequantizeLinear { axis: axis as i64, ..DequantizeLinear::default() };
                let back = self.edit.add_node(format!("{name}_DequantizeLinear"), op, inputs(coded), &[&format!("{name}_dequantized")])[0];
                self.weights.insert(weight, back);
                back
            }
        };
        self.reads(node)[1] = Some(back);
    }

    /// A bias in steps of the product of the scales of input and weight, which is what the sums of products are counted in.
    fn bias(&mut self, node: NodeId, old: Option<ValueId>, added: &[f32], input_scale: f32, weight_scales: &[f32], integer: bool) {
        let name = old.map_or_else(|| format!("{}.bias", self.graph.node(node).name), |id| self.name(id));
        let place = if integer {
            let scales: Vec<f32> = weight_scales.iter().map(|s| (s * input_scale).max(f32::MIN_POSITIVE)).collect();
            let step = |c: usize| f64::from(scales[if scales.len() == 1 { 0 } else { c }]);
            let codes: Vec<i32> = added.iter().enumerate().map(|(c, b)| (f64::from(*b) / step(c)).round_ties_even() as i32).collect();
            let stored = self.put(old, &format!("{name}_quantized"), Tensor::new([added.len()], codes));
            let dims: Vec<usize> = if scales.len() == 1 { vec![] } else { vec![scales.len()] };
            let zeros = vec![0; scales.len()];
            let scale = self.edit.add_tensor(format!("{name}_scale"), Tensor::new(&dims[..], scales));
            let zero = self.edit.add_tensor(format!("{name}_zero_point"), Tensor::new(&dims[..], zeros));
            let op = DequantizeLinear { axis: 0, ..DequantizeLinear::default() };
            let inputs = vec![Some(stored), Some(scale), Some(zero)];
            self.edit.add_node(format!("{name}_DequantizeLinear"), op, inputs, &[&format!("{name}_dequantized")])[0]
        } else {
            self.put(old, &name, Tensor::new([added.len()], added.to_vec()))
        };
        let reads = self.reads(node);
        reads.resize(3, None);
        reads[2] = Some(place);
    }

    #[allow(clippy::too_many_arguments, reason = "one DequantizeLinear has as many parts")]
    fn dequantized(
        &mut self,
        name: &str,
        op: DequantizeLinear,
        stored: ValueId,
        number: Number,
        dims: &[usize],
        scales: &[f32],
        zeros: &[i32],
    ) -> ValueId {
        let scale = self.edit.add_tensor(format!("{name}_scale"), Tensor::new(dims, scales.to_vec()));
        let zero = self.edit.add_tensor(format!("{name}_zero_point"), codes(number, dims, zeros));
        let inputs = vec![Some(stored), Some(scale), Some(zero)];
        self.edit.add_node(format!("{name}_DequantizeLinear"), op, inputs, &[&format!("{name}_dequantized")])[0]
    }

    /// Puts a tensor where `old` was if nothing else reads that, and into a new initializer otherwise.
    fn put(&mut self, old: Option<ValueId>, name: &str, tensor: Tensor) -> ValueId {
        match old.filter(|old| self.graph.uses(*old) == 1) {
            Some(old) => {
                self.edit.set_tensor(old, tensor);
                old
            }
            None => self.edit.add_tensor(name, tensor),
        }
    }
}

/// Codes as a tensor of their type.
pub(super) fn codes(number: Number, dims: &[usize], codes: &[i32]) -> Tensor {
    let dtype = number.data_type();
    match dtype {
        DataType::Int16 => Tensor::new(dims, codes.iter().map(|c| *c as i16).collect::<Vec<_>>()),
        DataType::Uint16 => Tensor::new(dims, codes.iter().map(|c| *c as u16).collect::<Vec<_>>()),
        _ => {
            let octets: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
            Tensor::from_codes(dtype, dims, &octets).expect("one octet for each element of a type of at most 8 bits")
        }
    }
}
