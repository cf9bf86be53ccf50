//! Which runs share a step.

use crate::error::Result;
use crate::plan::spec::RunSpec;
use crate::store::run_dir::RunDir;
use crate::train::context::StoredRun;

/// The open runs, those that can be trained side by side in stacks of at most `stack_size`, each stack where its first run is.
pub fn stacks<'a>(open: &'a [(&'a RunSpec, RunDir)], stack_size: usize) -> Result<Vec<Vec<StoredRun<'a>>>> {
    let mut stacks: Vec<Vec<StoredRun>> = Vec::new();
    for (spec, dir) in open {
        let most = if methods::registry::find(&spec.method)?.is_stackable { stack_size } else { 1 };
        let fits = |stack: &&mut Vec<StoredRun>| stack.len() < most && stack[0].0.differs_in_seed_only(spec);
        match stacks.iter_mut().find(fits) {
            Some(stack) => stack.push((spec, dir)),
            None => stacks.push(vec![(spec, dir)]),
        }
    }
    Ok(stacks)
}
