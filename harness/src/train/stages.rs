//! The end of a stage of a sparsifying schedule (spec §3.9, Algorithm 1): memorisation, generalisation, and what is left.

use std::sync::atomic::Ordering;
use std::time::Instant;

use datasets::split::train_probe;
use datasets::tokenizer::TokenizedExample;

use crate::error::{Error, Result};
use crate::store::rows::StageRow;
use crate::train::callbacks::RunCallback;
use crate::train::evaluate::scores;
use crate::train::run_stack::RunStack;

impl RunCallback<'_> {
    /// Scores a stage (from 0) that has ended. The first one is scored at its selected checkpoint, from which the later ones go on.
    ///
    /// # Errors
    /// An error that ends the sweep, a stop signal among them; one that ends this run alone is kept.
    pub fn end_stage(&mut self, stack: &RunStack, stage: usize) -> Result<()> {
        if self.failed.is_some() || self.stages.iter().any(|row| row.stage == stage + 1) {
            return Ok(());
        }
        let started = Instant::now();
        let result = self.score_stage(stack, stage);
        self.evaluation_seconds += started.elapsed().as_secs_f64();
        self.survive(result)
    }

    fn score_stage(&mut self, stack: &RunStack, stage: usize) -> Result<()> {
        let selected = self.best.first().and_then(|set| set.best.as_ref()).filter(|_| stage == 0);
        if let Some(best) = selected {
            stack.restore(self.index, &best.state)?;
        }
        let step_of_values = selected.map_or(stack.state(self.index).done(), |best| best.step);
        let probe: Vec<TokenizedExample> =
            train_probe(self.data.train.len()).into_iter().map(|row| self.data.train[row].clone()).collect();
        let trained = stack.state(self.index);
        let (counts, schedule_value) = (trained.method().counts(trained.params()), trained.method().stage_value());
        let memorisation = self.score(stack, &probe)?;
        let mut rows = Vec::new();
        for set in &self.data.dev_sets {
            let generalisation = self.score(stack, &set.validation)?;
            rows.push(StageRow {
                stage: stage + 1,
                schedule_value,
                step: trained.done(),
                dev_set: set.name.into(),
                metric: self.data.task.selection.name().into(),
                memorisation,
                generalisation,
                test: if set.is_one_set { generalisation } else { self.score(stack, &set.test)? },
                allocated: counts.allocated,
                effective: counts.effective,
                as_published: counts.as_published,
            });
        }
        let said = rows.first().map(|row| {
            let percent = |value: f64| format!("{:.2}", 100.0 * value);
            let [memorised, generalised] = [row.memorisation, row.generalisation].map(percent);
            format!("memorisation {memorised}, generalisation {generalised}, {} values left", row.effective)
        });
        self.context.progress.say(&format!("{}stage {}: {}", self.name, stage + 1, said.unwrap_or_default()));
        self.stages.extend(rows);
        self.keep_gates(stack, step_of_values)?;
        self.dir.write_rows("stages.csv", &self.stages)
    }

    /// The selection metric on some rows.
    fn score(&self, stack: &RunStack, rows: &[TokenizedExample]) -> Result<f64> {
        if self.context.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let metric = self.data.task.selection.name();
        let found = scores(self.data.task, rows, &stack.predict(self.index, rows)?.values)?;
        let value = found.into_iter().find(|(name, _)| name == metric);
        let missing = || Error::Internal(format!("task {} does not compute {metric}", self.data.task.name));
        value.map(|(_, value)| value).ok_or_else(missing)
    }
}
