//! Values of every n-th step of a stack of runs, kept on the device until they are read: no step waits for them.

use methods::OptimConfig;
use methods::method::nonzero_gates;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::plan::spec::TrainSpec;
use crate::store::rows::StepRow;
use crate::train::run_stack::RunStack;
use crate::train::schedule::optim_config;
use crate::train::step_values::StepValues;

/// Rows of a run, at least, where nobody says how many steps lie between two.
const ROWS: usize = 200;

/// Rows of `steps.csv` that are not read yet.
pub struct StepLog {
    /// Steps between two rows; 0: none is kept.
    every: usize,
    steps_an_epoch: usize,
    /// Of every run.
    protocols: Vec<OptimConfig>,
    waiting: Vec<Waiting>,
}

/// A step that is not read yet.
struct Waiting {
    /// Steps done with it.
    step: usize,
    /// Of each run: task loss, penalty, gradient norm, and non-zero gates for a method with gates.
    values: Vec<Tensor>,
}

impl StepLog {
    /// Keeps every `every`-th step of runs with these settings on `rows` training rows; left to itself so that a run has some
    /// hundred rows.
    pub fn new(every: Option<usize>, runs: &[&TrainSpec], rows: usize) -> Self {
        let protocols: Vec<OptimConfig> = runs.iter().map(|train| optim_config(train, rows)).collect();
        let (steps, batch_size) = runs.first().map_or((0, 1), |train| (protocols[0].steps, train.batch_size));
        let every = every.unwrap_or((steps / ROWS).max(1));
        StepLog { every, steps_an_epoch: rows.div_ceil(batch_size), protocols, waiting: Vec::new() }
    }

    /// Copies the values of a step that was taken, on the device, where its turn has come.
    pub fn add(&mut self, stack: &RunStack, values: &[StepValues]) {
        let step = stack.state(0).done();
        if self.every == 0 || !step.is_multiple_of(self.every) {
            return;
        }
        let of_run = |(run, values): (usize, &StepValues)| {
            let StepValues { loss, grad_norm } = values;
            let penalty = loss.penalty.as_ref().map_or_else(|| loss.task.zeros_like(), Tensor::shallow_clone);
            let gates = nonzero_gates(stack.state(run).method(), stack.state(run).params());
            let kept = [&loss.task, &penalty, grad_norm].into_iter().chain(&gates);
            Tensor::stack(&kept.map(|value| value.to_kind(Kind::Float)).collect::<Vec<_>>(), 0)
        };
        let values = tch::no_grad(|| values.iter().enumerate().map(of_run).collect());
        self.waiting.push(Waiting { step, values });
    }

    /// The rows of a run that wait, read from the device.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn rows(&self, run: usize) -> Result<Vec<StepRow>> {
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<&Tensor> = self.waiting.iter().map(|waiting| &waiting.values[run]).collect();
        let values = Vec::<Vec<f32>>::try_from(Tensor::stack(&values, 0))?;
        Ok(self.waiting.iter().zip(values).map(|(waiting, values)| self.row(run, waiting.step, &values)).collect())
    }

    /// Forgets the rows that wait, once they were read.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    fn row(&self, run: usize, step: usize, values: &[f32]) -> StepRow {
        let OptimConfig { lr, schedule, .. } = &self.protocols[run];
        StepRow {
            step,
            epoch: step.div_ceil(self.steps_an_epoch),
            task_loss: values[0],
            penalty: values[1],
            lr: lr * schedule.factor(step - 1),
            grad_norm: values[2],
            nonzero_components: values.get(3).map(|count| *count as i64),
        }
    }
}
