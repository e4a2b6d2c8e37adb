use super::*;
use crate::cpu::on_threads;
use proptest::prelude::*;

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) as f32 / 2f32.powi(31) - 1.0).collect()
}

/// Calls `f` with the indices into X, W and Y of every product of the convolution.
fn products(s: &Shape, mut f: impl FnMut(usize, usize, usize)) {
    let at = |i: usize, out: usize, k: usize| (out * s.stride[i] + k * s.dilation[i]).checked_sub(s.before[i]).filter(|p| *p < s.input[i]);
    for n in 0..s.batch {
        for m in 0..s.groups * s.out_channels {
            for c in 0..s.in_channels {
                let channel = m / s.out_channels * s.in_channels + c;
                for (oy, ox) in (0..s.output[0]).flat_map(|y| (0..s.output[1]).map(move |x| (y, x))) {
                    for (ky, kx) in (0..s.kernel[0]).flat_map(|y| (0..s.kernel[1]).map(move |x| (y, x))) {
                        let (Some(iy), Some(ix)) = (at(0, oy, ky), at(1, ox, kx)) else { continue };
                        let x = ((n * s.input[0] + iy) * s.input[1] + ix) * s.groups * s.in_channels + channel;
                        let w = ((m * s.in_channels + c) * s.kernel[0] + ky) * s.kernel[1] + kx;
                        let y = ((n * s.output[0] + oy) * s.output[1] + ox) * s.groups * s.out_channels + m;
                        f(x, w, y);
                    }
                }
            }
        }
    }
}

fn lengths(s: &Shape) -> [usize; 3] {
    let channels = s.groups * s.batch;
    [
        channels * s.in_channels * s.input[0] * s.input[1],
        s.groups * s.out_channels * s.in_channels * s.cells(),
        channels * s.out_channels * s.output[0] * s.output[1],
    ]
}

#[test]
fn a_window_of_two_by_hand() {
    let shape = Shape {
        batch: 1,
        groups: 1,
        in_channels: 1,
        out_channels: 2,
        input: [1, 3],
        output: [1, 2],
        kernel: [1, 2],
        stride: [1, 1],
        dilation: [1, 1],
        before: [0, 0],
    };
    let (x, w) = ([1.0, 2.0, 3.0], [1.0, 10.0, 1.0, -1.0]);
    let y = forward(&shape, &x, &w, Some(&[0.5, 0.0]), None);
    assert_eq!(y, [21.5, -1.0, 32.5, -1.0]); // 1 + 20 + ½, 1 − 2; 2 + 30 + ½, 2 − 3
    assert_eq!(weight_gradient(&shape, &x, &[1.0, 0.0, 0.0, 1.0]), [1.0, 2.0, 2.0, 3.0]);
    let dx = input_gradient(&shape, &w, &[1.0, 0.0, 0.0, 1.0]);
    assert_eq!(dx, [1.0, 11.0, -1.0]); // w₀₀; w₀₁ + w₁₀; w₁₁
}

#[test]
fn rows_that_the_stride_leaves_over_have_no_gradient() {
    let wide = 24;
    let shape = Shape {
        batch: 1,
        groups: 1,
        in_channels: 1,
        out_channels: 1,
        input: [4, wide],
        output: [1, wide],
        kernel: [3, 1],
        stride: [3, 1],
        dilation: [1, 1],
        before: [0, 0],
    };
    let dx = input_gradient(&shape, &[1.0, 2.0, 3.0], &vec![1.0; wide]);
    let rows: Vec<f32> = [1.0, 2.0, 3.0, 0.0].iter().flat_map(|w| vec![*w; wide]).collect();
    assert_eq!(dx, rows);
}

#[test]
fn an_image_that_the_cache_does_not_hold_is_read_in_bands() {
    let [rows, cols, channels] = [20, 120, 64];
    let shape = Shape {
        batch: 8,
        groups: 1,
        in_channels: channels,
        out_channels: 1,
        input: [rows, cols],
        output: [rows, cols],
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        before: [1, 1],
    };
    let portion = shape.forward().0.portion(8, 512);
    assert!(portion.images == 1 && portion.rows < rows, "{portion:?}");
    // With ones everywhere each place counts the cells of the window that lie in the image.
    let y = forward(&shape, &vec![1.0; shape.batch * shape.in_image()], &vec![1.0; 9 * channels], None, None);
    let seen = |at: usize, n: usize| if at == 0 || at + 1 == n { 2 } else { 3 };
    for (i, y) in y.iter().enumerate() {
        let (row, col) = (i / cols % rows, i % cols);
        assert_eq!(*y, (seen(row, rows) * seen(col, cols) * channels) as f32, "image {}, row {row}, column {col}", i / cols / rows);
    }
}

prop_compose! {
    fn shape()(
        batch in 1usize..20,
        (groups, in_channels, out_channels) in prop_oneof![(1usize..40).prop_map(|groups| (groups, 1, 1)), (1usize..4, 1usize..6, 1usize..40)],
        kernel in [1usize..4, 1usize..4], stride in [1usize..4, 1usize..4], dilation in [1usize..3, 1usize..3],
        output in [1usize..8, 1usize..40], share in [0usize..3, 0usize..3], cut in [0usize..3, 0usize..3], unseen in [0usize..3, 0usize..3],
    ) -> Shape {
        let reach = |i: usize| (kernel[i] - 1) * dilation[i];
        let before: [usize; 2] = std::array::from_fn(|i| share[i].min(reach(i)));
        let input = std::array::from_fn(|i| {
            let padded = (output[i] - 1) * stride[i] + reach(i) + 1;
            // `cut` cells of the end are padding; or `unseen` ones are left over by the stride.
            (padded - before[i]).saturating_sub(cut[i].min(reach(i))).max(1) + unseen[i].min(stride[i] - 1)
        });
        Shape { batch, groups, in_channels, out_channels, input, output, kernel, stride, dilation, before }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn equals_the_sums_in_f64_at_any_number_of_threads(s in shape(), seed: u32) {
        let [nx, nw, ny] = lengths(&s);
        let (x, w, dy, bias) = (numbers(nx, seed), numbers(nw, seed ^ 1), numbers(ny, seed ^ 2), numbers(s.groups * s.out_channels, seed ^ 3));
        let (mut ey, mut ex, mut ew) = (vec![0.0f64; ny], vec![0.0f64; nx], vec![0.0f64; nw]);
        products(&s, |i, k, j| {
            ey[j] += f64::from(x[i]) * f64::from(w[k]);
            ex[i] += f64::from(dy[j]) * f64::from(w[k]);
            ew[k] += f64::from(dy[j]) * f64::from(x[i]);
        });
        ey.iter_mut().enumerate().for_each(|(j, y)| *y += f64::from(bias[j % bias.len()]));
        for level in Level::available() {
            let run = |threads| on_threads(threads, || [
                forward_on(level, &s, &x, &w, Some(&bias), None),
                input_gradient_on(level, &s, &w, &dy),
                weight_gradient_on(level, &s, &x, &dy),
            ]);
            let one = run(1);
            let clipped: Vec<f32> = one[0].iter().map(|y| clip(*y, [-0.5, 0.25])).collect();
            prop_assert_eq!(forward_on(level, &s, &x, &w, Some(&bias), Some([-0.5, 0.25])), clipped);
            prop_assert_eq!(&one, &run(3));
            for (name, expected, got, terms) in [("y", &ey, &one[0], 400.0), ("dx", &ex, &one[1], 400.0), ("dw", &ew, &one[2], 6000.0)] {
                for (i, (e, g)) in expected.iter().zip(got).enumerate() {
                    prop_assert!((e - f64::from(*g)).abs() <= 1e-7 * terms, "{:?} {} {}: {} but {}", level, name, i, e, g);
                }
            }
        }
    }
}
