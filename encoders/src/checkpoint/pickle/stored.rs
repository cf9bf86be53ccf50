//! Tensors as a pickle holds them, and the place of their values.

use std::collections::BTreeMap;

use tch::Kind;

use crate::checkpoint::pickle::value::Result;
use crate::checkpoint::tensor_info::TensorInfo;

/// A tensor as it was saved.
#[derive(Debug, Clone)]
pub(crate) struct Stored<'a> {
    pub key: &'a str,
    pub kind: Kind,
    pub offset: usize,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

/// Where each storage lies: first byte and bytes.
pub(crate) type Storages<'a> = BTreeMap<&'a str, (usize, usize)>;

/// Place of a tensor's values, given that of its storage.
pub(crate) fn entry(stored: &Stored, start: usize, length: usize) -> Result<TensorInfo> {
    let Stored { kind, offset, shape, strides, .. } = stored;
    if shape.len() != strides.len() || shape.iter().chain(strides).any(|&n| n < 0) {
        return Err(format!("shape {shape:?} with strides {strides:?}"));
    }
    let size = kind.elt_size_in_bytes();
    let (mut step, mut last, mut is_contiguous) = (1i64, 0i64, true);
    for (&count, &stride) in shape.iter().zip(strides).rev() {
        is_contiguous &= count <= 1 || stride == step;
        let reach = (count - 1).max(0).checked_mul(stride).ok_or("its shape is too large")?;
        last = last.checked_add(reach).ok_or("its shape is too large")?;
        step = step.checked_mul(count.max(1)).ok_or("its shape is too large")?;
    }
    let values = if shape.contains(&0) { 0 } else { usize::try_from(last).map_err(|e| e.to_string())? + 1 };
    let begin = offset.checked_mul(size).ok_or("its place is too large")?;
    let bytes = values.checked_mul(size).ok_or("its shape is too large")?;
    if begin.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(format!("{bytes} bytes expected, its storage has {}", length.saturating_sub(begin)));
    }
    let strides = (!is_contiguous && values > 0).then(|| strides.clone());
    Ok(TensorInfo { kind: *kind, shape: shape.clone(), strides, start: start + begin, length: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_held_against_the_storage() {
        let stored = |shape: &[i64], strides: &[i64], offset| Stored {
            key: "0",
            kind: Kind::Float,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        let transposed = entry(&stored(&[3, 2], &[1, 3], 0), 100, 24).unwrap();
        assert_eq!((transposed.strides, transposed.start, transposed.length), (Some(vec![1, 3]), 100, 24));
        let plain = entry(&stored(&[3, 2], &[2, 1], 1), 100, 28).unwrap();
        assert_eq!((plain.strides, plain.start, plain.length), (None, 104, 24));
        assert!(entry(&stored(&[3, 2], &[1, 3], 1), 100, 24).is_err());
        assert!(entry(&stored(&[3, 2], &[1, -3], 0), 100, 24).is_err());
        assert!(entry(&stored(&[i64::MAX, i64::MAX], &[i64::MAX, 1], 0), 100, 24).is_err());
        assert_eq!(entry(&stored(&[0, 2], &[2, 1], 0), 100, 24).unwrap().length, 0);
    }
}
