//! Elements of at most 8 bits as one octet each, where a tensor may keep several in one.

use std::borrow::Cow;

use crate::{DataType, GraphError, Tensor, element_count};

impl DataType {
    /// Bits of a type of at most 8 bits.
    fn code_bits(self) -> Option<usize> {
        self.bits().filter(|bits| *bits <= 8)
    }

    /// Whether it is an integer with a sign.
    fn is_signed(self) -> bool {
        matches!(self, DataType::Int2 | DataType::Int4 | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
    }

    /// Least and largest number of an integer type of at most 32 bits; `None` for another type.
    pub fn integer_range(self) -> Option<(i64, i64)> {
        let bits = match self {
            DataType::Uint2 | DataType::Int2 => 2,
            DataType::Uint4 | DataType::Int4 => 4,
            DataType::Uint8 | DataType::Int8 => 8,
            DataType::Uint16 | DataType::Int16 => 16,
            DataType::Uint32 | DataType::Int32 => 32,
            _ => return None,
        };
        Some(if self.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) })
    }
}

impl Tensor {
    /// A tensor of a type of at most 8 bits from one octet an element: integers as their two's complement, floats as their bits.
    /// Narrower types take the low bits and share octets.
    ///
    /// # Errors
    /// When the type is wider, or there are not as many octets as the dimensions say.
    pub fn from_codes(dtype: DataType, dims: impl Into<Vec<usize>>, codes: &[u8]) -> Result<Tensor, GraphError> {
        let dims = dims.into();
        let expected = element_count(&dims);
        let Some(bits) = dtype.code_bits().filter(|_| expected == Some(codes.len())) else {
            return Err(GraphError::TensorSize { dtype, dims, expected, actual: codes.len() });
        };
        if bits == 8 {
            return Tensor::from_raw(dtype, dims, codes.to_vec().into());
        }
        let mask = (1u8 << bits) - 1;
        let pack = |codes: &[u8]| codes.iter().rev().fold(0, |octet, code| (octet << bits) | (code & mask));
        let packed: Vec<u8> = codes.chunks(8 / bits).map(pack).collect();
        Tensor::from_raw(dtype, dims, packed.into())
    }

    /// The elements of a type of at most 8 bits, one octet each as [`Tensor::from_codes`] takes them; `None` for a wider type.
    pub fn codes(&self) -> Option<Cow<'_, [u8]>> {
        let (bits, raw) = self.dtype().code_bits().zip(self.raw())?;
        if bits == 8 {
            return Some(Cow::Borrowed(raw));
        }
        let unused = 8 - bits;
        let code = |i: usize| {
            let high = (raw[i * bits / 8] >> (i * bits % 8)) << unused;
            if self.dtype().is_signed() { ((high as i8) >> unused) as u8 } else { high >> unused }
        };
        Some((0..self.len()).map(code).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_come_first() {
        let numbers: Vec<u8> = [1i8, -2, 7, -8, 3].map(|n| n as u8).to_vec();
        let packed = Tensor::from_codes(DataType::Int4, [5], &numbers).expect("a tensor");
        assert_eq!(packed.raw().map(|raw| raw.to_vec()), Some(vec![0xe1, 0x87, 0x03]));
        assert_eq!(packed.codes().as_deref(), Some(&numbers[..]));
        let quarters = Tensor::from_codes(DataType::Uint2, [2, 3], &[0, 1, 2, 3, 3, 1]).expect("a tensor");
        assert_eq!(quarters.raw().map(|raw| raw.to_vec()), Some(vec![0b1110_0100, 0b0111]));
        assert_eq!(quarters.codes().as_deref(), Some(&[0, 1, 2, 3, 3, 1][..]));
        let signed = Tensor::from_codes(DataType::Int2, [2], &[-2i8 as u8, 1]).expect("a tensor");
        assert_eq!(signed.codes().as_deref(), Some(&[-2i8 as u8, 1][..]));
    }

    #[test]
    fn whole_octets_stay_as_they_are() {
        let t = Tensor::new([2], vec![-1i8, 5]);
        assert_eq!(t.codes().as_deref(), Some(&[255, 5][..]));
        assert_eq!(Tensor::from_codes(DataType::Int8, [2], &[255, 5]).ok(), Some(t));
        assert_eq!(Tensor::scalar(1f32).codes(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Tensor::from_codes(DataType::Int4, [3], &[0; 2]).is_err());
        assert!(Tensor::from_codes(DataType::Float, [2], &[0; 2]).is_err());
    }

    #[test]
    fn ranges_of_integers() {
        assert_eq!(DataType::Int2.integer_range(), Some((-2, 1)));
        assert_eq!(DataType::Uint4.integer_range(), Some((0, 15)));
        assert_eq!(DataType::Int8.integer_range(), Some((-128, 127)));
        assert_eq!(DataType::Uint16.integer_range(), Some((0, 65535)));
        assert_eq!(DataType::Float8E4M3Fn.integer_range(), None);
    }
}
