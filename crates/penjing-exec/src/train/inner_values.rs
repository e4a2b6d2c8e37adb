//! Where inside a model its numbers leave the original's.

use std::collections::BTreeMap;

use penjing_graph::{Graph, Value, ValueId};
use serde::Serialize;

use super::progress::{Event, Progress};
use super::side_by_side::Portion;
use super::similarity::Comparison;
use crate::ExecError;
use crate::data::Dataset;
use crate::runtime::Runtime;

/// What is added to the name of a value once its codes are numbers again: by Penjing, and by ONNX Runtime's own quantizer. Until it is
/// a code, the value keeps its name.
const DEQUANTIZED: [&str; 2] = ["_dequantized", "_DequantizeLinear_Output"];

/// How near an inner value is to the original's of the same name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InnerSimilarity {
    /// Name in the original.
    pub value: String,
    /// Name in the result: the same, or that of the number that its codes stand for.
    pub beside: String,
    /// Operator that gives it in the original.
    pub operator: String,
    /// Mean over the samples of a·b / (|a|·|b|), −1 to 1; 1 where both are zero.
    pub cosine: f64,
    /// Signal to quantization noise in dB: 10·log₁₀(Σa² / Σ(a − b)²), a the original's. Infinite (in JSON: null) where nothing differs.
    pub sqnr: f64,
}

/// The inner values that two models share.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InnerValues {
    /// Samples that were run.
    pub samples: usize,
    /// Those that could be compared, the lowest SQNR first.
    pub values: Vec<InnerSimilarity>,
    /// Those that have the same name and another shape.
    pub other_shape: Vec<String>,
}

/// Two values to compare.
struct Pair {
    ids: [ValueId; 2],
    names: [String; 2],
    operator: String,
    count: Comparison,
}

/// Runs both models on the same samples and compares all float values that both have under the same name: with the values that their
/// codes stand for, where the result has some. Only sums are kept from batch to batch. An original's value without a namesake is left
/// out.
///
/// # Errors
/// When one cannot be run.
pub fn inner_values(
    original: &mut dyn Runtime,
    result: &mut dyn Runtime,
    data: &Dataset,
    portion: Portion,
    progress: &mut dyn Progress,
) -> Result<InnerValues, ExecError> {
    let mut pairs = pairs(original.graph(), result.graph());
    let mut other_shape = vec![];
    let mut done = 0;
    for batch in portion.batches(data) {
        let batch = batch?;
        let fetch = |side: usize| pairs.iter().map(|pair| pair.ids[side]).collect::<Vec<_>>();
        let (a, b) = (original.run(&batch.inputs, &fetch(0))?, result.run(&batch.inputs, &fetch(1))?);
        let mut values = a.iter().zip(&b);
        pairs.retain_mut(|pair| {
            let added = values.next().is_some_and(|(a, b)| pair.count.add(a, b, batch.indices.len()).is_ok());
            if !added {
                other_shape.push(pair.names[0].clone());
            }
            added
        });
        done += batch.indices.len();
        progress.event(Event::Evaluated { split: portion.split, done: done as u64, samples: portion.samples(data) as u64 });
    }
    let finished = |pair: Pair| {
        let [value, beside] = pair.names;
        let found = pair.count.finish(value)?;
        Some(InnerSimilarity { value: found.output, beside, operator: pair.operator, cosine: found.cosine, sqnr: found.sqnr })
    };
    let mut values: Vec<InnerSimilarity> = pairs.into_iter().filter_map(finished).collect();
    // NaN is worst; of equals the first to be computed stays first.
    values.sort_by(|a, b| b.sqnr.is_nan().cmp(&a.sqnr.is_nan()).then(a.sqnr.total_cmp(&b.sqnr)));
    Ok(InnerValues { samples: done, values, other_shape })
}

/// Every float value that a node of the original gives, with its counterpart, in running order.
fn pairs(original: &Graph, result: &Graph) -> Vec<Pair> {
    let is_float = |value: &Value| value.dtype.is_none_or(|dtype| dtype.is_float());
    let computed = result.values().filter(|(_, value)| value.producer.is_some() && is_float(value));
    let by_name: BTreeMap<&str, ValueId> = computed.map(|(id, value)| (value.name.as_str(), id)).collect();
    let pair = |(id, operator): (ValueId, &str)| {
        let name = &original.value(id).name;
        let namesakes = DEQUANTIZED.into_iter().chain([""]).map(|end| format!("{name}{end}"));
        let (beside, other) = namesakes.into_iter().find_map(|namesake| by_name.get_key_value(namesake.as_str()))?;
        let names = [name.clone(), (*beside).to_string()];
        Some(Pair { ids: [id, *other], names, operator: operator.into(), count: Comparison::default() })
    };
    let given = original.nodes().flat_map(|(_, node)| node.outputs.iter().flatten().map(|id| (*id, node.op.op_type())));
    given.filter(|(id, _)| is_float(original.value(*id))).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use penjing_graph::ops::{Binary, Cast, Identity, MatMul};
    use penjing_graph::{DataType, Dim, GraphBuilder, Tensor};

    use super::super::Silent;
    use super::super::testing::clusters;
    use super::*;
    use crate::data::Split;
    use crate::runtime::Builtin;

    /// x · w of `width` columns → doubled, and with `codes` rounded in between.
    fn model(width: usize, codes: bool) -> Result<Graph, Box<dyn std::error::Error>> {
        let mut b = GraphBuilder::new("model");
        let x = b.input("x", DataType::Float, [Dim::symbol("N"), 2.into()]);
        let w = b.tensor("w", Tensor::new([2, width], (0..2 * width).map(|i| 10.0 + i as f32).collect::<Vec<_>>()));
        let mut product = b.node("product", MatMul, &[x, w]);
        if codes {
            let code = b.node("product_quantized", Cast { to: DataType::Int8, saturate: true }, &[product]);
            product = b.node("product_dequantized", Cast { to: DataType::Float, saturate: true }, &[code]);
        }
        let doubled = b.node("doubled", Binary::Add, &[product, product]);
        let y = b.node(if codes { "other" } else { "y" }, Identity, &[doubled]);
        Ok(b.output(y).finish()?)
    }

    fn compared(a: &Graph, b: &Graph, samples: usize) -> Result<InnerValues, Box<dyn std::error::Error>> {
        let (_folder, data) = clusters(60)?;
        let (mut a, mut b) = (Builtin::new(a)?, Builtin::new(b)?);
        let portion = Portion { split: Split::Train, batch: 4, most: samples };
        Ok(inner_values(&mut a, &mut b, &data, portion, &mut Silent)?)
    }

    #[test]
    fn codes_are_compared_as_the_numbers_that_they_stand_for() -> Result<(), Box<dyn std::error::Error>> {
        let found = compared(&model(3, false)?, &model(3, true)?, 8)?;
        let named: Vec<[&str; 3]> = found.values.iter().map(|v| [v.value.as_str(), v.beside.as_str(), v.operator.as_str()]).collect();
        // Twice a number is as far off as the number; `y` has no namesake.
        assert_eq!(named, [["product", "product_dequantized", "MatMul"], ["doubled", "doubled", "Add"]]);
        assert_eq!((found.samples, found.other_shape.len()), (8, 0));
        let [product, doubled] = &found.values[..] else { panic!("two values") };
        assert!(product.sqnr > 10.0 && product.sqnr < 60.0 && (product.sqnr - doubled.sqnr).abs() < 1e-9, "{found:?}");
        assert!(product.cosine > 0.99 && product.cosine < 1.0, "{found:?}");
        Ok(())
    }

    #[test]
    fn equal_values_stand_last_and_other_shapes_apart() -> Result<(), Box<dyn std::error::Error>> {
        let graph = model(3, false)?;
        let same = compared(&graph, &graph, 1_000)?;
        assert!(same.values.len() == 3 && same.values.iter().all(|v| v.sqnr == f64::INFINITY && v.beside == v.value), "{same:?}");
        let narrow = compared(&graph, &model(2, false)?, 4)?;
        assert_eq!((narrow.values.len(), narrow.other_shape.join(" ")), (0, "product doubled y".into()));
        Ok(())
    }
}
