//! Float tensors with the notation of mathematics: `dy * b.exp()`, broadcast as numpy does.

use std::ops::{Add, Div, Mul, Neg, Sub};

use burn_backend::tensor::{BoolTensor, FloatTensor, IndexingUpdateOp, IntTensor};
use burn_backend::{BoolDType, FloatDType, Scalar, Shape, TensorData, TensorMetadata};

use super::Kernels;
use super::device::{Arithmetic, Bounds, Function, Span};

/// A float tensor of run-time rank. Cloning counts a reference; arithmetic on an unshared one works in place.
#[derive(Debug)]
pub(crate) struct Float<B: Kernels>(pub(crate) FloatTensor<B>);

impl<B: Kernels> Clone for Float<B> {
    fn clone(&self) -> Self {
        Float(self.0.clone())
    }
}

/// Shape that both broadcast to, if there is one.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (m, n) if m == n => Some(m),
            (1, n) => Some(n),
            (m, 1) => Some(m),
            _ => None,
        })
        .collect()
}

/// `dims` with leading ones up to `rank`.
pub(crate) fn with_rank(dims: &[usize], rank: usize) -> Vec<usize> {
    let mut longer = vec![1; rank.saturating_sub(dims.len())];
    longer.extend(dims);
    longer
}

impl<B: Kernels> Float<B> {
    pub(crate) fn from_slice(values: &[f32], dims: &[usize], like: &Self) -> Self {
        let t = B::float_from_data(TensorData::new(values.to_vec(), Shape::from(dims.to_vec())), &like.0.device());
        Float(t).cast(like.dtype())
    }

    pub(crate) fn full(value: f32, dims: &[usize], like: &Self) -> Self {
        Float(B::float_full(Shape::from(dims.to_vec()), f64::from(value).into(), &like.0.device(), like.dtype()))
    }

    pub(crate) fn zeros_like(&self) -> Self {
        Self::full(0.0, &self.dims(), self)
    }

    pub(crate) fn dtype(&self) -> FloatDType {
        self.0.dtype().into()
    }

    pub(crate) fn cast(self, dtype: FloatDType) -> Self {
        if self.dtype() == dtype { self } else { Float(B::float_cast(self.0, dtype)) }
    }

    pub(crate) fn dims(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    pub(crate) fn rank(&self) -> usize {
        self.0.rank()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.shape().num_elements()
    }

    pub(crate) fn reshape(self, dims: &[usize]) -> Self {
        Float(B::float_reshape(self.0, Shape::from(dims.to_vec())))
    }

    /// Repeats axes of size 1, adds leading ones.
    pub(crate) fn expand(self, dims: &[usize]) -> Self {
        let aligned = with_rank(&self.dims(), dims.len());
        Float(B::float_expand(self.reshape(&aligned).0, Shape::from(dims.to_vec())))
    }

    pub(crate) fn permute(self, perm: &[usize]) -> Self {
        Float(B::float_permute(self.0, perm))
    }

    pub(crate) fn swap(self, a: usize, b: usize) -> Self {
        Float(B::float_swap_dims(self.0, a, b))
    }

    pub(crate) fn flip(self, axis: usize) -> Self {
        Float(B::float_flip(self.0, &[axis]))
    }

    /// A vector along `axis` of a tensor of `rank` axes.
    pub(crate) fn along(self, axis: usize, rank: usize) -> Self {
        let mut dims = vec![1; rank];
        dims[axis] = self.len();
        self.reshape(&dims)
    }

    /// What stands at the positions of every axis.
    pub(crate) fn cut(self, spans: &[Span]) -> Self {
        let whole = self.dims().iter().zip(spans).all(|(n, span)| span.count == *n && span.step == 1);
        if whole { self } else { Float(B::cut(self.0, spans)) }
    }

    /// A tensor of shape `dims` with this at the positions of every axis and `fill` elsewhere.
    pub(crate) fn place(self, dims: &[usize], spans: &[Span], fill: f32) -> Self {
        if self.dims() == dims { self } else { Float(B::place(self.0, dims, spans, fill)) }
    }

    /// Positions `start..start + length` of every axis.
    pub(crate) fn window(self, spans: &[(usize, usize)]) -> Self {
        self.cut(&spans.iter().map(|(start, count)| Span { start: *start, count: *count, step: 1 }).collect::<Vec<_>>())
    }

    /// Cells of `value` before and after every axis.
    pub(crate) fn pad(self, widths: &[(usize, usize)], value: f32) -> Self {
        let dims = self.dims();
        let padded: Vec<usize> = dims.iter().zip(widths).map(|(n, (before, after))| n + before + after).collect();
        let spans: Vec<Span> = dims.iter().zip(widths).map(|(n, (before, _))| Span { start: *before, count: *n, step: 1 }).collect();
        self.place(&padded, &spans, value)
    }

    pub(crate) fn concat(parts: Vec<Self>, axis: usize) -> Self {
        Float(B::concat(parts.into_iter().map(|p| p.0).collect(), axis))
    }

    /// Positions `index` of one axis.
    pub(crate) fn select(self, axis: usize, index: IntTensor<B>) -> Self {
        Float(B::float_select(self.0, axis, index))
    }

    /// The adjoint of [`Float::select`]: adds what stands at k to position index[k] of zeros of shape `dims`.
    pub(crate) fn unselect(self, dims: &[usize], axis: usize, index: IntTensor<B>) -> Self {
        let zeros = Self::full(0.0, dims, &self);
        Float(B::float_select_assign(zeros.0, axis, index, self.0, IndexingUpdateOp::Add))
    }

    /// Sum along `axes`, which stay with size 1.
    pub(crate) fn sum(self, axes: &[usize]) -> Self {
        let axes: std::collections::BTreeSet<_> = axes.iter().copied().collect();
        Float(<B as Kernels>::sum(self.0, &axes.into_iter().collect::<Vec<_>>()))
    }

    /// Mean along `axes`, which stay with size 1.
    pub(crate) fn mean(self, axes: &[usize]) -> Self {
        let n: usize = axes.iter().map(|axis| self.dims()[*axis]).product();
        self.sum(axes) * (1.0 / n as f32)
    }

    /// The adjoint of broadcasting: sums the axes along which a tensor of shape `dims` was repeated.
    pub(crate) fn sum_to(self, dims: &[usize]) -> Self {
        let from = self.dims();
        let aligned = with_rank(dims, from.len());
        let repeated: Vec<usize> = (0..from.len()).filter(|i| aligned[*i] == 1 && from[*i] != 1).collect();
        self.sum(&repeated).reshape(dims)
    }

    /// Largest along `axis`, which stays with size 1; −∞ of none.
    pub(crate) fn max_along(self, axis: usize) -> Self {
        if self.len() == 0 { self.of_none(axis, f32::NEG_INFINITY) } else { Float(B::float_max_dim(self.0, axis)) }
    }

    /// Smallest along `axis`, which stays with size 1; ∞ of none.
    pub(crate) fn min_along(self, axis: usize) -> Self {
        if self.len() == 0 { self.of_none(axis, f32::INFINITY) } else { Float(B::float_min_dim(self.0, axis)) }
    }

    /// Product along `axis`, which stays with size 1; 1 of none.
    pub(crate) fn product_along(self, axis: usize) -> Self {
        if self.len() == 0 { self.of_none(axis, 1.0) } else { Float(B::float_prod_dim(self.0, axis)) }
    }

    fn of_none(self, axis: usize, value: f32) -> Self {
        let mut dims = self.dims();
        dims[axis] = 1;
        Self::full(value, &dims, &self)
    }

    pub(crate) fn exp(self) -> Self {
        Float(B::function(Function::Exp, self.0))
    }

    pub(crate) fn ln(self) -> Self {
        Float(B::float_log(self.0))
    }

    pub(crate) fn ln_1p(self) -> Self {
        Float(B::float_log1p(self.0))
    }

    pub(crate) fn sqrt(self) -> Self {
        Float(B::float_sqrt(self.0))
    }

    pub(crate) fn abs(self) -> Self {
        Float(B::float_abs(self.0))
    }

    pub(crate) fn sign(self) -> Self {
        Float(B::float_sign(self.0))
    }

    pub(crate) fn tanh(self) -> Self {
        Float(B::function(Function::Tanh, self.0))
    }

    pub(crate) fn sin(self) -> Self {
        Float(B::float_sin(self.0))
    }

    pub(crate) fn cos(self) -> Self {
        Float(B::float_cos(self.0))
    }

    pub(crate) fn erf(self) -> Self {
        Float(B::function(Function::Erf, self.0))
    }

    pub(crate) fn floor(self) -> Self {
        Float(B::float_floor(self.0))
    }

    pub(crate) fn sigmoid(self) -> Self {
        Float(B::function(Function::Sigmoid, self.0))
    }

    pub(crate) fn square(self) -> Self {
        self.clone() * self
    }

    pub(crate) fn clamp(self, lo: f32, hi: f32) -> Self {
        Float(B::clip(self.0, Bounds { lo: Some(lo.into()), hi: Some(hi.into()) }))
    }

    pub(crate) fn pow(self, exponent: Self) -> Self {
        let (a, b) = align(self, exponent);
        Float(B::float_powf(a, b))
    }

    pub(crate) fn matmul(self, other: Self) -> Self {
        // A sum of nothing is zero; Burn's product reads outside of empty operands.
        if self.len() == 0 || other.len() == 0 {
            let (a, b) = (self.dims(), other.dims());
            let lead = a.len() - 2;
            let mut dims = broadcast(&a[..lead], &b[..lead]).unwrap_or_default();
            dims.extend([a[lead], b[lead + 1]]);
            return Self::full(0.0, &dims, &self);
        }
        Float(B::matmul(self.0, other.0))
    }

    /// Where an element is greater than `bound`.
    pub(crate) fn above(self, bound: f32) -> BoolTensor<B> {
        B::float_greater_elem(self.0, f64::from(bound).into(), BoolDType::Native)
    }

    /// Where an element is less than `bound`.
    pub(crate) fn below(self, bound: f32) -> BoolTensor<B> {
        B::float_lower_elem(self.0, f64::from(bound).into(), BoolDType::Native)
    }

    pub(crate) fn equals(self, other: Self) -> BoolTensor<B> {
        let (a, b) = align(self, other);
        B::float_equal(a, b, BoolDType::Native)
    }

    /// Zero where `mask` holds.
    pub(crate) fn zero_where(self, mask: BoolTensor<B>) -> Self {
        Float(B::float_mask_fill(self.0, mask, Scalar::Float(0.0)))
    }

    /// `other` where `mask` holds; all of one shape.
    pub(crate) fn replace_where(self, mask: BoolTensor<B>, other: Self) -> Self {
        Float(B::float_mask_where(self.0, mask, other.0))
    }

    /// 1 where `mask` holds, else 0.
    pub(crate) fn indicator(mask: BoolTensor<B>, dtype: FloatDType) -> Self {
        Float(B::bool_into_float(mask, dtype))
    }
}

fn align<B: Kernels>(a: Float<B>, b: Float<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let rank = a.rank().max(b.rank());
    let grow = |x: Float<B>| {
        if x.rank() == rank {
            x.0
        } else {
            let dims = with_rank(&x.dims(), rank);
            x.reshape(&dims).0
        }
    };
    (grow(a), grow(b))
}

macro_rules! arithmetic {
    ($($operator:ident $method:ident),*) => { $(
        impl<B: Kernels> $operator for Float<B> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                let (a, b) = align(self, other);
                Float(B::arithmetic(Arithmetic::$operator, a, b))
            }
        }
        impl<B: Kernels> $operator<f32> for Float<B> {
            type Output = Self;
            fn $method(self, other: f32) -> Self {
                Float(B::scalar(Arithmetic::$operator, self.0, other))
            }
        }
    )* };
}
arithmetic! {
    Add add, Sub sub, Mul mul, Div div
}

impl<B: Kernels> Sub<Float<B>> for f32 {
    type Output = Float<B>;
    fn sub(self, x: Float<B>) -> Float<B> {
        -x + self
    }
}

impl<B: Kernels> Div<Float<B>> for f32 {
    type Output = Float<B>;
    #[allow(clippy::suspicious_arithmetic_impl, reason = "c / x is c · (1 / x)")]
    fn div(self, x: Float<B>) -> Float<B> {
        Float(B::float_recip(x.0)) * self
    }
}

impl<B: Kernels> Neg for Float<B> {
    type Output = Self;
    fn neg(self) -> Self {
        Float(B::float_neg(self.0))
    }
}
