//! A set that has an array for each input of a model, by the inputs' names: token ids and their mask, or an image and a number.

use std::path::Path;

use penjing_graph::{DataType, Graph, Tensor};

use super::array::Array;
use crate::ExecError;

/// Name and type of each input of a model, in its order.
pub(super) type Signature = Vec<(String, DataType)>;

/// The inputs of a model; `None` where the type of one is not known.
pub(super) fn signature(graph: &Graph) -> Option<Signature> {
    graph.inputs().map(|id| graph.value(id)).map(|value| Some((value.name.clone(), value.dtype?))).collect()
}

/// One array [N, …] for each input.
#[derive(Debug)]
pub(super) struct Inputs(Vec<Input>);

#[derive(Debug)]
struct Input {
    name: String,
    dtype: DataType,
    array: Array,
}

impl Inputs {
    /// The arrays that `array` gives by the names of a signature.
    pub(super) fn read(
        path: &Path,
        signature: &Signature,
        mut array: impl FnMut(&str) -> Result<Array, ExecError>,
    ) -> Result<Inputs, ExecError> {
        let mut inputs: Vec<Input> = vec![];
        for (name, dtype) in signature {
            let array = array(name)?;
            if !matches!(dtype, DataType::Float | DataType::Int64 | DataType::Int32 | DataType::Bool) {
                return Err(ExecError::data(path, format!("holds `{name}` for an input of {}, which data cannot give", dtype.name())));
            }
            if let Some(first) = inputs.first().filter(|first| first.array.len() != array.len()) {
                let (a, b) = (first.array.len(), array.len());
                return Err(ExecError::data(path, format!("holds {a} samples in `{}`, but {b} in `{name}`", first.name)));
            }
            inputs.push(Input { name: name.clone(), dtype: *dtype, array });
        }
        Ok(Inputs(inputs))
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.0.first().map_or(0, |input| input.array.len())
    }

    /// Shape of a sample of the first input, without the batch axis.
    pub(super) fn shape(&self) -> &[usize] {
        self.0.first().map_or(&[], |input| &input.array.dims()[1..])
    }

    /// What errors about a sample name.
    pub(super) fn origin(&self) -> &Path {
        self.0.first().map_or(Path::new(""), |input| input.array.path())
    }

    /// Some samples: a tensor [n, …] for each input.
    pub(super) fn batch(&self, indices: &[usize]) -> Result<Vec<Tensor>, ExecError> {
        self.0.iter().map(|input| input.batch(indices)).collect()
    }

    /// Whether a model takes these arrays, in this order.
    pub(super) fn check(&self, graph: &Graph) -> Result<(), ExecError> {
        let wanted: Vec<_> = graph.inputs().map(|id| graph.value(id)).collect();
        let names = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (model, data) = (wanted.iter().map(|v| v.name.as_str()).collect(), self.0.iter().map(|i| i.name.as_str()).collect());
        if model != data {
            return Err(ExecError::Option(format!("the model takes {}, but the data give {}", names(model), names(data))));
        }
        for (value, input) in wanted.iter().zip(&self.0) {
            let refused = |reason| Err(ExecError::Input { input: input.name.clone(), reason });
            if value.dtype.is_some_and(|dtype| dtype != input.dtype) {
                return refused(format!("the data were opened for {} (hint: models of one kind)", input.dtype.name()));
            }
            let (Some(shape), given) = (&value.shape, &input.array.dims()[1..]) else { continue };
            let fits = shape.len() == given.len() + 1 && shape[1..].iter().zip(given).all(|(dim, size)| dim.compatible(&(*size).into()));
            if !fits {
                let dims = shape.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join("×");
                return refused(format!(
                    "the model takes {dims} a sample, but the data give {given:?} (hint: save it in the model's shape)"
                ));
            }
        }
        Ok(())
    }
}

impl Input {
    fn batch(&self, indices: &[usize]) -> Result<Tensor, ExecError> {
        let dims = [&[indices.len()], &self.array.dims()[1..]].concat();
        let values: Vec<f64> = indices.iter().map(|index| self.array.numbers(*index)).collect::<Result<Vec<_>, _>>()?.concat();
        let whole = |least: f64, most: f64| {
            let odd = values.iter().find(|value| value.fract() != 0.0 || !(least..=most).contains(*value));
            odd.map_or(Ok(()), |odd| {
                let reason = format!("holds {odd}, which is no {} (hint: the model's input takes those)", self.dtype.name());
                Err(ExecError::data(self.array.path(), reason))
            })
        };
        Ok(match self.dtype {
            DataType::Int64 => {
                whole(-9e15, 9e15)?;
                Tensor::new(dims, values.iter().map(|v| *v as i64).collect::<Vec<_>>())
            }
            DataType::Int32 => {
                whole(i32::MIN.into(), i32::MAX.into())?;
                Tensor::new(dims, values.iter().map(|v| *v as i32).collect::<Vec<_>>())
            }
            DataType::Bool => Tensor::from_bools(dims, &values.iter().map(|v| *v != 0.0).collect::<Vec<_>>()),
            // `read` lets nothing else in.
            _ => Tensor::new(dims, values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
        })
    }
}
