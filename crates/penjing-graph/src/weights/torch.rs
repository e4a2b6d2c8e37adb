//! What `torch.save` writes: a zip archive since PyTorch 1.6, before that pickles in a row with the storages behind.

use std::collections::BTreeMap;
use std::io::Cursor;

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use super::StateDict;
use super::pickle::{Handle, Heap, Object, Unpickled, unpickle};
use crate::DataType;

/// Keys under which training scripts keep the state dict, beside epoch and optimizer.
const WRAPPERS: &[&str] = &["state_dict", "model_state_dict", "model", "net"];

/// Most wrappers around a state dict.
const MOST_WRAPPERS: usize = 4;

/// The first pickle of the older format.
const MAGIC_NUMBER: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The number in the second pickle of the older format.
const PROTOCOL_VERSION: i64 = 1001;

/// Reads a zip archive: `NAME/data.pkl`, `NAME/data/KEY` for each storage, `NAME/byteorder`; nothing compressed.
pub(super) fn from_zip(file: &Bytes) -> Result<StateDict, String> {
    let records = records(file)?;
    let root = records.keys().find_map(|name| name.strip_suffix("data.pkl").filter(|root| root.is_empty() || root.ends_with('/')));
    let root = root.ok_or("the archive has no data.pkl: it was not written by torch.save")?;
    let record = |name: &str| records.get(&format!("{root}{name}"));
    let big_endian = match record("byteorder").map(|order| &order[..]) {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(_) => return Err("its record `byteorder` is neither little nor big".into()),
    };
    let Unpickled { heap, root: object, .. } = unpickle(record("data.pkl").map_or(&[][..], |pickle| pickle))?;
    let mut storages = BTreeMap::new();
    for storage in heap.storages() {
        let raw = record(&format!("data/{}", storage.key)).ok_or_else(|| format!("the archive has no record data/{}", storage.key))?;
        if !storages.contains_key(&*storage.key) {
            let raw = if big_endian { reversed(raw, storage.dtype) } else { raw.clone() };
            storages.insert(storage.key.to_string(), raw);
        }
    }
    state_dict(&heap, object, &storages, file.len())
}

/// Every record of an archive, sharing the file's bytes. Checksums are not verified: it would read every element.
fn records(file: &Bytes) -> Result<BTreeMap<String, Bytes>, String> {
    let broken = |e: zip::result::ZipError| format!("the archive is broken: {e}");
    let mut archive = ZipArchive::new(Cursor::new(&file[..])).map_err(broken)?;
    let mut records = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(format!("record `{name}` is compressed or encrypted, which torch.save never does"));
        }
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let length = usize::try_from(entry.size()).ok();
        let range = start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let range = range.filter(|range| range.end <= file.len()).ok_or_else(|| format!("record `{name}` reaches beyond the file"))?;
        records.insert(name, file.slice(range));
    }
    Ok(records)
}

/// Elements with their octets in the other order.
fn reversed(raw: &Bytes, dtype: DataType) -> Bytes {
    let width = match dtype {
        DataType::Complex64 => 4,
        DataType::Complex128 => 8,
        other => other.byte_len(1).unwrap_or(1),
    };
    let mut octets = raw.to_vec();
    octets.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    octets.into()
}

/// Reads the older format: pickles of the magic number, the version, the machine, the object and the storages' keys,
/// then for each key its number of elements (int64) and the elements, always little-endian.
pub(super) fn from_pickles(file: &Bytes) -> Result<StateDict, String> {
    let mut position = 0;
    let mut next = || -> Result<Unpickled, String> {
        let pickle = unpickle(&file[position..])?;
        position += pickle.length;
        Ok(pickle)
    };
    let magic = next()?;
    if *magic.heap.get(magic.root) != Object::Long(MAGIC_NUMBER.into()) {
        return Err("the file is a pickle, but none that torch.save wrote".into());
    }
    let version = next()?;
    if *version.heap.get(version.root) != Object::Int(PROTOCOL_VERSION) {
        return Err(format!("the file has another version of PyTorch's older format than {PROTOCOL_VERSION}"));
    }
    let _machine = next()?;
    let Unpickled { heap, root, .. } = next()?;
    let keys = next()?;
    let Object::List(order) = keys.heap.get(keys.root) else {
        return Err(format!("the file has {} for its list of storages", keys.heap.get(keys.root).kind()));
    };

    let types: BTreeMap<&str, DataType> = heap.storages().map(|storage| (&*storage.key, storage.dtype)).collect();
    let mut storages = BTreeMap::new();
    let mut rest = file.slice(position..);
    for key in order {
        let key = keys.heap.text(*key).ok_or("the key of a storage is no string")?;
        let dtype = types.get(key).ok_or_else(|| format!("storage `{key}` belongs to no tensor"))?;
        let ends_early = || format!("the file ends in storage `{key}`: it is cut off");
        let header = split_off_front(&mut rest, 8).ok_or_else(ends_early)?;
        let elements = header.iter().rev().fold(0u64, |n, octet| n << 8 | u64::from(*octet));
        let length = usize::try_from(elements).ok().and_then(|n| dtype.byte_len(n)).ok_or_else(ends_early)?;
        storages.insert(key.to_string(), split_off_front(&mut rest, length).ok_or_else(ends_early)?);
    }
    state_dict(&heap, root, &storages, file.len())
}

/// The tensors of the state dict that an object is or wraps; `budget` octets at most are copied.
fn state_dict(heap: &Heap, root: Handle, storages: &BTreeMap<String, Bytes>, mut budget: usize) -> Result<StateDict, String> {
    let mut state = StateDict::new();
    for (key, value) in unwrapped(heap, root)? {
        let name = heap.text(*key).ok_or_else(|| format!("a name in the state dict is {}", heap.get(*key).kind()))?;
        let Object::Tensor(tensor) = heap.get(*value) else {
            return Err(format!(
                "`{name}` is {}, not a tensor (hint: save `model.state_dict()` alone, or under the key `state_dict`)",
                heap.get(*value).kind()
            ));
        };
        let storage = storages.get(&*tensor.storage.key).ok_or_else(|| format!("the elements of `{name}` are missing"))?;
        let read = tensor.view.read(tensor.storage.dtype, storage, &mut budget);
        state.insert(name.to_string(), read.map_err(|reason| format!("tensor `{name}`: {reason}"))?);
    }
    Ok(state)
}

/// The pairs of the innermost dictionary that stands under one of the usual keys.
fn unwrapped(heap: &Heap, root: Handle) -> Result<&[(Handle, Handle)], String> {
    let pairs = |handle: Handle| match heap.get(handle) {
        Object::Dict(pairs) => Some(&pairs[..]),
        _ => None,
    };
    let mut dict = pairs(root).ok_or_else(|| format!("the file holds {}, not a state dict", heap.get(root).kind()))?;
    for _ in 0..MOST_WRAPPERS {
        let wrapped =
            |wrapper: &&str| dict.iter().rev().find(|(key, _)| heap.text(*key) == Some(wrapper)).and_then(|(_, value)| pairs(*value));
        match WRAPPERS.iter().find_map(wrapped) {
            Some(inner) => dict = inner,
            None => break,
        }
    }
    Ok(dict)
}

/// Takes the first `length` octets off, if there are as many.
fn split_off_front(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}
