//! The small convolutional network that tutorials train on CIFAR-10.

use super::Plan;
use super::net::{Net, Padding, Row, Square, Then};
use crate::GraphError;

/// Two 5x5 convolutions of 6 and 16 channels, each with a rectifier and a pool, then layers of 120 and 84.
pub(super) fn convnet_cifar(net: &mut Net, plan: &Plan) -> Result<Row, GraphError> {
    let mut x = net.input(plan.input);
    for (i, channels) in [6, 16].into_iter().enumerate() {
        x = net.conv_bias(&format!("conv{}", i + 1), x, channels, Square { kernel: 5, stride: 1, padding: Padding::Cells(0) })?;
        x = net.relu(&format!("relu{}", i + 1), x);
        x = net.max_pool(&format!("pool{}", i + 1), x, Square { kernel: 2, stride: 2, padding: Padding::Cells(0) })?;
    }
    let mut y = net.flatten("flatten", x);
    for (i, features) in [120, 84].into_iter().enumerate() {
        y = net.linear(&format!("fc{}", i + 1), y, features, Then::Relu)?;
        y = net.relu_row(&format!("relu{}", i + 3), y);
    }
    net.linear("fc3", y, plan.classes, Then::Logits)
}
