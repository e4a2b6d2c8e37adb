//! What the libraries that publish weights call the modules of an inverted residual network.

use super::inverted_residual::Stage;

/// Whose names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// torchvision: `features.1.conv.0.0`.
    Torchvision,
    /// timm: `blocks.0.0.conv_dw`.
    Timm,
    /// lukemelas' EfficientNet-PyTorch: `_blocks.0._depthwise_conv`.
    Lukemelas,
}

impl Naming {
    /// Every naming.
    pub(crate) const ALL: [Naming; 3] = [Naming::Torchvision, Naming::Timm, Naming::Lukemelas];

    /// Modules with parameters in the order in which they run: stem, blocks, head, each as convolutions with their
    /// normalisations, then the classifier. Each naming gives as many for the same stages.
    pub(crate) fn modules(self, stages: &[Stage]) -> Vec<String> {
        let (stem, head, classifier) = match self {
            Naming::Torchvision => {
                let last = stages.iter().map(|s| s.repeats).sum::<usize>() + 1;
                (["features.0.0", "features.0.1"], [format!("features.{last}.0"), format!("features.{last}.1")], "classifier.1")
            }
            Naming::Timm => (["conv_stem", "bn1"], ["conv_head".into(), "bn2".into()], "classifier"),
            Naming::Lukemelas => (["_conv_stem", "_bn0"], ["_conv_head".into(), "_bn1".into()], "_fc"),
        };
        let mut modules: Vec<String> = stem.map(String::from).into();
        let mut index = 0;
        for (s, stage) in stages.iter().enumerate() {
            for i in 0..stage.repeats {
                let block = match self {
                    Naming::Torchvision => format!("features.{}.conv", index + 1),
                    Naming::Timm => format!("blocks.{s}.{i}"),
                    Naming::Lukemelas => format!("_blocks.{index}"),
                };
                modules.extend(self.parts(stage.expand > 1).iter().map(|part| format!("{block}.{part}")));
                index += 1;
            }
        }
        modules.extend(head);
        modules.push(classifier.into());
        modules
    }

    /// Modules of one block.
    fn parts(self, expands: bool) -> &'static [&'static str] {
        match (self, expands) {
            (Naming::Torchvision, true) => &["0.0", "0.1", "1.0", "1.1", "2", "3"],
            (Naming::Torchvision, false) => &["0.0", "0.1", "1", "2"],
            (Naming::Timm, true) => &["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"],
            (Naming::Timm, false) => &["conv_dw", "bn1", "conv_pw", "bn2"],
            (Naming::Lukemelas, true) => &["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"],
            (Naming::Lukemelas, false) => &["_depthwise_conv", "_bn1", "_project_conv", "_bn2"],
        }
    }
}
