//! The layers that architectures are made of, with their initial weights.

use super::init::Generator;
use crate::ops::{Activation, BatchNormalization, Binary, Clip, Conv, Flatten, Gemm, GlobalPool, MaxPool, Pad, PadMode, Slice, Window};
use crate::{DataType, Dim, Graph, GraphBuilder, GraphError, Tensor, ValueId, element_count};

/// Most parameters of a network: as floats they are the 2 GiB that one ONNX file can hold.
const MOST_PARAMETERS: usize = 1 << 29;

/// A value [N, channels, height, width].
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    value: ValueId,
    pub(super) channels: usize,
    height: usize,
    width: usize,
}

/// A value [N, features].
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    value: ValueId,
    features: usize,
}

/// Cells added around a map before a window slides over it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Padding {
    /// As many on every side.
    Cells(usize),
    /// Output = ⌈input / stride⌉; an odd cell goes to the end, as in TensorFlow.
    Same,
}

/// A square window that slides over a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Square {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: Padding,
}

impl Square {
    /// Cells added before and after a side.
    fn pads(self, side: usize) -> (usize, usize) {
        match self.padding {
            Padding::Cells(n) => (n, n),
            Padding::Same => {
                let covered = (side.div_ceil(self.stride) - 1) * self.stride + self.kernel;
                let total = covered.saturating_sub(side);
                (total / 2, total - total / 2)
            }
        }
    }

    /// Cells of the output along a side; `None` where the window does not fit.
    fn output(self, side: usize) -> Option<usize> {
        let (before, after) = self.pads(side);
        Some((before + side + after).checked_sub(self.kernel)? / self.stride + 1)
    }

    fn window(self, height: usize, width: usize) -> Window {
        let ((top, bottom), (left, right)) = (self.pads(height), self.pads(width));
        let pads = [top, left, bottom, right].map(|n| n as i64);
        Window { kernel: vec![self.kernel; 2], strides: vec![self.stride; 2], pads: pads.to_vec(), ..Window::default() }
    }
}

/// What follows a layer and so decides on its initial weights.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// A rectifier: Kaiming normal by fan-in, N(0, 2 / fan_in); biases 0.
    Relu,
    /// The loss: weights and biases uniform in ±1/√fan_in.
    Logits,
}

/// A network that grows layer by layer. A layer's node, its output and the prefix of its weights carry the same name.
#[derive(Debug)]
pub(super) struct Net {
    architecture: &'static str,
    builder: GraphBuilder,
    /// `None`: a rehearsal, whose weights are empty and whose graph is never finished.
    generator: Option<Generator>,
    parameters: usize,
}

impl Net {
    /// A network that only finds out whether the layers fit, before anything is drawn or allocated.
    pub(super) fn rehearsal(architecture: &'static str) -> Net {
        Net { architecture, builder: GraphBuilder::new(architecture), generator: None, parameters: 0 }
    }

    pub(super) fn new(architecture: &'static str, seed: u64) -> Net {
        Net { generator: Some(Generator::new(seed)), ..Net::rehearsal(architecture) }
    }

    /// The value `input`: [N, channels, height, width].
    pub(super) fn input(&mut self, [channels, height, width]: [usize; 3]) -> Map {
        let shape = [Dim::symbol("N"), channels.into(), height.into(), width.into()];
        Map { value: self.builder.input("input", DataType::Float, shape), channels, height, width }
    }

    /// Convolution without bias, for a normalisation to follow: Kaiming normal by fan-out, N(0, 2 / fan_out), where
    /// fan_out is that of one group.
    pub(super) fn conv(&mut self, name: &str, x: Map, channels: usize, group: usize, square: Square) -> Result<Map, GraphError> {
        let dims = [channels, x.channels / group, square.kernel, square.kernel];
        let fan_out = channels / group * square.kernel * square.kernel;
        let weight = self.normal(&format!("{name}.weight"), &dims, fan_out)?;
        self.slide(name, x, channels, square, |window| Conv { window, group }, &[weight])
    }

    /// Convolution with bias, for a rectifier to follow.
    pub(super) fn conv_bias(&mut self, name: &str, x: Map, channels: usize, square: Square) -> Result<Map, GraphError> {
        let dims = [channels, x.channels, square.kernel, square.kernel];
        let weight = self.normal(&format!("{name}.weight"), &dims, x.channels * square.kernel * square.kernel)?;
        let bias = self.constant(&format!("{name}.bias"), channels, 0.0)?;
        self.slide(name, x, channels, square, |window| Conv { window, group: 1 }, &[weight, bias])
    }

    pub(super) fn max_pool(&mut self, name: &str, x: Map, square: Square) -> Result<Map, GraphError> {
        self.slide(name, x, x.channels, square, |window| MaxPool { window, ceil_mode: false, storage_order: 0 }, &[])
    }

    /// A node whose window slides over `x`.
    fn slide<O: Into<crate::ops::Op>>(
        &mut self,
        name: &str,
        x: Map,
        channels: usize,
        square: Square,
        op: impl FnOnce(Window) -> O,
        weights: &[ValueId],
    ) -> Result<Map, GraphError> {
        let Square { kernel, .. } = square;
        let (Some(height), Some(width)) = (square.output(x.height), square.output(x.width)) else {
            return Err(GraphError::Architecture {
                reason: format!(
                    "the input is too small for `{}`: its layer `{name}` slides a {kernel}x{kernel} window over {}x{} cells (hint: a larger --input)",
                    self.architecture, x.height, x.width
                ),
            });
        };
        let inputs: Vec<ValueId> = std::iter::once(x.value).chain(weights.iter().copied()).collect();
        let value = self.builder.node(name, op(square.window(x.height, x.width)), &inputs);
        Ok(Map { value, channels, height, width })
    }

    /// Batch normalisation with scale 1, bias 0, mean 0, variance 1; running averages keep 0.9 of themselves.
    pub(super) fn batch_norm(&mut self, name: &str, x: Map, epsilon: f32) -> Result<Map, GraphError> {
        let mut inputs = vec![x.value];
        for (part, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            inputs.push(self.constant(&format!("{name}.{part}"), x.channels, value)?);
        }
        let op = BatchNormalization { epsilon, momentum: 0.9, training_mode: false };
        Ok(Map { value: self.builder.node(name, op, &inputs), ..x })
    }

    pub(super) fn relu(&mut self, name: &str, x: Map) -> Map {
        Map { value: self.builder.node(name, Activation::Relu, &[x.value]), ..x }
    }

    pub(super) fn relu_row(&mut self, name: &str, x: Row) -> Row {
        Row { value: self.builder.node(name, Activation::Relu, &[x.value]), ..x }
    }

    /// min(max(x, 0), 6)
    pub(super) fn relu6(&mut self, name: &str, x: Map) -> Map {
        let bounds = [("min", 0.0f32), ("max", 6.0)].map(|(part, v)| self.builder.tensor(&format!("{name}.{part}"), Tensor::scalar(v)));
        let value = self.builder.node(name, Clip { min: None, max: None }, &[x.value, bounds[0], bounds[1]]);
        Map { value, ..x }
    }

    /// Sum of two maps of the same shape.
    pub(super) fn add(&mut self, name: &str, a: Map, b: Map) -> Map {
        Map { value: self.builder.node(name, Binary::Add, &[a.value, b.value]), ..a }
    }

    /// Every second cell of both sides, from the first one on.
    pub(super) fn subsample(&mut self, name: &str, x: Map) -> Map {
        let bounds = [("starts", [0, 0]), ("ends", [i64::MAX; 2]), ("axes", [2, 3]), ("steps", [2, 2])]
            .map(|(part, v)| self.builder.tensor(&format!("{name}.{part}"), Tensor::new([2], v.to_vec())));
        let inputs: Vec<ValueId> = std::iter::once(x.value).chain(bounds).collect();
        let value = self.builder.node(name, Slice { bounds: None }, &inputs);
        Map { value, height: x.height.div_ceil(2), width: x.width.div_ceil(2), ..x }
    }

    /// `x` with channels of zeros, as many before as behind.
    pub(super) fn pad_channels(&mut self, name: &str, x: Map, channels: usize) -> Map {
        let missing = channels - x.channels;
        let (before, behind) = ((missing / 2) as i64, missing.div_ceil(2) as i64);
        let pads = self.builder.tensor(&format!("{name}.pads"), Tensor::new([8], vec![0, before, 0, 0, 0, behind, 0, 0]));
        let op = Pad { mode: PadMode::Constant, pads: None, value: None };
        Map { value: self.builder.node(name, op, &[x.value, pads]), channels, ..x }
    }

    /// [N, C, H, W] → [N, C], the mean of each channel.
    pub(super) fn global_average(&mut self, name: &str, x: Map) -> Row {
        let value = self.builder.node(name, GlobalPool::Average, &[x.value]);
        self.flatten("flatten", Map { value, height: 1, width: 1, ..x })
    }

    /// [N, C, H, W] → [N, C·H·W]
    pub(super) fn flatten(&mut self, name: &str, x: Map) -> Row {
        let features = x.channels.saturating_mul(x.height).saturating_mul(x.width);
        Row { value: self.builder.node(name, Flatten { axis: 1 }, &[x.value]), features }
    }

    /// Y = X · Wᵀ + b with W [features out, features in].
    pub(super) fn linear(&mut self, name: &str, x: Row, features: usize, then: Then) -> Result<Row, GraphError> {
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let dims = [features, x.features];
        let (weight, bias, output) = match then {
            Then::Relu => (self.normal(&weight_name, &dims, x.features)?, self.constant(&bias_name, features, 0.0)?, name),
            Then::Logits => {
                let bound = 1.0 / (x.features as f64).sqrt();
                let weight = self.uniform(&weight_name, &dims, bound)?;
                (weight, self.uniform(&bias_name, &[features], bound)?, "logits")
            }
        };
        let op = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let value = self.builder.nodes(name, op, &[x.value, weight, bias], &[output])[0];
        Ok(Row { value, features })
    }

    /// The graph with `y` as its output.
    pub(super) fn finish(self, y: Row) -> Result<Graph, GraphError> {
        self.builder.output(y.value).finish()
    }

    /// Kaiming normal: N(0, 2 / fan).
    fn normal(&mut self, name: &str, dims: &[usize], fan: usize) -> Result<ValueId, GraphError> {
        self.weight(name, dims, |generator, count| generator.normal(count, (2.0 / fan as f64).sqrt()))
    }

    fn uniform(&mut self, name: &str, dims: &[usize], bound: f64) -> Result<ValueId, GraphError> {
        self.weight(name, dims, |generator, count| generator.uniform(count, bound))
    }

    fn constant(&mut self, name: &str, count: usize, value: f32) -> Result<ValueId, GraphError> {
        self.weight(name, &[count], |_, count| vec![value; count])
    }

    /// An initializer, counted against what one file can hold.
    fn weight(&mut self, name: &str, dims: &[usize], draw: impl FnOnce(&mut Generator, usize) -> Vec<f32>) -> Result<ValueId, GraphError> {
        let total = element_count(dims).and_then(|n| Some((n, self.parameters.checked_add(n)?)));
        let Some((count, parameters)) = total.filter(|(_, parameters)| *parameters <= MOST_PARAMETERS) else {
            return Err(GraphError::Architecture {
                reason: format!(
                    "`{}` of these options does not fit into one ONNX file: with `{name}` {dims:?} it has more than {MOST_PARAMETERS} parameters (hint: fewer --classes, a smaller --input or --width)",
                    self.architecture
                ),
            });
        };
        self.parameters = parameters;
        let tensor = match &mut self.generator {
            Some(generator) => Tensor::new(dims, draw(generator, count)),
            None => Tensor::new([0], Vec::<f32>::new()),
        };
        Ok(self.builder.tensor(name, tensor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_the_odd_cell_at_the_end() {
        let square = |kernel, stride| Square { kernel, stride, padding: Padding::Same };
        assert_eq!(square(3, 2).pads(224), (0, 1)); // 111·2 + 3 = 225
        assert_eq!(square(5, 2).pads(56), (1, 2)); // 27·2 + 5 = 59
        assert_eq!(square(3, 1).pads(7), (1, 1));
        assert_eq!(square(3, 2).pads(7), (1, 1)); // 3·2 + 3 = 9
        assert_eq!(square(1, 2).pads(7), (0, 0));
        assert_eq!(square(3, 2).output(7), Some(4));
    }

    #[test]
    fn a_window_larger_than_the_padded_map_does_not_fit() {
        let square = Square { kernel: 5, stride: 1, padding: Padding::Cells(1) };
        assert_eq!(square.output(2), None);
        assert_eq!(square.output(3), Some(1));
    }
}
