//! Trained weights from files of other libraries: safetensors and PyTorch's state dicts.
//!
//! Pickles are run by a machine that can build tensors and plain values only: a file that wants anything else is
//! refused, with what it wants.

mod apply;
mod pickle;
mod safetensors;
mod torch;
mod view;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

pub use apply::apply;

use crate::{GraphError, Tensor};

/// Tensors by name.
pub type StateDict = BTreeMap<String, Tensor>;

/// Reads a `.safetensors` file or a state dict that `torch.save` wrote (`.pth`, `.pt`, `.bin`, of any version). What it
/// is follows from its first octets, not from its name. Tensors whose elements lie in order share the file's bytes.
///
/// # Errors
/// When the file cannot be read, is damaged, or holds anything but tensors.
pub fn load(path: &Path) -> Result<StateDict, GraphError> {
    let file = std::fs::read(path).map_err(|source| GraphError::Io { action: "read", path: path.into(), source })?;
    parse(&Bytes::from(file)).map_err(|reason| GraphError::Weights { reason: format!("cannot load `{}`: {reason}", path.display()) })
}

/// The state dict in the bytes of a file.
fn parse(file: &Bytes) -> Result<StateDict, String> {
    match &file[..] {
        [b'P', b'K', 3, 4, ..] => torch::from_zip(file),
        [0x80, 0..=5, ..] => torch::from_pickles(file),
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::from_safetensors(file),
        _ => Err("it is neither a .safetensors file nor one that torch.save wrote".into()),
    }
}
