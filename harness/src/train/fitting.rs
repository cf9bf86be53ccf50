//! Work on a step in parts that fit in memory.

use crate::env::panics;
use crate::error::Result;
use crate::train::loader::DeviceBatch;
use crate::train::run_stack::RunStack;

/// Does the work of a step on a batch. Where it runs out of memory and parts may shrink, it is done again in half parts: `work` must
/// leave everything but gradients as it was.
///
/// # Errors
/// Those of `work`.
pub fn in_fitting_parts<T>(
    stack: &mut RunStack,
    batch: &DeviceBatch,
    mut work: impl FnMut(&mut RunStack) -> Result<T>,
) -> Result<T> {
    if !stack.parts().may_shrink() {
        return work(stack);
    }
    let rows = batch.rows() / stack.runs();
    loop {
        // Most of libtorch's operations panic.
        let done = panics::guarded(|| work(stack));
        if !done.as_ref().is_err_and(|error| error.is_out_of_memory()) || !stack.parts_mut().shrink(rows) {
            return done;
        }
        stack.clear_gradients();
        torch_ext::device::release_memory(stack.device())?;
    }
}
