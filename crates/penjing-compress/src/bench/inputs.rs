//! Inputs of the right shape, made up.

use std::collections::BTreeMap;

use penjing_graph::{Dim, Graph, Tensor, Value};

use crate::run::RunError;
use crate::verify;

/// Size of a free dimension that is not the batch: the length of a short text.
const FREE: usize = 128;

/// One tensor for each input. The first axis is the batch; shapes given by name count as they are.
pub(super) fn made_up(graph: &Graph, batch: Option<usize>, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Vec<Tensor>, RunError> {
    let input = |id| {
        let value = graph.value(id);
        let dims = dims(value, batch, shapes.get(&value.name))?;
        let made = value.dtype.and_then(|dtype| verify::made_up(dtype, dims.clone()));
        made.ok_or_else(|| {
            let dtype = value.dtype.map_or("unknown", |dtype| dtype.name());
            refused(value, format!("no numbers can be made up for type {dtype} and shape {dims:?}"))
        })
    };
    graph.inputs().map(input).collect()
}

fn refused(value: &Value, reason: String) -> RunError {
    RunError::Recipe(format!("input `{}`: {reason}", value.name))
}

fn dims(value: &Value, batch: Option<usize>, asked: Option<&Vec<usize>>) -> Result<Vec<usize>, RunError> {
    let list = |shape: &[Dim]| shape.iter().map(Dim::to_string).collect::<Vec<_>>().join("x");
    match (&value.shape, asked) {
        (Some(shape), Some(asked)) => {
            let fits = shape.len() == asked.len() && shape.iter().zip(asked).all(|(dim, n)| dim.compatible(&Dim::Fixed(*n)));
            let asked_for = asked.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            fits.then(|| asked.clone()).ok_or_else(|| refused(value, format!("the model takes {}, not {asked_for}", list(shape))))
        }
        (None, Some(asked)) => Ok(asked.clone()),
        (None, None) => Err(refused(value, format!("its shape is not known (hint: --shape {}=1x3x224x224)", value.name))),
        (Some(shape), None) => {
            if let (Some(Dim::Fixed(fixed)), Some(batch)) = (shape.first(), batch)
                && *fixed != batch
            {
                let hint = "(hint: leave --batch out, or export the model with a free batch axis)";
                return Err(refused(value, format!("the model takes {}, so that no {batch} samples fit {hint}", list(shape))));
            }
            let size = |(axis, dim): (usize, &Dim)| dim.fixed().unwrap_or(if axis == 0 { batch.unwrap_or(1) } else { FREE });
            Ok(shape.iter().enumerate().map(size).collect())
        }
    }
}

/// Refuses names that no model has among its inputs.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a String>, graphs: impl Iterator<Item = &'a Graph>) -> Result<(), RunError> {
    let known: Vec<&str> = graphs.flat_map(|graph| graph.inputs().map(|id| graph.value(id).name.as_str())).collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            let mut inputs: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
            inputs.dedup();
            return Err(RunError::Recipe(format!("no input is called `{name}` (hint: there are {})", inputs.join(", "))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use penjing_graph::ops::Identity;
    use penjing_graph::{DataType, GraphBuilder};

    use super::*;

    fn model(dtype: DataType, shape: Vec<Dim>) -> Graph {
        let mut b = GraphBuilder::new("model");
        let x = b.input("x", dtype, shape);
        let y = b.node("y", Identity, &[x]);
        b.output(y).finish().expect("a model")
    }

    fn shape_of(dims: Vec<Dim>, batch: Option<usize>, asked: &[usize]) -> Result<Vec<usize>, String> {
        let shapes = if asked.is_empty() { BTreeMap::new() } else { BTreeMap::from([("x".to_string(), asked.to_vec())]) };
        made_up(&model(DataType::Float, dims), batch, &shapes).map(|inputs| inputs[0].dims().to_vec()).map_err(|e| e.to_string())
    }

    #[test]
    fn free_dimensions_by_hand() {
        let free = || vec![Dim::symbol("N"), 3.into(), Dim::symbol("L")];
        assert_eq!(shape_of(free(), None, &[]), Ok(vec![1, 3, 128]));
        assert_eq!(shape_of(free(), Some(8), &[]), Ok(vec![8, 3, 128]));
        assert_eq!(shape_of(free(), Some(8), &[2, 3, 5]), Ok(vec![2, 3, 5]));
        assert_eq!(shape_of(free(), None, &[2, 4, 5]), Err("input `x`: the model takes Nx3xL, not 2x4x5".into()));
        assert_eq!(shape_of(free(), None, &[2, 3]), Err("input `x`: the model takes Nx3xL, not 2x3".into()));
        assert_eq!(shape_of(vec![4.into(), 3.into()], None, &[]), Ok(vec![4, 3]));
        assert!(shape_of(vec![4.into(), 3.into()], Some(2), &[]).is_err_and(|e| e.contains("takes 4x3, so that no 2 samples fit")));
    }

    #[test]
    fn what_cannot_be_made_up_is_named() {
        let strings = made_up(&model(DataType::String, vec![1.into()]), None, &BTreeMap::new()).expect_err("text").to_string();
        assert_eq!(strings, "input `x`: no numbers can be made up for type string and shape [1]");
        let graph = model(DataType::Uint8, vec![2.into()]);
        let names = |name: &str| check_names([name.to_string()].iter(), [&graph].into_iter()).map_err(|e| e.to_string());
        assert_eq!(names("x"), Ok(()));
        assert_eq!(names("z"), Err("no input is called `z` (hint: there are `x`)".into()));
        assert_eq!(made_up(&graph, None, &BTreeMap::new()).map(|i| i[0].clone()).ok(), Some(Tensor::new([2], vec![0u8, 1])));
    }
}
