//! Values of a pickle.

use tch::Kind;

/// Result with the fault of a file as text.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// A value on the machine's stack. Containers, and what else is large, are numbers of the machine's own lists: a value
/// that is referred to again is not copied, and nothing is nested in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Mark,
    Opaque,
    Int(i64),
    Text(&'a str),
    /// Number of a module and name.
    Global(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage {
        key: &'a str,
        kind: Kind,
    },
    Tensor(usize),
    /// An object of a class.
    Object(usize),
}

/// An object of a class that was called.
pub(crate) fn object(class: Value) -> Value {
    if let Value::Global(number) = class { Value::Object(number) } else { Value::Opaque }
}

/// A number of any length; one of more than 64 bits (the magic number) is not looked at.
pub(crate) fn long(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
}
