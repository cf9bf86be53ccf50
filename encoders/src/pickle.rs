//! The index of a checkpoint that `torch.save` wrote: names, shapes and where the values lie. Nothing of it is executed:
//! the few constructors of a state dictionary are known by name, everything else is an opaque object.

use std::collections::BTreeMap;
use std::io::Cursor;

use tch::Kind;

use crate::checkpoint::Entry;

/// What is wrong with a file.
type Result<T> = std::result::Result<T, String>;

/// First number of torch's format before 1.6.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// A value on the machine's stack.
#[derive(Debug, Clone)]
enum Value {
    Mark,
    Opaque,
    Int(i64),
    Text(String),
    /// Module and name.
    Global(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage {
        key: String,
        kind: Kind,
    },
    Tensor {
        key: String,
        kind: Kind,
        offset: usize,
        shape: Vec<i64>,
        strides: Vec<i64>,
    },
}

/// Reads the index of a file's bytes.
///
/// # Errors
/// A truncated or damaged file, or one that holds something else than a dictionary of contiguous tensors.
pub fn index(data: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let (state, storages) = if data.starts_with(b"PK") { zipped(data)? } else { legacy(data)? };
    let Value::Dict(items) = state else { return Err("it holds no dictionary of tensors".into()) };
    let mut index = BTreeMap::new();
    for (name, value) in items {
        if let (Value::Text(name), Value::Tensor { key, kind, offset, shape, strides }) = (name, value) {
            let (start, length) = *storages.get(&key).ok_or_else(|| format!("the values of {name} are not in it"))?;
            let entry = entry(kind, offset, shape, &strides, start, length).map_err(|e| format!("{name}: {e}"))?;
            index.insert(name, entry);
        }
    }
    Ok(index)
}

/// Where a tensor's values lie, given those of its storage.
fn entry(kind: Kind, offset: usize, shape: Vec<i64>, strides: &[i64], start: usize, length: usize) -> Result<Entry> {
    let size = kind.elt_size_in_bytes();
    let mut expected = 1i64;
    for (&count, &stride) in shape.iter().zip(strides).rev() {
        if count > 1 && stride != expected {
            return Err(format!("it is not contiguous (shape {shape:?}, strides {strides:?})"));
        }
        expected = expected.checked_mul(count.max(1)).ok_or("its shape is too large")?;
    }
    if shape.iter().any(|&count| count < 0) || shape.len() != strides.len() {
        return Err(format!("shape {shape:?} with strides {strides:?}"));
    }
    let count = shape.iter().product::<i64>() as usize;
    let begin = offset.checked_mul(size).ok_or("its place is too large")?;
    let bytes = count.checked_mul(size).ok_or("its shape is too large")?;
    if begin.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(format!("{bytes} bytes expected, its storage has {}", length.saturating_sub(begin)));
    }
    Ok(Entry { kind, shape, start: start + begin, length: bytes })
}

type Storages = BTreeMap<String, (usize, usize)>;

/// torch 1.6 and later: a zip archive with `data.pkl` and a file for every storage, uncompressed.
fn zipped(data: &[u8]) -> Result<(Value, Storages)> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(data)).map_err(|e| format!("it is truncated or no archive ({e})"))?;
    let (mut state, mut storages) = (None, Storages::new());
    for number in 0..archive.len() {
        let file = archive.by_index(number).map_err(|e| e.to_string())?;
        let (start, length) = (file.data_start() as usize, file.size() as usize);
        if file.compression() != zip::CompressionMethod::Stored {
            return Err(format!("{} is compressed", file.name()));
        }
        let content = data.get(start..).and_then(|rest| rest.get(..length)).ok_or("it is truncated")?;
        if file.name().ends_with("/data.pkl") {
            state = Some(Machine::new(content).run()?);
        } else if let Some((_, key)) = file.name().split_once("/data/") {
            storages.insert(key.to_string(), (start, length));
        }
    }
    Ok((state.ok_or("it holds no data.pkl")?, storages))
}

/// Before torch 1.6: pickles of a magic number, a version, facts about the system, the state and the storages' keys, then
/// for each storage its length and its values.
fn legacy(data: &[u8]) -> Result<(Value, Storages)> {
    let mut machine = Machine::new(data);
    machine.run()?;
    if !data.windows(LEGACY_MAGIC.len()).take(16).any(|window| window == LEGACY_MAGIC) {
        return Err("it is no checkpoint of torch".into());
    }
    machine.run()?;
    machine.run()?;
    let state = machine.run()?;
    let Value::List(keys) = machine.run()? else { return Err("it has no list of storages".into()) };
    let mut storages = Storages::new();
    for key in keys {
        let Value::Text(key) = key else { return Err("a storage has no name".into()) };
        let count = u64::from_le_bytes(machine.take::<8>()?) as usize;
        let size = machine.sizes.get(&key).copied().ok_or("a storage that no tensor uses")?;
        let length = count.checked_mul(size).ok_or("a storage is too large")?;
        storages.insert(key, (machine.place, length));
        machine.skip(length)?;
    }
    Ok((state, storages))
}

/// The stack machine of a pickle.
struct Machine<'a> {
    data: &'a [u8],
    place: usize,
    stack: Vec<Value>,
    memo: BTreeMap<u32, Value>,
    /// Bytes of one value of each storage seen.
    sizes: BTreeMap<String, usize>,
}

impl<'a> Machine<'a> {
    fn new(data: &'a [u8]) -> Self {
        Machine { data, place: 0, stack: Vec::new(), memo: BTreeMap::new(), sizes: BTreeMap::new() }
    }

    /// Runs up to the end of one pickle and gives its value.
    fn run(&mut self) -> Result<Value> {
        self.stack.clear();
        self.memo.clear();
        loop {
            let [code] = self.take::<1>()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.stack.push(Value::Mark),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Opaque),
            b'G' => {
                self.take::<8>()?;
                self.stack.push(Value::Opaque);
            }
            b'K' => {
                let [value] = self.take::<1>()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take::<2>()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.take::<4>()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let value = self.long()?;
                self.stack.push(value);
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take::<4>()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let [length] = self.take::<1>()?;
                self.text(length.into())?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(format!("{module} {name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (name, module) else {
                    return Err("a name is no text".into());
                };
                self.stack.push(Value::Global(format!("{module} {name}")));
            }
            b'q' => {
                let [key] = self.take::<1>()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.take::<4>()?);
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [key] = self.take::<1>()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.take::<4>()?);
                self.recall(key)?;
            }
            b')' => self.stack.push(Value::Tuple(Vec::new())),
            b']' => self.stack.push(Value::List(Vec::new())),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or("its stack is empty")?;
                let items = self.stack.split_off(first);
                self.stack.push(Value::Tuple(shallow(items)?));
            }
            b't' => {
                let items = self.since_mark()?;
                self.stack.push(Value::Tuple(shallow(items)?));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(shallow(vec![item])?)?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(shallow(items)?)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(shallow(vec![key, value])?)?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(shallow(items)?)?;
            }
            // State of an object, such as a dictionary's `_metadata`.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let identity = self.pop()?;
                let storage = self.storage(identity)?;
                self.stack.push(storage);
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.stack.push(call(function, arguments)?);
            }
            other => return Err(format!("it holds what a checkpoint does not (opcode {other:#x})")),
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let chunk = self.data.get(self.place..).and_then(|rest| rest.first_chunk::<N>());
        self.place += N;
        chunk.copied().ok_or_else(|| "it is truncated".into())
    }

    fn skip(&mut self, length: usize) -> Result<&'a [u8]> {
        let chunk = self.data.get(self.place..).and_then(|rest| rest.get(..length)).ok_or("it is truncated")?;
        self.place += length;
        Ok(chunk)
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text = std::str::from_utf8(self.skip(length)?).map_err(|e| e.to_string())?;
        self.stack.push(Value::Text(text.to_string()));
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let rest = self.data.get(self.place..).unwrap_or_default();
        let length = rest.iter().take(1024).position(|&byte| byte == b'\n').ok_or("a name has no end")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.place += length + 1;
        Ok(line)
    }

    /// A number of any length; one of more than 64 bits (the magic number) is not looked at.
    fn long(&mut self) -> Result<Value> {
        let [length] = self.take::<1>()?;
        let bytes = self.skip(length.into())?;
        if bytes.len() > 8 {
            return Ok(Value::Opaque);
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(value)))
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(|| "its stack is empty".into())
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or("a mark is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        let top = self.stack.last().ok_or("its stack is empty")?;
        // A container is remembered while it is still empty, and nothing in a checkpoint refers back to one.
        self.memo.insert(key, top.clone());
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let value = self.memo.get(&key).ok_or("it refers to what is not there")?;
        // Nothing in a checkpoint refers back to a container of containers, and copies of copies would grow without end.
        if depth(value) > 1 {
            return Err("it refers back to a container".into());
        }
        let value = value.clone();
        self.stack.push(value);
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last_mut() {
            Some(Value::List(list)) => list.extend(items),
            Some(_) => {}
            None => return Err("its stack is empty".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Result<()> {
        let mut items = items.into_iter();
        match self.stack.last_mut() {
            Some(Value::Dict(dict)) => {
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push((key, value));
                }
            }
            Some(_) => {}
            None => return Err("its stack is empty".into()),
        }
        Ok(())
    }

    /// `("storage", type, key, device, length, ...)`.
    fn storage(&mut self, identity: Value) -> Result<Value> {
        let Value::Tuple(parts) = identity else { return Err("a storage has no name".into()) };
        let [_, Value::Global(class), Value::Text(key), ..] = parts.as_slice() else {
            return Err("a storage has no name".into());
        };
        let kind = match class.as_str() {
            "torch FloatStorage" => Kind::Float,
            "torch HalfStorage" => Kind::Half,
            "torch BFloat16Storage" => Kind::BFloat16,
            "torch DoubleStorage" => Kind::Double,
            "torch LongStorage" => Kind::Int64,
            "torch IntStorage" => Kind::Int,
            "torch ByteStorage" => Kind::Uint8,
            "torch BoolStorage" => Kind::Bool,
            other => return Err(format!("values of the unknown type {other}")),
        };
        self.sizes.insert(key.clone(), kind.elt_size_in_bytes());
        Ok(Value::Storage { key: key.clone(), kind })
    }
}

/// Containers within containers, deeper than any checkpoint: dropping such a value would exhaust the thread's stack.
const DEEPEST: usize = 16;

fn shallow(items: Vec<Value>) -> Result<Vec<Value>> {
    match items.iter().all(|item| depth(item) < DEEPEST) {
        true => Ok(items),
        false => Err(format!("its containers are nested more than {DEEPEST} deep")),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Tuple(items) | Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Dict(items) => 1 + items.iter().map(|(key, value)| depth(key).max(depth(value))).max().unwrap_or(0),
        _ => 0,
    }
}

fn call(function: Value, arguments: Value) -> Result<Value> {
    let (Value::Global(name), Value::Tuple(mut arguments)) = (function, arguments) else { return Ok(Value::Opaque) };
    match name.as_str() {
        "collections OrderedDict" => Ok(Value::Dict(Vec::new())),
        "torch._utils _rebuild_parameter" if !arguments.is_empty() => Ok(arguments.swap_remove(0)),
        "torch._utils _rebuild_tensor_v2" => {
            let [Value::Storage { key, kind }, Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..] =
                arguments.as_slice()
            else {
                return Err("a tensor is not built from a storage".into());
            };
            let numbers = |values: &[Value]| {
                let number = |value: &Value| {
                    if let Value::Int(number) = value { Ok(*number) } else { Err("a size is no number") }
                };
                values.iter().map(number).collect::<std::result::Result<Vec<i64>, _>>()
            };
            let offset = usize::try_from(*offset).map_err(|e| e.to_string())?;
            let (shape, strides) = (numbers(shape)?, numbers(strides)?);
            Ok(Value::Tensor { key: key.clone(), kind: *kind, offset, shape, strides })
        }
        _ => Ok(Value::Opaque),
    }
}
