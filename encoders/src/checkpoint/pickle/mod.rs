//! Files that `torch.save` wrote. Nothing of them is executed: the few constructors of a state dictionary are known by
//! name, everything else is an opaque object.

mod archive;
pub(crate) mod index;
mod legacy;
mod machine;
mod objects;
mod opcodes;
mod state;
mod stored;
mod value;
