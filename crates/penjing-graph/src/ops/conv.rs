//! Convolutions.

use super::attributes::{AttributeList, Attributes, unexpected};
use super::{Op, Operator};
use crate::Dim;
use crate::channels::{Cut, Place, Ties};
use crate::infer::{Fact, Operands, meet, volume};

/// How implicit padding is chosen (`auto_pad`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoPad {
    /// `pads` counts.
    #[default]
    NotSet,
    /// Output = ceil(input / stride), the odd cell at the end.
    SameUpper,
    /// Output = ceil(input / stride), the odd cell at the beginning.
    SameLower,
    /// No padding.
    Valid,
}

/// A window that slides over the spatial axes, shared by convolutions and pools. Empty lists mean the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Cells along each spatial axis; empty: those of the weight.
    pub kernel: Vec<usize>,
    /// Steps along each spatial axis; empty: all 1.
    pub strides: Vec<usize>,
    /// Distance between cells along each spatial axis; empty: all 1.
    pub dilations: Vec<usize>,
    /// Cells added at the begin of every axis, then at the end of every axis; empty: all 0. Negative ones crop.
    pub pads: Vec<i64>,
    /// Overrides `pads` unless `NotSet`.
    pub auto_pad: AutoPad,
}

/// `Conv`: X [N, C, D1…], W [M, C/group, k1…], B [M]? → Y [N, M, …].
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The sliding window.
    pub window: Window,
    /// Channels are split into that many independent groups.
    pub group: usize,
}

/// `ConvTranspose`: X [N, C, D1…], W [C, M/group, k1…], B [M]? → Y [N, M, …].
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// The sliding window.
    pub window: Window,
    /// Channels are split into that many independent groups.
    pub group: usize,
    /// Cells added at the end of each output axis; empty: all 0.
    pub output_padding: Vec<usize>,
    /// Spatial shape of the output, from which the padding follows; empty: computed.
    pub output_shape: Vec<usize>,
}

/// Which inputs of a convolution are what.
#[derive(Clone, Copy)]
pub(super) struct ConvInputs {
    pub(super) weight: usize,
    pub(super) bias: Option<usize>,
    /// The code of X that stands for zero.
    pub(super) zero: Option<usize>,
}

impl ConvInputs {
    const FLOAT: ConvInputs = ConvInputs { weight: 1, bias: Some(2), zero: None };
}

/// A window along one spatial axis with every default filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Cells of the window.
    pub kernel: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Distance between cells.
    pub dilation: usize,
    /// Cells added before the input; negative ones crop.
    pub begin: i64,
    /// Cells added after the input; negative ones crop.
    pub end: i64,
    /// Number of windows.
    pub output: usize,
}

/// The fields of a [`Window`] along one axis, before `auto_pad` is resolved. Wide, so that nothing a file says overflows.
#[derive(Clone, Copy)]
struct Slide {
    kernel: i128,
    stride: i128,
    dilation: i128,
    begin: i128,
    end: i128,
}

impl Slide {
    /// Cells from the first to the last of the window.
    fn extent(self) -> i128 {
        (self.kernel - 1).saturating_mul(self.dilation).saturating_add(1)
    }
}

impl Window {
    pub(super) fn read(attributes: &mut Attributes<'_>, dilated: bool) -> Result<Window, String> {
        let window = Window {
            kernel: attributes.sizes("kernel_shape", 1)?,
            strides: attributes.sizes("strides", 1)?,
            dilations: if dilated { attributes.sizes("dilations", 1)? } else { vec![] },
            pads: attributes.ints("pads")?.unwrap_or_default(),
            auto_pad: match attributes.text("auto_pad", "NOTSET")? {
                "NOTSET" | "" => AutoPad::NotSet,
                "SAME_UPPER" => AutoPad::SameUpper,
                "SAME_LOWER" => AutoPad::SameLower,
                "VALID" => AutoPad::Valid,
                other => return Err(unexpected("auto_pad", other)),
            },
        };
        Ok(window)
    }

    pub(super) fn write(&self, attributes: &mut AttributeList) {
        let auto_pad = match self.auto_pad {
            AutoPad::NotSet => "NOTSET",
            AutoPad::SameUpper => "SAME_UPPER",
            AutoPad::SameLower => "SAME_LOWER",
            AutoPad::Valid => "VALID",
        };
        attributes.text("auto_pad", auto_pad, "NOTSET");
        attributes.sizes("dilations", &self.dilations);
        attributes.sizes("kernel_shape", &self.kernel);
        attributes.ints("pads", Some(&self.pads[..]).filter(|p| !p.is_empty()));
        attributes.sizes("strides", &self.strides);
    }

    /// The window along each axis of an input with spatial shape `input`. `kernel` is the weight's spatial shape, or this
    /// window's own where there is no weight.
    ///
    /// # Errors
    /// The reason why window and input do not fit.
    pub fn axes(&self, input: &[usize], kernel: &[usize], ceil_mode: bool) -> Result<Vec<WindowAxis>, String> {
        self.check(input.len())?;
        if kernel.len() != input.len() {
            return Err(format!("the kernel has {} spatial axes, the input {}", kernel.len(), input.len()));
        }
        (0..input.len()).map(|i| self.axis(i, input[i], kernel[i], ceil_mode)).collect()
    }

    /// Checks that every list is empty or fits `spatial` axes.
    fn check(&self, spatial: usize) -> Result<(), String> {
        let lists = [
            ("kernel_shape", self.kernel.len(), spatial),
            ("strides", self.strides.len(), spatial),
            ("dilations", self.dilations.len(), spatial),
            ("pads", self.pads.len(), 2 * spatial),
        ];
        if let Some((name, there, wanted)) = lists.iter().find(|(_, there, wanted)| *there != 0 && there != wanted) {
            return Err(format!("attribute `{name}` has {there} numbers but needs {wanted}"));
        }
        if self.kernel.iter().chain(&self.strides).chain(&self.dilations).any(|n| *n == 0) {
            return Err("kernel, strides and dilations must be at least 1".into());
        }
        Ok(())
    }

    fn slide(&self, axis: usize, spatial: usize, kernel: usize) -> Slide {
        let pad = |i: usize| self.pads.get(i).map_or(0, |p| i128::from(*p));
        let (begin, end) = match self.auto_pad {
            AutoPad::NotSet => (pad(axis), pad(spatial + axis)),
            AutoPad::SameUpper | AutoPad::SameLower | AutoPad::Valid => (0, 0),
        };
        Slide {
            kernel: kernel as i128,
            stride: self.strides.get(axis).map_or(1, |s| *s as i128),
            dilation: self.dilations.get(axis).map_or(1, |d| *d as i128),
            begin,
            end,
        }
    }

    fn spatial(&self) -> usize {
        self.pads.len() / 2
    }

    fn axis(&self, axis: usize, input: usize, kernel: usize, ceil_mode: bool) -> Result<WindowAxis, String> {
        if kernel == 0 {
            return Err("the kernel has no cells".into());
        }
        let mut slide = self.slide(axis, self.spatial(), kernel);
        let (extent, cells) = (slide.extent(), input as i128);
        let output = match self.auto_pad {
            AutoPad::NotSet | AutoPad::Valid => {
                let free = cells + slide.begin + slide.end - extent;
                if free < 0 {
                    return Err(format!("a window of {extent} cells is larger than the {} of the padded input", extent + free));
                }
                match free / slide.stride + 1 {
                    // A last window that starts in the padding at the end does not count.
                    n if ceil_mode && free % slide.stride != 0 && n * slide.stride < cells + slide.begin => n + 1,
                    n => n,
                }
            }
            AutoPad::SameUpper | AutoPad::SameLower => {
                let output = (cells + slide.stride - 1) / slide.stride;
                let total = ((output - 1).saturating_mul(slide.stride).saturating_add(extent) - cells).max(0);
                (slide.begin, slide.end) = halves(total, self.auto_pad == AutoPad::SameUpper);
                output
            }
        };
        slide.resolved(output)
    }

    /// Number of windows along each axis where `input` and `kernel` may be symbolic.
    pub(super) fn infer(&self, input: &[Dim], kernel: &[Dim], ceil_mode: bool) -> Result<Vec<Dim>, String> {
        self.check(input.len())?;
        (0..input.len())
            .map(|i| match (&input[i], kernel.get(i).and_then(Dim::fixed)) {
                (Dim::Fixed(cells), Some(kernel)) => self.axis(i, *cells, kernel, ceil_mode).map(|axis| Dim::Fixed(axis.output)),
                (dim, Some(kernel)) => {
                    let slide = self.slide(i, self.spatial(), kernel);
                    let same = match self.auto_pad {
                        AutoPad::NotSet | AutoPad::Valid => slide.begin + slide.end == slide.extent() - 1,
                        AutoPad::SameUpper | AutoPad::SameLower => true,
                    };
                    Ok(if same && slide.stride == 1 { dim.clone() } else { Dim::Unknown })
                }
                (_, None) => Ok(Dim::Unknown),
            })
            .collect()
    }
}

impl Slide {
    fn resolved(self, output: i128) -> Result<WindowAxis, String> {
        let too_large = |_| "the window is larger than this machine can address".to_string();
        Ok(WindowAxis {
            kernel: self.kernel.try_into().map_err(too_large)?,
            stride: self.stride.try_into().map_err(too_large)?,
            dilation: self.dilation.try_into().map_err(too_large)?,
            begin: self.begin.try_into().map_err(too_large)?,
            end: self.end.try_into().map_err(too_large)?,
            output: output.try_into().map_err(too_large)?,
        })
    }
}

/// `total` cells before and after; `upper` puts the odd one after.
fn halves(total: i128, upper: bool) -> (i128, i128) {
    let small = total / 2;
    if upper { (small, total - small) } else { (total - small, small) }
}

/// Spatial shape of the kernel: what weight and attribute say together.
fn kernel(weight: Option<&[Dim]>, window: &Window, spatial: usize) -> Result<Vec<Dim>, String> {
    let declared =
        if window.kernel.is_empty() { vec![Dim::Unknown; spatial] } else { window.kernel.iter().map(|k| Dim::Fixed(*k)).collect() };
    let Some(weight) = weight else { return Ok(declared) };
    if weight.len() != spatial + 2 || declared.len() != spatial {
        return Err(format!("the weight has {} dimensions but the input {}", weight.len(), spatial + 2));
    }
    let met = declared.iter().zip(&weight[2..]).map(|(a, b)| meet(a, b)).collect::<Option<Vec<Dim>>>();
    met.ok_or_else(|| "attribute `kernel_shape` is not the weight's".into())
}

/// Checks X [N, C, D1…] and gives its shape; `None` where the rank is unknown.
pub(super) fn spatial_input<'a>(inputs: &Operands<'a>) -> Result<Option<&'a [Dim]>, String> {
    match inputs.shape(0) {
        Some(shape) if shape.len() < 3 => Err(format!("the input has {} dimensions but needs at least 3", shape.len())),
        shape => Ok(shape),
    }
}

/// Checks that channels can be split into `group` groups.
fn check_group(channels: &Dim, group: usize) -> Result<(), String> {
    match channels.fixed() {
        _ if group == 0 => Err("the number of groups is 0".into()),
        Some(n) if n % group != 0 => Err(format!("{n} channels cannot be split into {group} groups")),
        Some(_) | None => Ok(()),
    }
}

/// Checks that input `bias` holds one number for each of `channels`.
fn check_bias(inputs: &Operands<'_>, bias: usize, channels: &Dim) -> Result<(), String> {
    match inputs.shape(bias) {
        Some([bias]) if bias.compatible(channels) => Ok(()),
        Some([bias]) => Err(format!("the bias has {bias} numbers, the output {channels} channels")),
        Some(shape) => Err(format!("the bias has {} dimensions but needs 1", shape.len())),
        None => Ok(()),
    }
}

/// Samples go through, the window slides over the axes behind the channels, B goes with the output's channels.
fn couple_window(ties: &mut Ties<'_>, at: ConvInputs) {
    ties.same(Place::In(0, 0), Place::Out(0, 0));
    if let Some(bias) = at.bias {
        ties.same(Place::In(bias, 0), Place::Out(0, 1));
    }
    for axis in 2..ties.shape(0).len() {
        for place in [Place::In(0, axis), Place::In(at.weight, axis), Place::Out(0, axis)] {
            ties.stays(place, "a window slides over it");
        }
    }
}

/// Channels of the input and of the output in each of `group` groups.
fn channels_per_group(ties: &Ties<'_>, group: usize) -> Result<(usize, usize), String> {
    let channels = |shape: &[Dim]| shape.get(1).and_then(Dim::fixed).filter(|n| n % group.max(1) == 0);
    let known = channels(ties.shape(0)).zip(channels(ties.output_shape(0)));
    let (read, given) = known.ok_or("its number of channels is not known")?;
    Ok((read / group.max(1), given / group.max(1)))
}

/// Ties channels of group `i` of input 0, of `weight` and of output 0, so that a group goes as a whole.
fn tie_whole_groups(ties: &mut Ties<'_>, group: usize, (read, given): (usize, usize), weight: (Place, usize)) {
    for i in 0..group {
        let first = (Place::In(0, 1), i * read);
        let mut tie = |place: Place, position: usize| ties.tie(first.0, first.1, place, position);
        (1..read).for_each(|j| tie(Place::In(0, 1), i * read + j));
        (0..given).for_each(|j| tie(Place::Out(0, 1), i * given + j));
        (0..weight.1).for_each(|j| tie(weight.0, i * weight.1 + j));
    }
}

impl Operator for Conv {
    const NAMES: &'static [(&'static str, i64)] = &[("Conv", 1)];

    fn name(&self) -> &'static str {
        "Conv"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<Conv, String> {
        Conv::read_attributes(attributes)
    }

    fn write(&self, attributes: &mut AttributeList) {
        self.write_attributes(attributes);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 3)?;
        let dtype = inputs.common_type(0..3)?;
        Ok(vec![Fact::new(dtype, self.output(inputs, ConvInputs::FLOAT)?)])
    }

    fn macs(&self, inputs: &Operands<'_>, output: &[Dim]) -> Option<u64> {
        conv_macs(inputs, ConvInputs::FLOAT, output)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        self.couple_inputs(ties, ConvInputs::FLOAT)
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        Ok(self.without_channels(cut, ConvInputs::FLOAT)?.into())
    }
}

/// Every output cell reads C/group · k1 · … cells.
pub(super) fn conv_macs(inputs: &Operands<'_>, at: ConvInputs, output: &[Dim]) -> Option<u64> {
    count(output)?.checked_mul(count(inputs.shape(at.weight)?.get(1..)?)?)
}

impl Conv {
    pub(super) fn read_attributes(attributes: &mut Attributes<'_>) -> Result<Conv, String> {
        Ok(Conv { window: Window::read(attributes, true)?, group: attributes.count("group", 1)? })
    }

    pub(super) fn write_attributes(&self, attributes: &mut AttributeList) {
        self.window.write(attributes);
        attributes.int("group", self.group as i64, 1);
    }

    /// Shape of the output; `None` where not even its rank is known.
    pub(super) fn output(&self, inputs: &Operands<'_>, at: ConvInputs) -> Result<Option<Vec<Dim>>, String> {
        let weight = inputs.shape(at.weight);
        let Some(x) = spatial_input(inputs)? else { return Ok(None) };
        let kernel = kernel(weight, &self.window, x.len() - 2)?;
        let mut channels = Dim::Unknown;
        if let Some(w) = weight {
            let read = w[1].times(&self.group.into());
            if !read.compatible(&x[1]) {
                return Err(format!("the weight reads {read} channels in {} groups, the input has {}", self.group, x[1]));
            }
            channels = w[0].clone();
        }
        check_group(&channels, self.group)?;
        if let Some(bias) = at.bias {
            check_bias(inputs, bias, &channels)?;
        }
        let mut shape = vec![x[0].clone(), channels];
        shape.extend(self.window.infer(&x[2..], &kernel, false)?);
        Ok(Some(shape))
    }

    pub(super) fn couple_inputs(&self, ties: &mut Ties<'_>, at: ConvInputs) -> Result<(), String> {
        let weight = at.weight;
        couple_window(ties, at);
        if self.group == 1 {
            ties.same(Place::In(weight, 0), Place::Out(0, 1));
            ties.contracted_codes((0, 1), (weight, 1), at.zero);
            return Ok(());
        }
        let (read, given) = channels_per_group(ties, self.group)?;
        ties.summed_codes(0, 1, at.zero);
        if self.group >= read.min(given) {
            tie_whole_groups(ties, self.group, (read, given), (Place::In(weight, 0), given));
            ties.stays(Place::In(weight, 1), "all groups read as many channels");
            return Ok(());
        }
        // Few groups of many channels: each loses the same ones.
        for i in 0..self.group {
            (0..read).for_each(|j| ties.tie(Place::In(weight, 1), j, Place::In(0, 1), i * read + j));
            for j in 0..given {
                ties.tie(Place::Out(0, 1), j, Place::Out(0, 1), i * given + j);
                ties.tie(Place::Out(0, 1), j, Place::In(weight, 0), i * given + j);
            }
        }
        ties.depth(Place::In(weight, 1));
        Ok(())
    }

    /// The convolution in as many groups as are left.
    pub(super) fn without_channels(&self, cut: &Cut<'_>, at: ConvInputs) -> Result<Conv, String> {
        let (channels, read) = cut.size(0, 1).zip(cut.size(at.weight, 1)).ok_or("its number of channels is not known")?;
        Ok(Conv { group: channels / read, ..self.clone() })
    }
}

/// Elements of a shape with every symbol counted as 1; `None` where something is unknown.
pub(crate) fn count(shape: &[Dim]) -> Option<u64> {
    match volume(shape) {
        Dim::Fixed(n) | Dim::Symbolic { factor: n, .. } => Some(n as u64),
        Dim::Unknown => None,
    }
}

impl ConvTranspose {
    /// The window along each axis: one input cell is spread over `kernel` output cells; `begin` and `end` crop the output.
    ///
    /// # Errors
    /// The reason why window and input do not fit.
    pub fn axes(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<WindowAxis>, String> {
        self.check(input.len())?;
        if kernel.len() != input.len() {
            return Err(format!("the kernel has {} spatial axes, the input {}", kernel.len(), input.len()));
        }
        (0..input.len()).map(|i| self.axis(i, input[i], kernel[i])).collect()
    }

    fn check(&self, spatial: usize) -> Result<(), String> {
        self.window.check(spatial)?;
        for (name, list) in [("output_padding", &self.output_padding), ("output_shape", &self.output_shape)] {
            if !list.is_empty() && list.len() != spatial {
                return Err(format!("attribute `{name}` has {} numbers but needs {spatial}", list.len()));
            }
        }
        Ok(())
    }

    fn axis(&self, axis: usize, input: usize, kernel: usize) -> Result<WindowAxis, String> {
        if kernel == 0 {
            return Err("the kernel has no cells".into());
        }
        let mut slide = self.window.slide(axis, self.window.spatial(), kernel);
        let added = self.output_padding.get(axis).map_or(0, |p| *p as i128);
        let spread = (input as i128 - 1).saturating_mul(slide.stride).saturating_add(slide.extent()).saturating_add(added);
        let asked = match (self.output_shape.get(axis), self.window.auto_pad) {
            (Some(n), _) => Some(*n as i128),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => Some((input as i128).saturating_mul(slide.stride)),
            (None, AutoPad::NotSet | AutoPad::Valid) => None,
        };
        if let Some(output) = asked {
            (slide.begin, slide.end) = halves((spread - output).max(0), self.window.auto_pad == AutoPad::SameUpper);
        }
        let output = asked.unwrap_or_else(|| spread.saturating_sub(slide.begin).saturating_sub(slide.end));
        if output < 1 {
            return Err(format!("{spread} output cells are cropped to {output}"));
        }
        slide.resolved(output)
    }
}

impl Operator for ConvTranspose {
    const NAMES: &'static [(&'static str, i64)] = &[("ConvTranspose", 1)];

    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn read(_: &str, attributes: &mut Attributes<'_>) -> Result<ConvTranspose, String> {
        Ok(ConvTranspose {
            window: Window::read(attributes, true)?,
            group: attributes.count("group", 1)?,
            output_padding: attributes.sizes("output_padding", 0)?,
            output_shape: attributes.sizes("output_shape", 1)?,
        })
    }

    fn write(&self, attributes: &mut AttributeList) {
        self.window.write(attributes);
        attributes.int("group", self.group as i64, 1);
        attributes.sizes("output_padding", &self.output_padding);
        attributes.sizes("output_shape", &self.output_shape);
    }

    fn infer(&self, inputs: &Operands<'_>) -> Result<Vec<Fact>, String> {
        inputs.count(2, 3)?;
        let dtype = inputs.common_type(0..3)?;
        let weight = inputs.shape(1);
        let Some(x) = spatial_input(inputs)? else { return Ok(vec![Fact::new(dtype, None)]) };
        self.check(x.len() - 2)?;
        let kernel = kernel(weight, &self.window, x.len() - 2)?;
        let mut channels = Dim::Unknown;
        check_group(&x[1], self.group)?;
        if let Some(w) = weight {
            if !w[0].compatible(&x[1]) {
                return Err(format!("the weight reads {} channels, the input has {}", w[0], x[1]));
            }
            channels = w[1].times(&self.group.into());
        }
        check_bias(inputs, 2, &channels)?;
        let mut shape = vec![x[0].clone(), channels];
        for (i, (cells, kernel)) in x[2..].iter().zip(&kernel).enumerate() {
            shape.push(match (cells, kernel, self.output_shape.get(i)) {
                (_, _, Some(n)) => Dim::Fixed(*n),
                (Dim::Fixed(cells), Dim::Fixed(kernel), None) => Dim::Fixed(self.axis(i, *cells, *kernel)?.output),
                _ => Dim::Unknown,
            });
        }
        Ok(vec![Fact::new(dtype, Some(shape))])
    }

    fn macs(&self, inputs: &Operands<'_>, _: &[Dim]) -> Option<u64> {
        // Every input cell is spread over M/group · k1 · … cells.
        count(inputs.shape(0)?)?.checked_mul(count(inputs.shape(1)?.get(1..)?)?)
    }

    fn couple(&self, ties: &mut Ties<'_>) -> Result<(), String> {
        couple_window(ties, ConvInputs::FLOAT);
        if self.group == 1 {
            ties.same(Place::In(1, 1), Place::Out(0, 1));
            ties.contracted((0, 1), (1, 0));
            return Ok(());
        }
        let (read, given) = channels_per_group(ties, self.group)?;
        tie_whole_groups(ties, self.group, (read, given), (Place::In(1, 0), read));
        ties.summed(0, 1);
        ties.stays(Place::In(1, 1), "all groups give as many channels");
        Ok(())
    }

    fn cut(&self, cut: &mut Cut<'_>) -> Result<Op, String> {
        let (channels, given) = cut.output_size(0, 1).zip(cut.size(1, 1)).ok_or("its number of channels is not known")?;
        Ok(ConvTranspose { group: channels / given, ..self.clone() }.into())
    }
}
