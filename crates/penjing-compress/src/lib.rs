//! Penjing.
