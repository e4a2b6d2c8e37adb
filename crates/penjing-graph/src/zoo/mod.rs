//! Architectures built from nothing, with Kaiming-initialised weights.
//!
//! Every network has one input `input` [N, C, H, W] and one output `logits` [N, classes]. Modules and weights carry the
//! names of the library whose weights are the usual ones (torchvision's; timm's for EfficientNet-Lite), so that a
//! state dict can be applied by name. Convolutions that a normalisation follows draw from N(0, 2 / fan_out), with
//! fan_out of one group; layers that a rectifier follows from N(0, 2 / fan_in) (He et al., arXiv:1502.01852); the last
//! layer is uniform in ±1/√fan_in, PyTorch's default. Equal options give equal bytes on every machine.

mod convnet;
mod init;
pub(crate) mod inverted_residual;
mod lenet;
pub(crate) mod naming;
mod net;
mod resnet;

use crate::{Graph, GraphError};
use net::{Net, Row};
use resnet::Block;

/// What a caller may ask of an architecture; `None` is its own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZooOptions {
    /// Number of classes, at least 1.
    pub classes: Option<usize>,
    /// Channels, height and width of the input.
    pub input: Option<[usize; 3]>,
    /// Factor of the channel counts, above 0 and at most 100, for the architectures that have one.
    pub width: Option<f32>,
    /// Seed of the initial weights.
    pub seed: u64,
}

/// One network of the zoo.
#[derive(Debug)]
pub struct Architecture {
    /// Name, as in `penjing new NAME`; also that of the graph.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Channels, height and width of its input unless asked otherwise.
    pub input: [usize; 3],
    /// Classes unless asked otherwise.
    pub classes: usize,
    /// Whether it takes a width.
    pub scalable: bool,
    build: fn(&mut Net, &Plan) -> Result<Row, GraphError>,
}

/// Options with the architecture's defaults filled in.
struct Plan {
    classes: usize,
    input: [usize; 3],
    width: f32,
}

const MNIST: [usize; 3] = [1, 28, 28];
const CIFAR: [usize; 3] = [3, 32, 32];
const IMAGENET: [usize; 3] = [3, 224, 224];

/// Every architecture, small ones first.
pub const ALL: &[Architecture] = &[
    Architecture {
        name: "lenet-300-100",
        about: "perceptron with layers of 300 and 100 for MNIST (266,610 parameters)",
        input: MNIST,
        classes: 10,
        scalable: false,
        build: lenet::lenet_300_100,
    },
    Architecture {
        name: "lenet-5",
        about: "two convolutions and two linear layers for MNIST, Caffe's variant (431,080 parameters)",
        input: MNIST,
        classes: 10,
        scalable: false,
        build: lenet::lenet_5,
    },
    Architecture {
        name: "convnet-cifar",
        about: "two convolutions and three linear layers for CIFAR-10 (62,006 parameters)",
        input: CIFAR,
        classes: 10,
        scalable: false,
        build: convnet::convnet_cifar,
    },
    Architecture {
        name: "resnet-20",
        about: "residual network of 20 layers for CIFAR-10 (269,722 parameters)",
        input: CIFAR,
        classes: 10,
        scalable: false,
        build: |net, plan| resnet::cifar(net, plan, 3),
    },
    Architecture {
        name: "resnet-32",
        about: "residual network of 32 layers for CIFAR-10 (464,154 parameters)",
        input: CIFAR,
        classes: 10,
        scalable: false,
        build: |net, plan| resnet::cifar(net, plan, 5),
    },
    Architecture {
        name: "resnet-56",
        about: "residual network of 56 layers for CIFAR-10 (853,018 parameters)",
        input: CIFAR,
        classes: 10,
        scalable: false,
        build: |net, plan| resnet::cifar(net, plan, 9),
    },
    Architecture {
        name: "resnet-18",
        about: "residual network of 18 layers for ImageNet (11,689,512 parameters)",
        input: IMAGENET,
        classes: 1000,
        scalable: false,
        build: |net, plan| resnet::imagenet(net, plan, Block::Basic, [2, 2, 2, 2]),
    },
    Architecture {
        name: "resnet-50",
        about: "residual network of 50 layers for ImageNet, stride in the 3x3 (25,557,032 parameters)",
        input: IMAGENET,
        classes: 1000,
        scalable: false,
        build: |net, plan| resnet::imagenet(net, plan, Block::Bottleneck, [3, 4, 6, 3]),
    },
    Architecture {
        name: "mobilenet-v2",
        about: "inverted residual blocks for ImageNet, any width (3,504,872 parameters)",
        input: IMAGENET,
        classes: 1000,
        scalable: true,
        build: inverted_residual::mobilenet_v2,
    },
    Architecture {
        name: "efficientnet-lite0",
        about: "EfficientNet without squeeze-and-excitation for ImageNet (4,652,008 parameters)",
        input: IMAGENET,
        classes: 1000,
        scalable: false,
        build: inverted_residual::efficientnet_lite0,
    },
];

/// Largest side or channel count of an input.
const LARGEST_SIDE: usize = 1 << 16;
const LARGEST_WIDTH: f32 = 100.0;

/// The architecture called `name`, initialised.
///
/// # Errors
/// When there is none of that name, or it cannot take the options.
pub fn build(name: &str, options: &ZooOptions) -> Result<Graph, GraphError> {
    let architecture = find(name)?;
    let plan = architecture.plan(options)?;
    (architecture.build)(&mut Net::rehearsal(architecture.name), &plan)?;
    let mut net = Net::new(architecture.name, options.seed);
    let logits = (architecture.build)(&mut net, &plan)?;
    net.finish(logits)
}

/// The architecture called `name`.
///
/// # Errors
/// When there is none; the error lists those that there are, the nearest first.
pub fn find(name: &str) -> Result<&'static Architecture, GraphError> {
    ALL.iter().find(|a| a.name == name).ok_or_else(|| {
        let all: Vec<&str> = ALL.iter().map(|a| a.name).collect();
        let near: Vec<String> = nearest(name).iter().map(|n| format!("`{n}`")).collect();
        let meant = if near.is_empty() { String::new() } else { format!("did you mean {}? ", near.join(" or ")) };
        GraphError::Architecture { reason: format!("there is no architecture `{name}` (hint: {meant}there are {})", all.join(", ")) }
    })
}

impl Architecture {
    fn plan(&self, options: &ZooOptions) -> Result<Plan, GraphError> {
        let refused = |reason: String| Err(GraphError::Architecture { reason });
        let input = options.input.unwrap_or(self.input);
        let classes = options.classes.unwrap_or(self.classes);
        let width = options.width.unwrap_or(1.0);
        if classes == 0 {
            return refused(format!("`{}` needs at least one class (hint: --classes {})", self.name, self.classes));
        }
        if input.iter().any(|side| !(1..=LARGEST_SIDE).contains(side)) {
            let [c, h, w] = self.input;
            return refused(format!(
                "the input of `{}` cannot be {}x{}x{}: each must be 1 to {LARGEST_SIDE} (hint: --input {c}x{h}x{w}, channels first)",
                self.name, input[0], input[1], input[2]
            ));
        }
        if options.width.is_some() && !self.scalable {
            let others: Vec<&str> = ALL.iter().filter(|a| a.scalable).map(|a| a.name).collect();
            return refused(format!("`{}` has no width to choose (hint: leave out --width, or use {})", self.name, others.join(", ")));
        }
        if !(width > 0.0 && width <= LARGEST_WIDTH) {
            return refused(format!("the width of `{}` cannot be {width}: it must be above 0 and at most {LARGEST_WIDTH}", self.name));
        }
        Ok(Plan { classes, input, width })
    }
}

/// Names that differ from `name` in less than a third of their letters, the nearest first; case and dashes do not count.
fn nearest(name: &str) -> Vec<&'static str> {
    let letters = |s: &str| -> Vec<char> { s.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
    let wanted = letters(name);
    let mut near: Vec<(usize, &str)> = ALL
        .iter()
        .map(|a| (edit_distance(&wanted, &letters(a.name)), a.name))
        .filter(|(distance, candidate)| 3 * distance < candidate.len())
        .collect();
    near.sort();
    let best = near.first().map(|(distance, _)| *distance);
    near.into_iter().filter(|(distance, _)| Some(*distance) == best).map(|(_, candidate)| candidate).collect()
}

/// Letters to insert, remove or replace to get from one word to the other (Levenshtein).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_by_hand() {
        let distance = |a: &str, b: &str| edit_distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("kitten", "sitting"), 3); // k→s, e→i, +g
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn near_names_are_proposed() {
        assert_eq!(nearest("ResNet50"), ["resnet-50"]);
        assert_eq!(nearest("mobilenet"), ["mobilenet-v2"]);
        assert_eq!(nearest("resnet-19"), ["resnet-18"]);
        assert!(nearest("transformer").is_empty());
    }
}
