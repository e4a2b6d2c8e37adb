//! Penjing.

pub mod floor;
