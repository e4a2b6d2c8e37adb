//! How each operator runs and differentiates, one file per family as in `penjing_graph::ops`.
//!
//! An operator's kernel takes a [`Call`] and gives its outputs together with its *pullback*: the function that turns
//! gradients of the outputs into gradients of the inputs. The pullback owns exactly what it needs, so a value of the
//! forward pass lives as long as something will read it and no longer.

mod activation;
mod concat;
mod conv;
mod device;
mod elementwise;
mod expand;
mod flex;
mod float;
mod gather;
#[cfg(test)]
mod gradients;
mod integer;
mod matmul;
mod normalization;
mod pad;
mod pool;
mod quantize;
mod reduce;
mod reshape;
mod shape;
mod slice;
mod transpose;
mod value;
mod window;

use burn_backend::tensor::Device;
use penjing_graph::Node;
use penjing_graph::ops::Op;

use crate::ExecError;

pub(crate) use device::{Adam, Bounds, Kernels, Sgd};
pub(crate) use float::{Float, broadcast};
pub(crate) use value::{Value, code_type, device_type};

/// How the graph is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Running statistics; dropout does nothing.
    Inference,
    /// Batch statistics, which enter the running ones with this weight; dropout does nothing.
    Statistics { share: f32 },
    /// Batch statistics; dropout drops, as the seed says.
    Training { seed: u64 },
}

/// Gradients of the inputs from gradients of the outputs, each in order; `None`: no gradient.
pub(crate) type Pullback<B> = Box<dyn FnOnce(Vec<Option<Float<B>>>) -> Vec<Option<Float<B>>> + Send>;

/// What a kernel gives.
pub(crate) struct Done<B: Kernels> {
    /// One value for each output that the operator has, or fewer.
    pub(crate) outputs: Vec<Value<B>>,
    /// `None` where nothing can be differentiated.
    pub(crate) pullback: Option<Pullback<B>>,
    /// New values of inputs that training moves without a gradient: running statistics, by input index.
    pub(crate) running: Vec<(usize, Float<B>)>,
}

impl<B: Kernels> Done<B> {
    /// An output without a derivative.
    pub(crate) fn constant(y: impl Into<Value<B>>) -> Self {
        Done { outputs: vec![y.into()], pullback: None, running: vec![] }
    }

    /// A function of the first input alone.
    pub(crate) fn unary(y: Float<B>, pullback: impl FnOnce(Float<B>) -> Float<B> + Send + 'static) -> Self {
        Done::nary(y, move |dy| vec![Some(pullback(dy))])
    }

    /// A function of several inputs; the pullback gives one gradient for each, or fewer.
    pub(crate) fn nary(y: impl Into<Value<B>>, pullback: impl FnOnce(Float<B>) -> Vec<Option<Float<B>>> + Send + 'static) -> Self {
        let pullback: Pullback<B> = Box::new(move |mut dy| dy.swap_remove(0).map_or_else(Vec::new, pullback));
        Done { outputs: vec![y.into()], pullback: Some(pullback), running: vec![] }
    }
}

/// One node with the values of its inputs.
pub(crate) struct Call<'a, B: Kernels> {
    pub(crate) node: &'a Node,
    /// Version of ONNX's own operator set that the node was written for.
    pub(crate) opset: i64,
    pub(crate) inputs: Vec<Option<Value<B>>>,
    /// Whether the gradient of each input will be asked for.
    pub(crate) wants: Vec<bool>,
    pub(crate) mode: Mode,
    pub(crate) device: &'a Device<B>,
    /// What the output of a convolution is kept between, where the next node asks for it and no gradient is wanted.
    pub(crate) bounds: Option<Bounds>,
}

impl<B: Kernels> Call<'_, B> {
    /// Whether the gradient of input `i` will be asked for.
    pub(crate) fn wants(&self, i: usize) -> bool {
        self.wants.get(i).copied().unwrap_or(false)
    }

    /// Whether input `i` is given.
    pub(crate) fn has(&self, i: usize) -> bool {
        self.inputs.get(i).is_some_and(Option::is_some)
    }

    /// The error that says why this node cannot be run.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> ExecError {
        ExecError::Unsupported { node: self.node.name.clone(), op_type: op_type(&self.node.op), reason: reason.into() }
    }

    /// Takes input `i`.
    pub(crate) fn value(&mut self, i: usize) -> Result<Value<B>, ExecError> {
        self.inputs.get_mut(i).and_then(Option::take).ok_or_else(|| self.refuse(format!("input {i} is missing")))
    }

    /// Takes input `i` if it is given.
    pub(crate) fn optional_value(&mut self, i: usize) -> Result<Option<Value<B>>, ExecError> {
        if self.has(i) { self.value(i).map(Some) } else { Ok(None) }
    }

    /// Takes input `i`, which must be of floats.
    pub(crate) fn float(&mut self, i: usize) -> Result<Float<B>, ExecError> {
        match self.value(i)? {
            Value::Float(t) => Ok(t),
            other @ (Value::Int(_) | Value::Bool(_) | Value::Codes(..)) => {
                Err(self.refuse(format!("input {i} is of type {} where the built-in executor takes floats", other.dtype().name())))
            }
        }
    }

    /// Takes input `i` if it is given.
    pub(crate) fn optional_float(&mut self, i: usize) -> Result<Option<Float<B>>, ExecError> {
        if self.has(i) { self.float(i).map(Some) } else { Ok(None) }
    }

    /// The integers of input `i` on the host, if it is given.
    pub(crate) fn ints(&mut self, i: usize) -> Result<Option<Vec<i64>>, ExecError> {
        if !self.has(i) {
            return Ok(None);
        }
        let tensor = self.value(i)?.into_tensor();
        match tensor.to_i64() {
            Some(ints) => Ok(Some(ints.into_owned())),
            None => Err(self.refuse(format!("input {i} is of type {} where integers are needed", tensor.dtype().name()))),
        }
    }

    /// An axis counted from the front, of `rank` (or, where an axis is to be inserted, of the new rank).
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, ExecError> {
        let from_front = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_front)
            .ok()
            .filter(|a| *a < rank)
            .ok_or_else(|| self.refuse(format!("axis {axis} does not exist in a tensor of {rank} axes")))
    }

    /// Each axis counted from the front, none named twice.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, ExecError> {
        let axes = axes.iter().map(|axis| self.axis(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
        match axes.iter().enumerate().find(|(i, axis)| axes[..*i].contains(axis)) {
            Some((_, axis)) => Err(self.refuse(format!("axis {axis} is named twice"))),
            None => Ok(axes),
        }
    }

    /// Refuses to make a tensor that no model needs: a few octets of a file can ask for any size.
    pub(crate) fn check_size(&self, dims: &[usize]) -> Result<(), ExecError> {
        const LARGEST: usize = 1 << 31;
        match penjing_graph::element_count(dims) {
            Some(n) if n <= LARGEST => Ok(()),
            _ => Err(self.refuse(format!("a tensor of shape {dims:?} has more elements than the built-in executor makes ({LARGEST})"))),
        }
    }

    /// The shape that two inputs broadcast to.
    pub(crate) fn broadcast(&self, a: &[usize], b: &[usize]) -> Result<Vec<usize>, ExecError> {
        broadcast(a, b).ok_or_else(|| self.refuse(format!("shapes {a:?} and {b:?} do not broadcast")))
    }
}

/// Runs one node.
pub(crate) fn forward<B: Kernels>(call: Call<'_, B>) -> Result<Done<B>, ExecError> {
    match &call.node.op {
        Op::Conv(op) => conv::conv(op, call),
        Op::ConvTranspose(op) => conv::conv_transpose(op, call),
        Op::Gemm(op) => matmul::gemm(*op, call),
        Op::MatMul(_) => matmul::matmul(call),
        Op::BatchNormalization(op) => normalization::batch(*op, call),
        Op::LayerNormalization(op) => normalization::layer(*op, call),
        Op::InstanceNormalization(op) => normalization::instance(*op, call),
        Op::Activation(op) => activation::activation(*op, call),
        Op::Softmax(op) => activation::softmax(*op, call),
        Op::MaxPool(op) => pool::max_pool(op, call),
        Op::AveragePool(op) => pool::average_pool(op, call),
        Op::GlobalPool(op) => pool::global_pool(*op, call),
        Op::Unary(op) => elementwise::unary(*op, call),
        Op::Binary(op) => elementwise::binary(*op, call),
        Op::Variadic(op) => elementwise::variadic(*op, call),
        Op::Where(_) => elementwise::choose(call),
        Op::Clip(op) => elementwise::clip(*op, call),
        Op::Cast(op) => elementwise::cast(*op, call),
        Op::Identity(_) => elementwise::identity(call),
        Op::Dropout(op) => elementwise::dropout(*op, call),
        Op::Reduce(op) => reduce::reduce(op, call),
        Op::ArgReduce(op) => reduce::arg_reduce(*op, call),
        Op::CumSum(op) => reduce::cum_sum(*op, call),
        Op::Reshape(op) => reshape::reshape(*op, call),
        Op::Flatten(op) => reshape::flatten(*op, call),
        Op::Transpose(op) => transpose::transpose(op, call),
        Op::Squeeze(op) => reshape::squeeze(op, call),
        Op::Unsqueeze(op) => reshape::unsqueeze(op, call),
        Op::Concat(op) => concat::concat(*op, call),
        Op::Split(op) => concat::split(op, call),
        Op::Slice(op) => slice::slice(op, call),
        Op::Gather(op) => gather::gather(*op, call),
        Op::ScatterElements(op) => gather::scatter_elements(op, call),
        Op::Pad(op) => pad::pad(op, call),
        Op::Expand(_) => expand::expand(call),
        Op::Tile(_) => expand::tile(call),
        Op::Shape(op) => shape::shape(*op, call),
        Op::ConstantOfShape(op) => shape::constant_of_shape(op, call),
        Op::Range(_) => shape::range(call),
        Op::DepthToSpace(op) => transpose::depth_to_space(*op, call),
        Op::QuantizeLinear(op) => quantize::quantize_linear(*op, call),
        Op::DequantizeLinear(op) => quantize::dequantize_linear(*op, call),
        Op::DynamicQuantizeLinear(_) => quantize::dynamic_quantize_linear(call),
        Op::QLinearConv(op) => integer::qlinear_conv(op, call),
        Op::QLinearMatMul(_) => integer::qlinear_matmul(call),
        Op::ConvInteger(op) => integer::conv_integer(op, call),
        Op::MatMulInteger(_) => integer::matmul_integer(call),
        Op::Opaque(op) => Err(call.refuse(format!("{} (hint: run the model with ONNX Runtime)", op.reason))),
    }
}

/// The operator's name for messages, with its domain where that is not ONNX's own.
pub(crate) fn op_type(op: &Op) -> String {
    match op {
        Op::Opaque(opaque) if !opaque.domain.is_empty() => format!("{}.{}", opaque.domain, opaque.op_type),
        op => op.op_type().into(),
    }
}
