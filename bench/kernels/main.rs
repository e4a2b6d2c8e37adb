//! Arithmetic speed of each kernel, beside the machine's measured peak and, for products of matrices, beside crates.
//!
//! usage: bench/kernels/run.sh [--threads=2] [--rounds=15] [--json]
//!
//! Prints one row for each kernel and shape: the median of the rounds' times, GFLOP/s (two for each product that is added) or,
//! where memory is what counts, GB/s; and the share of the peak, measured in the same run. Kernels take turns within a round.

#[path = "../../crates/penjing-exec/src/cpu/mod.rs"]
#[allow(dead_code, reason = "not every kernel is timed")]
mod cpu;

use std::hint::black_box;
use std::time::Instant;

use cpu::conv::{self, Shape};
use cpu::matmul::{Matrix, products};
use cpu::{batch_norm, elementwise, functions, layer_norm, softmax};
use rayon::prelude::*;

/// What is timed: name, shape, floating-point operations, octets that have to move, and the work.
struct Kernel {
    name: String,
    shape: String,
    flop: f64,
    bytes: f64,
    run: Box<dyn Fn() + Sync>,
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.618_034).sin()).collect()
}

/// The three kernels of a convolution with `same` padding on 64 images.
fn convolutions(name: &str, groups: usize, [inputs, outputs]: [usize; 2], side: usize, kernel: usize, stride: usize) -> Vec<Kernel> {
    let output = side.div_ceil(stride);
    let shape = Shape {
        batch: 64,
        groups,
        in_channels: inputs / groups,
        out_channels: outputs / groups,
        input: [side; 2],
        output: [output; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1, 1],
        before: [(kernel - 1) / 2; 2],
    };
    let (x, y, w) = (64 * inputs * side * side, 64 * outputs * output * output, outputs * inputs / groups * kernel * kernel);
    let flop = 2.0 * (y * inputs / groups * kernel * kernel) as f64;
    let text = format!("{inputs}→{outputs}, {side}x{side}, kernel {kernel}, stride {stride}");
    let row = |pass: &str, run: Box<dyn Fn() + Sync>| Kernel {
        name: format!("{name} {pass}"),
        shape: text.clone(),
        flop,
        bytes: 4.0 * (x + y + w) as f64,
        run,
    };
    let (forward, input, weight) = (shape.clone(), shape.clone(), shape);
    let (x1, w1, w2, dy2, x3, dy3) = (numbers(x), numbers(w), numbers(w), numbers(y), numbers(x), numbers(y));
    vec![
        row("forward", Box::new(move || _ = black_box(conv::forward(&forward, &x1, &w1, None, None)))),
        row("input gradient", Box::new(move || _ = black_box(conv::input_gradient(&input, &w2, &dy2)))),
        row("weight gradient", Box::new(move || _ = black_box(conv::weight_gradient(&weight, &x3, &dy3)))),
    ]
}

/// Our product of matrices and those of crates.
fn matrices([m, k, n]: [usize; 3]) -> Vec<Kernel> {
    let row = |name: &str, run: Box<dyn Fn() + Sync>| Kernel {
        name: format!("product, {name}"),
        shape: format!("{m}x{k} · {k}x{n}"),
        flop: 2.0 * (m * k * n) as f64,
        bytes: 4.0 * (m * k + k * n + m * n) as f64,
        run,
    };
    let operands = || (numbers(m * k), numbers(k * n));
    let ((a1, b1), (a2, b2), (a3, b3)) = (operands(), operands(), operands());
    let ours = move || {
        let (a, b) = (Matrix { elements: &a1, row: k, column: 1 }, Matrix { elements: &b1, row: n, column: 1 });
        black_box(products(&[a], &[b], [m, k, n]));
    };
    let of_gemm = move || {
        let mut y = vec![0.0f32; m * n];
        // SAFETY: pointers and strides are those of vectors of these sizes.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y.as_mut_ptr(),
                1,
                n as isize,
                false,
                a2.as_ptr(),
                1,
                k as isize,
                b2.as_ptr(),
                1,
                n as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
        black_box(y);
    };
    let of_matrixmultiply = move || {
        let mut y = vec![0.0f32; m * n];
        let (k_row, n_row) = (k as isize, n as isize);
        // SAFETY: pointers and strides are those of vectors of these sizes.
        unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a3.as_ptr(), k_row, 1, b3.as_ptr(), n_row, 1, 0.0, y.as_mut_ptr(), n_row, 1) };
        black_box(y);
    };
    vec![row("ours", Box::new(ours)), row("crate gemm", Box::new(of_gemm)), row("crate matrixmultiply", Box::new(of_matrixmultiply))]
}

/// What moves more than it computes.
fn along_memory() -> Vec<Kernel> {
    let n = 64 * 32 * 32 * 144;
    let row = |name: &str, shape: &str, tensors: usize, run: Box<dyn Fn() + Sync>| Kernel {
        name: name.into(),
        shape: shape.into(),
        flop: 0.0,
        bytes: 4.0 * (tensors * n) as f64,
        run,
    };
    let (x, dy) = (numbers(n), numbers(n));
    let (scale, bias) = (numbers(144), numbers(144));
    let (x2, x3, x4, x5, x6) = (x.clone(), x.clone(), x.clone(), x.clone(), x.clone());
    let (y6, ones, ones144) = (dy.clone(), vec![1.0; 384], vec![1.0; 144]);
    vec![
        row("batch norm forward", "65536 rows of 144", 3, {
            let (x, scale) = (x.clone(), scale.clone());
            Box::new(move || _ = black_box(batch_norm::forward(&x, &scale, &bias, 1e-5)))
        }),
        row("batch norm gradients", "65536 rows of 144", 5, {
            Box::new(move || _ = black_box(batch_norm::gradients(&x2, &scale, [&scale, &ones144], 1e-5, &dy)))
        }),
        row("layer norm forward", "24576 rows of 384", 2, {
            let zeros = vec![0.0; 384];
            Box::new(move || _ = black_box(layer_norm::forward(&x3, &ones, &zeros, 1e-5)))
        }),
        row("softmax", "73728 rows of 128", 2, Box::new(move || _ = black_box(softmax::forward(&x4, 128)))),
        row("gelu", "9437184", 2, Box::new(move || _ = black_box(elementwise::map(&x5, functions::gelu)))),
        row("add", "9437184", 3, Box::new(move || _ = black_box(elementwise::zip(&x6, &y6, |a, b| a + b)))),
    ]
}

/// Accumulators that hide the latency of a product that is added.
const CHAINS: usize = 12;

#[inline(always)]
fn chains<const LANES: usize>(steps: usize) -> f32 {
    let (factor, term) = (black_box([0.999_f32; LANES]), black_box([1e-3_f32; LANES]));
    let mut sums = [[0.0_f32; LANES]; CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            for lane in 0..LANES {
                sum[lane] = sum[lane].mul_add(factor[lane], term[lane]);
            }
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn chains_avx2(steps: usize) -> f32 {
    chains::<8>(steps)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn chains_avx512(steps: usize) -> f32 {
    chains::<16>(steps)
}

/// GFLOP/s of products that are added to registers.
fn peak(threads: usize) -> f64 {
    const STEPS: usize = 1 << 22;
    let work = |_| {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has it.
                black_box(unsafe { chains_avx512(STEPS) });
                return 16;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has it.
                black_box(unsafe { chains_avx2(STEPS) });
                return 8;
            }
        }
        black_box(chains::<8>(STEPS));
        8
    };
    let start = Instant::now();
    let lanes: usize = (0..threads).into_par_iter().map(work).sum();
    (lanes * CHAINS * STEPS * 2) as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn main() {
    cpu::memory::keep_freed_memory();
    let option = |name: &str| std::env::args().find_map(|a| a.strip_prefix(&format!("--{name}=")).and_then(|v| v.parse::<usize>().ok()));
    let (threads, rounds) = (option("threads").unwrap_or(2), option("rounds").unwrap_or(15));
    let mut kernels = [
        convolutions("conv", 1, [16, 16], 32, 3, 1),
        convolutions("conv", 1, [32, 32], 16, 3, 1),
        convolutions("conv", 1, [64, 64], 8, 3, 1),
        convolutions("conv", 1, [16, 32], 32, 3, 2),
        convolutions("conv", 1, [20, 50], 12, 5, 1),
        convolutions("pointwise", 1, [24, 144], 32, 1, 1),
        convolutions("pointwise", 1, [160, 960], 1, 1, 1),
        convolutions("depthwise", 144, [144, 144], 32, 3, 1),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    for sizes in [[2048, 384, 1536], [2048, 1536, 384], [384, 2048, 1536], [64, 800, 500]] {
        kernels.extend(matrices(sizes));
    }
    kernels.extend(along_memory());

    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let mut times = vec![vec![]; kernels.len()];
    let mut peaks = vec![];
    for _ in 0..=rounds {
        peaks.push(pool.install(|| peak(threads)));
        for (kernel, times) in kernels.iter().zip(&mut times) {
            pool.install(|| (kernel.run)());
            let start = Instant::now();
            pool.install(|| (kernel.run)());
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let peak = median(&mut peaks);
    let rows: Vec<_> = kernels
        .iter()
        .zip(&mut times)
        .map(|(kernel, times)| {
            let time = median(times);
            let gflops = kernel.flop / time / 1e9;
            serde_json::json!({
                "kernel": kernel.name, "shape": kernel.shape, "ms": time * 1e3, "gflop_per_s": gflops, "share_of_peak": gflops / peak,
                "gb_per_s": kernel.bytes / time / 1e9,
            })
        })
        .collect();
    if std::env::args().any(|a| a == "--json") {
        println!("{}", serde_json::json!({"threads": threads, "rounds": rounds, "peak_gflop_per_s": peak, "rows": rows}));
        return;
    }
    println!("peak: {peak:.0} GFLOP/s on {threads} threads");
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_f64().unwrap_or(0.0);
        println!(
            "{:<30} {:<36} {:>8.2} ms {:>7.1} GFLOP/s {:>5.0} % {:>6.1} GB/s",
            text("kernel"),
            text("shape"),
            number("ms"),
            number("gflop_per_s"),
            number("share_of_peak") * 100.0,
            number("gb_per_s")
        );
    }
}
