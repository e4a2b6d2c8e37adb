//! A pickle machine that builds plain values and descriptions of tensors, and nothing else.
//!
//! Objects live in one list and refer to each other by number, so that cycles and deep nesting cost nothing: no value
//! is ever walked or dropped recursively. Each opcode makes at most one object, and what it copies is counted, so that
//! memory grows with the length of the pickle only.

use std::collections::HashMap;

use super::view::View;
use crate::DataType;

/// Most objects of one pickle; the largest published state dicts have some ten thousand.
const MOST_OBJECTS: usize = 1 << 22;

/// Most axes of a tensor.
const MOST_AXES: usize = 64;

/// Names an object of one [`Heap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(u32);

/// A value of a pickle.
#[derive(Debug, PartialEq)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(Box<[u8]>),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Tuple(Vec<Handle>),
    /// A list or a set.
    List(Vec<Handle>),
    /// Pairs in the order in which they were set; of equal keys the last one counts.
    Dict(Vec<(Handle, Handle)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<TensorView>),
}

impl Object {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Object::None => "None",
            Object::Bool(_) => "a truth value",
            Object::Int(_) | Object::Long(_) | Object::Float(_) => "a number",
            Object::Text(_) | Object::Bytes(_) => "a string",
            Object::Tuple(_) | Object::List(_) => "a list",
            Object::Dict(_) => "a dictionary",
            Object::Global(_) => "a function or type",
            Object::Storage(_) => "a storage",
            Object::Tensor(_) => "a tensor",
        }
    }
}

/// Elements that tensors are views of, stored outside the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Name of its record.
    pub(super) key: Box<str>,
    pub(super) dtype: DataType,
    /// Elements of the record before this storage begins: not 0 only where one storage is a window of another.
    pub(super) base: usize,
}

/// A tensor that is still to be read.
#[derive(Debug, PartialEq)]
pub(super) struct TensorView {
    pub(super) storage: Storage,
    pub(super) view: View,
}

/// Everything from Python modules that a state dict needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    Storage(DataType),
}

impl Global {
    /// What `module.name` stands for; `None` for everything that is not on the list.
    fn find(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch", "Size") => Global::Size,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", storage) => Global::Storage(match storage {
                "FloatStorage" => DataType::Float,
                "DoubleStorage" => DataType::Double,
                "HalfStorage" => DataType::Float16,
                "BFloat16Storage" => DataType::Bfloat16,
                "LongStorage" => DataType::Int64,
                "IntStorage" => DataType::Int32,
                "ShortStorage" => DataType::Int16,
                "CharStorage" => DataType::Int8,
                "ByteStorage" => DataType::Uint8,
                "BoolStorage" => DataType::Bool,
                "ComplexFloatStorage" => DataType::Complex64,
                "ComplexDoubleStorage" => DataType::Complex128,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Heap(Vec<Object>);

impl Heap {
    pub(super) fn get(&self, handle: Handle) -> &Object {
        // Handles are only made by `add`, which never removes.
        &self.0[handle.0 as usize]
    }

    /// Storages that the pickle names.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.0.iter().filter_map(|object| match object {
            Object::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }

    pub(super) fn text(&self, handle: Handle) -> Option<&str> {
        match self.get(handle) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    fn add(&mut self, object: Object) -> Result<Handle, String> {
        if self.0.len() >= MOST_OBJECTS {
            return Err(format!("the pickle makes more than {MOST_OBJECTS} objects"));
        }
        self.0.push(object);
        Ok(Handle(self.0.len() as u32 - 1))
    }

    /// A list of lists of two, as Python 2 made ordered dictionaries from.
    fn pairs(&self, handle: Handle) -> Result<Vec<(Handle, Handle)>, String> {
        let items = |handle: Handle| match self.get(handle) {
            Object::List(items) | Object::Tuple(items) => Some(&items[..]),
            _ => None,
        };
        let pair = |handle: &Handle| match items(*handle) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        };
        items(handle)
            .and_then(|items| items.iter().map(pair).collect())
            .ok_or_else(|| "the pickle makes a dictionary from something that is no list of pairs".into())
    }

    fn count(&self, handle: Handle) -> Result<usize, String> {
        match self.get(handle) {
            Object::Int(n) => usize::try_from(*n).map_err(|_| format!("a tensor has a size, stride or offset of {n}")),
            other => Err(format!("a tensor has {} for a size, stride or offset", other.kind())),
        }
    }

    fn counts(&self, handle: Handle) -> Result<Vec<usize>, String> {
        match self.get(handle) {
            Object::Tuple(items) | Object::List(items) if items.len() <= MOST_AXES => items.iter().map(|i| self.count(*i)).collect(),
            Object::Tuple(_) | Object::List(_) => Err(format!("a tensor has more than {MOST_AXES} axes")),
            other => Err(format!("a tensor has {} for a shape", other.kind())),
        }
    }
}

/// A pickle that has run.
#[derive(Debug)]
pub(super) struct Unpickled {
    pub(super) heap: Heap,
    pub(super) root: Handle,
    /// Octets up to and with its end.
    pub(super) length: usize,
}

/// Runs the pickle at the beginning of `bytes`.
///
/// # Errors
/// When it ends early, is malformed, or names anything but what a state dict needs.
pub(super) fn unpickle(bytes: &[u8]) -> Result<Unpickled, String> {
    let mut machine = Machine { input: Input { bytes, position: 0 }, ..Machine::default() };
    loop {
        let at = machine.input.position;
        let opcode = machine.input.byte()?;
        if opcode == op::STOP {
            let root = machine.pop()?;
            return Ok(Unpickled { heap: machine.heap, root, length: machine.input.position });
        }
        machine.step(opcode).map_err(|reason| format!("{reason} (at octet {at} of the pickle)"))?;
    }
}

/// Opcodes by their names in Python's `pickle` module.
mod op {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const POP: u8 = b'0';
    pub(super) const POP_MARK: u8 = b'1';
    pub(super) const DUP: u8 = b'2';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const DICT: u8 = b'd';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const LIST: u8 = b'l';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const NEWOBJ: u8 = 0x81;
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const LONG4: u8 = 0x8b;
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const EMPTY_SET: u8 = 0x8f;
    pub(super) const ADDITEMS: u8 = 0x90;
    pub(super) const FROZENSET: u8 = 0x91;
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const FRAME: u8 = 0x95;
}

/// Newest protocol of Python's `pickle` module.
const NEWEST_PROTOCOL: u8 = 5;

#[derive(Default)]
struct Machine<'a> {
    input: Input<'a>,
    stack: Vec<Handle>,
    /// Heights of the stack at which marks stand.
    marks: Vec<usize>,
    memo: HashMap<u32, Handle>,
    heap: Heap,
    /// Pairs copied from lists into dictionaries; a list that is copied again and again counts each time.
    copied: usize,
}

impl Machine<'_> {
    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            op::PROTO => match self.input.byte()? {
                0..=NEWEST_PROTOCOL => Ok(()),
                version => Err(format!("the pickle has protocol {version}, known are those up to {NEWEST_PROTOCOL}")),
            },
            op::FRAME => self.input.array::<8>().map(drop),

            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            op::POP => self.pop().map(drop),
            op::POP_MARK => self.pop_to_mark().map(drop),
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }

            op::NONE => self.push(Object::None),
            op::NEWTRUE => self.push(Object::Bool(true)),
            op::NEWFALSE => self.push(Object::Bool(false)),
            op::BININT => self.input.array().and_then(|b| self.push(Object::Int(i32::from_le_bytes(b).into()))),
            op::BININT1 => self.input.byte().and_then(|b| self.push(Object::Int(b.into()))),
            op::BININT2 => self.input.array().and_then(|b| self.push(Object::Int(u16::from_le_bytes(b).into()))),
            op::BINFLOAT => self.input.array().and_then(|b| self.push(Object::Float(f64::from_be_bytes(b)))),
            op::LONG1 => self.input.prefixed::<1>().and_then(|b| self.push(integer(b))),
            op::LONG4 => self.input.prefixed::<4>().and_then(|b| self.push(integer(b))),
            op::SHORT_BINUNICODE => self.input.prefixed::<1>().and_then(|b| self.push(text(b)?)),
            op::BINUNICODE => self.input.prefixed::<4>().and_then(|b| self.push(text(b)?)),
            op::BINUNICODE8 => self.input.prefixed::<8>().and_then(|b| self.push(text(b)?)),
            // Python 2 wrote its names as byte strings.
            op::SHORT_BINSTRING => self.input.prefixed::<1>().and_then(|b| self.push(text(b)?)),
            op::BINSTRING => self.input.prefixed::<4>().and_then(|b| self.push(text(b)?)),
            op::SHORT_BINBYTES => self.input.prefixed::<1>().and_then(|b| self.push(Object::Bytes(b.into()))),
            op::BINBYTES => self.input.prefixed::<4>().and_then(|b| self.push(Object::Bytes(b.into()))),
            op::BINBYTES8 => self.input.prefixed::<8>().and_then(|b| self.push(Object::Bytes(b.into()))),

            op::EMPTY_TUPLE => self.push(Object::Tuple(vec![])),
            op::TUPLE1 => self.tuple(1),
            op::TUPLE2 => self.tuple(2),
            op::TUPLE3 => self.tuple(3),
            op::TUPLE => self.pop_to_mark().and_then(|items| self.push(Object::Tuple(items))),
            op::EMPTY_LIST | op::EMPTY_SET => self.push(Object::List(vec![])),
            op::LIST | op::FROZENSET => self.pop_to_mark().and_then(|items| self.push(Object::List(items))),
            op::APPEND => self.pop().and_then(|item| self.extend(vec![item])),
            op::APPENDS | op::ADDITEMS => self.pop_to_mark().and_then(|items| self.extend(items)),
            op::EMPTY_DICT => self.push(Object::Dict(vec![])),
            op::DICT => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(vec![]))?;
                self.set(&items)
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])
            }
            op::SETITEMS => self.pop_to_mark().and_then(|items| self.set(&items)),

            op::BINPUT => self.input.byte().and_then(|index| self.memoize(index.into())),
            op::LONG_BINPUT => self.input.array().and_then(|index| self.memoize(u32::from_le_bytes(index))),
            op::MEMOIZE => self.memoize(self.memo.len() as u32),
            op::BINGET => self.input.byte().and_then(|index| self.recall(index.into())),
            op::LONG_BINGET => self.input.array().and_then(|index| self.recall(u32::from_le_bytes(index))),

            op::GLOBAL => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.heap.text(module), self.heap.text(name)) {
                    (Some(module), Some(name)) => {
                        let (module, name) = (module.to_string(), name.to_string());
                        self.global(&module, &name)
                    }
                    _ => Err("the pickle names a function by something that is no string".into()),
                }
            }
            op::REDUCE | op::NEWOBJ => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let result = self.call(function, arguments)?;
                self.stack.push(result);
                Ok(())
            }
            op::BUILD => {
                // The state of a dictionary is its attributes, such as the versions of a state dict's modules.
                let (_, target) = (self.pop()?, self.top()?);
                match self.heap.get(target) {
                    Object::Dict(_) => Ok(()),
                    other => Err(format!("the pickle sets attributes of {}", other.kind())),
                }
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Object::Storage(Box::new(storage)))
            }
            _ => Err(format!("the pickle uses opcode {opcode:#04x}, which state dicts do not need")),
        }
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        let handle = self.heap.add(object)?;
        self.stack.push(handle);
        Ok(())
    }

    fn top(&self) -> Result<Handle, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| "the pickle takes more from its stack than it put there".into())
    }

    fn pop(&mut self) -> Result<Handle, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Handle>, String> {
        let mark = self.marks.pop().ok_or("the pickle closes a list that it did not open")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let mut items = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Object::Tuple(items))
    }

    fn extend(&mut self, items: Vec<Handle>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.heap.0[list.0 as usize] {
            Object::List(list) => {
                list.extend(items);
                Ok(())
            }
            other => Err(format!("the pickle appends to {}", other.kind())),
        }
    }

    /// Sets keys and values, given alternately, of the dictionary on top of the stack.
    fn set(&mut self, items: &[Handle]) -> Result<(), String> {
        let dict = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.heap.0[dict.0 as usize] {
            Object::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            Object::Dict(_) => Err("the pickle sets a key without a value".into()),
            other => Err(format!("the pickle sets items of {}", other.kind())),
        }
    }

    fn memoize(&mut self, index: u32) -> Result<(), String> {
        if self.memo.len() >= MOST_OBJECTS {
            return Err(format!("the pickle remembers more than {MOST_OBJECTS} objects"));
        }
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let object = self.memo.get(&index).ok_or_else(|| format!("the pickle refers to object {index}, which it did not define"))?;
        self.stack.push(*object);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        match Global::find(module, name) {
            Some(global) => self.push(Object::Global(global)),
            None => Err(format!(
                "the pickle wants `{module}.{name}`, which a state dict does not need and which is not loaded (hint: save `model.state_dict()` alone, or as .safetensors)"
            )),
        }
    }

    fn call(&mut self, function: Handle, arguments: Handle) -> Result<Handle, String> {
        let Object::Global(global) = *self.heap.get(function) else {
            return Err(format!("the pickle calls {}", self.heap.get(function).kind()));
        };
        let Object::Tuple(arguments) = self.heap.get(arguments) else {
            return Err(format!("the pickle calls a function with {} for arguments", self.heap.get(arguments).kind()));
        };
        match (global, &arguments[..]) {
            (Global::OrderedDict, []) => self.heap.add(Object::Dict(vec![])),
            (Global::OrderedDict, [pairs]) => {
                let pairs = self.heap.pairs(*pairs)?;
                self.copied += pairs.len();
                if self.copied > MOST_OBJECTS {
                    return Err(format!("the pickle copies more than {MOST_OBJECTS} objects"));
                }
                self.heap.add(Object::Dict(pairs))
            }
            (Global::Size, [items]) if matches!(self.heap.get(*items), Object::Tuple(_)) => Ok(*items),
            (Global::RebuildTensor, [storage, offset, dims, strides, ..]) => {
                let Object::Storage(storage) = self.heap.get(*storage) else {
                    return Err(format!("a tensor is made from {}", self.heap.get(*storage).kind()));
                };
                let storage = Storage::clone(storage);
                let offset = self.heap.count(*offset)?.checked_add(storage.base).ok_or("a tensor begins beyond all memory")?;
                let view = View::new(self.heap.counts(*dims)?, self.heap.counts(*strides)?, offset)?;
                self.heap.add(Object::Tensor(Box::new(TensorView { storage, view })))
            }
            (Global::RebuildParameter, [tensor, ..]) if matches!(self.heap.get(*tensor), Object::Tensor(_)) => Ok(*tensor),
            (Global::OrderedDict | Global::Size | Global::RebuildTensor | Global::RebuildParameter | Global::Storage(_), _) => {
                Err(format!("the pickle calls {global:?} with arguments that it does not take"))
            }
        }
    }

    /// The storage of a persistent id: ('storage', type, key, device, elements), before PyTorch 1.6 also a window
    /// (key, offset, elements) or None.
    fn storage(&self, id: Handle) -> Result<Storage, String> {
        let malformed = || "the pickle refers to something outside that is no storage".to_string();
        let Object::Tuple(id) = self.heap.get(id) else { return Err(malformed()) };
        let [kind, dtype, key, _device, _elements, window @ ..] = &id[..] else { return Err(malformed()) };
        let (Some("storage"), Object::Global(Global::Storage(dtype)), Some(key)) =
            (self.heap.text(*kind), self.heap.get(*dtype), self.heap.text(*key))
        else {
            return Err(malformed());
        };
        let base = match window.first().map(|window| self.heap.get(*window)) {
            None | Some(Object::None) => 0,
            Some(Object::Tuple(window)) => match &window[..] {
                [_key, offset, _elements] => self.heap.count(*offset)?,
                _ => return Err(malformed()),
            },
            Some(_) => return Err(malformed()),
        };
        Ok(Storage { key: key.into(), dtype: *dtype, base })
    }
}

/// An integer in little-endian two's complement of any length.
fn integer(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Long(bytes.into());
    }
    let fill = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut octets = [fill; 8];
    octets[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(octets))
}

fn text(bytes: &[u8]) -> Result<Object, String> {
    std::str::from_utf8(bytes).map(|text| Object::Text(text.into())).map_err(|_| "a string of the pickle is not UTF-8".into())
}

/// What is left of the pickle.
#[derive(Default)]
struct Input<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.position.checked_add(length);
        let bytes = end.and_then(|end| self.bytes.get(self.position..end)).ok_or("the pickle ends in the middle")?;
        self.position += length;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// As many octets as a little-endian number of `N` octets says.
    fn prefixed<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(self.take(N)?);
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| "the pickle ends in the middle")?;
        self.take(length)
    }

    /// Text up to the next line feed.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|b| *b == b'\n').ok_or("the pickle ends in the middle")?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| "a name in the pickle is not UTF-8".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pickle: &[u8]) -> String {
        unpickle(pickle).map(|u| u.length).expect_err("it should not run")
    }

    #[test]
    fn integers_by_hand() {
        let cases: [(&[u8], i64); 6] =
            [(&[], 0), (&[0xff], -1), (&[0xff, 0x00], 255), (&[0x00, 0x80], -32_768), (&[0, 0, 0, 0, 1], 1 << 32), (&[0xff; 8], -1)];
        for (octets, value) in cases {
            assert_eq!(integer(octets), Object::Int(value), "{octets:?}");
        }
        assert_eq!(integer(&[1; 9]), Object::Long([1; 9].into()));
    }

    #[test]
    fn containers_share_what_the_memo_names() -> Result<(), String> {
        // d = {}; d['a'] = d; [d, d] with d put into the memo while it was empty
        let Unpickled { heap, root, length } = unpickle(b"](}q\x00X\x01\x00\x00\x00ah\x00sh\x00e. and more")?;
        let Object::List(items) = heap.get(root) else { return Err("no list".into()) };
        assert_eq!(items[0], items[1]);
        let Object::Dict(pairs) = heap.get(items[0]) else { return Err("no dictionary".into()) };
        assert_eq!((heap.text(pairs[0].0), pairs[0].1), (Some("a"), items[0]));
        assert_eq!(length, 18);
        Ok(())
    }

    #[test]
    fn ordered_dictionaries_of_python_2_are_lists_of_pairs() -> Result<(), String> {
        // OrderedDict([['a', 1], ['b', 2]])
        let Unpickled { heap, root, .. } = unpickle(b"ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R.")?;
        let Object::Dict(pairs) = heap.get(root) else { return Err("no dictionary".into()) };
        let read: Vec<_> = pairs.iter().map(|(key, value)| (heap.text(*key), heap.get(*value))).collect();
        assert_eq!(read, [(Some("a"), &Object::Int(1)), (Some("b"), &Object::Int(2))]);
        assert!(refused(b"ccollections\nOrderedDict\n](K\x01e\x85R.").contains("no list of pairs"));
        Ok(())
    }

    #[test]
    fn a_list_copied_again_and_again_is_counted() {
        // x = [(), ()]; pairs = [x] * 2048, copied 2048 times, then once more
        let mut pickle = b"ccollections\nOrderedDict\nq\x00]())eq\x010](".to_vec();
        pickle.extend(b"h\x01".repeat(2048));
        pickle.extend(b"eq\x02");
        pickle.extend(b"h\x00h\x02\x85R".repeat(2048));
        assert_eq!(refused(&pickle), "the pickle ends in the middle"); // 2²² pairs are allowed
        pickle.extend(b"h\x00h\x02\x85R.");
        assert!(refused(&pickle).starts_with("the pickle copies more than"));
    }

    #[test]
    fn depth_costs_no_stack() {
        let nested: Vec<u8> = std::iter::once(op::NONE).chain(std::iter::repeat_n(op::TUPLE1, 1_000_000)).chain([op::STOP]).collect();
        assert_eq!(unpickle(&nested).map(|u| u.length), Ok(1_000_002));
        let marks = vec![op::MARK; 1_000_000];
        assert_eq!(refused(&marks), "the pickle ends in the middle");
    }

    #[test]
    fn objects_are_counted() {
        let many = vec![op::NONE; MOST_OBJECTS + 1];
        assert!(refused(&many).starts_with("the pickle makes more than"));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for (pickle, reason) in [
            (&b""[..], "ends in the middle"),
            (b".", "more from its stack than it put there"),
            (b"N(\x85.", "more from its stack"), // the tuple would reach below the mark
            (b"Nt.", "did not open"),
            (b"h\x07.", "object 7, which it did not define"),
            (b"Na.", "more from its stack"),
            (b"NNa.", "appends to None"),
            (b"}(Nu.", "a key without a value"),
            (b"NNR.", "calls None"),
            (b"ctorch\nFloatStorage\n)R.", "arguments that it does not take"),
            (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.", "a tensor is made from None"),
            (b"NQ.", "no storage"),
            (b"X\xff\xff\xff\xffab.", "ends in the middle"),
            (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffab.", "ends in the middle"),
            (b"\x80\x63N.", "protocol 99"),
            (b"I01\n.", "opcode 0x49"),
            (b"cbuiltins\neval\n.", "`builtins.eval`"),
            (b"\x8c\x02os\x8c\x06system\x93.", "`os.system`"),
        ] {
            let text = String::from_utf8_lossy(pickle);
            let error = refused(pickle);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
