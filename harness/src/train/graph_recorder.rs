//! How a step is taken: operation by operation, or as a CUDA graph that was captured once and is replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use torch_ext::graph::Graph;

use crate::error::Result;
use crate::train::fitting::in_fitting_parts;
use crate::train::loader::{BatchShape, DeviceBatch};
use crate::train::run_stack::RunStack;
use crate::train::step_values::StepValues;

/// Captures made so far, and the seconds they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Captures {
    /// How many.
    pub count: usize,
    /// Seconds.
    pub seconds: f64,
}

/// Takes steps of a stack of runs.
pub trait StepRunner {
    /// One step of every run, with its values on the device: to be read or copied before the next step.
    ///
    /// # Errors
    /// As [`RunStack::step`].
    fn run(&mut self, stack: &mut RunStack, batch: &DeviceBatch) -> Result<Vec<StepValues>>;

    /// Captures made so far.
    fn captures(&self) -> Captures {
        Captures::default()
    }

    /// Steps of one kind after which nothing more is made for that kind.
    fn steps_to_warm_up(&self) -> usize {
        1
    }
}

/// Steps as captured graphs, or operation by operation.
pub fn runner(graphs: bool) -> Box<dyn StepRunner> {
    if graphs { Box::new(GraphRecorder::default()) } else { Box::new(Eager) }
}

/// Launches every operation of every step.
pub struct Eager;

impl StepRunner for Eager {
    fn run(&mut self, stack: &mut RunStack, batch: &DeviceBatch) -> Result<Vec<StepValues>> {
        let losses = in_fitting_parts(stack, batch, |stack| stack.differentiate(batch))?;
        let values = StepValues::of(losses, stack.update()?);
        stack.advance();
        Ok(values)
    }
}

/// Batches of one shape in one phase of each run, and most rows of a part: a captured step serves them all.
type GraphKey = (BatchShape, Vec<usize>, Option<usize>);

/// A training step captured as a CUDA graph: it reads `batch` and writes `values`.
struct CapturedStep {
    graph: Graph,
    batch: DeviceBatch,
    values: Vec<StepValues>,
}

/// Captures a step at the first occurrence of its kind, and replays it at every other. The very first step is taken
/// operation by operation, since the first call of an operation makes much that a capture may not.
#[derive(Default)]
pub struct GraphRecorder {
    graphs: BTreeMap<GraphKey, CapturedStep>,
    /// Sizes of batches whose caches are filled.
    filled: BTreeSet<Vec<i64>>,
    is_warm: bool,
    captures: Captures,
}

impl StepRunner for GraphRecorder {
    fn run(&mut self, stack: &mut RunStack, batch: &DeviceBatch) -> Result<Vec<StepValues>> {
        if !self.is_warm {
            self.is_warm = true;
            return Eager.run(stack, batch);
        }
        let key = |stack: &RunStack| (batch.shape(), stack.phases(), stack.parts().rows());
        let captured = match self.graphs.remove(&key(stack)) {
            Some(captured) => captured,
            None => in_fitting_parts(stack, batch, |stack| self.capture(stack, batch))?,
        };
        captured.batch.overwrite(batch);
        captured.graph.replay()?;
        let values = captured.values.iter().map(StepValues::shallow_clone).collect();
        // A step that failed is not kept.
        self.graphs.insert(key(stack), captured);
        stack.advance();
        Ok(values)
    }

    fn captures(&self) -> Captures {
        self.captures
    }

    fn steps_to_warm_up(&self) -> usize {
        if self.is_warm { 1 } else { 2 }
    }
}

impl GraphRecorder {
    /// The step for batches of this shape in the runs' phases.
    fn capture(&mut self, stack: &mut RunStack, batch: &DeviceBatch) -> Result<CapturedStep> {
        torch_ext::device::synchronize(stack.device())?;
        // Steps in parts that turned out too large are not taken again.
        self.graphs.retain(|(_, _, rows), _| *rows == stack.parts().rows());
        let started = Instant::now();
        // The forward pass fills the caches kept per size, which cannot be built during a capture.
        if self.filled.insert(batch.tokens.input_ids.size()) {
            stack.fill_caches(batch);
        }
        // Memory of steps that were not captured would stay allocated beside the graphs' pool.
        torch_ext::device::release_memory(stack.device())?;
        let batch = batch.copy();
        let (graph, values) = Graph::capture(|| stack.step(&batch))?;
        self.captures.count += 1;
        self.captures.seconds += started.elapsed().as_secs_f64();
        Ok(CapturedStep { graph, batch, values })
    }
}
