//! GPTQ: weight after weight becomes a code, and those of its row that are still free make up for what that lost.
//!
//! Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"; the factor is that of
//! SparseGPT, of the same authors.

use std::collections::{BTreeMap, BTreeSet};

use penjing_exec::cpu_executor;
use penjing_graph::{Graph, Tensor, ValueId};
use rayon::prelude::*;

use super::calibrate::batch_size;
use super::product::Product;
use super::weight_only::Rounded;
use super::{Fit, Format, Granularity, Grid, QuantizeError, Quantizer, Range, Scheme};
use crate::prune::Calibration;
use crate::prune::sparsegpt::gram::Gram;

/// Codes of every weight, and how many samples were looked at. Products come in running order, so that each learns from inputs that
/// rounded weights give it; those that read the same value share one H = XXᵀ + λI.
///
/// # Errors
/// When there is no sample or one cannot be run, or inputs or weights are not finite.
pub(super) fn gptq(
    graph: &Graph,
    products: &[Product],
    scheme: Scheme,
    fit: Fit,
    calibration: &dyn Calibration,
) -> Result<(BTreeMap<ValueId, Rounded>, usize), QuantizeError> {
    let mut executor = cpu_executor(graph)?;
    let mut rounded = BTreeMap::new();
    let mut samples = 0;
    let mut left: Vec<&Product> = products.iter().collect();
    while let Some(first) = left.first().copied() {
        let (together, rest): (Vec<&Product>, Vec<&Product>) = left.iter().partition(|product| product.input == first.input);
        left = rest;
        let mut gram = Gram::new(first.dims[0]);
        samples = 0;
        for batch in calibration.batches(batch_size(graph)) {
            let batch = batch?;
            samples += batch.indices.len();
            let value = executor.run(&batch.inputs, &[first.input])?;
            gram.add(&value.first().and_then(Tensor::to_f32).unwrap_or_default());
        }
        let dead: BTreeSet<usize> = gram.dead().collect();
        let name = || graph.value(first.input).name.clone();
        let unseen =
            || QuantizeError::Settings(format!("`{}` holds nothing that gptq could learn from (hint: --rounding nearest)", name()));
        let factor = gram.factor().ok_or_else(unseen)?;
        for product in together {
            let weight = graph.value(product.weight).name.as_str();
            if let Some(error) = Range::of(&product.values).err() {
                return Err(error.of(weight).into());
            }
            let found = compensated(product, &factor, &dead, scheme, fit).map_err(|e| e.of(weight))?;
            executor.set_weight(product.weight, &Tensor::new(product.dims, found.quantizer.dequantize(&found.codes)?))?;
            rounded.insert(product.weight, found);
        }
    }
    Ok((rounded, samples))
}

/// One weight [K, N]. `u`: the factor of its Gram matrix, K by K. Of the column n of weights w, each k in turn becomes the code of its
/// nearest number q, and those after it move by −(w_k − q) / U_kk · U_kc (eq. 3). The range of a block is that of its weights as they
/// are when it comes.
fn compensated(product: &Product, u: &[f32], dead: &BTreeSet<usize>, scheme: Scheme, fit: Fit) -> Result<Rounded, super::QuantError> {
    let [k, n] = product.dims;
    let size = match scheme.granularity {
        Granularity::Block { size, .. } => size,
        Granularity::Tensor | Granularity::Channel { .. } => k,
    };
    let of_block = Scheme { granularity: Granularity::Tensor, ..scheme };
    let column = |column: usize| {
        let mut w: Vec<f32> = (0..k).map(|row| if dead.contains(&row) { 0.0 } else { product.values[row * n + column] }).collect();
        let mut ranges = vec![];
        for start in (0..k).step_by(size) {
            let end = (start + size).min(k);
            let range = super::fit::range(&of_block, &w[start..end], fit)?;
            let grid = Grid::new(&scheme, range);
            ranges.push(range);
            for j in start..end {
                let (row, free) = (&u[j * k..(j + 1) * k], w[j]);
                let error = (free - nearest(&scheme, grid, free)) / row[j];
                w[j + 1..].iter_mut().zip(&row[j + 1..]).for_each(|(w, u)| *w -= error * u);
            }
        }
        Ok((w, ranges))
    };
    let columns: Vec<(Vec<f32>, Vec<Range>)> = (0..n).into_par_iter().map(column).collect::<Result<_, super::QuantError>>()?;
    let ranges: Vec<Range> = (0..k.div_ceil(size)).flat_map(|block| columns.iter().map(move |(_, ranges)| ranges[block])).collect();
    let values: Vec<f32> = (0..k).flat_map(|row| columns.iter().map(move |(w, _)| w[row])).collect();
    let quantizer = Quantizer::new(scheme, &product.dims, &ranges)?;
    let codes = quantizer.quantize(&values)?;
    Ok(Rounded { quantizer, codes })
}

/// The number of the grid that is nearest.
fn nearest(scheme: &Scheme, Grid { scale, zero_point }: Grid, x: f32) -> f32 {
    match scheme.format() {
        Format::Integer(codes) => codes.round(x / scale, zero_point) * scale,
        Format::Float(format) => format.round(x / scale) * scale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::testing::layer;
    use crate::quant::{Number, Symmetry};
    use penjing_exec::data::Batch;

    fn scheme(number: Number, size: usize) -> Scheme {
        Scheme::new(number, Granularity::Block { axis: 0, size }, Symmetry::Symmetric)
    }

    fn product(graph: &Graph, [k, n]: [usize; 2], values: &[f32]) -> Product {
        let (node, found) = graph.nodes().next().expect("a product");
        let [input, weight] = [0, 1].map(|i| found.input(i).expect("an operand"));
        Product { node, input, weight, dims: [k, n], values: values.to_vec() }
    }

    /// Samples whose features follow one another.
    fn samples(count: usize, features: usize) -> Vec<Batch> {
        let noise = |i: usize| (i as f32 * 12.9898).sin();
        let x: Vec<f32> = (0..count).flat_map(|s| (0..features).map(move |f| noise(1000 + s) + 0.3 * noise(7 * s + 13 * f))).collect();
        vec![Batch { inputs: vec![Tensor::new([count, features], x)], labels: None, targets: None, indices: (0..count).collect() }]
    }

    #[test]
    fn two_weights_by_hand() {
        // The first two features are always 1: H = 100·[[1, 1], [1, 1]] + 2/3·I. Codes are −7 … 7 of scale 1: each 0.4 alone goes to 0,
        // but the second makes up for what the first lost: 0.4 + 0.4·100/100.67 ≈ 0.8 → 1.
        let w = [0.4, 0.4, 7.0];
        let built = layer(3, 1, &w);
        let x: Vec<f32> = (0..100).flat_map(|i| [1.0, 1.0, if i == 0 { 1e-3 } else { 0.0 }]).collect();
        let batch = Batch { inputs: vec![Tensor::new([100, 3], x)], labels: None, targets: None, indices: (0..100).collect() };
        let products = [product(&built.graph, [3, 1], &w)];
        let (found, seen) = gptq(&built.graph, &products, scheme(Number::Int4, 3), Fit::MinMax, &vec![batch]).expect("rounded");
        assert_eq!((found[&products[0].weight].codes.as_slice(), seen), (&[0, 1, 7][..], 100));
    }

    #[test]
    fn what_nothing_correlates_with_goes_to_the_nearest() {
        // Each sample is one feature alone, so that H is a multiple of the identity.
        let (k, n) = (24, 4);
        let w: Vec<f32> = (0..k * n).map(|i| (i as f32 * 1.7).sin()).collect();
        let built = layer(k, n, &w);
        let x = (0..k * k).map(|i| f32::from(u8::from(i / k == i % k))).collect();
        let batch = Batch { inputs: vec![Tensor::new([k, k], x)], labels: None, targets: None, indices: (0..k).collect() };
        let products = [product(&built.graph, [k, n], &w)];
        let scheme = scheme(Number::Int4, 16);
        let (found, _) = gptq(&built.graph, &products, scheme, Fit::MinMax, &vec![batch]).expect("rounded");
        let nearest = Quantizer::fit(scheme, &[k, n], &w, Fit::MinMax).expect("fits");
        assert_eq!(found[&products[0].weight].codes, nearest.quantize(&w).expect("codes"));
    }

    #[test]
    fn it_beats_the_nearest_on_correlated_inputs() {
        let (k, n) = (48, 6);
        let w: Vec<f32> = (0..k * n).map(|i| (i as f32 * 2.3).sin()).collect();
        let built = layer(k, n, &w);
        let (samples, products) = (samples(200, k), [product(&built.graph, [k, n], &w)]);
        let x = samples[0].inputs[0].to_f32().expect("floats").into_owned();
        // ‖XW − XŴ‖²
        let error = |found: &Rounded| {
            let stored = found.quantizer.dequantize(&found.codes).expect("values");
            let difference =
                |row: &[f32], column: usize| (0..k).map(|i| row[i] * (w[i * n + column] - stored[i * n + column])).sum::<f32>();
            x.chunks(k).flat_map(|row| (0..n).map(move |column| f64::from(difference(row, column)).powi(2))).sum::<f64>()
        };
        for number in [Number::Int4, Number::Int2] {
            for fit in Fit::ALL {
                let scheme = scheme(number, 16);
                let (found, _) = gptq(&built.graph, &products, scheme, fit, &samples).expect("rounded");
                let quantizer = Quantizer::fit(scheme, &[k, n], &w, fit).expect("fits");
                let codes = quantizer.quantize(&w).expect("codes");
                let (ours, theirs) = (error(&found[&products[0].weight]), error(&Rounded { quantizer, codes }));
                assert!(ours < 0.5 * theirs, "{number} {fit}: {ours} and {theirs}");
            }
        }
    }

    #[test]
    fn without_samples_there_is_nothing_to_learn_from() {
        let built = layer(16, 1, &[1.0; 16]);
        let products = [product(&built.graph, [16, 1], &[1.0; 16])];
        let refused = gptq(&built.graph, &products, scheme(Number::Int4, 16), Fit::MinMax, &Vec::<Batch>::new()).expect_err("nothing seen");
        assert!(refused.to_string().contains("`x` holds nothing that gptq could learn from"), "{refused}");
    }
}
