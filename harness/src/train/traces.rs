//! Files of a run that say how its steps went and where its gates ended.

use methods::method::module_gates;

use crate::error::Result;
use crate::store::rows::GateRow;
use crate::train::callbacks::RunCallback;
use crate::train::run_stack::RunStack;

/// File of [`crate::store::rows::StepRow`]s.
pub const STEPS: &str = "steps.csv";
/// File of [`GateRow`]s.
const GATES: &str = "gates.csv";

impl RunCallback<'_> {
    /// Keeps the gates as they stand, those of `step`, where they are not kept yet.
    ///
    /// # Errors
    /// A failure on the device.
    pub(super) fn keep_gates(&mut self, stack: &RunStack, step: usize) -> Result<()> {
        let trained = stack.state(self.index);
        if self.gates.last().is_some_and(|row| row.step == step) {
            return Ok(());
        }
        for gates in module_gates(trained.method(), trained.params())? {
            self.gates.extend(gates.values.into_iter().enumerate().map(|(component, value)| GateRow {
                step,
                module: gates.module.clone(),
                layer: gates.layer,
                kind: gates.kind.name().into(),
                component,
                value,
            }));
        }
        Ok(())
    }

    /// Writes the files of the run's steps and gates. One without rows is not there, an earlier start's neither.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write_traces(&self) -> Result<()> {
        match self.steps.is_empty() {
            true => self.dir.discard(STEPS)?,
            false => self.dir.write_rows(STEPS, &self.steps)?,
        }
        match self.gates.is_empty() {
            true => self.dir.discard(GATES),
            false => self.dir.write_rows(GATES, &self.gates),
        }
    }
}
