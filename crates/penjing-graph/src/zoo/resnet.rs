//! Residual networks (He et al., arXiv:1512.03385), for CIFAR and for ImageNet.

use super::Plan;
use super::net::{Map, Net, Padding, Row, Square, Then};
use crate::GraphError;

const EPSILON: f32 = 1e-5;

/// A 3x3 window that keeps the sides, or halves them at stride 2.
fn three(stride: usize) -> Square {
    Square { kernel: 3, stride, padding: Padding::Cells(1) }
}

fn one(stride: usize) -> Square {
    Square { kernel: 1, stride, padding: Padding::Cells(0) }
}

/// Convolution and batch normalisation.
fn conv_norm(net: &mut Net, conv: &str, norm: &str, x: Map, channels: usize, square: Square) -> Result<Map, GraphError> {
    let x = net.conv(conv, x, channels, 1, square)?;
    net.batch_norm(norm, x, EPSILON)
}

/// How a block brings its input to the shape of its output.
#[derive(Clone, Copy)]
enum Shortcut {
    /// Every second cell, and channels of zeros: no parameters (option A of the paper).
    Pad,
    /// A 1x1 convolution (option B).
    Project,
}

impl Shortcut {
    fn apply(self, net: &mut Net, name: &str, x: Map, channels: usize, stride: usize) -> Result<Map, GraphError> {
        if stride == 1 && x.channels == channels {
            return Ok(x);
        }
        match self {
            Shortcut::Pad => {
                let halved = net.subsample(&format!("{name}.shortcut.subsample"), x);
                Ok(net.pad_channels(&format!("{name}.shortcut.pad"), halved, channels))
            }
            Shortcut::Project => {
                let [conv, norm] = [0, 1].map(|i| format!("{name}.downsample.{i}"));
                conv_norm(net, &conv, &norm, x, channels, one(stride))
            }
        }
    }
}

/// 3x3, 3x3.
fn basic(net: &mut Net, name: &str, x: Map, channels: usize, stride: usize, shortcut: Shortcut) -> Result<Map, GraphError> {
    let part = |s: &str| format!("{name}.{s}");
    let y = conv_norm(net, &part("conv1"), &part("bn1"), x, channels, three(stride))?;
    let y = net.relu(&part("relu1"), y);
    let y = conv_norm(net, &part("conv2"), &part("bn2"), y, channels, three(1))?;
    let x = shortcut.apply(net, name, x, channels, stride)?;
    let y = net.add(&part("add"), y, x);
    Ok(net.relu(&part("relu2"), y))
}

/// 1x1, 3x3, 1x1 with four times the channels; the stride is in the 3x3, as in torchvision.
fn bottleneck(net: &mut Net, name: &str, x: Map, channels: usize, stride: usize) -> Result<Map, GraphError> {
    let part = |s: &str| format!("{name}.{s}");
    let y = conv_norm(net, &part("conv1"), &part("bn1"), x, channels, one(1))?;
    let y = net.relu(&part("relu1"), y);
    let y = conv_norm(net, &part("conv2"), &part("bn2"), y, channels, three(stride))?;
    let y = net.relu(&part("relu2"), y);
    let y = conv_norm(net, &part("conv3"), &part("bn3"), y, 4 * channels, one(1))?;
    let x = Shortcut::Project.apply(net, name, x, 4 * channels, stride)?;
    let y = net.add(&part("add"), y, x);
    Ok(net.relu(&part("relu3"), y))
}

/// Three stages of `blocks` basic blocks with 16, 32 and 64 channels: 6·blocks + 2 layers.
pub(super) fn cifar(net: &mut Net, plan: &Plan, blocks: usize) -> Result<Row, GraphError> {
    let x = net.input(plan.input);
    let x = conv_norm(net, "conv1", "bn1", x, 16, three(1))?;
    let mut x = net.relu("relu", x);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic(net, &format!("layer{}.{block}", stage + 1), x, channels, stride, Shortcut::Pad)?;
        }
    }
    let y = net.global_average("avgpool", x);
    net.linear("fc", y, plan.classes, Then::Logits)
}

/// Which block an ImageNet network repeats.
#[derive(Clone, Copy)]
pub(super) enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// A 3x3 convolution between two 1x1.
    Bottleneck,
}

/// Four stages with 64, 128, 256 and 512 channels behind a 7x7 convolution and a pool. Every window is padded, so that
/// a small input is taken as well; its last maps are then single cells.
pub(super) fn imagenet(net: &mut Net, plan: &Plan, block: Block, repeats: [usize; 4]) -> Result<Row, GraphError> {
    let x = net.input(plan.input);
    let x = conv_norm(net, "conv1", "bn1", x, 64, Square { kernel: 7, stride: 2, padding: Padding::Cells(3) })?;
    let x = net.relu("relu", x);
    let mut x = net.max_pool("maxpool", x, three(2))?;
    for (stage, (channels, repeats)) in [64, 128, 256, 512].into_iter().zip(repeats).enumerate() {
        for i in 0..repeats {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let name = format!("layer{}.{i}", stage + 1);
            x = match block {
                Block::Basic => basic(net, &name, x, channels, stride, Shortcut::Project)?,
                Block::Bottleneck => bottleneck(net, &name, x, channels, stride)?,
            };
        }
    }
    let y = net.global_average("avgpool", x);
    net.linear("fc", y, plan.classes, Then::Logits)
}
