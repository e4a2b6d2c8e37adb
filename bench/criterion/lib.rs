//! Ideas of crates that need Burn, taken by their paths: what is timed here needs nothing of it.

#[path = "../../crates/penjing-compress/src/prune/select.rs"]
pub mod select;
