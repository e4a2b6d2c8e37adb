//! Strided views of a storage.

use bytes::Bytes;

use crate::{DataType, Tensor, element_count};

/// Which elements of a storage a tensor shows: element (i₀, i₁, …) stands at offset + Σ iₐ·strideₐ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    dims: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
}

impl View {
    pub(super) fn new(dims: Vec<usize>, strides: Vec<usize>, offset: usize) -> Result<View, String> {
        if dims.len() != strides.len() {
            return Err(format!("a tensor has {} axes but {} strides", dims.len(), strides.len()));
        }
        // An axis of one element is never stepped along, whatever its stride.
        let strides = dims.iter().zip(strides).map(|(d, stride)| if *d > 1 { stride } else { 0 }).collect();
        Ok(View { dims, strides, offset })
    }

    /// The tensor, sharing the storage's bytes where its elements lie in order. Octets that had to be copied are taken
    /// from `budget`, so that many views of one storage cannot fill the memory.
    pub(super) fn read(&self, dtype: DataType, storage: &Bytes, budget: &mut usize) -> Result<Tensor, String> {
        let width = dtype.byte_len(1).ok_or("strings have no storage")?;
        let available = storage.len() / width;
        let outside = || {
            format!(
                "shape {:?} with strides {:?} from {} on reaches outside its {available} elements",
                self.dims, self.strides, self.offset
            )
        };
        let count = element_count(&self.dims).ok_or_else(outside)?;
        if count == 0 {
            return Tensor::from_raw(dtype, self.dims.clone(), Bytes::new()).map_err(|e| e.to_string());
        }
        let last = self.last().filter(|last| *last < available).ok_or_else(outside)?;
        let raw = if self.in_order() {
            storage.slice(self.offset * width..(last + 1) * width)
        } else {
            let octets = count.checked_mul(width).filter(|octets| *octets <= *budget);
            let octets = octets.ok_or_else(|| format!("shape {:?} shows more elements than the file holds", self.dims))?;
            *budget -= octets;
            self.gather(storage, width, octets).into()
        };
        Tensor::from_raw(dtype, self.dims.clone(), raw).map_err(|e| e.to_string())
    }

    /// Position of the last element of a view that is not empty; `None` on overflow.
    fn last(&self) -> Option<usize> {
        self.dims.iter().zip(&self.strides).try_fold(self.offset, |sum, (d, stride)| (d - 1).checked_mul(*stride)?.checked_add(sum))
    }

    /// Whether the elements lie one behind the other, row by row.
    fn in_order(&self) -> bool {
        let mut expected = 1;
        self.dims.iter().zip(&self.strides).rev().all(|(d, stride)| {
            let fits = *d == 1 || *stride == expected;
            expected *= d;
            fits
        })
    }

    fn gather(&self, storage: &[u8], width: usize, octets: usize) -> Vec<u8> {
        let mut raw = Vec::with_capacity(octets);
        let mut index = vec![0; self.dims.len()];
        let mut position = self.offset;
        while raw.len() < octets {
            raw.extend_from_slice(&storage[position * width..][..width]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                position += self.strides[axis];
                if index[axis] < self.dims[axis] {
                    break;
                }
                position -= self.dims[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> Bytes {
        Bytes::from((0u8..6).collect::<Vec<_>>())
    }

    fn read(dims: &[usize], strides: &[usize], offset: usize) -> Result<Vec<u8>, String> {
        let tensor = View::new(dims.to_vec(), strides.to_vec(), offset)?.read(DataType::Uint8, &storage(), &mut 6)?;
        Ok(tensor.raw().cloned().unwrap_or_default().to_vec())
    }

    #[test]
    fn views_by_hand() {
        assert_eq!(read(&[2, 3], &[3, 1], 0), Ok(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(read(&[3, 2], &[1, 3], 0), Ok(vec![0, 3, 1, 4, 2, 5])); // its transpose
        assert_eq!(read(&[2], &[2], 1), Ok(vec![1, 3])); // every second one
        assert_eq!(read(&[3], &[0], 4), Ok(vec![4, 4, 4])); // one element, expanded
        assert_eq!(read(&[], &[], 5), Ok(vec![5]));
        assert_eq!(read(&[0, 9], &[1, 1], 99), Ok(vec![]));
    }

    #[test]
    fn elements_in_order_are_shared_not_copied() -> Result<(), String> {
        let storage = storage();
        let tensor = View::new(vec![1, 3], vec![77, 1], 2)?.read(DataType::Uint8, &storage, &mut 0)?;
        assert_eq!(tensor.raw().map(|raw| raw.as_ptr()), Some(storage[2..].as_ptr()));
        Ok(())
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        assert!(read(&[7], &[1], 0).is_err());
        assert!(read(&[2, 3], &[4, 1], 0).is_err()); // last at 1·4 + 2 = 6
        assert!(read(&[1], &[1], 6).is_err());
        assert!(read(&[usize::MAX, 2], &[0, 0], 0).is_err());
        assert!(read(&[2], &[usize::MAX], 1).is_err());
        assert!(read(&[1 << 40], &[0], 0).is_err()); // one element, shown 2⁴⁰ times
        assert!(View::new(vec![1], vec![], 0).is_err());
    }
}
