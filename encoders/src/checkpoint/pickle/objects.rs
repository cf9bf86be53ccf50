//! Constructors of a state dictionary: storages, tensors and ordered dictionaries.

use tch::Kind;

use crate::checkpoint::pickle::machine::Machine;
use crate::checkpoint::pickle::stored::Stored;
use crate::checkpoint::pickle::value::{Result, Value, object};

impl<'a> Machine<'a> {
    fn items(&self, value: Value<'a>) -> &[Value<'a>] {
        match value {
            Value::Tuple(number) | Value::List(number) => &self.containers[number],
            _ => &[],
        }
    }

    /// `("storage", type, key, device, length, ...)`.
    pub fn storage(&mut self, identity: Value<'a>) -> Result<Value<'a>> {
        let &[_, Value::Global(class), Value::Text(key), ..] = self.items(identity) else {
            return Err("a storage has no name".into());
        };
        let kind = match self.globals[class] {
            ("torch", "FloatStorage") => Kind::Float,
            ("torch", "HalfStorage") => Kind::Half,
            ("torch", "BFloat16Storage") => Kind::BFloat16,
            ("torch", "DoubleStorage") => Kind::Double,
            ("torch", "LongStorage") => Kind::Int64,
            ("torch", "IntStorage") => Kind::Int,
            ("torch", "ShortStorage") => Kind::Int16,
            ("torch", "CharStorage") => Kind::Int8,
            ("torch", "ByteStorage") => Kind::Uint8,
            ("torch", "BoolStorage") => Kind::Bool,
            (module, name) => return Err(format!("values of the unknown type {module} {name}")),
        };
        self.sizes.insert(key, kind.elt_size_in_bytes());
        Ok(Value::Storage { key, kind })
    }

    pub fn call(&mut self, function: Value<'a>, arguments: Value<'a>, depth: usize) -> Result<Value<'a>> {
        let Value::Global(class) = function else { return Ok(Value::Opaque) };
        let items = self.items(arguments);
        match self.globals[class] {
            ("collections", "OrderedDict") => {
                self.containers.push(Vec::new());
                Ok(Value::Dict(self.containers.len() - 1))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") if !items.is_empty() => {
                Ok(items[0])
            }
            // A subclass of Tensor: the function and the arguments that build the tensor itself.
            ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") if depth == 0 => match *items {
                [function, _, arguments, ..] => self.call(function, arguments, 1),
                _ => Ok(Value::Opaque),
            },
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                let &[Value::Storage { key, kind }, Value::Int(offset), shape, strides, ..] = items else {
                    return Err("a tensor is not built from a storage".into());
                };
                let offset = usize::try_from(offset).map_err(|e| e.to_string())?;
                let (shape, strides) = (self.numbers(shape)?, self.numbers(strides)?);
                self.tensors.push(Stored { key, kind, offset, shape, strides });
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            _ => Ok(object(function)),
        }
    }

    fn numbers(&self, value: Value<'a>) -> Result<Vec<i64>> {
        let items = self.items(value);
        // torch has no tensor of more dimensions.
        if items.len() > 64 {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        let number =
            |value: &Value| if let Value::Int(number) = value { Ok(*number) } else { Err("a size is no number") };
        Ok(items.iter().map(number).collect::<std::result::Result<Vec<i64>, _>>()?)
    }
}
