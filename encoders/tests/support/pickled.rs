//! A file as `torch.save` wrote it before version 1.6, made by hand: names, strides and nesting as a test wants them.
#![allow(dead_code)] // Every test binary uses its own part.

/// A float32 tensor on a storage of its own.
pub struct Stored {
    pub name: String,
    pub values: Vec<f32>,
    pub shape: Vec<i32>,
    pub strides: Vec<i32>,
    pub offset: i32,
}

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(b'X');
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn numbers(bytes: &mut Vec<u8>, numbers: &[i32]) {
    bytes.push(b'(');
    numbers.iter().for_each(|&n| number(bytes, n));
    bytes.push(b't');
}

fn number(bytes: &mut Vec<u8>, number: i32) {
    bytes.push(b'J');
    bytes.extend(number.to_le_bytes());
}

/// The file; `nested` is the key that the state dictionary stands under.
pub fn bytes(tensors: &[Stored], nested: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0x80, 2, 0x8a, 10];
    bytes.extend(MAGIC);
    bytes.extend(b".\x80\x02M\xe9\x03.\x80\x02}.\x80\x02");
    if let Some(key) = nested {
        bytes.push(b'}');
        text(&mut bytes, key);
    }
    bytes.push(b'}');
    for (key, tensor) in tensors.iter().enumerate() {
        text(&mut bytes, &tensor.name);
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut bytes, "storage");
        bytes.extend(b"ctorch\nFloatStorage\n");
        text(&mut bytes, &key.to_string());
        text(&mut bytes, "cpu");
        number(&mut bytes, tensor.values.len() as i32);
        bytes.extend(b"NtQ");
        number(&mut bytes, tensor.offset);
        numbers(&mut bytes, &tensor.shape);
        numbers(&mut bytes, &tensor.strides);
        bytes.extend(b"\x89}tRs");
    }
    if nested.is_some() {
        bytes.push(b's');
    }
    bytes.extend(b".\x80\x02](");
    (0..tensors.len()).for_each(|key| text(&mut bytes, &key.to_string()));
    bytes.extend(b"e.");
    for tensor in tensors {
        bytes.extend((tensor.values.len() as u64).to_le_bytes());
        tensor.values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    }
    bytes
}

/// A tensor as it lies, or with its matrix transposed in memory.
pub fn stored(name: &str, tensor: &tch::Tensor, is_transposed: bool) -> Stored {
    let shape: Vec<i32> = tensor.size().iter().map(|&n| n as i32).collect();
    let is_transposed = is_transposed && shape.len() == 2;
    let laid = if is_transposed { tensor.transpose(0, 1).contiguous() } else { tensor.contiguous() };
    let values = Vec::<f32>::try_from(laid.flatten(0, -1)).unwrap();
    let strides = match shape.as_slice() {
        [rows, _] if is_transposed => vec![1, *rows],
        [_, columns] => vec![*columns, 1],
        _ => vec![1; shape.len()],
    };
    Stored { name: name.into(), values, shape, strides, offset: 0 }
}
