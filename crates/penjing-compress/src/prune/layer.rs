//! The weights of a network that pruning chooses among.

use std::borrow::Cow;

use penjing_graph::{Graph, Tensor, ValueId};

use super::{PruneError, WeightMatrix, prunable};

/// One weight of a Conv, ConvTranspose, Gemm or MatMul.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// The weight.
    pub id: ValueId,
    /// Its name.
    pub name: &'a str,
    /// Its elements, in the file's order.
    pub values: Cow<'a, [f32]>,
    /// The weight as a matrix; `None` where the graph reshapes or casts it before it is used.
    pub matrix: Option<WeightMatrix>,
}

/// Every prunable weight, in order of ids.
///
/// # Errors
/// When there is none, or one holds a NaN or an infinity.
pub fn layers(graph: &Graph) -> Result<Vec<Layer<'_>>, PruneError> {
    let consumers = graph.consumers();
    let layers: Vec<Layer<'_>> = prunable(graph)
        .into_iter()
        .filter_map(|id| {
            let values = graph.tensor(id).and_then(Tensor::values::<f32>)?;
            Some(Layer { id, name: &graph.value(id).name, values, matrix: WeightMatrix::of(graph, &consumers, id) })
        })
        .collect();
    match layers.iter().find(|layer| !layer.values.iter().all(|w| w.is_finite())) {
        Some(layer) => Err(PruneError::NotFinite(layer.name.into())),
        None if layers.is_empty() => Err(PruneError::NothingToPrune),
        None => Ok(layers),
    }
}
