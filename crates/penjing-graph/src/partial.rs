//! Integers that are known before the model runs, symbols included: what shapes are computed from.

use crate::{DataType, Dim, Tensor};

/// Tensors of more elements than this are never values that describe a shape.
const MAX_PARTIAL: usize = 1024;

/// One integer of a partially known value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartialInt {
    /// Known.
    Known(i64),
    /// A dimension of some input.
    Dim(Dim),
    /// Not known.
    Unknown,
}

impl From<&Dim> for PartialInt {
    fn from(dim: &Dim) -> PartialInt {
        match dim {
            Dim::Fixed(n) => i64::try_from(*n).map_or(PartialInt::Unknown, PartialInt::Known),
            Dim::Symbolic { .. } => PartialInt::Dim(dim.clone()),
            Dim::Unknown => PartialInt::Unknown,
        }
    }
}

impl PartialInt {
    /// The number, where it is known.
    pub fn known(&self) -> Option<i64> {
        match self {
            PartialInt::Known(n) => Some(*n),
            PartialInt::Dim(_) | PartialInt::Unknown => None,
        }
    }

    /// The dimension of this size; unknown for negative numbers.
    pub fn to_dim(&self) -> Dim {
        match self {
            PartialInt::Known(n) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
            PartialInt::Dim(dim) => dim.clone(),
            PartialInt::Unknown => Dim::Unknown,
        }
    }

    /// As dimensions where neither is negative, so that symbols take part.
    fn as_dims(&self, other: &PartialInt, f: impl Fn(&Dim, &Dim) -> Dim) -> PartialInt {
        (&f(&self.to_dim(), &other.to_dim())).into()
    }

    /// Sum; unknown on overflow.
    #[must_use]
    pub fn plus(&self, other: &PartialInt) -> PartialInt {
        match (self, other) {
            (PartialInt::Known(a), PartialInt::Known(b)) => a.checked_add(*b).into(),
            _ => self.as_dims(other, Dim::plus),
        }
    }

    /// Difference; unknown on overflow.
    #[must_use]
    pub fn minus(&self, other: &PartialInt) -> PartialInt {
        match (self, other) {
            (PartialInt::Known(a), PartialInt::Known(b)) => a.checked_sub(*b).into(),
            (PartialInt::Dim(a), PartialInt::Dim(b)) if a == b => PartialInt::Known(0),
            _ => self.as_dims(other, Dim::minus),
        }
    }

    /// Product; unknown on overflow.
    #[must_use]
    pub fn times(&self, other: &PartialInt) -> PartialInt {
        match (self, other) {
            (PartialInt::Known(a), PartialInt::Known(b)) => a.checked_mul(*b).into(),
            _ => self.as_dims(other, Dim::times),
        }
    }

    /// Quotient of integers as ONNX's `Div` rounds it (to zero); unknown where the divisor is 0.
    #[must_use]
    pub fn divided_by(&self, other: &PartialInt) -> PartialInt {
        match (self, other) {
            (PartialInt::Known(a), PartialInt::Known(b)) => a.checked_div(*b).into(),
            _ => self.as_dims(other, Dim::divided_by),
        }
    }

    /// Whether both are the same number, where that can be told. No dimension is negative.
    pub fn equals(&self, other: &PartialInt) -> Option<bool> {
        match (self, other) {
            (PartialInt::Known(a), PartialInt::Known(b)) => Some(a == b),
            (PartialInt::Dim(a), PartialInt::Dim(b)) => (a == b).then_some(true),
            (PartialInt::Dim(_), PartialInt::Known(n)) | (PartialInt::Known(n), PartialInt::Dim(_)) => (*n < 0).then_some(false),
            (PartialInt::Unknown, _) | (_, PartialInt::Unknown) => None,
        }
    }
}

impl From<Option<i64>> for PartialInt {
    fn from(n: Option<i64>) -> PartialInt {
        n.map_or(PartialInt::Unknown, PartialInt::Known)
    }
}

/// Integers of a tensor of rank 0 or 1, each known, symbolic or unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialValue {
    /// Whether it has no dimensions.
    pub scalar: bool,
    /// The integers.
    pub elements: Vec<PartialInt>,
}

impl PartialValue {
    /// The only element of a tensor of rank 0.
    pub fn scalar(element: PartialInt) -> PartialValue {
        PartialValue { scalar: true, elements: vec![element] }
    }

    /// A tensor of rank 1; `None` where it is too long to describe a shape.
    pub fn vector(elements: Vec<PartialInt>) -> Option<PartialValue> {
        (elements.len() <= MAX_PARTIAL).then_some(PartialValue { scalar: false, elements })
    }

    /// `count` integers of which nothing is known.
    pub fn unknown(count: usize) -> Option<PartialValue> {
        (count <= MAX_PARTIAL).then(|| PartialValue { scalar: false, elements: vec![PartialInt::Unknown; count] })
    }

    /// The integers of a small tensor of rank 0 or 1.
    pub fn of(tensor: &Tensor) -> Option<PartialValue> {
        if tensor.dims().len() > 1 || tensor.len() > MAX_PARTIAL {
            return None;
        }
        let elements = tensor.to_i64()?.iter().map(|n| PartialInt::Known(*n)).collect();
        Some(PartialValue { scalar: tensor.dims().is_empty(), elements })
    }

    /// All integers, where every one is known.
    pub fn known(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(PartialInt::known).collect()
    }

    /// Its dimensions.
    pub fn shape(&self) -> Vec<Dim> {
        if self.scalar { vec![] } else { vec![Dim::Fixed(self.elements.len())] }
    }

    /// The shape that it describes; negative and unknown numbers are unknown dimensions.
    pub fn to_shape(&self) -> Vec<Dim> {
        self.elements.iter().map(PartialInt::to_dim).collect()
    }

    /// The same integers under another shape, where that has at most one dimension.
    pub(crate) fn reshaped(&self, shape: &[Dim]) -> Option<PartialValue> {
        let elements = self.elements.clone();
        match shape {
            [] if elements.len() == 1 => Some(PartialValue::scalar(elements[0].clone())),
            [_] => PartialValue::vector(elements),
            _ => None,
        }
    }

    /// Element by element with numpy's broadcasting; `None` where the lengths do not fit.
    pub(crate) fn zip(&self, other: &PartialValue, f: impl Fn(&PartialInt, &PartialInt) -> PartialInt) -> Option<PartialValue> {
        let length = match (self.elements.len(), other.elements.len()) {
            (a, b) if a == b => a,
            (1, n) | (n, 1) => n,
            _ => return None,
        };
        let at = |value: &PartialValue, i: usize| value.elements[if value.elements.len() == 1 { 0 } else { i }].clone();
        let elements = (0..length).map(|i| f(&at(self, i), &at(other, i))).collect();
        Some(PartialValue { scalar: self.scalar && other.scalar, elements })
    }

    /// The same with every integer that `dtype` may not hold made unknown.
    pub(crate) fn within(mut self, dtype: Option<DataType>) -> PartialValue {
        for element in &mut self.elements {
            let held = match element {
                PartialInt::Known(n) => holds(dtype, *n),
                // No dimension is taken to pass what 32 bits hold.
                PartialInt::Dim(_) => holds(dtype, i32::MAX.into()),
                PartialInt::Unknown => true,
            };
            if !held {
                *element = PartialInt::Unknown;
            }
        }
        self
    }
}

fn holds(dtype: Option<DataType>, n: i64) -> bool {
    match dtype {
        Some(DataType::Int64) => true,
        Some(DataType::Int32) => i32::try_from(n).is_ok(),
        Some(DataType::Int16) => i16::try_from(n).is_ok(),
        Some(DataType::Int8) => i8::try_from(n).is_ok(),
        Some(DataType::Uint8) => u8::try_from(n).is_ok(),
        Some(DataType::Uint16) => u16::try_from(n).is_ok(),
        Some(DataType::Uint32) => u32::try_from(n).is_ok(),
        Some(DataType::Uint64) => n >= 0,
        Some(DataType::Bool) => n == 0 || n == 1,
        _ => false,
    }
}
