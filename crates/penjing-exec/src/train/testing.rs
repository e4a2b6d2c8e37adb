//! The smallest executor that trains: y = (x − running mean) · W, by plain loops, and data that it can learn.

use std::collections::{BTreeMap, BTreeSet};

use penjing_graph::ops::{Binary, MatMul};
use penjing_graph::{DataType, Dim, Edit, Graph, GraphBuilder, Tensor, ValueId};

use crate::data::{DataOptions, Dataset, SplitOptions, open};
use crate::{ExecError, Executor, Gradients, Loss, Objective, StepReport, Target, UpdateRule, Watch};

/// Softmax regression with a running mean of the inputs that training updates beside the weights.
pub(super) struct Linear {
    graph: Graph,
    ids: [ValueId; 2],
    features: usize,
    classes: usize,
    weight: Vec<f32>,
    mean: Vec<f32>,
    velocity: Vec<f32>,
    steps: u64,
    /// The step, from 1, whose loss is NaN.
    pub(super) diverges_at: Option<u64>,
}

impl Linear {
    pub(super) fn new(features: usize, classes: usize) -> Linear {
        let weight: Vec<f32> = (0..features * classes).map(|i| (i as f32).sin() / 10.0).collect();
        let mut b = GraphBuilder::new("linear");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), features.into()]);
        let mean = b.tensor("running_mean", Tensor::new([features], vec![0.0f32; features]));
        let w = b.tensor("weight", Tensor::new([features, classes], weight.clone()));
        let centred = b.node("centred", Binary::Sub, &[x, mean]);
        let y = b.node("y", MatMul, &[centred, w]);
        let graph = b.output(y).finish().expect("a linear model");
        Linear {
            graph,
            ids: [mean, w],
            features,
            classes,
            mean: vec![0.0; features],
            velocity: vec![0.0; weight.len()],
            weight,
            steps: 0,
            diverges_at: None,
        }
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let logit = |row: &[f32], c: usize| (0..self.features).map(|i| (row[i] - self.mean[i]) * self.weight[i * self.classes + c]).sum();
        x.chunks_exact(self.features).flat_map(|row| (0..self.classes).map(move |c| logit(row, c))).collect()
    }

    fn tensor(&self, id: ValueId) -> Tensor {
        if id == self.ids[0] {
            Tensor::new([self.features], self.mean.clone())
        } else {
            Tensor::new([self.features, self.classes], self.weight.clone())
        }
    }
}

impl Executor for Linear {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn to_graph(&self) -> Result<Graph, ExecError> {
        let mut graph = self.graph.clone();
        let mut edit = Edit::new(&graph, "take over");
        for id in self.ids {
            edit.set_tensor(id, self.tensor(id));
        }
        graph.apply(edit)?;
        Ok(graph)
    }

    fn run(&mut self, inputs: &[Tensor], fetch: &[ValueId]) -> Result<Vec<Tensor>, ExecError> {
        let y = self.forward(&inputs[0].to_f32().expect("floats"));
        Ok(fetch.iter().map(|_| Tensor::new([inputs[0].dims()[0], self.classes], y.clone())).collect())
    }

    fn train_step(&mut self, inputs: &[Tensor], target: &Target, objective: &Objective) -> Result<StepReport, ExecError> {
        let (Target::Classes(labels), UpdateRule::Sgd { momentum, .. }) = (target, objective.rule) else { unreachable!("classes and SGD") };
        if self.diverges_at == Some(self.steps + 1) {
            return Err(ExecError::Diverged { what: "the loss became NaN".into(), step: self.steps + 1, hint: "lower --lr".into() });
        }
        let x = inputs[0].to_f32().expect("floats").into_owned();
        let n = labels.len() as f32;
        for (i, mean) in self.mean.iter_mut().enumerate() {
            let batch = x.chunks_exact(self.features).map(|row| row[i]).sum::<f32>() / n;
            *mean = 0.9 * *mean + 0.1 * batch;
        }
        let logits = self.forward(&x);
        let mut gradient = vec![0.0; self.weight.len()];
        let mut loss = 0.0;
        for ((row, logits), label) in x.chunks_exact(self.features).zip(logits.chunks_exact(self.classes)).zip(labels) {
            let sum: f32 = logits.iter().map(|l| l.exp()).sum();
            loss += (sum.ln() - logits[*label as usize]) / n;
            for (c, logit) in logits.iter().enumerate() {
                let error = logit.exp() / sum - f32::from(u8::from(c == *label as usize));
                (0..self.features).for_each(|i| gradient[i * self.classes + c] += (row[i] - self.mean[i]) * error / n);
            }
        }
        for ((w, v), g) in self.weight.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *v = momentum * *v + g;
            *w -= objective.learning_rate * *v;
        }
        self.steps += 1;
        Ok(StepReport { loss, gradient_norm: None })
    }

    fn gradients(&mut self, _: &[Tensor], _: &Target, _: &Loss) -> Result<Gradients, ExecError> {
        unreachable!("training does not ask")
    }

    fn trainable(&self) -> Vec<ValueId> {
        vec![self.ids[1]]
    }

    fn weight(&self, id: ValueId) -> Result<Tensor, ExecError> {
        Ok(self.tensor(id))
    }

    fn set_weight(&mut self, id: ValueId, tensor: &Tensor) -> Result<(), ExecError> {
        let values = tensor.to_f32().expect("floats").into_owned();
        if id == self.ids[0] {
            self.mean = values;
        } else {
            self.weight = values;
        }
        Ok(())
    }

    fn set_mask(&mut self, _: ValueId, _: Option<&[bool]>) -> Result<(), ExecError> {
        unreachable!("training does not ask")
    }

    fn run_watched(&mut self, _: &[Tensor], _: &BTreeSet<ValueId>, _: &mut Watch<'_>) -> Result<(), ExecError> {
        unreachable!("training does not ask")
    }

    fn update_statistics(&mut self, _: &[Tensor], _: f32) -> Result<(), ExecError> {
        unreachable!("training does not ask")
    }

    fn set_penalties(&mut self, penalties: &BTreeMap<ValueId, Vec<f32>>) -> Result<(), ExecError> {
        assert!(penalties.is_empty(), "nothing is penalised here");
        Ok(())
    }

    fn optimizer_state(&self) -> (u64, BTreeMap<String, Tensor>) {
        let velocity = Tensor::new([self.features, self.classes], self.velocity.clone());
        (self.steps, BTreeMap::from([("momentum/weight".to_string(), velocity)]))
    }

    fn set_optimizer_state(&mut self, steps: u64, state: &BTreeMap<String, Tensor>) -> Result<(), ExecError> {
        self.steps = steps;
        self.velocity = state["momentum/weight"].to_f32().expect("floats").into_owned();
        Ok(())
    }
}

/// `samples` points of the plane in three clusters, 30 % of them to validate, in a folder that lives as long as it is held.
pub(super) fn clusters(samples: usize) -> Result<(tempfile::TempDir, Dataset), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let centres = [[2.0f32, 0.0], [-1.0, 1.7], [-1.0, -1.7]];
    let noise = |i: usize| [(i as f32 * 12.9898).sin(), (i as f32 * 78.233).sin()];
    let points: Vec<f32> = (0..samples).flat_map(|i| [0, 1].map(|axis| centres[i % 3][axis] + 1.1 * noise(i)[axis])).collect();
    let labels: Vec<i64> = (0..samples).map(|i| (i % 3) as i64).collect();
    std::fs::write(folder.path().join("x.npy"), npy("<f4", &format!("({samples}, 2)"), bytemuck::cast_slice(&points)))?;
    std::fs::write(folder.path().join("y.npy"), npy("<i8", &format!("({samples},)"), bytemuck::cast_slice(&labels)))?;
    let split = SplitOptions { validation: 0.3, test: 0.1, ..SplitOptions::default() };
    let data = open(folder.path(), &DataOptions { split, ..DataOptions::default() })?;
    Ok((folder, data))
}

/// A `.npy` file, version 1.0.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}
