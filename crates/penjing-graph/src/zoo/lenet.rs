//! LeNets for MNIST (LeCun et al. 1998), in the sizes that the pruning literature uses (Han et al. 2015).

use super::Plan;
use super::net::{Net, Padding, Row, Square, Then};
use crate::GraphError;

/// A perceptron with hidden layers of 300 and 100.
pub(super) fn lenet_300_100(net: &mut Net, plan: &Plan) -> Result<Row, GraphError> {
    let x = net.input(plan.input);
    let mut y = net.flatten("flatten", x);
    for (i, features) in [300, 100].into_iter().enumerate() {
        y = net.linear(&format!("fc{}", i + 1), y, features, Then::Relu)?;
        y = net.relu_row(&format!("relu{}", i + 1), y);
    }
    net.linear("fc3", y, plan.classes, Then::Logits)
}

/// Caffe's variant of LeNet-5: no activation between convolution and pooling.
pub(super) fn lenet_5(net: &mut Net, plan: &Plan) -> Result<Row, GraphError> {
    let mut x = net.input(plan.input);
    for (i, channels) in [20, 50].into_iter().enumerate() {
        x = net.conv_bias(&format!("conv{}", i + 1), x, channels, Square { kernel: 5, stride: 1, padding: Padding::Cells(0) })?;
        x = net.max_pool(&format!("pool{}", i + 1), x, Square { kernel: 2, stride: 2, padding: Padding::Cells(0) })?;
    }
    let y = net.flatten("flatten", x);
    let y = net.linear("fc1", y, 500, Then::Relu)?;
    let y = net.relu_row("relu1", y);
    net.linear("fc2", y, plan.classes, Then::Logits)
}
