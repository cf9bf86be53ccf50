//! Which runs share a step.

use crate::error::Result;
use crate::plan::spec::RunSpec;

/// The runs in stacks of at most `stack_size` that can be trained side by side, each stack where its first run is.
///
/// # Errors
/// A method that is not known.
pub fn stacks<'a>(runs: &[&'a RunSpec], stack_size: usize) -> Result<Vec<Vec<&'a RunSpec>>> {
    let mut stacks: Vec<Vec<&RunSpec>> = Vec::new();
    for &spec in runs {
        let most = if methods::registry::find(&spec.method)?.is_stackable(&spec.options) { stack_size } else { 1 };
        let fits = |stack: &&mut Vec<&RunSpec>| stack.len() < most && stack[0].differs_in_seed_only(spec);
        match stacks.iter_mut().find(fits) {
            Some(stack) => stack.push(spec),
            None => stacks.push(vec![spec]),
        }
    }
    Ok(stacks)
}
