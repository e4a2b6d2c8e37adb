//! Penjing.
fn main() {}
