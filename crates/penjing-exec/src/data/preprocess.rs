//! From the samples of a file to the numbers that a model takes: stated, checked, kept with the model.

use std::fmt;
use std::fs;
use std::path::Path;

use penjing_graph::Graph;
use serde::{Deserialize, Deserializer, Serialize};

use super::image::{Filter, Planes};
use crate::ExecError;

/// No image that a model takes is larger; a file that asks for more is mistaken or hostile.
const LARGEST_SIDE: usize = 16_384;
const KEYS: [&str; 7] = ["resize", "filter", "crop", "channels", "scale", "mean", "std"];

/// Resize, centre crop, grey↔RGB, then (v · scale − mean) / std; each step only where it is given, always in this order.
///
/// As TOML, e.g. Fashion-MNIST for a network on 3×32×32:
/// ```toml
/// resize = [32, 32]   # height, width; one number: the shorter side
/// channels = 3        # 1 grey, 3 RGB
/// mean = 0.5          # one number, or one for each channel
/// std = 0.5
/// ```
/// `filter` is "bilinear" (the default) or "bicubic"; `crop` is a side or [height, width]. Without `scale`, 8-bit images are brought to 0..1 (1/255) and numbers stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// New size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// How the new size is computed.
    #[serde(skip_serializing_if = "is_default")]
    pub filter: Filter,
    /// Size of the part in the middle that is kept: [height, width].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub crop: Option<[usize; 2]>,
    /// 1 (grey) or 3 (RGB).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// What each number is multiplied with first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Subtracted after scaling: none, one for all, or one for each channel.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub mean: Vec<f32>,
    /// Divides last: none, one for all, or one for each channel.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub std: Vec<f32>,
}

/// A new size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Resize {
    /// Length of the shorter side; the other keeps the proportion, rounded down.
    Shorter(usize),
    /// [height, width].
    Exact([usize; 2]),
}

fn is_default(filter: &Filter) -> bool {
    *filter == Filter::default()
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<[usize; 2]>, D::Error> {
    Ok(Some(match Resize::deserialize(from)? {
        Resize::Shorter(side) => [side, side],
        Resize::Exact(size) => size,
    }))
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(f32),
        Many(Vec<f32>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(value) => vec![value],
        OneOrMany::Many(values) => values,
    })
}

impl Preprocess {
    /// Where a model keeps its preprocessing, as JSON.
    pub const METADATA_KEY: &str = "penjing.preprocess";

    /// ImageNet as torchvision's models take it: shorter side 256, crop 224, RGB, 0..1, then mean and deviation of the training set.
    pub fn imagenet() -> Preprocess {
        Preprocess {
            resize: Some(Resize::Shorter(256)),
            filter: Filter::Bilinear,
            crop: Some([224, 224]),
            channels: Some(3),
            scale: Some(1.0 / 255.0),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }

    /// ImageNet as TensorFlow's mobile models take it: shorter side 256 (bicubic), crop 224, RGB, (v − 127) / 128.
    pub fn tf() -> Preprocess {
        Preprocess {
            resize: Some(Resize::Shorter(256)),
            filter: Filter::Bicubic,
            crop: Some([224, 224]),
            channels: Some(3),
            scale: Some(1.0),
            mean: vec![127.0],
            std: vec![128.0],
        }
    }

    /// Numbers as the file holds them; 8-bit images stay 0..255.
    pub fn none() -> Preprocess {
        Preprocess { scale: Some(1.0), ..Preprocess::default() }
    }

    /// What `--preprocess` says: `imagenet`, `tf`, `none`, or a TOML file.
    ///
    /// # Errors
    /// When it is neither, or the file does not hold what [`Preprocess`] describes.
    pub fn from_option(option: &str) -> Result<Preprocess, ExecError> {
        match option {
            "imagenet" => Ok(Preprocess::imagenet()),
            "tf" => Ok(Preprocess::tf()),
            "none" => Ok(Preprocess::none()),
            file if Path::new(file).is_file() => {
                let path = Path::new(file);
                let text = fs::read_to_string(path).map_err(ExecError::reading(path))?;
                Preprocess::from_toml(&text).map_err(|reason| ExecError::data(path, reason))
            }
            other => Err(ExecError::Option(format!(
                "no preprocessing and no file is called `{other}` (hint: imagenet, tf, none, or a TOML file)"
            ))),
        }
    }

    /// Reads TOML; the error is a reason without the file's name.
    fn from_toml(text: &str) -> Result<Preprocess, String> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| format!("is no TOML: {}", e.message()))?;
        if let Some(key) = table.keys().find(|k| !KEYS.contains(&k.as_str())) {
            let hint = match nearest(key) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("there are {}", KEYS.join(", ")),
            };
            return Err(format!("unknown key `{key}` (hint: {hint})"));
        }
        let preprocess: Preprocess = table.try_into().map_err(|e: toml::de::Error| match e.message() {
            m if m.contains("untagged") => {
                "a size or number has the wrong form (hint: `resize = 256` or `resize = [32, 32]`, `mean = 0.5`)".into()
            }
            m => m.to_string(),
        })?;
        preprocess.check()?;
        Ok(preprocess)
    }

    /// What the model's metadata say, if they say anything.
    ///
    /// # Errors
    /// When the entry cannot be understood.
    pub fn from_metadata(graph: &Graph) -> Result<Option<Preprocess>, ExecError> {
        let Some(json) = graph.metadata(Preprocess::METADATA_KEY) else { return Ok(None) };
        let key = Preprocess::METADATA_KEY;
        let refused = |reason| ExecError::Option(format!("the model's metadata `{key}`: {reason} (hint: `--preprocess` overrides it)"));
        let preprocess: Preprocess = serde_json::from_str(json).map_err(|e| refused(e.to_string()))?;
        preprocess.check().map_err(refused)?;
        Ok(Some(preprocess))
    }

    /// The value of the metadata entry [`Preprocess::METADATA_KEY`].
    pub fn to_metadata(&self) -> String {
        serde_json::to_string(self).expect("numbers and lists are JSON")
    }

    /// Whether the settings mean anything, whatever the samples.
    pub(super) fn check(&self) -> Result<(), String> {
        let sides = match self.resize {
            Some(Resize::Shorter(side)) => vec![side],
            Some(Resize::Exact(size)) => size.to_vec(),
            None => vec![],
        };
        if let Some(side) = sides.iter().chain(self.crop.iter().flatten()).find(|s| !(1..=LARGEST_SIDE).contains(*s)) {
            return Err(format!("a side of {side} pixels (hint: from 1 to {LARGEST_SIDE})"));
        }
        if let Some(channels) = self.channels.filter(|c| ![1, 3].contains(c)) {
            return Err(format!("channels = {channels} (hint: 1 for grey, 3 for RGB)"));
        }
        if let Some(v) = self.scale.iter().chain(&self.mean).chain(&self.std).find(|v| !v.is_finite()) {
            return Err(format!("{v} among the numbers"));
        }
        if let Some(v) = self.std.iter().find(|v| **v <= 0.0) {
            return Err(format!("std = {v} (hint: a standard deviation is larger than 0)"));
        }
        Ok(())
    }

    /// The same with `scale` stated, so that it means the same for any file.
    pub(super) fn resolved(mut self, pixels: bool) -> Preprocess {
        self.scale.get_or_insert(if pixels { 1.0 / 255.0 } else { 1.0 });
        self
    }

    /// Whether it changes more than single numbers, and so needs images.
    pub(super) fn needs_images(&self) -> bool {
        self.resize.is_some() || self.crop.is_some() || self.channels.is_some() || self.mean.len() > 1 || self.std.len() > 1
    }

    /// Whether every image comes out in the same size.
    pub(super) fn fixes_size(&self) -> bool {
        self.crop.is_some() || matches!(self.resize, Some(Resize::Exact(_)))
    }

    /// [C, H, W] of an image afterwards; the error is a reason without the file's name.
    pub(super) fn image_shape(&self, [channels, height, width]: [usize; 3]) -> Result<[usize; 3], String> {
        self.check()?;
        let [h, w] = self.resized([height, width]);
        if h.max(w) > LARGEST_SIDE {
            return Err(format!("{height}×{width} pixels would become {h}×{w} (hint: give `resize` as [height, width])"));
        }
        if let Some([ch, cw]) = self.crop.filter(|[ch, cw]| *ch > h || *cw > w) {
            return Err(format!("a crop of {ch}×{cw} does not fit into {h}×{w} pixels (hint: add `resize` to the preprocessing)"));
        }
        if let Some(wanted) = self.channels.filter(|_| ![1, 3].contains(&channels)) {
            return Err(format!("{channels} channels cannot become {wanted}"));
        }
        let [h, w] = self.crop.unwrap_or([h, w]);
        let channels = self.channels.unwrap_or(channels);
        for (name, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() > 1 && list.len() != channels {
                return Err(format!("{name} has {} numbers for {channels} channels (hint: one for all, or add `channels`)", list.len()));
            }
        }
        Ok([channels, h, w])
    }

    fn resized(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        match self.resize {
            None => [height, width],
            Some(Resize::Exact(size)) => size,
            Some(Resize::Shorter(side)) if height <= width => [side, side * width / height],
            Some(Resize::Shorter(side)) => [side * height / width, side],
        }
    }

    /// All steps on one image whose size `image_shape` accepted.
    pub(super) fn apply(&self, image: Planes) -> Planes {
        let [h, w] = self.resized([image.height, image.width]);
        let mut image = image.resized(h, w, self.filter);
        if let Some([h, w]) = self.crop {
            image = image.cropped(h, w);
        }
        if let Some(channels) = self.channels {
            image = image.with_channels(channels);
        }
        let plane = image.height * image.width;
        for (channel, values) in image.values.chunks_exact_mut(plane).enumerate() {
            self.normalise(channel, values);
        }
        image
    }

    /// y = (v · scale − mean) / std.
    pub(super) fn normalise(&self, channel: usize, values: &mut [f32]) {
        let scale = self.scale.unwrap_or(1.0);
        let (mean, std) = (of_channel(&self.mean, channel).unwrap_or(0.0), of_channel(&self.std, channel).unwrap_or(1.0));
        if (scale, mean, std) != (1.0, 0.0, 1.0) {
            values.iter_mut().for_each(|v| *v = (*v * scale - mean) / std);
        }
    }
}

fn of_channel(list: &[f32], channel: usize) -> Option<f32> {
    list.get(channel).or(list.first()).copied()
}

fn list(values: &[f32]) -> String {
    match values {
        [one] => one.to_string(),
        several => format!("{several:?}"),
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = vec![];
        let by = match self.filter {
            Filter::Bilinear => "",
            Filter::Bicubic => " (bicubic)",
        };
        match self.resize {
            Some(Resize::Shorter(side)) => steps.push(format!("shorter side to {side}{by}")),
            Some(Resize::Exact([h, w])) => steps.push(format!("resize to {h}×{w}{by}")),
            None => {}
        }
        steps.extend(self.crop.map(|[h, w]| format!("crop the middle {h}×{w}")));
        steps.extend(self.channels.map(|c| if c == 1 { "to grey".to_string() } else { "to RGB".into() }));
        steps.extend(
            self.scale.filter(|s| *s != 1.0).map(|s| if s == 1.0 / 255.0 { "0..255 to 0..1".into() } else { format!("times {s}") }),
        );
        steps.extend((!self.mean.is_empty()).then(|| format!("minus {}", list(&self.mean))));
        steps.extend((!self.std.is_empty()).then(|| format!("divided by {}", list(&self.std))));
        f.write_str(&if steps.is_empty() { "none".into() } else { steps.join(", ") })
    }
}

/// The key that is at most two edits away (Levenshtein).
fn nearest(key: &str) -> Option<&'static str> {
    let distance = |known: &str| {
        let known: Vec<char> = known.chars().collect();
        let mut row: Vec<usize> = (0..=known.len()).collect();
        for (i, a) in key.chars().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in known.iter().enumerate() {
                let substituted = diagonal + usize::from(a != *b);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row[known.len()]
    };
    KEYS.into_iter().map(|k| (distance(k), k)).min().filter(|(d, _)| *d <= 2).map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_of_fashion_mnist() {
        let p = Preprocess::from_toml("resize = [32, 32]\nchannels = 3\nmean = 0.5\nstd = 0.5").map(|p| p.resolved(true));
        let p = p.unwrap_or_default();
        assert_eq!(p.image_shape([1, 28, 28]), Ok([3, 32, 32]));
        let white = p.apply(Planes { channels: 1, height: 28, width: 28, values: vec![255.0; 784], octets: true });
        assert_eq!((white.shape(), white.values.len()), ([3, 32, 32], 3072));
        assert!(white.values.iter().all(|v| (v - 1.0).abs() < 1e-5)); // (255/255 − 0.5) / 0.5
    }

    #[test]
    fn presets_by_hand() {
        let grey = |v: f32| Planes { channels: 1, height: 256, width: 256, values: vec![v; 65536], octets: true };
        let x = Preprocess::imagenet().apply(grey(255.0));
        assert_eq!(x.shape(), [3, 224, 224]);
        for (channel, expected) in [(0, (1.0 - 0.485) / 0.229), (1, (1.0 - 0.456) / 0.224), (2, (1.0 - 0.406) / 0.225)] {
            assert!((x.values[channel * 224 * 224] - expected).abs() < 1e-5);
        }
        assert_eq!(Preprocess::tf().apply(grey(255.0)).values[0], 1.0); // (255 − 127) / 128
        assert_eq!(Preprocess::none().apply(grey(255.0)).values[0], 255.0);
        assert_eq!(Preprocess::imagenet().image_shape([3, 375, 500]), Ok([3, 224, 224]));
        assert_eq!(Preprocess { crop: None, ..Preprocess::imagenet() }.image_shape([3, 375, 500]), Ok([3, 256, 341]));
    }

    #[test]
    fn mistakes_are_named() {
        let reason = |text: &str| Preprocess::from_toml(text).err().unwrap_or_default();
        assert_eq!(reason("resise = 3"), "unknown key `resise` (hint: did you mean `resize`?)");
        assert!(reason("colour = 3").contains("there are resize, filter, crop"));
        assert!(reason("filter = \"lanczos\"").contains("bicubic"));
        assert!(reason("channels = 2").contains("3 for RGB"));
        assert!(reason("std = 0.0").contains("larger than 0"));
        assert!(reason("crop = 0").contains("a side of 0"));
        assert!(reason("resize = \"big\"").contains("resize = 256"));
        assert!(reason("resize =").contains("no TOML"));
        let p = Preprocess { crop: Some([32, 32]), ..Preprocess::default() };
        assert!(p.image_shape([1, 28, 28]).is_err_and(|e| e.contains("does not fit into 28×28")));
        assert!(
            Preprocess { channels: None, ..Preprocess::imagenet() }
                .image_shape([1, 500, 500])
                .is_err_and(|e| e.contains("3 numbers for 1"))
        );
        assert!(Preprocess::from_option("imagnet").is_err_and(|e| e.to_string().contains("`imagnet`")));
    }

    #[test]
    fn a_wide_image_cannot_grow_without_bound() {
        let p = Preprocess { resize: Some(Resize::Shorter(256)), ..Preprocess::default() };
        assert!(p.image_shape([3, 1, 60_000]).is_err());
    }

    #[test]
    fn metadata_round_trip() -> Result<(), Box<dyn std::error::Error>> {
        for p in [Preprocess::imagenet(), Preprocess::tf(), Preprocess::none(), Preprocess::default()] {
            let graph = penjing_graph::GraphBuilder::new("g").metadata(Preprocess::METADATA_KEY, &p.to_metadata()).finish()?;
            assert_eq!(Preprocess::from_metadata(&graph)?, Some(p));
        }
        let graph = penjing_graph::GraphBuilder::new("g").metadata(Preprocess::METADATA_KEY, "{\"crop\": 99999999999}").finish()?;
        assert!(Preprocess::from_metadata(&graph).is_err_and(|e| e.to_string().contains("penjing.preprocess")));
        Ok(())
    }
}
