//! Matrix products.

/// `Gemm`: Y = alpha · A' · B' + beta · C, A' [M, K], B' [K, N], C broadcast to [M, N].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// A is given as [K, M].
    pub trans_a: bool,
    /// B is given as [N, K].
    pub trans_b: bool,
}

/// `MatMul`: numpy's `matmul`, [.., M, K] · [.., K, N] → [.., M, N], leading axes broadcast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatMul;
