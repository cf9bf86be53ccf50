//! The stack machine of a pickle: its stack, its input and its bounds.

use std::collections::BTreeMap;

use crate::checkpoint::pickle::stored::Stored;
use crate::checkpoint::pickle::value::{Result, Value};

/// Values that any pickle may hold, and how much memory they may take for each byte of the file.
const LEAST_VALUES: usize = 1 << 15;
const MOST_BYTES: usize = 1;

/// The stack machine of a pickle.
pub(crate) struct Machine<'a> {
    data: &'a [u8],
    pub place: usize,
    pub stack: Vec<Value<'a>>,
    pub memo: BTreeMap<u32, Value<'a>>,
    /// Items of tuples and lists; keys and values of dictionaries in turn.
    pub containers: Vec<Vec<Value<'a>>>,
    pub tensors: Vec<Stored<'a>>,
    /// Modules and names.
    pub globals: Vec<(&'a str, &'a str)>,
    /// Bytes of one value of each storage seen.
    pub sizes: BTreeMap<&'a str, usize>,
    /// Values that may still be made.
    left: usize,
}

impl<'a> Machine<'a> {
    /// For a pickle within a file of so many bytes.
    pub fn new(data: &'a [u8], file: usize) -> Self {
        let left = file.saturating_mul(MOST_BYTES) / size_of::<Value>() + LEAST_VALUES;
        let (stack, memo, containers, tensors, globals, sizes) = Default::default();
        Machine { data, place: 0, stack, memo, containers, tensors, globals, sizes, left }
    }

    /// Runs up to the end of one pickle and gives its value.
    pub fn run(&mut self) -> Result<Value<'a>> {
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

    pub fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let chunk = self.data.get(self.place..).and_then(|rest| rest.first_chunk::<N>());
        self.place += N;
        chunk.copied().ok_or_else(|| "it is truncated".into())
    }

    pub fn skip(&mut self, length: usize) -> Result<&'a [u8]> {
        let chunk = self.data.get(self.place..).and_then(|rest| rest.get(..length)).ok_or("it is truncated")?;
        self.place += length;
        Ok(chunk)
    }

    pub fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.stack.push(value);
        self.spend(1)
    }

    pub fn spend(&mut self, values: usize) -> Result<()> {
        self.left =
            self.left.checked_sub(values).ok_or("it makes far more values than a checkpoint of its size holds")?;
        Ok(())
    }

    /// A length of one to eight bytes before what is that long.
    pub fn length(&mut self, bytes: usize) -> Result<usize> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.skip(bytes)?);
        usize::try_from(u64::from_le_bytes(number)).map_err(|e| e.to_string())
    }

    pub fn line(&mut self) -> Result<&'a str> {
        let rest = self.data.get(self.place..).unwrap_or_default();
        let length = rest.iter().take(1024).position(|&byte| byte == b'\n').ok_or("a name has no end")?;
        self.place += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|e| e.to_string())
    }

    pub fn top(&self) -> Result<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| "its stack is empty".into())
    }

    pub fn pop(&mut self) -> Result<Value<'a>> {
        self.stack.pop().ok_or_else(|| "its stack is empty".into())
    }

    pub fn since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or("a mark is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }
}
