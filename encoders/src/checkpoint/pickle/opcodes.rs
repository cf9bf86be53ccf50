//! Opcodes of a pickle: those that a checkpoint may hold.

use crate::checkpoint::pickle::machine::Machine;
use crate::checkpoint::pickle::value::{Result, Value, long, object};

impl<'a> Machine<'a> {
    pub fn step(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.push(Value::Mark)?,
            b'N' | 0x88 | 0x89 => self.push(Value::Opaque)?,
            b'G' => {
                self.take::<8>()?;
                self.push(Value::Opaque)?;
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(code)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e => self.string(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'q' | b'r' | 0x94 => self.remember(code)?,
            b'h' | b'j' => self.recall(code)?,
            b')' | b']' | b'}' | 0x8f | 0x85..=0x87 | b't' | b'l' | b'd' | 0x91 => self.container(code)?,
            b'a' | b's' => {
                let from =
                    self.stack.len().checked_sub(if code == b'a' { 1 } else { 2 }).ok_or("its stack is empty")?;
                let items = self.stack.split_off(from);
                self.extend(&items)?;
            }
            b'e' | b'u' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(&items)?;
            }
            // State of an object, such as a dictionary's `_metadata`.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let identity = self.pop()?;
                let storage = self.storage(identity)?;
                self.push(storage)?;
            }
            // A call, and a new object of a class with its arguments.
            b'R' | 0x81 | 0x92 => {
                if code == 0x92 {
                    self.pop()?;
                }
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = if code == b'R' { self.call(function, arguments, 0)? } else { object(function) };
                self.push(value)?;
            }
            other => return Err(format!("it holds what a checkpoint does not (opcode {other:#x})")),
        }
        Ok(())
    }

    fn integer(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b'K' => Value::Int(self.length(1)? as i64),
            b'M' => Value::Int(self.length(2)? as i64),
            b'J' => Value::Int(i32::from_le_bytes(self.take::<4>()?).into()),
            other => {
                let length = self.length(if other == 0x8a { 1 } else { 4 })?;
                long(self.skip(length)?)
            }
        };
        self.push(value)
    }

    fn string(&mut self, code: u8) -> Result<()> {
        let length = self.length(match code {
            0x8c | b'U' | b'C' => 1,
            0x8d | 0x8e => 8,
            _ => 4,
        })?;
        let bytes = self.skip(length)?;
        let is_text = !matches!(code, b'C' | b'B' | 0x8e);
        self.push(match std::str::from_utf8(bytes) {
            Ok(text) if is_text => Value::Text(text),
            Err(e) if matches!(code, b'X' | 0x8c | 0x8d) => return Err(e.to_string()),
            _ => Value::Opaque,
        })
    }

    fn global(&mut self, code: u8) -> Result<()> {
        let named = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Value::Text(name), Value::Text(module)) = (name, module) else {
                return Err("a name is no text".into());
            };
            (module, name)
        };
        self.globals.push(named);
        self.push(Value::Global(self.globals.len() - 1))
    }

    fn remember(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' => self.length(1)? as u32,
            b'r' => self.length(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        self.spend(1)
    }

    fn recall(&mut self, code: u8) -> Result<()> {
        let key = self.length(if code == b'h' { 1 } else { 4 })? as u32;
        let value = *self.memo.get(&key).ok_or("it refers to what is not there")?;
        self.push(value)
    }

    fn container(&mut self, code: u8) -> Result<()> {
        let items = match code {
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or("its stack is empty")?;
                self.stack.split_off(first)
            }
            b't' | b'l' | b'd' | 0x91 => self.since_mark()?,
            _ => Vec::new(),
        };
        self.containers.push(items);
        let number = self.containers.len() - 1;
        self.push(match code {
            b']' | b'l' => Value::List(number),
            b'}' | b'd' => Value::Dict(number),
            0x8f | 0x91 => Value::List(number),
            _ => Value::Tuple(number),
        })
    }

    /// Adds to the list or dictionary at the top; what an object takes is left out.
    fn extend(&mut self, items: &[Value<'a>]) -> Result<()> {
        if let Value::List(number) | Value::Dict(number) = self.top()? {
            self.spend(items.len())?;
            self.containers[number].extend_from_slice(items);
        }
        Ok(())
    }
}
