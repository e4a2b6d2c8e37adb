//! Forward through the graph, and back: the graph is the tape.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn_backend::DType;
use penjing_graph::ops::{Activation, Op};
use penjing_graph::{NodeId, Tensor, ValueId};

use super::Engine;
use crate::ExecError;
use crate::executor::{Loss, Target, Watch};
use crate::kernels::{self, Bounds, Call, Done, Float, Kernels, Mode, Pullback, Value};

/// What is left of a pass through the graph.
pub(super) struct Pass<B: Kernels> {
    /// The values that were asked for.
    pub(super) values: HashMap<ValueId, Value<B>>,
    /// How to go back through each node that lies between a trainable weight and what was asked for, in running order.
    tape: Vec<(NodeId, Pullback<B>)>,
    /// Running statistics as this batch moves them.
    pub(super) running: Vec<(ValueId, Float<B>)>,
}

/// Loss, gradients of the trainable weights, running statistics.
type Differentiated<B> = (f32, BTreeMap<ValueId, Float<B>>, Vec<(ValueId, Float<B>)>);

impl<B: Kernels> Engine<B> {
    /// Nodes that `roots` depend on.
    pub(super) fn nodes_for(&self, roots: &[ValueId]) -> BTreeSet<NodeId> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<NodeId> = roots.iter().filter_map(|id| self.graph.value(*id).producer).collect();
        while let Some(node) = open.pop() {
            if needed.insert(node) {
                open.extend(self.graph.node(node).reads().filter_map(|id| self.graph.value(id).producer));
            }
        }
        needed
    }

    /// Values of `roots` for one batch. A value is freed after its last use; with `differentiate`, each node that leads
    /// from a trainable weight leaves its pullback, which keeps what it needs.
    pub(super) fn forward(&self, inputs: &[Tensor], roots: &[ValueId], mode: Mode, differentiate: bool) -> Result<Pass<B>, ExecError> {
        self.forward_watched(inputs, roots, mode, differentiate, &BTreeSet::new(), &mut |_, _| Ok(None))
    }

    /// [`Engine::forward`], of which each of the values `watched` is shown as it is computed, and may be replaced.
    pub(super) fn forward_watched(
        &self,
        inputs: &[Tensor],
        roots: &[ValueId],
        mode: Mode,
        differentiate: bool,
        watched: &BTreeSet<ValueId>,
        watch: &mut Watch<'_>,
    ) -> Result<Pass<B>, ExecError> {
        let needed = self.nodes_for(roots);
        let mut uses: HashMap<ValueId, usize> = roots.iter().map(|id| (*id, 1)).collect();
        let mut readers: HashMap<ValueId, NodeId> = HashMap::new();
        for node in &needed {
            for id in self.graph.node(*node).reads() {
                *uses.entry(id).or_default() += 1;
                readers.insert(id, *node);
            }
        }
        let alone = |id: ValueId, uses: &HashMap<ValueId, usize>| readers.get(&id).filter(|_| uses.get(&id) == Some(&1)).copied();
        let mut absorbed: BTreeSet<NodeId> = BTreeSet::new();
        let mut values = self.inputs(inputs)?;
        values.retain(|id, _| uses.contains_key(id));
        for id in watched.iter().filter(|id| self.graph.value(**id).producer.is_none()) {
            if let Some(value) = values.get_mut(id) {
                self.show(*id, value, watch)?;
            }
        }
        let mut learns: BTreeSet<ValueId> = if differentiate { self.trainable.clone() } else { BTreeSet::new() };
        let (mut tape, mut running) = (vec![], vec![]);
        for (position, (id, node)) in self.graph.nodes().enumerate().filter(|(_, (id, _))| needed.contains(id)) {
            if absorbed.contains(&id) {
                continue;
            }
            let wants: Vec<bool> = node.inputs.iter().map(|input| input.is_some_and(|input| learns.contains(&input))).collect();
            let learned = wants.contains(&true);
            let mut taken = vec![];
            for input in &node.inputs {
                taken.push(match input {
                    Some(input) => Some(self.take(*input, &mut values, &mut uses)?),
                    None => None,
                });
            }
            let mode = match mode {
                Mode::Inference | Mode::Statistics { .. } => mode,
                // Every node of every step has its own stream of random numbers.
                Mode::Training { seed } => Mode::Training { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ position as u64 },
            };
            // What is kept between bounds as soon as it is computed need not be read again.
            let next = node
                .output(0)
                .filter(|output| !watched.contains(output))
                .and_then(|output| alone(output, &uses))
                .filter(|_| !differentiate && mode == Mode::Inference);
            let clipped = next.and_then(|next| Some((next, self.bounds(id, next)?)));
            let bounds = clipped.map(|(_, bounds)| bounds);
            let call = Call { node, opset: self.graph.opset(), inputs: taken, wants, mode, device: &self.device, bounds };
            let Done { outputs, pullback, running: moved } = kernels::forward(call)?;
            let node = match clipped {
                Some((next, _)) => {
                    absorbed.insert(next);
                    self.graph.node(next)
                }
                None => node,
            };
            for (output, value) in node.outputs.iter().zip(outputs) {
                if let Some(output) = output.filter(|output| uses.contains_key(output)) {
                    let mut value = value;
                    if watched.contains(&output) {
                        self.show(output, &mut value, watch)?;
                    }
                    values.insert(output, value);
                }
            }
            if let Some(output) = node.outputs.iter().flatten().find(|output| uses.contains_key(output) && !values.contains_key(output)) {
                return Err(ExecError::Unsupported {
                    node: node.name.clone(),
                    op_type: kernels::op_type(&node.op),
                    reason: format!("the built-in executor does not compute its output `{}`", self.name(*output)),
                });
            }
            running.extend(moved.into_iter().filter_map(|(i, t)| Some((node.input(i).filter(|id| self.weights.contains_key(id))?, t))));
            if let Some(pullback) = pullback.filter(|_| learned) {
                learns.extend(node.outputs.iter().flatten());
                tape.push((id, pullback));
            }
        }
        Ok(Pass { values, tape, running })
    }

    /// Shows a value, and puts in its place what is given for it.
    fn show(&self, id: ValueId, value: &mut Value<B>, watch: &mut Watch<'_>) -> Result<(), ExecError> {
        let Some(other) = watch(id, value.clone().into_tensor())? else { return Ok(()) };
        if other.dims() != value.dims() || other.dtype() != value.dtype() {
            return Err(ExecError::Option(format!("`{}` cannot be replaced by a tensor of another shape or type", self.name(id))));
        }
        if let Some(other) = Value::from_tensor(&other, &self.device) {
            *value = other;
        }
        Ok(())
    }

    /// What `next` keeps the output of the convolution `id` between, if these are what the two nodes are.
    fn bounds(&self, id: NodeId, next: NodeId) -> Option<Bounds> {
        let (conv, next) = (self.graph.node(id), self.graph.node(next));
        if !matches!(conv.op, Op::Conv(_)) || next.input(0) != conv.output(0) {
            return None;
        }
        let bound = |i: usize, attribute: Option<f32>| -> Option<Option<f64>> {
            let Some(id) = next.input(i) else { return Some(attribute.map(f64::from)) };
            let number = self.weights.get(&id)?.clone().cast(DType::F64).into_tensor();
            Some(Some(number.values::<f64>()?.first().copied()?))
        };
        match &next.op {
            Op::Activation(Activation::Relu) => Some(Bounds { lo: Some(0.0), hi: None }),
            Op::Clip(clip) => Some(Bounds { lo: bound(1, clip.min)?, hi: bound(2, clip.max)? }),
            _ => None,
        }
    }

    /// One use of a value; the last one moves it out, so that a kernel may work in place.
    fn take(
        &self,
        id: ValueId,
        values: &mut HashMap<ValueId, Value<B>>,
        uses: &mut HashMap<ValueId, usize>,
    ) -> Result<Value<B>, ExecError> {
        let left = uses.get_mut(&id).map_or(0, |n| {
            *n -= 1;
            *n
        });
        let value = if left == 0 { values.remove(&id) } else { values.get(&id).cloned() };
        value.or_else(|| self.weights.get(&id).cloned()).ok_or_else(|| {
            let dtype = self.graph.value(id).dtype.map_or("unknown", |dtype| dtype.name());
            ExecError::Input { input: self.name(id).into(), reason: format!("values of type {dtype} are not run by the built-in executor") }
        })
    }

    /// The batch on the device, checked against what the graph declares.
    fn inputs(&self, inputs: &[Tensor]) -> Result<HashMap<ValueId, Value<B>>, ExecError> {
        let ids: Vec<ValueId> = self.graph.inputs().collect();
        if ids.len() != inputs.len() {
            let names: Vec<&str> = ids.iter().map(|id| self.name(*id)).collect();
            return Err(ExecError::Input {
                input: names.join("`, `"),
                reason: format!("{} tensors are needed and {} are given", ids.len(), inputs.len()),
            });
        }
        let mut values = HashMap::new();
        for (id, tensor) in ids.into_iter().zip(inputs) {
            let declared = self.graph.value(id);
            let refuse = |reason: String| ExecError::Input { input: declared.name.clone(), reason };
            if let Some(dtype) = declared.dtype.filter(|dtype| *dtype != tensor.dtype()) {
                return Err(refuse(format!("the model takes {} but was given {}", dtype.name(), tensor.dtype().name())));
            }
            if let Some(shape) = &declared.shape {
                let fits = shape.len() == tensor.dims().len() && shape.iter().zip(tensor.dims()).all(|(d, n)| d.compatible(&(*n).into()));
                if !fits {
                    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
                    return Err(refuse(format!("the model takes shape [{}] but was given {:?}", shape.join(", "), tensor.dims())));
                }
            }
            let Some(value) = Value::from_tensor(tensor, &self.device) else {
                return Err(refuse(format!("values of type {} are not run by the built-in executor", tensor.dtype().name())));
            };
            values.insert(id, value);
        }
        Ok(values)
    }

    /// Loss of a batch and its gradients by every trainable weight.
    pub(super) fn differentiate(
        &self,
        inputs: &[Tensor],
        target: &Target,
        loss: &Loss,
        mode: Mode,
    ) -> Result<Differentiated<B>, ExecError> {
        let root = self.loss_input(loss)?;
        let Pass { values, tape, running } = self.forward(inputs, &[root], mode, true)?;
        let output = match values.get(&root).or_else(|| self.weights.get(&root)) {
            Some(Value::Float(output)) => output.clone(),
            _ => return Err(ExecError::Option(format!("the loss needs floats, which `{}` is not", self.name(root)))),
        };
        drop(values);
        let (loss, gradient) = self.loss(root, output, target, loss)?;
        let mut gradients: HashMap<ValueId, Float<B>> = HashMap::from([(root, gradient)]);
        for (id, pullback) in tape.into_iter().rev() {
            let node = self.graph.node(id);
            let by_output: Vec<Option<Float<B>>> = node.outputs.iter().map(|output| gradients.remove(output.as_ref()?)).collect();
            if by_output.iter().all(Option::is_none) {
                continue;
            }
            for (input, gradient) in node.inputs.iter().zip(pullback(by_output)) {
                let (Some(input), Some(gradient)) = (input, gradient) else { continue };
                // What no trainable weight leads to is dropped here.
                if !self.trainable.contains(input) && self.graph.value(*input).producer.is_none() {
                    continue;
                }
                let sum = match gradients.remove(input) {
                    Some(other) => other + gradient,
                    None => gradient,
                };
                gradients.insert(*input, sum);
            }
        }
        let by_weight = self.trainable.iter().filter_map(|id| {
            let zeros = || match self.weights.get(id) {
                Some(Value::Float(weight)) => Some(weight.zeros_like()),
                _ => None,
            };
            Some((*id, gradients.remove(id).or_else(zeros)?))
        });
        Ok((loss, by_weight.collect(), running))
    }
}
