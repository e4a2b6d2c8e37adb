//! Files mapped into memory, so that weights are read where they lie and only while they are needed.

#![allow(unsafe_code, reason = "mapping a file and dropping its pages have no safe form")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;
use memmap2::Mmap;

use crate::{DataType, Graph, Tensor};

/// A file mapped for reading. Clones and the bytes taken from it keep the mapping alive.
#[derive(Clone)]
pub(crate) struct Mapping(Arc<Mmap>);

impl Mapping {
    /// Maps a regular file; `None` for an empty one, which cannot be mapped.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Mapping>> {
        // Asked before opening: opening a pipe would wait for its other end.
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        // SAFETY: the mapping is only ever read as octets, for which every bit pattern is valid. Another process that
        // cuts the file short can stop this one with a signal; this crate itself replaces files only by renaming,
        // which leaves the mapped one untouched.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Some(Mapping(Arc::new(map))))
    }

    /// All bytes of the file, shared.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// Position of `part` in the file, if it was taken from it.
    fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let offset = (part.as_ptr() as usize).checked_sub(self.0.as_ptr() as usize)?;
        (offset.checked_add(part.len())? <= self.0.len()).then_some(offset)
    }

    /// Lets the system take back the pages of a range; reading it again fetches them from the file.
    #[cfg(unix)]
    fn release(&self, offset: usize, len: usize) {
        // SAFETY: the mapping is shared and read-only, so that dropped pages come back with the file's bytes.
        let advised = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) };
        debug_assert!(advised.is_ok(), "{advised:?}");
    }

    #[cfg(not(unix))]
    fn release(&self, _offset: usize, _len: usize) {}
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.0.len())
    }
}

/// Octets looked at before their pages are given back; a multiple of every element's width.
const CHUNK: usize = 4 << 20;

impl Graph {
    /// Shows the raw bytes of a tensor piece by piece and gives the pages of mapped files back in between, so that
    /// a pass over all weights takes a few megabytes. Pieces hold whole elements; strings have none.
    pub fn scan(&self, tensor: &Tensor, mut look: impl FnMut(&[u8])) {
        let Some(raw) = tensor.raw() else { return };
        let home = self.kept.mapped.iter().find_map(|map| Some((map, map.offset_of(raw)?)));
        for (i, piece) in raw.chunks(CHUNK).enumerate() {
            look(piece);
            if let Some((map, offset)) = home {
                map.release(offset + i * CHUNK, piece.len());
            }
        }
    }

    /// Number of elements that are zero, of either sign; none of a string. Takes a few megabytes, see [`Graph::scan`].
    pub fn count_zeros(&self, tensor: &Tensor) -> usize {
        let (Some(bits), Some(mask)) = (tensor.dtype().bits(), magnitude_mask(tensor.dtype())) else { return 0 };
        let mut zeros = 0;
        let mut left = tensor.len();
        self.scan(tensor, |piece| {
            zeros += match bits {
                8 => zeros_of_width::<1>(piece, mask),
                16 => zeros_of_width::<2>(piece, mask),
                32 => zeros_of_width::<4>(piece, mask),
                64 => zeros_of_width::<8>(piece, mask),
                128 => zeros_of_width::<16>(piece, mask),
                packed => {
                    // The last octet may hold fewer elements than fit.
                    let elements = piece.iter().flat_map(|octet| (0..8).step_by(packed).map(move |shift| octet >> shift));
                    elements.take(left).filter(|element| u128::from(*element) & mask == 0).count()
                }
            };
            left = left.saturating_sub(piece.len() * 8 / bits);
        });
        zeros
    }

    /// Gives the pages of all mapped files back to the system; what is read again is fetched again.
    pub fn release_mapped_pages(&self) {
        for map in &self.kept.mapped {
            map.release(0, map.as_ref().len());
        }
    }
}

/// Number of elements of `N` octets that have no bit of `mask` set.
fn zeros_of_width<const N: usize>(piece: &[u8], mask: u128) -> usize {
    let mask = mask.to_le_bytes();
    let set = |element: &[u8; N]| element.iter().zip(mask).fold(0, |set, (octet, mask)| set | octet & mask);
    piece.as_chunks::<N>().0.iter().filter(|element| set(element) == 0).count()
}

/// The bits of an element that a zero has clear: all but the sign of formats with a negative zero.
fn magnitude_mask(dtype: DataType) -> Option<u128> {
    Some(match dtype {
        DataType::Float => 0x7fff_ffff,
        DataType::Float16 | DataType::Bfloat16 => 0x7fff,
        DataType::Double => 0x7fff_ffff_ffff_ffff,
        DataType::Complex64 => 0x7fff_ffff_7fff_ffff,
        DataType::Complex128 => 0x7fff_ffff_ffff_ffff_7fff_ffff_ffff_ffff,
        DataType::Float8E4M3Fn | DataType::Float8E5M2 => 0x7f,
        DataType::Float4E2M1 => 0x7,
        DataType::Uint4 | DataType::Int4 => 0xf,
        DataType::Uint2 | DataType::Int2 => 0x3,
        // Powers of two have no zero.
        DataType::Float8E8M0 | DataType::String => return None,
        DataType::Uint8
        | DataType::Int8
        | DataType::Uint16
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Bool
        | DataType::Uint32
        | DataType::Uint64
        | DataType::Float8E4M3Fnuz
        | DataType::Float8E5M2Fnuz => u128::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_both_signs_count_and_padding_does_not() {
        let graph = Graph::default();
        assert_eq!(graph.count_zeros(&Tensor::new([4], vec![0.0f32, -0.0, 1e-40, f32::NAN])), 2);
        assert_eq!(graph.count_zeros(&Tensor::new([3], vec![0i64, i64::MIN, 7])), 1);
        assert_eq!(graph.count_zeros(&Tensor::new([3], vec![0.0f64, -0.0, 2.0])), 2);
        assert_eq!(graph.count_zeros(&Tensor::new([3], vec![half::f16::ZERO, half::f16::NEG_ZERO, half::f16::ONE])), 2);
        assert_eq!(graph.count_zeros(&Tensor::from_bools([3], &[false, true, false])), 2);
        let int4 = |dims: usize, octets: &'static [u8]| Tensor::from_raw(DataType::Int4, vec![dims], Bytes::from_static(octets)).ok();
        // 0, 5 | 0 and half an octet of padding
        assert_eq!(int4(3, &[0x50, 0x00]).map(|t| graph.count_zeros(&t)), Some(2));
        // 2⁻¹²⁷, the smallest that there is
        let powers = Tensor::from_raw(DataType::Float8E8M0, vec![1], Bytes::from_static(&[0]));
        assert_eq!(powers.ok().map(|t| graph.count_zeros(&t)), Some(0));
    }

    #[test]
    fn a_scan_sees_every_byte_of_a_mapped_file_again_after_its_pages_were_dropped() -> Result<(), Box<dyn std::error::Error>> {
        let file = tempfile::NamedTempFile::new()?;
        let octets: Vec<u8> = (0..2 * CHUNK + 12).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &octets)?;
        let map = Mapping::open(file.path())?.ok_or("empty")?;
        let tensor = Tensor::from_raw(DataType::Uint8, vec![octets.len() - 7], map.bytes().slice(7..))?;
        let mut graph = Graph::default();
        graph.kept.mapped.push(map);
        for _ in 0..2 {
            let mut seen = vec![];
            graph.scan(&tensor, |piece| seen.extend_from_slice(piece));
            assert!(seen == octets[7..]);
            graph.release_mapped_pages();
        }
        Ok(())
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        assert!(Mapping::open(Path::new("/dev/null")).is_err());
        assert!(Mapping::open(&std::env::temp_dir()).is_err());
    }
}
