//! One file a command.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod inspect;
pub(crate) mod new;
pub(crate) mod prune;
pub(crate) mod quantize;
pub(crate) mod train;
