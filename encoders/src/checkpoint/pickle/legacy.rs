//! Before torch 1.6: pickles of a magic number, a version, facts about the system, the state and the storages' keys,
//! then for each storage its length and its values.

use crate::checkpoint::pickle::machine::Machine;
use crate::checkpoint::pickle::stored::Storages;
use crate::checkpoint::pickle::value::{Result, Value};

/// First number of torch's format before 1.6.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The state, and the place of each storage.
pub(crate) fn legacy<'a>(data: &'a [u8], machine: &mut Machine<'a>) -> Result<(Value<'a>, Storages<'a>)> {
    machine.run()?;
    if !data.windows(LEGACY_MAGIC.len()).take(16).any(|window| window == LEGACY_MAGIC) {
        return Err("it is a pickle, but no checkpoint of torch".into());
    }
    machine.run()?;
    machine.run()?;
    let state = machine.run()?;
    let Value::List(keys) = machine.run()? else { return Err("it has no list of storages".into()) };
    let mut storages = Storages::new();
    for key in std::mem::take(&mut machine.containers[keys]) {
        let Value::Text(key) = key else { return Err("a storage has no name".into()) };
        let count = u64::from_le_bytes(machine.take::<8>()?) as usize;
        let size = machine.sizes.get(key).copied().ok_or("a storage that no tensor uses")?;
        let length = count.checked_mul(size).ok_or("a storage is too large")?;
        storages.insert(key, (machine.place, length));
        machine.skip(length)?;
    }
    Ok((state, storages))
}
