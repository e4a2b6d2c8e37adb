//! Runs and trains a graph on one device.

mod loss;
mod update;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use burn_backend::tensor::{BoolTensor, Device};
use burn_flex::{Flex, FlexDevice};
use penjing_graph::ops::Op;
use penjing_graph::passes::{self, FoldBatchNorm};
use penjing_graph::{Edit, Graph, Tensor, ValueId, roles};

use crate::ExecError;
use crate::executor::{Executor, Gradients, Loss, Objective, StepReport, Target, Watch};
use crate::kernels::{self, Float, Kernels, Mode, Value};

/// An executor on the CPU.
///
/// Results do not depend on the number of threads of the pool in which it is called.
///
/// # Errors
/// When an output depends on a node that the built-in executor cannot run.
pub fn cpu_executor(graph: &Graph) -> Result<Box<dyn Executor>, ExecError> {
    Ok(Box::new(Engine::<Flex>::new(graph, FlexDevice)?))
}

/// One graph with its weights on the device and the optimizer's memory.
pub(crate) struct Engine<B: Kernels> {
    graph: Graph,
    device: Device<B>,
    /// Every initializer of a type that the device has.
    weights: BTreeMap<ValueId, Value<B>>,
    trainable: BTreeSet<ValueId>,
    /// True where an element stays at zero.
    dropped: BTreeMap<ValueId, BoolTensor<B>>,
    /// λ of each element whose gradient has λ·w added.
    penalties: BTreeMap<ValueId, Float<B>>,
    moments: update::Moments<B>,
    steps: u64,
    /// Initializers that are no longer those of `graph`.
    changed: BTreeSet<ValueId>,
    /// The same network with its normalisations folded away, for inference; made when it is first needed after a change.
    folded: Option<Box<Engine<B>>>,
}

impl<B: Kernels> Engine<B> {
    pub(crate) fn new(graph: &Graph, device: Device<B>) -> Result<Self, ExecError> {
        let engine = Engine {
            weights: graph.initializers().filter_map(|(id, t)| Some((id, Value::from_tensor(t, &device)?))).collect(),
            trainable: roles(graph).into_iter().filter(|(_, role)| role.trainable()).map(|(id, _)| id).collect(),
            graph: graph.clone(),
            device,
            dropped: BTreeMap::new(),
            penalties: BTreeMap::new(),
            moments: BTreeMap::new(),
            steps: 0,
            changed: BTreeSet::new(),
            folded: None,
        };
        let needed = engine.nodes_for(graph.outputs());
        let opaque = graph.nodes().find_map(|(id, node)| match &node.op {
            Op::Opaque(op) if needed.contains(&id) => Some((node, op)),
            _ => None,
        });
        match opaque {
            None => Ok(engine),
            Some((node, op)) => Err(ExecError::Unsupported {
                node: node.name.clone(),
                op_type: kernels::op_type(&node.op),
                reason: format!("{} (hint: run the model with ONNX Runtime)", op.reason),
            }),
        }
    }

    fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    fn initializer(&self, id: ValueId) -> Result<&Value<B>, ExecError> {
        self.weights.get(&id).ok_or_else(|| ExecError::Option(format!("`{}` is not an initializer that the executor holds", self.name(id))))
    }

    /// The network as inference runs it: without normalisations by fixed statistics, where they can be folded.
    fn for_inference(&mut self) -> Result<&Engine<B>, ExecError> {
        if self.folded.is_none() && self.graph.nodes().any(|(_, node)| matches!(node.op, Op::BatchNormalization(_))) {
            let mut graph = self.to_graph()?;
            passes::run(&FoldBatchNorm, &mut graph)?;
            self.folded = Some(Box::new(Engine::new(&graph, self.device.clone())?));
        }
        Ok(self.folded.as_deref().unwrap_or(self))
    }

    /// g + λ·w.
    fn penalized(&self, id: ValueId, gradient: Float<B>) -> Float<B> {
        match (self.penalties.get(&id), self.weights.get(&id)) {
            (Some(penalty), Some(Value::Float(weight))) => gradient + penalty.clone() * weight.clone(),
            _ => gradient,
        }
    }

    fn masked(&self, id: ValueId, t: Float<B>) -> Float<B> {
        match self.dropped.get(&id) {
            Some(dropped) => t.zero_where(dropped.clone()),
            None => t,
        }
    }
}

impl<B: Kernels> Executor for Engine<B> {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn to_graph(&self) -> Result<Graph, ExecError> {
        let mut graph = self.graph.clone();
        let mut edit = Edit::new(&graph, "take over the trained weights");
        for id in &self.changed {
            edit.set_tensor(*id, self.weight(*id)?);
        }
        graph.apply(edit)?;
        Ok(graph)
    }

    fn run(&mut self, inputs: &[Tensor], fetch: &[ValueId]) -> Result<Vec<Tensor>, ExecError> {
        // Inner values may not be there once normalisations are folded.
        let outputs_alone = fetch.iter().all(|id| self.graph.outputs().contains(id) && self.graph.value(*id).producer.is_some());
        let engine = if outputs_alone { self.for_inference()? } else { self };
        let pass = engine.forward(inputs, fetch, Mode::Inference, false)?;
        let value = |id: &ValueId| match pass.values.get(id).or_else(|| engine.weights.get(id)) {
            Some(value) => Ok(value.clone().into_tensor()),
            None => Err(ExecError::Option(format!("nothing gives the value `{}`", engine.name(*id)))),
        };
        fetch.iter().map(value).collect()
    }

    fn run_watched(&mut self, inputs: &[Tensor], watched: &BTreeSet<ValueId>, watch: &mut Watch<'_>) -> Result<(), ExecError> {
        self.forward_watched(inputs, self.graph.outputs(), Mode::Inference, false, watched, watch).map(drop)
    }

    fn train_step(&mut self, inputs: &[Tensor], target: &Target, objective: &Objective) -> Result<StepReport, ExecError> {
        self.folded = None;
        let step = self.steps + 1;
        let (loss, gradients, running) = self.differentiate(inputs, target, &objective.loss, Mode::Training { seed: step })?;
        let gradients: BTreeMap<ValueId, Float<B>> =
            gradients.into_iter().map(|(id, g)| (id, self.masked(id, self.penalized(id, g)))).collect();
        let norm = gradients.values().map(|g| B::sum_of_squares(g.0.clone())).sum::<f64>().sqrt();
        let diverged = |what: &str| {
            let hint = format!(
                "the learning rate {} is probably too high, or the inputs are not normalised (hint: try a tenth of it, a warm-up, or gradient clipping)",
                objective.learning_rate
            );
            ExecError::Diverged { what: what.into(), step, hint }
        };
        if !loss.is_finite() {
            return Err(diverged(if loss.is_nan() { "the loss became NaN" } else { "the loss became infinite" }));
        }
        if !norm.is_finite() {
            return Err(diverged("a gradient became NaN or infinite"));
        }
        let shrink = objective.clip_norm.map_or(1.0, |limit| (f64::from(limit) / norm.max(f64::MIN_POSITIVE)).min(1.0) as f32);
        for (id, gradient) in gradients {
            self.update(id, gradient, shrink, objective, step)?;
        }
        for (id, statistic) in running {
            self.changed.insert(id);
            self.weights.insert(id, statistic.into());
        }
        self.steps = step;
        Ok(StepReport { loss, gradient_norm: Some(norm as f32) })
    }

    fn gradients(&mut self, inputs: &[Tensor], target: &Target, loss: &Loss) -> Result<Gradients, ExecError> {
        let (loss, gradients, _) = self.differentiate(inputs, target, loss, Mode::Inference)?;
        Ok(Gradients { loss, by_weight: gradients.into_iter().map(|(id, g)| (id, Value::from(g).into_tensor())).collect() })
    }

    fn update_statistics(&mut self, inputs: &[Tensor], share: f32) -> Result<(), ExecError> {
        self.folded = None;
        let pass = self.forward(inputs, self.graph.outputs(), Mode::Statistics { share }, false)?;
        for (id, statistic) in pass.running {
            self.changed.insert(id);
            self.weights.insert(id, statistic.into());
        }
        Ok(())
    }

    fn set_penalties(&mut self, penalties: &BTreeMap<ValueId, Vec<f32>>) -> Result<(), ExecError> {
        let mut found = BTreeMap::new();
        for (id, factors) in penalties {
            let weight = match self.initializer(*id)? {
                Value::Float(weight) if self.trainable.contains(id) && weight.len() == factors.len() => weight,
                _ => {
                    let reason = format!("a penalty of {} elements does not fit `{}`", factors.len(), self.name(*id));
                    return Err(ExecError::Option(reason));
                }
            };
            found.insert(*id, Float::from_slice(factors, &weight.dims(), weight));
        }
        self.penalties = found;
        Ok(())
    }

    fn trainable(&self) -> Vec<ValueId> {
        self.trainable.iter().copied().collect()
    }

    fn weight(&self, id: ValueId) -> Result<Tensor, ExecError> {
        Ok(self.initializer(id)?.clone().into_tensor())
    }

    fn set_weight(&mut self, id: ValueId, tensor: &Tensor) -> Result<(), ExecError> {
        let old = self.initializer(id)?;
        if old.dims() != tensor.dims() || old.dtype() != tensor.dtype() {
            return Err(ExecError::Option(format!(
                "weight `{}` is {} {:?} and cannot become {} {:?}",
                self.name(id),
                old.dtype().name(),
                old.dims(),
                tensor.dtype().name(),
                tensor.dims()
            )));
        }
        let Some(value) = Value::from_tensor(tensor, &self.device) else {
            return Err(ExecError::Option(format!("weight `{}` is of a type that the device does not have", self.name(id))));
        };
        let value = match value {
            Value::Float(t) => Value::Float(self.masked(id, t)),
            other @ (Value::Int(_) | Value::Bool(_) | Value::Codes(..)) => other,
        };
        self.weights.insert(id, value);
        self.changed.insert(id);
        self.folded = None;
        Ok(())
    }

    fn set_mask(&mut self, id: ValueId, keep: Option<&[bool]>) -> Result<(), ExecError> {
        let Some(keep) = keep else {
            self.dropped.remove(&id);
            return Ok(());
        };
        let Value::Float(weight) = self.initializer(id)?.clone() else {
            return Err(ExecError::Option(format!("`{}` is not of floats and takes no mask", self.name(id))));
        };
        if weight.len() != keep.len() {
            return Err(ExecError::Option(format!(
                "a mask of {} elements does not fit weight `{}` of {}",
                keep.len(),
                self.name(id),
                weight.len()
            )));
        }
        let dropped: Vec<bool> = keep.iter().map(|keep| !keep).collect();
        if let Some(Value::Bool(dropped)) = Value::<B>::from_tensor(&Tensor::from_bools(weight.dims(), &dropped), &self.device) {
            self.dropped.insert(id, dropped);
        }
        self.weights.insert(id, self.masked(id, weight).into());
        self.changed.insert(id);
        self.folded = None;
        let moments: Vec<_> = self.moments.keys().filter(|(_, weight)| *weight == id).copied().collect();
        for key in moments {
            if let Some(moment) = self.moments.remove(&key) {
                self.moments.insert(key, self.masked(id, moment));
            }
        }
        Ok(())
    }

    fn optimizer_state(&self) -> (u64, BTreeMap<String, Tensor>) {
        let named = |((kind, id), t): (&(update::Moment, ValueId), &Float<B>)| {
            (format!("{}/{}", kind.name(), self.name(*id)), Value::from(t.clone()).into_tensor())
        };
        (self.steps, self.moments.iter().map(named).collect())
    }

    fn set_optimizer_state(&mut self, steps: u64, state: &BTreeMap<String, Tensor>) -> Result<(), ExecError> {
        let mut moments = BTreeMap::new();
        for (name, tensor) in state {
            let found = name.split_once('/').and_then(|(kind, weight)| {
                let id = self.trainable.iter().find(|id| self.name(**id) == weight)?;
                Some((update::Moment::from_name(kind)?, *id))
            });
            let Some((kind, id)) = found else {
                return Err(ExecError::Option(format!(
                    "the optimizer's state holds `{name}`, which no trainable weight of this model has"
                )));
            };
            let weight = self.initializer(id)?;
            match Value::from_tensor(tensor, &self.device) {
                Some(Value::Float(t)) if t.dims() == weight.dims() => moments.insert((kind, id), t),
                _ => {
                    return Err(ExecError::Option(format!(
                        "`{name}` of shape {:?} does not fit a weight of shape {:?}",
                        tensor.dims(),
                        weight.dims()
                    )));
                }
            };
        }
        (self.steps, self.moments) = (steps, moments);
        Ok(())
    }
}
