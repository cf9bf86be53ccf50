//! Index of a file that `torch.save` wrote: names, shapes and places of the values.

use std::collections::BTreeMap;

use crate::checkpoint::pickle::archive::{Sum, zipped};
use crate::checkpoint::pickle::legacy::legacy;
use crate::checkpoint::pickle::machine::Machine;
use crate::checkpoint::pickle::value::Result;
use crate::checkpoint::tensor_info::TensorInfo;

/// Tensors of a file, and the checksums to hold its content against.
pub(crate) struct Pickled {
    pub index: BTreeMap<String, TensorInfo>,
    pub sums: Vec<Sum>,
}

/// Reads the index of a file's bytes.
///
/// # Errors
/// A truncated or damaged file, or one that holds something else than a dictionary of tensors.
pub(crate) fn index(data: &[u8]) -> Result<Pickled> {
    if data.starts_with(b"PK") {
        let (index, sums) = zipped(data)?;
        return Ok(Pickled { index, sums });
    }
    let mut machine = Machine::new(data, data.len());
    let (state, storages) = legacy(data, &mut machine)?;
    Ok(Pickled { index: machine.tensors_of(state, &storages)?, sums: Vec::new() })
}
