//! Networks of inverted residual blocks: 1x1 to more channels, depthwise, 1x1 to fewer (Sandler et al., arXiv:1801.04381).

use super::Plan;
use super::naming::Naming;
use super::net::{Map, Net, Padding, Row, Square, Then};
use crate::GraphError;

/// A run of equal blocks; only the first one has the stride.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    pub(crate) repeats: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) expand: usize,
    pub(crate) channels: usize,
}

/// MobileNetV2's stages.
const MOBILENET_V2: &[Stage] = &stages([
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (3, 3, 2, 6, 32),
    (4, 3, 2, 6, 64),
    (3, 3, 1, 6, 96),
    (3, 3, 2, 6, 160),
    (1, 3, 1, 6, 320),
]);

/// EfficientNet-Lite0's stages.
const EFFICIENTNET_LITE0: &[Stage] = &stages([
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]);

/// Stages from rows of (repeats, kernel, stride, expand, channels).
const fn stages<const N: usize>(rows: [(usize, usize, usize, usize, usize); N]) -> [Stage; N] {
    let mut stages = [Stage { repeats: 0, kernel: 0, stride: 0, expand: 0, channels: 0 }; N];
    let mut i = 0;
    while i < N {
        let (repeats, kernel, stride, expand, channels) = rows[i];
        stages[i] = Stage { repeats, kernel, stride, expand, channels };
        i += 1;
    }
    stages
}

/// What the networks of this family differ in, beside their stages.
struct Family {
    stages: &'static [Stage],
    naming: Naming,
    padding: fn(usize) -> Padding,
    epsilon: f32,
}

const fn mobilenet() -> Family {
    Family { stages: MOBILENET_V2, naming: Naming::Torchvision, padding: |kernel| Padding::Cells(kernel / 2), epsilon: 1e-5 }
}

const fn efficientnet() -> Family {
    Family { stages: EFFICIENTNET_LITE0, naming: Naming::Timm, padding: |_| Padding::Same, epsilon: 1e-3 }
}

/// MobileNetV2; `width` scales every channel count, the last layer's only upwards. Torchvision's dropout before the
/// classifier is left out.
pub(super) fn mobilenet_v2(net: &mut Net, plan: &Plan) -> Result<Row, GraphError> {
    build(net, plan, &mobilenet())
}

/// EfficientNet-Lite0: no squeeze-and-excitation, ReLU6, TensorFlow's "SAME" padding, a stem and a head of fixed width.
pub(super) fn efficientnet_lite0(net: &mut Net, plan: &Plan) -> Result<Row, GraphError> {
    build(net, plan, &efficientnet())
}

fn build(net: &mut Net, plan: &Plan, family: &Family) -> Result<Row, GraphError> {
    let names = family.naming.modules(family.stages);
    let mut names = names.iter().map(String::as_str);
    let mut next = || names.next().unwrap_or_default();
    let square = |kernel, stride| Square { kernel, stride, padding: (family.padding)(kernel) };
    let mut unit = |net: &mut Net, x: Map, channels: usize, group: usize, square: Square| -> Result<Map, GraphError> {
        let x = net.conv(next(), x, channels, group, square)?;
        net.batch_norm(next(), x, family.epsilon)
    };

    let x = net.input(plan.input);
    let x = unit(net, x, divisible(32.0 * plan.width), 1, square(3, 2))?;
    let mut x = net.relu6("relu_stem", x);
    let mut index = 0;
    for stage in family.stages {
        let channels = divisible(stage.channels as f32 * plan.width);
        for i in 0..stage.repeats {
            let stride = if i == 0 { stage.stride } else { 1 };
            let part = |s: &str| format!("block{index}.{s}");
            let mut y = x;
            if stage.expand > 1 {
                y = unit(net, y, x.channels * stage.expand, 1, square(1, 1))?;
                y = net.relu6(&part("relu_expand"), y);
            }
            y = unit(net, y, y.channels, y.channels, square(stage.kernel, stride))?;
            y = net.relu6(&part("relu_depthwise"), y);
            y = unit(net, y, channels, 1, square(1, 1))?;
            let residual = stride == 1 && x.channels == channels;
            x = if residual { net.add(&part("add"), x, y) } else { y };
            index += 1;
        }
    }
    let x = unit(net, x, divisible(1280.0 * plan.width.max(1.0)), 1, square(1, 1))?;
    let x = net.relu6("relu_head", x);
    let y = net.global_average("avgpool", x);
    net.linear(next(), y, plan.classes, Then::Logits)
}

/// The nearest multiple of 8, at least 8 and not more than 10 % below `channels`.
fn divisible(channels: f32) -> usize {
    let nearest = ((channels + 4.0) / 8.0).floor() * 8.0;
    let nearest = nearest.max(8.0);
    (if nearest < 0.9 * channels { nearest + 8.0 } else { nearest }) as usize
}

/// The stages of an architecture of this family.
pub(crate) fn stages_of(architecture: &str) -> Option<&'static [Stage]> {
    match architecture {
        "mobilenet-v2" => Some(MOBILENET_V2),
        "efficientnet-lite0" => Some(EFFICIENTNET_LITE0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_round_to_eights_and_lose_no_more_than_a_tenth() {
        // 0.5·24 = 12 → 16; 0.35·32 = 11.2 → 8 is 29 % below → 16; 1.4·16 = 22.4 → 24; 0.1·32 = 3.2 → 8
        assert_eq!([12.0, 11.2, 22.4, 3.2, 1280.0].map(divisible), [16, 16, 24, 8, 1280]);
    }

    #[test]
    fn every_naming_names_the_same_modules() {
        for stages in [MOBILENET_V2, EFFICIENTNET_LITE0] {
            let counts = Naming::ALL.map(|naming| naming.modules(stages).len());
            assert_eq!(counts, [counts[0]; 3]);
        }
        let modules = Naming::Lukemelas.modules(EFFICIENTNET_LITE0);
        assert_eq!(
            modules[..8].join(" "),
            "_conv_stem _bn0 _blocks.0._depthwise_conv _blocks.0._bn1 _blocks.0._project_conv _blocks.0._bn2 _blocks.1._expand_conv _blocks.1._bn0"
        );
    }
}
